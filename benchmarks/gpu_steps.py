"""The measurements of gpu.py, one a process: python benchmarks/gpu_steps.py STEP JSON

STEP is kernels, train or sampling; JSON holds the fields of its function. Rows go to the standard
output, one line of JSON each behind ROW.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch
from torch import Tensor

ROW = "ROW "
STARTED = "BENCHMARK_STARTED"
"""Variable with the time at which the process was started, in seconds since 1970."""
GIB = 2**30
LONGEST_BLOCK = 20
"""Steps that are timed at once, at most."""


def emit(**row: Any) -> None:
    """Hand a row over."""
    print(ROW + json.dumps(row), flush=True)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# Training --------------------------------------------------------------------------------------


def train(
    *,
    device: str,
    recipe: str,
    arm: str = "ours",
    noisings: int = 0,
    batch: int = 0,
    micro: int = 1,
    seconds: float = 12.0,
    **training: Any,
) -> None:
    """A training step on invented samples: `arm` ours or plain, `micro` batches per step.

    `training` are further fields of TrainingConfig, and `chunk` of FlowConfig. The row has the time
    from the process's start to its second step, and the first and last loss.
    """
    started = float(os.environ.get(STARTED) or time.time())
    from train_step import batches, timed_block
    from train_step_arms import Ours, Plain

    from unite.training.flops import compute_dtype, measure_matmul_rate, mfu, training_flops

    where = torch.device(device)
    setting = build(where, recipe, noisings, batch, micro, training)
    config = setting.config
    step = {"ours": Ours, "plain": Plain}[arm](setting)
    stream = list(batches(setting, 4))
    for one in stream[:2]:
        step(one)
    wait(where)
    start = time.time() - started
    graphs = step.objective.graphs if arm == "ours" else None
    if graphs:  # they are recorded and judged before anything is timed
        for one in stream * 2:
            step(one)
    first, peak = timed_block(step, stream[2:3], where)
    # About a second: a host that runs ahead of its card must not be made to wait after each step.
    block = stream[3:] * max(1, min(LONGEST_BLOCK, int(1 / first)))
    taken, begun = [], time.monotonic()
    while len(taken) < 3 or time.monotonic() - begun < seconds:
        spent, most = timed_block(step, block, where)
        taken.append(spent / len(block))
        peak = max(peak, most)
    middle, size = statistics.median(taken), config.training.batch_size
    rate = measure_matmul_rate(where, compute_dtype(config))
    losses = step.losses()
    emit(
        recipe=recipe,
        arm=arm,
        F=config.flow.steps,
        batch=f"{micro} x {size // micro}",
        settings=words_of(config, arm, graphs),
        **{"ms/step": round(1e3 * middle, 2), "samples/s": round(size / middle, 1)},
        MFU=f"{mfu(training_flops(config).model, size / middle, rate):.1%}",
        **{"peak GiB": round(peak / GIB, 1), "start, s": round(start, 1)},
        losses=f"{losses[0]:.5f} .. {losses[-1]:.5f}",
    )


def build(
    device: torch.device,
    name: str,
    noisings: int,
    batch: int,
    micro: int,
    training: dict[str, Any],
) -> Any:
    """Setting of a training row."""
    from train_step import EPOCH_IMAGES
    from train_step_arms import Setting

    from unite.config.recipes import recipe
    from unite.config.serialise import replace

    base = recipe(name)
    changes = {f"training.{field}": value for field, value in training.items() if field != "chunk"}
    changes |= {
        "flow.steps": noisings or base.flow.steps,
        "flow.chunk": training.get("chunk", base.flow.chunk),
        "training.batch_size": batch or base.training.batch_size,
        "training.accumulation": micro,
    }
    return Setting.of(replace(base, changes), device, EPOCH_IMAGES)


def words_of(config: Any, arm: str, graphs: Any) -> str:
    """Settings of a row in words."""
    training = config.training
    words = [training.precision, "recompute" if training.gradient_checkpointing else "no recompute"]
    if arm == "ours":
        words += [
            f"chunk {config.flow.chunk or 'all'}",
            "compiled" if training.compile else "eager",
            "kernels" if training.kernels == "auto" else "plain torch",
            "no graphs" if graphs is None else graphs.off or "graphs",
        ]
    return ", ".join(words)


# Kernels ---------------------------------------------------------------------------------------


def kernels(
    *, device: str, batch: int = 256, length: int = 288, width: int = 768, repeats: int = 20
) -> None:
    """Each kernel beside its plain torch form, eager and compiled: errors and time of both passes.

    Errors are against float64, relative to the largest value, of outputs and of all gradients.
    """
    from unite.models.kernels.choose import probe, unusable

    where = torch.device(device)
    heads = width // min(64, width)
    reason = unusable(where) or probe(where, width=width, num_heads=heads)
    emit(kernel="probe", result=reason or "passed")
    for name, (call, inputs) in cases(where, batch, length, width, heads).items():
        compiled = torch.compile(call(False), dynamic=False)  # as a training step's blocks are
        arms = {"kernel": call(True), "eager": call(False), "compiled": compiled}
        row: dict[str, Any] = {"kernel": name}
        for arm, form in arms.items():
            if reason and arm == "kernel" or where.type == "cpu" and arm == "compiled":
                continue
            small = [x[:2] if x.shape[0] == batch else x for x in inputs]
            value, gradient = errors(call(False), form, small)
            row |= {
                f"{arm}: value": f"{value:.1e}",
                f"{arm}: gradient": f"{gradient:.1e}",
                f"{arm}: ms": round(1e3 * time_of(form, inputs, where, repeats), 3),
            }
        emit(**row)


def cases(device: torch.device, batch: int, length: int, width: int, heads: int) -> Any:
    """Name -> (fused or not -> function, inputs) at the sizes and precisions of a training step."""
    from unite.models.kernels import gate_norm, qk_norm_rope, swiglu
    from unite.models.positions import rotary_table

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    each = width // heads
    table = rotary_table(length, each).to(device)
    x = draw(batch, length, width, dtype=torch.float32)
    branch, rows = draw(batch, length, width), [draw(batch, width) for _ in range(3)]
    weight = 1 + 0.1 * draw(width, dtype=torch.float32)
    norms = 1 + 0.1 * draw(2, each, dtype=torch.float32)

    def norm(fused: bool) -> Callable[..., Sequence[Tensor]]:
        return lambda x, g, b, w, s, c: gate_norm(x, (g, b), w, (s, c), 1e-6, fused=fused)

    def rope(fused: bool) -> Callable[..., Sequence[Tensor]]:
        return lambda q, w: qk_norm_rope(q, w, table.to(w.dtype), 1e-6, fused=fused)

    def gate(fused: bool) -> Callable[..., Sequence[Tensor]]:
        return lambda x: (swiglu(x, fused=fused),)

    return {
        "gate_norm": (norm, [x, rows[0], branch, weight, rows[1], rows[2]]),
        "qk_norm_rope": (rope, [draw(batch, length, 3, heads, each), norms]),
        "swiglu": (gate, [draw(batch, length, 2 * (width * 8 // 3))]),
    }


def passes(form: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, then gradients of the inputs."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    low = torch.bfloat16 in {x.dtype for x in inputs}
    with torch.autocast(leaves[0].device.type, dtype=torch.bfloat16, enabled=low):
        outputs = form(*leaves)
    torch.autograd.backward(list(outputs), [torch.ones_like(out) for out in outputs])
    return [*(out.detach() for out in outputs), *(x.grad for x in leaves if x.grad is not None)]


def errors(
    plain: Callable[..., Sequence[Tensor]],
    form: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
) -> tuple[float, float]:
    """Largest errors of outputs and of gradients."""
    exact = passes(plain, [x.double() for x in inputs])
    found = passes(form, inputs)
    sizes = [
        float((one.double() - other).abs().max() / other.abs().max())
        for one, other in zip(found, exact, strict=True)
    ]
    return max(sizes[: -len(inputs)]), max(sizes[-len(inputs) :])


def time_of(
    form: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    device: torch.device,
    repeats: int,
) -> float:
    """Seconds of a forward and backward pass, median."""
    taken = []
    for _ in range(repeats + 3):
        wait(device)
        started = time.perf_counter()
        passes(form, inputs)
        wait(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[3:])


# Sampling --------------------------------------------------------------------------------------


def sampling(
    *,
    device: str,
    recipe: str,
    arms: Sequence[str],
    batch: int = 64,
    scale: float = 2.0,
    rounds: int = 1,
    precision: str = "bfloat16",
) -> None:
    """Guided samples of a random model by the arms of sampling.py, after one warm-up batch.

    The error is that of the images against our Heun-50 in float32, in units of the pixel range.
    """
    import sampling as benchmark
    from unite.config.recipes import recipe as find

    where = torch.device(device)
    config = find(recipe)
    model = benchmark.random_model(config).to(where).eval()
    seeds = benchmark.sample_seeds(0, torch.arange(batch))
    options = benchmark.Options(num=batch, batch=batch, precision=precision)
    setting = benchmark.Setting(
        model=model,
        labels=torch.arange(batch) % max(model.domain.num_classes, 1),
        noise=benchmark.sample_noise(seeds, model.noise_shape).to(where),
        options=options,
        reference=None,
    )
    exact = None
    for name in arms:
        switch(model, where, kernels=name in ("heun", "heun compiled"), compiled="comp" in name)
        seconds, images, rows = time_arm(setting, name, scale, rounds)
        if name == "heun float32":
            exact = images
        emit(
            recipe=recipe,
            sampler=name.removesuffix(" float32"),
            precision="float32" if name.endswith("float32") else precision,
            guidance=scale,
            batch=batch,
            **{"images/s": round(batch / seconds, 2)},
            **{"rows/image": round(rows / batch, 1), "error": difference(images, exact)},
        )


def time_arm(setting: Any, name: str, scale: float, rounds: int) -> tuple[float, Tensor, int]:
    """Median seconds of an arm's batch after a small one, its images and its network rows."""
    from sampling import replace

    if name == "heun float32":
        setting = replace(setting, options=replace(setting.options, precision="float32"))
    arm = name if name.startswith("plain") else name.split()[0]
    draw, device = setting.sampler(arm, scale), setting.noise.device
    draw(setting.labels[:2], setting.noise[:2])
    wait(device)
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        images, rows = draw(setting.labels, setting.noise)
        wait(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), images, rows


def difference(images: Tensor, exact: Tensor | None) -> str:
    """Root mean square difference to the exact images, of the pixel range; "-" without them."""
    if exact is None:
        return "-"
    return f"{((images.float() - exact.float()) / 255).square().mean().sqrt().item():.1e}"


def switch(model: Any, device: torch.device, *, kernels: bool, compiled: bool) -> None:
    """Fused kernels as an evaluation in bfloat16 has them, or none; compiled blocks for good."""
    from unite.models.kernels.choose import SWITCH, use_kernels

    shape = model.tokenizer.config
    if not kernels or device.type == "cpu":
        for part in model.modules():
            if hasattr(part, SWITCH):
                setattr(part, SWITCH, False)
    else:
        use_kernels(model, device, width=shape.width, num_heads=shape.num_heads)
    if compiled:
        for block in (*model.denoiser.blocks, *model.decoder.blocks):
            block.compile(fullgraph=True, dynamic=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
