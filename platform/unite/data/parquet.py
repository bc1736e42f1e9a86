"""Footers and row groups of parquet files, local or over a network that may stumble.

A remote read that fails is tried again. What remains is told apart: a file that is not parquet, or
is gone, is the data's fault (ShardError: it would fail again); a store that does not answer is
nobody's (UnreachableError: a restarted run may well succeed).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from unite.data.columns import Stored, match_columns, read_leaves, with_optional
from unite.data.manifest import ShardError
from unite.data.parts import place_of
from unite.domains.columns import Column, Columns
from unite.storage import Store

T = TypeVar("T")

READ_ATTEMPTS = 3
RETRY_SECONDS = 1.0
_SERVICE = "AWS Error"
"""Text in every error of pyarrow's S3 client, which tells it from a damaged file's OSError."""

log = logging.getLogger(__name__)


class UnreachableError(ConnectionError):
    """A store did not answer, although it was asked again; the data may be in order."""


def read_footer(uri: str, file: str) -> pq.FileMetaData:
    """A shard's footer, kept: over a network it costs as many requests as a row group.

    ShardError when it is no parquet file, UnreachableError when the store does not answer.
    """
    store, name = place_of(uri, file)
    # A local file may be written anew while this process lives; to ask a network costs too much.
    return _footer(store, name, store.time(name) if store.is_local else 0)


@lru_cache(maxsize=4096)
def _footer(store: Store, file: str, time_ns: int) -> pq.FileMetaData:
    """Footer of a file that was written at `time_ns`."""
    return _patiently(
        store, file, lambda: pq.read_metadata(store.path(file), filesystem=store.filesystem)
    )


def match_footer(uri: str, file: str, columns: Columns) -> tuple[Stored, ...]:
    """The columns of a shard that are meant by `columns`; ShardError as of `match_columns`."""
    schema = read_footer(uri, file).schema.to_arrow_schema()
    store, name = place_of(uri, file)
    return match_columns(f"{store}/{name}", schema, columns)


def read_row_group(uri: str, file: str, index: int, columns: Columns) -> pa.Table:
    """The columns of a row group, as `match_columns` finds them, by the names of `columns`.

    Raises what `read_footer` and `match_columns` raise.
    """

    def read(reader: pq.ParquetFile, leaves: list[str]) -> pa.Table:
        return reader.read_row_group(index, columns=leaves, use_threads=False)

    return with_optional(_read(uri, file, columns, read), columns)


def read_whole_column(uri: str, file: str, column: Column) -> pa.ChunkedArray:
    """One column of a shard, nothing else of it; raises what `read_row_group` raises."""

    def read(reader: pq.ParquetFile, leaves: list[str]) -> pa.Table:
        return reader.read(columns=leaves, use_threads=False)

    return _read(uri, file, (column,), read).column(0)


def _read(
    uri: str,
    file: str,
    columns: Columns,
    read: Callable[[pq.ParquetFile, list[str]], pa.Table],
) -> pa.Table:
    footer, stored = read_footer(uri, file), match_footer(uri, file, columns)
    store, file = place_of(uri, file)

    def open_and_read() -> pa.Table:
        with store.filesystem.open_input_file(store.path(file)) as source:
            reader = pq.ParquetFile(source, metadata=footer, pre_buffer=True)
            return read(reader, [each.leaf for each in stored])

    return read_leaves(_patiently(store, file, open_and_read), stored)


def _patiently(store: Store, file: str, read: Callable[[], T]) -> T:
    """Result of `read`; on a remote store it gets READ_ATTEMPTS, with growing pauses."""
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
    if why := store.stand_in(file):
        return ShardError(f"{store}/{file} {why}")
    return ShardError(
        f"{store}/{file} is not a readable parquet file, it may be truncated ({error}); copy it "
        "again, or delete it and run jobs/prepare_data.py again"
    )
