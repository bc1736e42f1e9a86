"""LPIPS' network with random weights: its cost without a download, and without its packages."""

from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor, nn

from unite.config.schema import RunConfig
from unite.training.flops import VGG_CONVOLUTIONS
from unite.training.losses import FEATURE_EPS, Perceptual
from unite.training.setup import load_perceptual


class RandomNetwork(nn.Module):
    """VGG-16's features, cut before each halving, and a 1 x 1 head on each of the five ends.

    Called with two images (B, 3, H, W) it computes LPIPS in the obvious way: distances
    (B, 1, 1, 1), each difference of features made, squared, weighed and averaged by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scaling_layer = nn.Identity()
        self.net = Features()
        widths = {half: outputs for _, outputs, half in VGG_CONVOLUTIONS}
        self.lins = nn.ModuleList(Head(width) for width in widths.values())

    def forward(self, one: Tensor, other: Tensor, normalize: bool = False) -> Tensor:
        """`normalize`: the images lie in [0, 1] and the network wants [-1, 1]."""
        if normalize:
            one, other = 2 * one - 1, 2 * other - 1
        total = torch.zeros(len(one), 1, 1, 1, device=one.device)
        for a, b, head in zip(self.net(one), self.net(other), self.lins, strict=True):
            difference = (unit(a) - unit(b)) ** 2
            total = total + head.model(difference).mean(dim=(2, 3), keepdim=True)
        return total


class Features(nn.Module):
    """The five stacks of convolutions; returns the end of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stacks = nn.ModuleList()
        for half in range(5):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if half else []
            for inputs, outputs, at in VGG_CONVOLUTIONS:
                if at == half:
                    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                    layers += [convolution, nn.ReLU(inplace=True)]
            self.stacks.append(nn.Sequential(*layers))

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, ...]:
        ends = []
        for stack in self.stacks:
            x_BCHW = stack(x_BCHW)
            ends.append(x_BCHW)
        return tuple(ends)


class Head(nn.Module):
    """Positive weights of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(width, 1, 1, bias=False))
        nn.init.uniform_(self.model[0].weight, 0.0, 0.1)


def unit(x_BCHW: Tensor) -> Tensor:
    """Features of length one."""
    return x_BCHW / (x_BCHW.square().sum(dim=1, keepdim=True).sqrt() + FEATURE_EPS)


def random_perceptual(config: RunConfig, device: torch.device) -> Perceptual | None:
    """The platform's LPIPS on random weights, or None where the recipe has none."""
    if not config.loss.perceptual.weight:
        return None
    with patch("unite.training.losses._load_network", lambda file: RandomNetwork()):
        with patch("unite.training.setup.require_perceptual", lambda weights: ""):
            return load_perceptual(config, device)
