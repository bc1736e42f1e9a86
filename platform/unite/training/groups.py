"""Groups of a batch that go through the model one after the other (`training.accumulation`).

Samples of many sizes are sorted by size first, and each group is cut to its longest sample: less
padding, at the same loss and gradient, because noise is addressed by row and no term depends on how
a batch is cut. All of it happens on arrays in the host's memory, so that no step waits for the
device. A batch whose samples are of one size is cut in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from unite.domains.base import Domain

COMPILED_MULTIPLE = 4
"""Lengths are rounded up to multiples of this where blocks are compiled, each length anew."""

Fields = Mapping[str, np.ndarray]


def groups(
    domain: Domain, fields: Fields, num_rows: int, count: int, *, multiple: int = 1
) -> Iterator[tuple[slice | np.ndarray, Fields]]:
    """Rows of each of `count` equal groups of a batch, and their decoded fields.

    Lengths are rounded up to a multiple of `multiple`, as far as the arrays go.
    """
    sizes_B = domain.sizes(fields)
    order_B = None if sizes_B is None else np.argsort(sizes_B, kind="stable")
    size = num_rows // count
    for start in range(0, size * count, size):
        rows = slice(start, start + size)
        if sizes_B is None or order_B is None:
            yield rows, {name: value[rows] for name, value in fields.items()}
        else:
            chosen = order_B[rows]
            length = -(-int(sizes_B[chosen].max()) // multiple) * multiple
            taken = {name: value[chosen] for name, value in fields.items()}
            yield chosen, domain.trim(taken, length)
