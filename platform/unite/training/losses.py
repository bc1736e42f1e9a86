"""The perceptual loss: LPIPS on frozen VGG-16 features, through the lpips package (METHOD 3).

Its pretrained files are found by `vgg.require_perceptual`, before a cluster is touched.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unite.config.validate import LPIPS_SMALLEST_SIDE as SMALLEST_SIDE
from unite.storage import Store
from unite.training.vgg import VGG, heads_file
from unite.weights import MissingWeightsError

# lpips cuts torchvision's numbered feature layers into five slices, which end before these.
SLICE_ENDS = (4, 9, 16, 23, 30)
FEATURE_EPS = 1e-10

InputRange = Literal["-1..1", "0..1"]


class Perceptual(nn.Module):
    """LPIPS (VGG) of image pairs in [0, 1]; frozen, always in evaluation mode.

    Call: (reconstruction, target), both (B, 3 or 1, H, W) in [0, 1] -> distances (B,), float32.
    `file` comes from `vgg.require_perceptual`. `input_range` is what the network is fed: "-1..1" is
    right, "0..1" is what the released code does. VGG runs in `dtype` whatever the autocast state;
    its features are normalised, compared and averaged in float32.
    """

    def __init__(
        self,
        file: str,
        input_range: InputRange = "-1..1",
        *,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.network = _load_network(file)
        self.input_range = input_range
        self.dtype = dtype
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.layout = layout
        self.network.net.to(dtype=dtype, memory_format=layout)
        self._layer_distance = torch.compile(layer_distance) if compile else layer_distance
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Perceptual:
        """Keep evaluation mode: lpips' heads hold dropout layers."""
        return super().train(False)

    def forward(self, reconstruction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Distances (B,) in float32. ValueError when the images are smaller than VGG can halve."""
        if min(target_BCHW.shape[-2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"LPIPS halves images four times and needs {SMALLEST_SIDE} pixels, not "
                f"{tuple(target_BCHW.shape[-2:])}; set loss.perceptual.weight to 0 or raise "
                "domain.size"
            )
        with torch.autocast(target_BCHW.device.type, enabled=False):
            pairs = zip(
                self._features(reconstruction_BCHW),
                self._features(target_BCHW),
                self.network.lins,
                strict=True,
            )
            distances = [self._layer_distance(a, b, head.model[-1].weight) for a, b, head in pairs]
            return torch.stack(distances).sum(dim=0)

    def _features(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        x_BCHW = image_BCHW.float()
        if self.input_range == "-1..1":
            x_BCHW = 2.0 * x_BCHW - 1.0
        x_BCHW = self.network.scaling_layer(x_BCHW)
        return self.network.net(x_BCHW.to(dtype=self.dtype, memory_format=self.layout))


def layer_distance(a_BCHW: Tensor, b_BCHW: Tensor, weight_1C11: Tensor) -> Tensor:
    """LPIPS of one layer (B,): weighted squared difference of unit features, mean over pixels.

    As lpips computes it, but where all features are 0 the gradient is 0 and not NaN.
    """
    difference_BCHW = unit_features(a_BCHW) - unit_features(b_BCHW)
    return (difference_BCHW.square() * weight_1C11).sum(dim=1).mean(dim=(1, 2))


def unit_features(x_BCHW: Tensor) -> Tensor:
    """Features of length one over channels, float32."""
    x_BCHW = x_BCHW.float()
    return x_BCHW / (torch.linalg.vector_norm(x_BCHW, dim=1, keepdim=True) + FEATURE_EPS)


def _load_network(file: str) -> Any:
    """lpips' network on the given weights, built without its own downloads and initialisation."""
    import lpips  # brings torchvision along, which a run without LPIPS need not wait for

    with torch.device("meta"), warnings.catch_warnings():
        # lpips calls torchvision with its deprecated `pretrained` argument.
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    # The scaling constants are values, not weights: without the meta device.
    network.scaling_layer = lpips.ScalingLayer()
    heads = _load_tensors(heads_file().read_bytes())
    # `lins` is registered twice: as a list, and as lin0 to lin4, the names in the file.
    network.load_state_dict(heads, strict=False, assign=True)
    network.net.load_state_dict(_slices(_read(file), file), assign=True)
    return network


def _slices(tensors: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    """torchvision's "features.<layer>.<kind>" under lpips' names; the classifier is left out."""
    result = {}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part == "features":
            layer = int(rest.split(".")[0])
            number = next(n for n, end in enumerate(SLICE_ENDS, 1) if layer < end)
            result[f"slice{number}.{rest}"] = value
    if not result:
        raise MissingWeightsError(f"{file} holds no VGG-16 features; it is not {VGG.file}")
    return result


def _read(file: str) -> dict[str, Tensor]:
    folder, _, name = file.rpartition("/")
    return _load_tensors(Store.open(folder).read(name))


def _load_tensors(data: bytes) -> dict[str, Tensor]:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
