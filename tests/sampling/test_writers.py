"""Pictures of samples: drawn with the mask of each, and written once."""

from types import SimpleNamespace

import numpy as np
import torch

from unite.config.schema import ImagesConfig
from unite.sampling.generator import Samples
from unite.sampling.writers import PictureWriter
from unite.storage import Store


def test_pictures_are_drawn_with_the_mask_of_the_samples(tmp_path):
    """A domain whose samples have sizes must not draw its padding."""
    writer = PictureWriter(ImagesConfig(), Store.open(tmp_path / "out"))
    mask_BK = torch.tensor([[True, True, False], [True, False, False]])

    def render(sizes_B: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
        grey = (10 * mask_BK.sum(1)).to(torch.uint8)
        return grey[:, None, None, None].expand(-1, 4, 4, 1)

    writer.domain = SimpleNamespace(num_classes=0, render=render)
    ones = torch.ones(2, dtype=torch.int64)
    writer.claim({"seed": 0}, replace=False)
    writer.write(
        [0, 1],
        Samples(
            labels_B=0 * ones,
            z_BKD=torch.zeros(2, 3, 1),
            reconstruction=torch.zeros(2),
            mask_BK=mask_BK,
            nfe_B=ones,
            network_rows_B=ones,
        ),
    )
    writer.finish(0 * ones)
    with np.load(tmp_path / "out" / "samples.npz") as kept:
        assert kept["images"].max((1, 2, 3)).tolist() == [20, 10]
