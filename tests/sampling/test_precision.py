"""Precision and batch size by the device."""

import pytest
import torch

from unite.sampling.precision import autocast, card_batch, choose_precision, require_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def capability(monkeypatch):
    def set_to(*version: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: version)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")

    return set_to


def test_a_gpu_draws_in_bfloat16_and_a_cpu_in_float32(capability) -> None:
    capability(9, 0)
    assert choose_precision(None, CUDA) == "bfloat16"
    assert choose_precision("float32", CUDA) == "float32"
    assert choose_precision(None, CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_card_without_bfloat16_draws_in_float32_and_says_so_when_asked(capability) -> None:
    capability(7, 5)
    assert choose_precision(None, CUDA) == "float32"
    with pytest.raises(ValueError, match="--precision bfloat16: Tesla T4 has no .* float32"):
        require_precision("bfloat16", CUDA)


def test_products_below_autocast_are_in_the_precision() -> None:
    x = torch.ones(2, 2)
    for precision in ("float32", "bfloat16"):
        with autocast(precision, CPU):
            assert (x @ x).dtype == getattr(torch, precision)


@pytest.mark.parametrize(
    ("gib", "batch"), [(4, 32), (11.5, 64), (23.6, 128), (39.4, 256), (79.1, 512), (139.8, 512)]
)
def test_the_batch_grows_with_the_memory(gib: float, batch: int) -> None:
    assert card_batch(round(gib * 2**30)) == batch
