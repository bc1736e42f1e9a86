"""Arrays of an npz file: written whole, and read as numbers alone, of which nothing is ever run."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np

from unite.content import HEAD_BYTES, beginning, kind_of
from unite.metrics.accumulator import Arrays
from unite.metrics.errors import MetricError
from unite.storage import Store

DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""Errors that numpy raises on a file which is cut or changed."""


def write_arrays(folder: Store, name: str, arrays: Arrays) -> None:
    """Write a file, completely or not at all."""
    file = io.BytesIO()
    np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    folder.write(name, [file.getbuffer()])


def read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays by name; MetricError for another kind of file and for one that could run code."""
    if kind_of(data[:HEAD_BYTES]) != "zip":
        raise MetricError(f"it is not an npz file: it {beginning(data[:HEAD_BYTES])}")
    arrays, name = {}, ""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = file[name]
    except ValueError as error:
        raise MetricError(
            f"{name} cannot be read: it holds pickled objects, which could run code and are not "
            "opened, or is damaged. Save it as an array of numbers"
        ) from error
    except DAMAGE as error:
        raise MetricError(f"it is not a whole npz file, maybe cut short: {error}") from error
    return arrays
