"""Structures as text and tables: multi-frame XYZ, CIF, and a parquet of raw arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from unite.domains.atoms.geometry import cell_matrix
from unite.domains.atoms.structure import Structure


def xyz(samples: Mapping[int, Structure], seeds: Sequence[int]) -> str:
    """One frame after the other; the comment of each has its index, formula and seed."""
    return "".join(
        each.to_xyz(f"{index} {each.formula} seed {seed}")
        for (index, each), seed in zip(samples.items(), seeds, strict=True)
    )


def cif(samples: Mapping[int, Structure]) -> str:
    """One data block after the other, named by index and formula; space group P 1."""
    return "\n".join(each.to_cif(f"{index}_{each.formula}") for index, each in samples.items())


def parquet(samples: Mapping[int, Structure], seeds: Sequence[int]) -> bytes:
    """Raw arrays of samples by index, in the columns of the shards, with `seed` and `num_atoms`.

    Cells are little-endian bytes, and null where the kind of a sample has no such column. A folder
    with this file can be measured like any other.
    """
    structures = list(samples.values())
    columns: dict[str, list[bytes | None]] = {
        "numbers": [_bytes(each.numbers, "u1") for each in structures]
    }
    periodic = [each.frac is not None for each in structures]
    if any(periodic):
        for name in ("frac", "lengths", "angles"):
            columns[name] = [
                None if each.frac is None else _bytes(getattr(each, name), "<f8")
                for each in structures
            ]
    if not all(periodic):
        columns["positions"] = [
            _bytes(each.positions, "<f4") if each.frac is None else None for each in structures
        ]
    table = pa.table(
        {
            "index": pa.array(list(samples), pa.int64()),
            "seed": pa.array(list(seeds), pa.int64()),
            "num_atoms": pa.array([len(each.numbers) for each in structures], pa.int64()),
            **{name: pa.array(cells, pa.binary()) for name, cells in columns.items()},
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def read_parquet(content: bytes) -> dict[int, Structure]:
    """Samples by index that `parquet` wrote."""
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    return {row["index"]: _structure(row) for row in rows}


def _structure(row: Mapping[str, Any]) -> Structure:
    numbers = np.frombuffer(row["numbers"], "u1").astype(np.int64)
    if row.get("positions") is not None:
        positions = np.frombuffer(row["positions"], "<f4").astype(np.float64)
        return Structure(numbers=numbers, positions=positions.reshape(-1, 3))
    frac, lengths, angles = (
        np.frombuffer(row[name], "<f8").copy() for name in ("frac", "lengths", "angles")
    )
    cell = cell_matrix(torch.from_numpy(lengths)[None], torch.from_numpy(angles)[None])[0].numpy()
    frac = frac.reshape(-1, 3)
    places = {"positions": frac @ cell, "frac": frac}
    return Structure(numbers=numbers, lengths=lengths, angles=angles, **places)


def _bytes(values: np.ndarray, kind: str) -> bytes:
    return np.asarray(values).astype(kind).tobytes()
