"""Our extractors under torch-fidelity's registry, so that `calculate_metrics` can use them.

Pass the name that `register_extractor` returns as `feature_extractor`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_fidelity import registry
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from unite.evaluation.images.features import FeatureExtractor


def register_extractor(extractor: FeatureExtractor) -> str:
    """Register with torch-fidelity under the extractor's name, which is returned.

    It offers the layers `features` and, with a classifier, `logits`. Registering a name again
    replaces it. torch-fidelity moves it to a GPU unless `cuda=False`.
    """
    layers = ("features", "logits") if extractor.num_classes else ("features",)

    class Registered(FeatureExtractorBase):
        """The extractor as torch-fidelity wants it: images in, a tuple of layers out."""

        def __init__(self, name: str, features_list: list[str], *_: Any, **__: Any) -> None:
            super().__init__(name, features_list)

        def cuda(self, device: Any = None) -> Registered:
            extractor.to("cuda" if device is None else device)
            return self

        def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
            made = extractor.features(images_BCHW)
            return tuple(made[layer] for layer in self.features_list)  # type: ignore[literal-required]

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return layers

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    registry.FEATURE_EXTRACTORS_REGISTRY.pop(extractor.name, None)
    registry.register_feature_extractor(extractor.name, Registered)
    return extractor.name
