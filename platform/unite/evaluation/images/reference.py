"""Reference statistics: the real images' side of every fidelity metric, in one npz file.

Built once per data set and extractor from workers' `FidelityStatistics`, stored with a record of
their origin. A file with mu and sigma alone, as other projects publish, can be read too; it names
no extractor, so the caller must. Arrays are read without pickle. Shapes: F features, M kept
samples, C classes, R rank of sigma.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from unite.content import HEAD_BYTES, kind_of, stand_in
from unite.evaluation.arrays import read_arrays, write_arrays
from unite.evaluation.images.features import ExtractorId, FeatureExtractor
from unite.metrics.errors import MetricError
from unite.metrics.fidelity import FidelityStatistics
from unite.metrics.frechet import Gaussian, check_definite
from unite.storage import Store

VERSION = 1
UNKNOWN = ExtractorId(name="unknown", digest="", resize="unknown")
"""Extractor of a file that does not say which one it was made with."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Origin of reference statistics."""

    data: str = ""
    """Folder or URI of the images."""
    data_digest: str = ""
    """Digest of its manifest; empty = unknown."""
    split: str = ""
    """Split: train or eval."""
    image_rule: str = ""
    """Rule by which images were cropped, resized and rounded to uint8."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library -> version."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Statistics of the real images."""

    mu_F: np.ndarray
    sigma_FF: np.ndarray
    num: int
    """Number of images; 0 = unknown."""
    extractor: ExtractorId
    made: Origin
    root_FR: np.ndarray | None = None
    """R with R R^T = sigma, when it is stored."""
    kept_rows: np.ndarray | None = None
    """Rows (M,) of the data set whose features are kept."""
    kept_features: np.ndarray | None = None
    """Features (M, F) for KID and the manifold metrics, float32."""
    label_histogram: np.ndarray | None = None
    """Images per class (C,)."""

    @classmethod
    def of(
        cls,
        statistics: FidelityStatistics,
        extractor: FeatureExtractor,
        made: Origin,
        *,
        label_histogram: np.ndarray | None = None,
    ) -> Reference:
        """Reference from the complete statistics of a data set."""
        statistics.check_complete()
        rows, features_MF = statistics.kept()
        return cls(
            mu_F=statistics.moments.mean(),
            sigma_FF=statistics.moments.covariance(),
            num=statistics.moments.num,
            extractor=ExtractorId.of(extractor),
            made=made,
            kept_rows=rows,
            kept_features=features_MF,
            label_histogram=label_histogram,
        )

    @cached_property
    def gaussian(self) -> Gaussian:
        """Mean and covariance with the cached root."""
        return Gaussian(self.mu_F, self.sigma_FF, self.root_FR)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (16 digits) of everything that a metric depends on: the arrays and their origin.

        The folder of the images and a stored root do not change it.
        """
        meta = self._meta()
        del meta["made"]["data"]
        total = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
        for name, array in sorted(self._arrays().items()):
            if name != "root":
                total.update(f"{name} {array.dtype.str} {array.shape}".encode())
                total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()[:16]

    def check(self, extractor: FeatureExtractor, *, data_digest: str = "") -> None:
        """MetricError unless these statistics fit an extractor and a checkpoint's data set.

        `data_digest`: digest of the data that the checkpoint was trained on; empty = not compared.
        """
        if self.mu_F.size != extractor.num_features:
            raise MetricError(
                f"the reference has {self.mu_F.size} features and extractor {extractor.name} gives "
                f"{extractor.num_features}: build the reference with this extractor"
            )
        if self.extractor.digest != extractor.digest:
            raise MetricError(
                f"the reference was made with extractor {self.extractor.name} "
                f"({self.extractor.digest[:12] or 'no digest'}), not with {extractor.name} "
                f"({extractor.digest[:12]}): build the reference anew"
            )
        if data_digest and self.made.data_digest and data_digest != self.made.data_digest:
            raise MetricError(
                f"the reference is of another data set than the checkpoint's: {self.made.data} "
                f"({self.made.data_digest[:12]}), but the checkpoint was trained on "
                f"{data_digest[:12]}. Build a reference of that data, or name the right one"
            )

    def with_root(self) -> Reference:
        """The same reference with its root computed, so that no later step repeats it."""
        return replace(self, root_FR=self.gaussian.root)

    def save(self, uri: str) -> None:
        """Write an npz file to a path or s3:// URI, atomically."""
        folder, name = _split_uri(uri)
        write_arrays(folder, name, {"meta": np.array(json.dumps(self._meta())), **self._arrays()})

    @classmethod
    def load(cls, uri: str, *, extractor: FeatureExtractor | None = None) -> Reference:
        """Read an npz file; MetricError names the file and what it lacks.

        `extractor` is who made a file that holds mu and sigma alone; it is ignored otherwise.
        """
        folder, name = _split_uri(uri)
        try:
            arrays = _read_npz(folder.read(name))
            reference = cls(**_statistics(arrays), **_described(arrays, uri, extractor))
            reference._check_shapes()
            check_definite(reference.mu_F, reference.sigma_FF, arrays["sigma"].dtype)
        except MetricError as error:
            raise MetricError(f"{uri}: {error}") from error
        return reference

    def _meta(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "num": self.num,
            "extractor": asdict(self.extractor),
            "made": asdict(self.made),
        }

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {
            "mu": self.mu_F,
            "sigma": self.sigma_FF,
            "root": self.root_FR,
            "kept_rows": self.kept_rows,
            "kept_features": self.kept_features,
            "label_histogram": self.label_histogram,
        }
        return {name: array for name, array in arrays.items() if array is not None}

    def _check_shapes(self) -> None:
        """MetricError unless all arrays agree on the number of features."""
        num = self.gaussian.mu_F.size
        widths = {
            "root": num if self.root_FR is None else self.root_FR.shape[0],
            "kept_features": num if self.kept_features is None else self.kept_features.shape[-1],
        }
        for name, width in widths.items():
            if width != num:
                raise MetricError(f"{name} has {width} features and mu has {num}")


def digest_at(uri: str, extractor: ExtractorId) -> str:
    """Digest of the statistics in a file, as numbers on an extractor name them; nothing else of it
    is checked. It is read again once it was written again."""
    folder, name = _split_uri(uri)
    return _digest_at(uri, folder.time(name), extractor)


@cache
def _digest_at(uri: str, time: int, extractor: ExtractorId) -> str:
    folder, name = _split_uri(uri)
    arrays = _read_npz(folder.read(name))
    found = Reference(**_statistics(arrays), **_described(arrays, uri, None))
    return replace(found, extractor=extractor).digest


def _statistics(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """mu and sigma as float64; MetricError when they are absent or no real numbers."""
    missing = [name for name in ("mu", "sigma") if name not in arrays]
    if missing:
        holds = ", ".join(sorted(arrays)) or "nothing"
        raise MetricError(f"it has no {' and no '.join(missing)}; it holds {holds}")
    for name in ("mu", "sigma"):
        if arrays[name].dtype.kind not in "fiu":
            raise MetricError(
                f"{name} is {arrays[name].dtype}, not real numbers: make the statistics anew"
            )
    return {"mu_F": arrays["mu"].astype(float), "sigma_FF": arrays["sigma"].astype(float)}


def _described(
    arrays: Mapping[str, np.ndarray], uri: str, extractor: FeatureExtractor | None
) -> dict[str, Any]:
    """Fields from the file's metadata; without metadata, those that the caller knows."""
    if "meta" not in arrays:
        named = ExtractorId.of(extractor) if extractor else UNKNOWN
        return {"num": 0, "extractor": named, "made": Origin(data=uri)}
    meta = _read_meta(str(arrays["meta"]))
    try:
        identity, made = ExtractorId(**meta["extractor"]), Origin(**meta["made"])
    except TypeError as error:
        raise MetricError(f"its meta is not what this program writes ({error})") from error
    optional = ("kept_rows", "kept_features", "label_histogram")
    return {
        "num": meta["num"],
        "extractor": identity,
        "made": made,
        "root_FR": arrays.get("root"),
        **{name: arrays.get(name) for name in optional},
    }


def _split_uri(uri: str) -> tuple[Store, str]:
    folder, _, name = Store.open(uri).uri.rpartition("/")
    return Store.open(folder or "/"), name


def _read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The arrays by name; MetricError for another kind of file and for one that could run code."""
    head = data[:HEAD_BYTES]
    if why := stand_in(head):
        raise MetricError(f"it {why}")
    if kind_of(head) == "numpy":
        raise MetricError("it holds one array (.npy); a reference is an .npz with mu and sigma")
    return read_arrays(data)


def _read_meta(text: str) -> dict[str, Any]:
    """Metadata of the file; MetricError when it is of another version or incomplete."""
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise MetricError(f"its meta is not JSON ({error})") from error
    version = meta.get("version") if isinstance(meta, dict) else None
    if version != VERSION:
        raise MetricError(
            f"it has version {version!r} of reference statistics and this is version {VERSION}: "
            "build it anew"
        )
    fields = {"num": int, "extractor": dict, "made": dict}
    wrong = [name for name, kind in fields.items() if not isinstance(meta.get(name), kind)]
    if wrong:
        raise MetricError(f"its meta lacks {', '.join(wrong)}: build it anew")
    return meta
