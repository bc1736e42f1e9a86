"""The model against activations of the authors' code with the same (random) weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import unite
from unite.flow.path import flow_error, interpolate
from unite.models.positions import sincos_2d
from unite.models.unite import UNITE

FIXTURE = Path(__file__).parents[1] / "parity" / "authors_tiny"


@pytest.fixture(scope="module")
def model() -> UNITE:
    return unite.load(str(FIXTURE))


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FIXTURE / "activations.safetensors")


@torch.no_grad()
def tokenize(model: UNITE, expected: dict[str, Tensor]) -> Tensor:
    image_BCHW = expected["image_u8"].float() / 255
    return model.tokenize(image_BCHW, expected["z_noise"], expected["t_tokenize"])


@torch.no_grad()
def test_tokenization(model: UNITE, expected: dict[str, Tensor]) -> None:
    z0_BKD = tokenize(model, expected)
    assert z0_BKD.std() > 0.1
    torch.testing.assert_close(z0_BKD, expected["z0"], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("name", "conditional"), [("zhat", True), ("zhat_null", False)])
def test_generation(model, expected, name: str, conditional: bool) -> None:
    labels_B = expected["labels"] if conditional else None
    z_hat_BKD = model.denoise(expected["zt"], expected["t"], labels_B)
    torch.testing.assert_close(z_hat_BKD, expected[name], atol=1e-4, rtol=0)
    assert (expected["zhat"] - expected["zhat_null"]).abs().max() > 1e-2


@torch.no_grad()
def test_decoder(model, expected) -> None:
    reconstruction = model.decode(expected["z0"])
    torch.testing.assert_close(reconstruction, expected["recon"].float(), atol=2e-3, rtol=0)


@torch.no_grad()
def test_flow_loss_from_the_image_on(model, expected) -> None:
    z0_BKD = tokenize(model, expected)
    z_t_BKD = interpolate(z0_BKD, expected["eps"], expected["t"])
    z_hat_BKD = model.denoise(z_t_BKD, expected["t"], expected["labels"])
    loss = flow_error(z_hat_BKD, z0_BKD, expected["t"], "velocity", 0.05)
    torch.testing.assert_close(loss, expected["flow_loss"], rtol=1e-5, atol=0)


def test_fixed_tables_equal_the_released_ones(model) -> None:
    released = load_file(FIXTURE / "state_dict.safetensors")
    positions_NH = released["decoder.decoder_pos_embed"][0, 1:]
    torch.testing.assert_close(sincos_2d(16, 32), positions_NH, atol=1e-5, rtol=0)
    for part, ours in zip(("cos", "sin"), model.tokenizer.rotary, strict=True):
        theirs = released[f"encoder.feat_rope_incontext.freqs_{part}"]
        torch.testing.assert_close(ours, theirs[:, ::2], atol=1e-4, rtol=0)
        torch.testing.assert_close(ours, theirs[:, 1::2], atol=1e-4, rtol=0)
