"""FLOPs counted from the config, per term, and model FLOPs utilisation (paper Section 5.3).

One multiply-add is 2 FLOPs. Matrix products and convolutions are counted, attention's included;
element-wise work, norms and softmax are not (under 1% at UNITE's sizes). Padding counts as the work
that it costs: a sample with fewer registers or tokens than the largest is computed as if it had as
many. A backward pass costs twice the forward one: gradients of the inputs and of the weights.
Gradient checkpointing computes the Generative Encoder's blocks, of tokenization and of denoising,
once more.

UNITE-B at F = 14 with recompute comes to 3.47 TFLOP per image, the paper says about 3.5 (1%). The
paper speaks of one VGG pass; LPIPS really needs two forward passes, of the image and of its
reconstruction, and the gradient of the input of one: these three are counted here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from unite.config.finetune import FinetuneRunConfig
from unite.config.schema import DecoderConfig, EncoderConfig, ModelConfig, RunConfig
from unite.domains import build_domain
from unite.models.generative_encoder import NUM_FREQUENCIES, swiglu_hidden

# Convolutions of VGG-16 up to the last feature that LPIPS reads: (inputs, outputs, halvings of
# the image before it). All are 3 x 3.
VGG_CONVOLUTIONS = (
    (3, 64, 0), (64, 64, 0),
    (64, 128, 1), (128, 128, 1),
    (128, 256, 2), (256, 256, 2), (256, 256, 2),
    (256, 512, 3), (512, 512, 3), (512, 512, 3),
    (512, 512, 4), (512, 512, 4), (512, 512, 4),
)  # fmt: skip
CUDA_MATMUL_SIZE = 8192
CPU_MATMUL_SIZE = 1024
MATMUL_REPEATS = 10


@dataclass(frozen=True, kw_only=True)
class Term:
    """FLOPs per image of one part of the step."""

    forward: float
    backward: float
    recompute: float = 0.0

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.recompute


@dataclass(frozen=True, kw_only=True)
class TrainingFlops:
    """FLOPs per image of one training step, by term: tokenize, denoise (all F), decode, lpips."""

    terms: dict[str, Term]

    @property
    def model(self) -> float:
        """FLOPs per image without recompute: those of the mathematics. MFU is defined on them."""
        return sum(term.forward + term.backward for term in self.terms.values())

    @property
    def total(self) -> float:
        """FLOPs per image with recompute: those that the device executes and the paper reports."""
        return sum(term.total for term in self.terms.values())


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """Multiply-adds of one forward pass: all of it, and the part inside the blocks."""

    total: float
    blocks: float


def training_flops(config: RunConfig) -> TrainingFlops:
    """FLOPs per image of the step that `config` describes."""
    if isinstance(config, FinetuneRunConfig):
        terms = _finetune_terms(config)
    else:
        recompute = config.training.gradient_checkpointing
        terms = {
            "tokenize": _trained(_tokenize(config), 1, recompute=recompute),
            "denoise": _trained(_denoise(config), config.flow.steps, recompute=recompute),
            "decode": _trained(_decode(config), 1, recompute=False),
        }
    side = build_domain(config.domain).perceptual_side
    if config.loss.perceptual.weight and side:
        vgg = 2.0 * _vgg_macs(side)
        # The weights are frozen and the target needs no gradient: one input gradient.
        terms["lpips"] = Term(forward=2 * vgg, backward=vgg)
    return TrainingFlops(terms=terms)


def _finetune_terms(config: FinetuneRunConfig) -> dict[str, Term]:
    """Both players' terms (METHOD 6), of a step in which the adversary has weight.

    The encoder is frozen: forward alone. The decoder's two terms go backward apart, and its
    reconstruction is made once more for the discriminator. That sees a reconstruction for its
    gradient with respect to the image, then a real image and a reconstruction to learn from.
    """
    decode, judge = _decode(config), _tokenize(config)
    terms = {
        "tokenize": Term(forward=2.0 * judge.total, backward=0.0),
        "decode": _trained(decode, 1, recompute=False),
    }
    if not config.adversarial.weight:
        return terms
    once = 2.0 * decode.total
    terms["decode"] = Term(forward=2 * once, backward=4 * once)
    passes = 2.0 * judge.total
    learns = 4 * passes if config.discriminator.trunk == "trained" else 0.0
    recompute = config.training.gradient_checkpointing
    again = 2.0 * judge.blocks * (3 if learns else 1) if recompute else 0.0
    terms["discriminate"] = Term(forward=3 * passes, backward=passes + learns, recompute=again)
    return terms


def sampling_flops(config: RunConfig, evaluations: float, *, guided: float = 0.0) -> float:
    """FLOPs of one sample: network evaluations of its latent, and one decoding.

    `evaluations` is the solver's count (NFE); `guided` of them ran conditionally and
    unconditionally, and so cost twice.
    """
    passes = evaluations + guided
    return 2.0 * (passes * _denoise(config).total + _decode(config).total)


def mfu(flops_per_image: float, images_per_s: float, device_flops: float) -> float:
    """Model FLOPs utilisation of one device, 0..1.

    Hand in `TrainingFlops.model` per image, one device's images per second, and its rate in
    FLOP/s (`measure_matmul_rate`, or the maker's peak).
    """
    return flops_per_image * images_per_s / device_flops


def measure_matmul_rate(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> float:
    """FLOP/s of a large square matrix product, the best of several: the denominator of MFU.

    Takes about a tenth of a second. On a CPU it is the rate with torch's present thread count.
    """
    size = CUDA_MATMUL_SIZE if device.type == "cuda" else CPU_MATMUL_SIZE
    generator = torch.Generator(device).manual_seed(0)
    a, b = (
        torch.randn(size, size, device=device, dtype=dtype, generator=generator) for _ in range(2)
    )
    best = min(_seconds_of_product(a, b) for _ in range(MATMUL_REPEATS))
    return 2.0 * size**3 / best


class DeviceRate:
    """Denominator of MFU: the stated peak of one device, or the best rate measured so far.

    It is measured when it is first asked for, so that no first step waits. A CPU also works for
    what starts beside the training process, which halves its rate at that moment: `refresh`
    measures it again. A GPU is its worker's own and is measured once.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, stated: float = 0.0) -> None:
        self._device, self._dtype = device, dtype
        self._settled = bool(stated) or device.type != "cpu"
        self._flops = stated

    @property
    def flops(self) -> float:
        """Rate of one device in FLOP/s."""
        self._flops = self._flops or measure_matmul_rate(self._device, self._dtype)
        return self._flops

    def refresh(self) -> None:
        if not self._settled:
            self._flops = max(self._flops, measure_matmul_rate(self._device, self._dtype))


def compute_dtype(config: RunConfig) -> torch.dtype:
    """The type that a training step's matrix products have."""
    return torch.bfloat16 if config.training.precision == "bfloat16" else torch.float32


def _seconds_of_product(a: torch.Tensor, b: torch.Tensor) -> float:
    _wait(a.device)
    start = time.perf_counter()
    torch.mm(a, b)
    _wait(a.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _trained(cost: _Pass, count: int, *, recompute: bool) -> Term:
    forward = 2.0 * count * cost.total
    again = 2.0 * count * cost.blocks if recompute else 0.0
    return Term(forward=forward, backward=2.0 * forward, recompute=again)


def _tokenize(config: RunConfig) -> _Pass:
    """Cost of one tokenization pass: registers and the sample's tokens."""
    domain = build_domain(config.domain)
    tokens = domain.num_tokens(config.model)
    encoder = _encoder_macs(config.model, config.model.num_registers + tokens)
    embedder = domain.embedder_macs(config.model)
    return _Pass(total=encoder.total + embedder, blocks=encoder.blocks)


def _denoise(config: RunConfig) -> _Pass:
    """Cost of one generation pass: registers alone."""
    return _encoder_macs(config.model, config.model.num_registers)


def _encoder_macs(model: ModelConfig, sequence: int) -> _Pass:
    """The Generative Encoder on `sequence` tokens before the in-context ones join."""
    config, width = model.encoder, model.encoder.width
    blocks = sum(
        _encoder_block_macs(config, sequence + _in_context(config, index))
        for index in range(config.depth)
    )
    condition = 2 * NUM_FREQUENCIES * width + width**2
    projections = 2 * model.num_registers * model.latent_dim * width
    final_modulation = 2 * width**2
    return _Pass(total=blocks + condition + projections + final_modulation, blocks=blocks)


def _in_context(config: EncoderConfig, index: int) -> int:
    return config.in_context_tokens if index >= config.in_context_start else 0


def _encoder_block_macs(config: EncoderConfig, sequence: int) -> float:
    """adaLN (once per image), qkv and output projections, attention, SwiGLU's three products."""
    width, hidden = config.width, swiglu_hidden(config.width, config.mlp_ratio)
    per_token = 4 * width**2 + 3 * width * hidden
    return 6 * width**2 + sequence * per_token + 2 * sequence**2 * width


def _decode(config: RunConfig) -> _Pass:
    """Cost of one decoder pass on K registers and the class token."""
    model, decoder = config.model, config.model.decoder
    tokens = model.num_registers
    blocks = decoder.depth * _decoder_block_macs(decoder, tokens + 1)
    stem = model.latent_dim * decoder.stem_width + decoder.stem_width * decoder.width
    head = build_domain(config.domain).head_macs(model)
    return _Pass(total=blocks + tokens * stem + head, blocks=blocks)


def _decoder_block_macs(config: DecoderConfig, sequence: int) -> float:
    per_token = 4 * config.width**2 + 2 * config.width * config.mlp_width
    return sequence * per_token + 2 * sequence**2 * config.width


def _vgg_macs(size: int) -> float:
    """Cost of VGG-16's features on one square image, with LPIPS' five 1 x 1 heads."""
    convolutions = sum(9 * i * o * (size >> half) ** 2 for i, o, half in VGG_CONVOLUTIONS)
    # The last convolution of each resolution is what a head reads.
    outputs = {half: o for _, o, half in VGG_CONVOLUTIONS}
    return convolutions + sum(o * (size >> half) ** 2 for half, o in outputs.items())
