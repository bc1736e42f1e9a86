"""Structures as text and tables: multi-frame XYZ, CIF, and a parquet of raw arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unite.domains.atoms.structure import Structure


def xyz(structures: Sequence[Structure], seeds: Sequence[int]) -> str:
    """One frame after the other; the comment of each has its index, formula and seed."""
    return "".join(
        each.to_xyz(f"{index} {each.formula} seed {seed}")
        for index, (each, seed) in enumerate(zip(structures, seeds, strict=True))
    )


def cif(structures: Sequence[Structure]) -> str:
    """One data block after the other, named by index and formula; space group P 1."""
    return "\n".join(
        each.to_cif(f"{index}_{each.formula}") for index, each in enumerate(structures)
    )


def parquet(structures: Sequence[Structure], seeds: Sequence[int]) -> bytes:
    """Raw arrays in the columns of the shards, little-endian bytes, with `seed` and `num_atoms`.

    A folder with this file can be trained on or measured like any other.
    """
    columns: dict[str, list[bytes]] = {"numbers": [_bytes(s.numbers, "u1") for s in structures]}
    if any(each.frac is not None for each in structures):
        for name in ("frac", "lengths", "angles"):
            columns[name] = [_bytes(getattr(each, name), "<f8") for each in structures]
    else:
        columns["positions"] = [_bytes(each.positions, "<f4") for each in structures]
    table = pa.table(
        {
            "index": pa.array(range(len(structures)), pa.int64()),
            "seed": pa.array(list(seeds), pa.int64()),
            "num_atoms": pa.array([len(each.numbers) for each in structures], pa.int64()),
            **{name: pa.array(cells, pa.binary()) for name, cells in columns.items()},
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _bytes(values: np.ndarray, kind: str) -> bytes:
    return np.asarray(values).astype(kind).tobytes()
