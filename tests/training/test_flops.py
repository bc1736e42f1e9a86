"""FLOP counts: the paper's figure, torch's own counter, and simple ratios."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg16

from unite.config.finetune import finetune_recipe
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace as changed
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.training import flops
from unite.training.flops import (
    DeviceRate,
    measure_matmul_rate,
    mfu,
    sampling_flops,
    training_flops,
)
from unite.training.step import Address, TrainingStep


def unite_b(*, steps: int, recompute: bool) -> RunConfig:
    base = recipe("unite-b")
    return replace(
        base,
        flow=replace(base.flow, steps=steps),
        training=replace(base.training, gradient_checkpointing=recompute),
    )


def test_unite_b_at_14_noisings_with_recompute_is_the_papers_figure() -> None:
    counted = training_flops(unite_b(steps=14, recompute=True))
    assert counted.total == pytest.approx(3.5e12, rel=0.05)
    assert counted.total == pytest.approx(3.47e12, rel=0.003)


def test_unite_b_terms_by_hand() -> None:
    """Forward passes in GMAC, worked out on paper from METHOD 1 and 2."""
    terms = training_flops(unite_b(steps=14, recompute=False)).terms
    forward = {name: term.forward / 2e9 for name, term in terms.items()}
    # 12 blocks on 512 (4 of them) or 544 tokens: 45.3 linear + 5.25 attention, 0.15 patches.
    assert forward["tokenize"] == pytest.approx(50.8, abs=0.1)
    assert forward["denoise"] / 14 == pytest.approx(25.0, abs=0.1)
    assert forward["decode"] == pytest.approx(23.35, abs=0.1)
    # VGG-16 has 15.35 GMAC of convolutions at 224 pixels, here twice at 256.
    assert forward["lpips"] == pytest.approx(2 * 15.35 * (256 / 224) ** 2, rel=0.01)


def test_backward_and_recompute_ratios() -> None:
    terms = training_flops(unite_b(steps=3, recompute=True)).terms
    for name in ("tokenize", "denoise", "decode"):
        assert terms[name].backward == 2 * terms[name].forward
    for name in ("tokenize", "denoise"):
        assert 0.98 < terms[name].recompute / terms[name].forward < 1.0
    assert terms["decode"].recompute == terms["lpips"].recompute == 0
    assert terms["lpips"].backward == terms["lpips"].forward / 2


def test_recompute_is_no_part_of_the_model_flops() -> None:
    with_it = training_flops(unite_b(steps=14, recompute=True))
    without = training_flops(unite_b(steps=14, recompute=False))
    assert with_it.model == without.model == without.total < with_it.total


def test_only_the_denoising_term_grows_with_the_noisings() -> None:
    one = training_flops(unite_b(steps=1, recompute=False)).terms
    many = training_flops(unite_b(steps=14, recompute=False)).terms
    assert many["denoise"].total == pytest.approx(14 * one["denoise"].total)
    assert all(many[name] == one[name] for name in ("tokenize", "decode", "lpips"))


def test_no_lpips_term_without_its_weight() -> None:
    assert "lpips" not in training_flops(recipe("digits")).terms


def test_guided_sampling_doubles_the_guided_evaluations() -> None:
    config = recipe("unite-b")
    plain = sampling_flops(config, 100)
    guided = sampling_flops(config, 100, guided=100)
    decode = training_flops(config).terms["decode"].forward
    assert guided - decode == pytest.approx(2 * (plain - decode))
    # 100 evaluations with guidance on UNITE-B cost about 10 TFLOP.
    assert guided == pytest.approx(10.0e12, rel=0.02)


@pytest.mark.parametrize("recompute", [False, True])
def test_agrees_with_torchs_counter_on_a_training_step(recompute: bool) -> None:
    config = counted_config(recompute=recompute)
    torch.manual_seed(0)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    model.tokenizer.checkpoint_blocks = recompute
    batch = 2
    images = torch.rand(batch, 3, config.domain.size, config.domain.size)
    address = Address(seed=0, epochs_B=torch.zeros(batch).long(), rows_B=torch.arange(batch))
    # torch counts attention only where it is made of plain products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        TrainingStep(model, config, None).backward(
            images, torch.zeros(batch).long(), address, flow_weight=1.0
        )
    counted = training_flops(config)
    assert counter.get_total_flops() / batch == pytest.approx(counted.total, rel=0.02)


def counted_config(*, recompute: bool) -> RunConfig:
    base = recipe("cifar10")
    encoder = replace(base.model.encoder, width=96, depth=3, num_heads=3)
    return replace(
        base,
        model=replace(base.model, encoder=encoder),
        flow=replace(base.flow, steps=3),
        training=replace(base.training, gradient_checkpointing=recompute),
    )


def test_agrees_with_torchs_counter_on_lpips() -> None:
    config = replace(recipe("cifar10"), loss=recipe("unite-b").loss)
    features = vgg16(weights=None).features[:30].requires_grad_(False)
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        features(image.detach())
        features(image).sum().backward()
    assert training_flops(config).terms["lpips"].total == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )


def test_mfu_is_the_share_of_the_rate() -> None:
    assert mfu(2e12, 250.0, 1e15) == pytest.approx(0.5)


def test_matmul_rate_is_the_products_operations_over_its_best_time(monkeypatch) -> None:
    times = iter([0.5, 0.25, 2.0])
    shapes = []

    def seconds(a: torch.Tensor, b: torch.Tensor) -> float:
        shapes.append((tuple(a.shape), tuple(b.shape), a.dtype))
        return next(times)

    monkeypatch.setattr(flops, "_seconds_of_product", seconds)
    monkeypatch.setattr(flops, "MATMUL_REPEATS", 3)
    monkeypatch.setattr(flops, "CPU_MATMUL_SIZE", 16)
    rate = measure_matmul_rate(torch.device("cpu"), torch.float32)
    assert rate == 2 * 16**3 / 0.25
    assert set(shapes) == {((16, 16), (16, 16), torch.float32)}


def test_a_cpus_rate_is_the_best_of_all_measurements(monkeypatch) -> None:
    rates = iter([3e9, 8e9, 5e9])
    monkeypatch.setattr(flops, "measure_matmul_rate", lambda device, dtype: next(rates))
    rate = DeviceRate(torch.device("cpu"), torch.float32)
    seen = [rate.flops]
    for _ in range(2):
        rate.refresh()
        seen.append(rate.flops)
    assert seen == [3e9, 8e9, 8e9]


def test_no_start_waits_for_the_rate(monkeypatch) -> None:
    measured = []
    monkeypatch.setattr(flops, "measure_matmul_rate", lambda *of: measured.append(of) or 3e9)
    rate = DeviceRate(torch.device("cuda"), torch.bfloat16)
    assert not measured
    assert [rate.flops, rate.flops] == [3e9, 3e9]
    assert len(measured) == 1


def test_a_stated_rate_and_a_gpus_stay(monkeypatch) -> None:
    rates = iter([3e9])
    monkeypatch.setattr(flops, "measure_matmul_rate", lambda device, dtype: next(rates))
    stated = DeviceRate(torch.device("cpu"), torch.float32, stated=5e9)
    measured = DeviceRate(torch.device("cuda"), torch.bfloat16)
    for rate in (stated, measured):
        rate.refresh()
    assert (stated.flops, measured.flops) == (5e9, 3e9)


def test_measuring_leaves_the_global_generator_alone(monkeypatch) -> None:
    monkeypatch.setattr(flops, "CPU_MATMUL_SIZE", 16)
    before = torch.get_rng_state()
    measure_matmul_rate(torch.device("cpu"), torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_time_of_a_product_is_that_of_the_clock(turned_clock, monkeypatch) -> None:
    clock = iter([10.0, 10.5])
    multiplied = []
    turned_clock(flops, perf_counter=lambda: next(clock))
    monkeypatch.setattr(flops.torch, "mm", lambda a, b: multiplied.append((a, b)))
    a, b = torch.ones(2, 2), torch.ones(2, 2)
    assert flops._seconds_of_product(a, b) == 0.5
    assert multiplied == [(a, b)]


@pytest.mark.parametrize("recompute", [False, True])
def test_a_fine_tuning_recomputes_blocks_alone_and_only_where_asked(recompute: bool) -> None:
    changes = {"training.gradient_checkpointing": recompute}
    terms = training_flops(finetune_recipe("small", changed(recipe("smoke"), changes))).terms
    judge, learned = terms["discriminate"], terms["discriminate"].forward
    assert terms["decode"].recompute == terms["tokenize"].recompute == 0
    assert (0.9 * learned < judge.recompute < learned) if recompute else judge.recompute == 0
