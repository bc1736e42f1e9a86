"""Footers and row groups of parquet files, local or over a network that may stumble.

A remote read that fails is tried again. What remains is told apart: a file that is not parquet, or
is gone, is the data's fault (ShardError: it would fail again); a store that does not answer is
nobody's (UnreachableError: a restarted run may well succeed).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from unite.data.manifest import ShardError
from unite.storage import Store

T = TypeVar("T")

READ_ATTEMPTS = 3
RETRY_SECONDS = 1.0
_SERVICE = "AWS Error"
"""In the text of every error that pyarrow's S3 client reports; damaged files are OSErrors too."""

log = logging.getLogger(__name__)


class UnreachableError(ConnectionError):
    """A store did not answer, although it was asked again; the data may be in order."""


@lru_cache(maxsize=4096)
def read_footer(uri: str, file: str) -> pq.FileMetaData:
    """A shard's footer, kept: over a network it costs as many requests as a row group.

    ShardError when it is no parquet file, UnreachableError when the store does not answer.
    """
    store = Store.open(uri)
    return _patiently(
        store, file, lambda: pq.read_metadata(store.path(file), filesystem=store.filesystem)
    )


def read_row_group(uri: str, file: str, index: int, columns: Sequence[str]) -> pa.Table:
    """The columns of a row group; a struct column becomes its field `bytes`.

    Raises what `read_footer` raises.
    """
    store, footer = Store.open(uri), read_footer(uri, file)
    schema = footer.schema.to_arrow_schema()
    structs = [name for name in columns if pa.types.is_struct(schema.field(name).type)]
    leaves = [f"{name}.bytes" if name in structs else name for name in columns]

    def read() -> pa.Table:
        with store.filesystem.open_input_file(store.path(file)) as source:
            reader = pq.ParquetFile(source, metadata=footer, pre_buffer=True)
            return reader.read_row_group(index, columns=leaves, use_threads=False)

    # Flattening names the field of a struct after both.
    flat = {f"{name}.bytes": name for name in structs}
    table = _patiently(store, file, read).flatten()
    table = table.rename_columns([flat.get(name, name) for name in table.column_names])
    return table.select(list(columns))


def _patiently(store: Store, file: str, read: Callable[[], T]) -> T:
    """What `read` returns; on a remote store it gets READ_ATTEMPTS, with growing pauses."""
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            return read()
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise _unreadable(store, file, error) from error
        except OSError as error:
            if store.is_local:
                raise _unreadable(store, file, error) from error
            if attempt == READ_ATTEMPTS:
                raise _given_up(store, file, error) from error
            log.warning("reading %s/%s again: %s", store, file, error)
            time.sleep(RETRY_SECONDS * attempt**2)
    raise AssertionError("unreachable")


def _given_up(store: Store, file: str, error: OSError) -> Exception:
    if _SERVICE not in str(error):
        return _unreadable(store, file, error)
    return UnreachableError(
        f"{store}/{file} could not be read in {READ_ATTEMPTS} attempts: {error}. Check the "
        "network, AWS_ENDPOINT_URL and the credentials; the run continues from its last checkpoint"
    )


def _unreadable(store: Store, file: str, error: Exception) -> ShardError:
    if isinstance(error, FileNotFoundError):
        return ShardError(
            f"{store}/{file} is missing ({error}); restore it, or run jobs/prepare_data.py again"
        )
    return ShardError(
        f"{store}/{file} is not a readable parquet file, it may be truncated ({error}); copy it "
        "again, or delete it and run jobs/prepare_data.py again"
    )
