"""A small feature extractor, trained on a data set's own labels.

For images that Inception was never made for (8x8 digits), or where its weights cannot be had: a
convolutional classifier of a few hundred thousand parameters whose last hidden layer is the
features. Fitting is seeded and deterministic on one machine. It is stored as two files: weights,
and a card with its digest, its accuracy on images it did not see and how it was made.
Shapes: B samples, C channels, H height, W width, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from unite.evaluation.images.features import Features, check_uint8
from unite.evaluation.images.small_card import (
    CARD_FILE,
    NAME,
    WEIGHTS_FILE,
    ExtractorCard,
    FitOptions,
    convolutions,
    read_fitted,
)
from unite.evaluation.instruments import exact_convolutions
from unite.metrics.errors import MetricError
from unite.storage import Store


class SmallNetwork(nn.Module):
    """Convolutions 3x3 with batch norm, halved down to about 4x4, one hidden layer, classes."""

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, width: int, num_features: int
    ) -> None:
        super().__init__()
        layers, halved, last = [], 0, width
        for inputs, outputs, halvings in convolutions(image_shape, width):
            layers += [nn.MaxPool2d(2)] * (halvings - halved) + [_convolution(inputs, outputs)]
            halved, last = halvings, outputs
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.hidden = nn.Linear(4 * last, num_features)
        self.classes = nn.Linear(num_features, num_classes)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to features (B, F) and logits (B, classes)."""
        x_BCHW = images_BCHW.float() / 127.5 - 1
        features_BF = self.hidden(self.trunk(x_BCHW))
        return features_BF, self.classes(functional.silu(features_BF))


class SmallExtractor:
    """A fitted `SmallNetwork`; satisfies `features.FeatureExtractor`."""

    def __init__(self, network: SmallNetwork, card: ExtractorCard) -> None:
        self.network = network.eval().requires_grad_(False)
        self.card = card
        self.name = card.name
        self.digest = card.digest
        self.num_features = card.options.num_features
        self.num_classes = card.num_classes
        self.resize = card.resize

    def to(self, device: torch.device | str) -> SmallExtractor:
        """Move to a device."""
        self.network.to(device)
        return self

    @torch.inference_mode()
    def features(self, images_BCHW: Tensor) -> Features:
        """Features (B, F) and logits; MetricError for images of another size or channels.

        Grey images stored as RGB, as PNG readers give them, are read from their first channel.
        """
        check_uint8(images_BCHW)
        channels = self.card.image_shape[0]
        if channels == 1 and images_BCHW.shape[1] == 3:
            images_BCHW = images_BCHW[:, :1]
        if tuple(images_BCHW.shape[1:]) != self.card.image_shape:
            raise MetricError(
                f"extractor {self.name} was fitted on images of shape {self.card.image_shape}, "
                f"these have {tuple(images_BCHW.shape[1:])}: fit one on this data"
            )
        device = next(self.network.parameters()).device
        with exact_convolutions():
            features_BF, logits_BC = self.network(images_BCHW.to(device))
        return {"features": features_BF, "logits": logits_BC}

    def save(self, folder: str | Store) -> None:
        """Write weights and card; the card is written last."""
        store = folder if isinstance(folder, Store) else Store.open(folder)
        store.write(WEIGHTS_FILE, _serialise(self.network))
        store.write_json(CARD_FILE, asdict(self.card))

    @classmethod
    def load(cls, folder: str | Store) -> SmallExtractor:
        """Read what `save` wrote; MetricError when it is absent or was changed."""
        card, weights = read_fitted(folder)
        options = card.options
        network = SmallNetwork(
            card.image_shape, card.num_classes, options.width, options.num_features
        )
        network.load_state_dict(load(weights))
        return cls(network, card)


def fit_extractor(
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    name: str,
    seed: int = 0,
    options: FitOptions | None = None,
    device: torch.device | str = "cpu",
    data_digest: str = "",
) -> SmallExtractor:
    """Train an extractor on uint8 images and their classes 0..C-1.

    `name` becomes part of metric names (FD-<name>). The same seed, options, machine and number of
    threads give the same weights. MetricError for wrong input or fewer than two classes.
    """
    options = options or FitOptions()
    num_classes = _check_training_set(images_BCHW, labels_B, name)
    _, channels, height, width = images_BCHW.shape
    image_shape = (channels, height, width)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images_BCHW), generator=generator)
    num_held_out = max(1, round(options.held_out * len(order)))
    held_out, train = order[:num_held_out], order[num_held_out:]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = SmallNetwork(image_shape, num_classes, options.width, options.num_features)
    network.to(device)
    with exact_convolutions():
        _train(network, images_BCHW[train], labels_B[train].long(), options, generator)
    card = ExtractorCard(
        name=name,
        digest="",
        image_shape=image_shape,
        num_classes=num_classes,
        accuracy=0.0,
        num_train=len(train),
        num_held_out=num_held_out,
        data_digest=data_digest,
        seed=seed,
        options=options,
        torch_version=str(torch.__version__),
    )
    extractor = SmallExtractor(network, card)
    accuracy = _accuracy(extractor, images_BCHW[held_out], labels_B[held_out])
    digest = hashlib.sha256(_serialise(network)).hexdigest()
    return SmallExtractor(network, replace(card, digest=digest, accuracy=accuracy))


def _check_training_set(images_BCHW: Tensor, labels_B: Tensor, name: str) -> int:
    """Number of classes, or MetricError."""
    check_uint8(images_BCHW)
    if not NAME.fullmatch(name):
        raise MetricError(f"extractor name {name!r}: use lower-case letters, digits, '-' and '.'")
    if len(images_BCHW) != len(labels_B) or len(labels_B) < 2:
        raise MetricError(f"{len(images_BCHW)} images and {len(labels_B)} labels: cannot be fitted")
    low, high = int(labels_B.min()), int(labels_B.max())
    if low < 0 or low == high:
        raise MetricError(
            f"labels lie in {low}..{high}; fitting needs two or more classes, numbered from 0"
        )
    return high + 1


def _train(
    network: SmallNetwork,
    images_BCHW: Tensor,
    labels_B: Tensor,
    options: FitOptions,
    generator: torch.Generator,
) -> None:
    """AdamW on the cross entropy, one-cycle schedule; draws come from `generator` alone."""
    device = next(network.parameters()).device
    steps = max(1, options.images // options.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps)
    network.train()
    for batch in islice(_batches(len(images_BCHW), options.batch_size, generator), steps):
        moved_BCHW = _shifted(images_BCHW[batch], options.shift, generator)
        logits_BC = network(moved_BCHW.to(device))[1]
        loss = functional.cross_entropy(logits_BC, labels_B[batch].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def _batches(num: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of one batch after the other, each pass in a new order, for ever."""
    while True:
        yield from torch.randperm(num, generator=generator).split(size)


def _shifted(images_BCHW: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Images, each moved by up to `shift` pixels in both directions, edges repeated."""
    num, _, height, width = images_BCHW.shape
    offsets = torch.randint(-shift, shift + 1, (2, num, 1), generator=generator)
    rows_BH = (torch.arange(height) + offsets[0]).clamp(0, height - 1)
    columns_BW = (torch.arange(width) + offsets[1]).clamp(0, width - 1)
    samples = torch.arange(num)[:, None, None]
    moved_BHWC = images_BCHW.permute(0, 2, 3, 1)[samples, rows_BH[:, :, None], columns_BW[:, None]]
    return moved_BHWC.permute(0, 3, 1, 2)


def _accuracy(extractor: SmallExtractor, images_BCHW: Tensor, labels_B: Tensor) -> float:
    correct = 0
    for images, labels in zip(images_BCHW.split(1024), labels_B.split(1024), strict=True):
        logits_BC = extractor.features(images)["logits"]
        assert logits_BC is not None
        correct += int((logits_BC.argmax(dim=1).cpu() == labels).sum())
    return correct / len(labels_B)


def _convolution(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.SiLU()
    )


def _serialise(network: nn.Module) -> bytes:
    """Weights as safetensors bytes."""
    return save({name: t.cpu().contiguous() for name, t in network.state_dict().items()})
