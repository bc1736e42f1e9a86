"""Files of generated samples, by domain: `writer_for` finds the writer of a domain's config.

A writer owns the folder of one call of `jobs/generate.py`. The one here serves every domain whose
samples are looked at as pictures; a domain with files of its own registers its writer by the type
of its config, as in `domains/registry.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from unite.config.domains import CrystalsConfig, JointConfig, MoleculesConfig
from unite.domains import build_domain
from unite.sampling.atoms.writer import AtomsWriter
from unite.sampling.generator import Samples
from unite.sampling.grid import image_grid, read_png, save_png, save_samples
from unite.sampling.sample_folder import (
    SAMPLE,
    SAMPLES_FILE,
    claim,
    grid_of,
    sample_name,
)
from unite.storage import Store

GRID_IMAGES = 100


class Writer(Protocol):
    """Owner of the files of one call's samples."""

    left: tuple[Store, ...]
    """Folder and files that a finished call leaves."""

    def claim(self, request: Mapping[str, Any], *, replace: bool) -> set[int]:
        """Reserve the folder for a request; indices of samples that an earlier, interrupted call of
        the same request left. ValueError when the folder holds anything else that counts."""
        ...

    def write(self, indices: Sequence[int], samples: Samples) -> None:
        """Keep a batch of samples, which have these indices in the set."""

    def finish(self, labels: Tensor) -> str:
        """Write what needs all samples, whose classes are given; returns the files in words."""
        ...


@singledispatch
def writer_for(config: Any, store: Store) -> Writer:
    """The writer of a domain's samples into a folder, by the domain's config.

    ValueError when the folder's place cannot be used.
    """
    return PictureWriter(config, store)


class PictureWriter:
    """PNGs, an npz of all of them, and a grid beside the folder."""

    def __init__(self, config: Any, store: Store) -> None:
        self.domain = build_domain(config)
        self.store, self.grid = store, grid_of(store)
        self.left = (store, self.grid)
        self.kept: set[int] = set()
        self.pictures: dict[int, np.ndarray] = {}
        store.check_writable()

    def claim(self, request: Mapping[str, Any], *, replace: bool) -> set[int]:
        """Indices of the PNGs that are there."""
        found = map(SAMPLE.fullmatch, claim(self.store, request, replace=replace))
        self.kept = {int(match[1]) for match in found if match}
        return self.kept

    def write(self, indices: Sequence[int], samples: Samples) -> None:
        """One PNG a sample."""
        pictures = self.domain.render(samples.reconstruction, samples.mask_BK).cpu().numpy()
        for index, label, picture in zip(indices, samples.labels_B.tolist(), pictures, strict=True):
            save_png(self.store, self._name(index, label), picture)
            self.pictures[index] = picture

    def finish(self, labels: Tensor) -> str:
        """samples.npz, and a grid of the first samples: a column per class, ten at most."""
        for index in self.kept:
            kept = self.store.read(self._name(index, int(labels[index])))
            self.pictures[index] = read_png(kept)
        images = np.stack([self.pictures[index] for index in range(len(labels))])
        distinct = len(labels.unique())
        columns = distinct if 1 < distinct <= 10 else 10
        save_samples(self.store, SAMPLES_FILE, images, labels.numpy())
        self.store.tidy()
        save_png(self.grid, "", image_grid(images[:GRID_IMAGES], min(columns, len(images))))
        return f"PNGs and {SAMPLES_FILE} in {self.store}, grid {self.grid}"

    def _name(self, index: int, label: int) -> str:
        return sample_name(index, label if self.domain.num_classes else None)


writer_for.register(MoleculesConfig, AtomsWriter)
writer_for.register(CrystalsConfig, AtomsWriter)
writer_for.register(JointConfig, AtomsWriter)
