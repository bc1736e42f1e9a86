"""Behaviour of the Generative Encoder, the decoder and UNITE that parity cannot show."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from unite.config.schema import (
    DecoderConfig,
    EncoderConfig,
    FlowConfig,
    ImagesConfig,
    ModelConfig,
)
from unite.domains import build_domain
from unite.models import UNITE, Decoder, GenerativeEncoder
from unite.models.positions import rotary_table, rotate, sincos_2d

ENCODER = EncoderConfig(depth=3, width=32, num_heads=4, in_context_tokens=5, in_context_start=1)
DECODER = DecoderConfig(depth=2, width=32, num_heads=4, mlp_width=48, stem_width=24)
MODEL = ModelConfig(num_registers=16, latent_dim=8, encoder=ENCODER, decoder=DECODER)
IMAGES = ImagesConfig(size=8, patch=2, channels=3, num_classes=10)


def randomise(module: nn.Module) -> None:
    """Random weights everywhere: fresh models predict zero, which would hide everything."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.1 * noise if parameter.ndim == 1 else 0.2 * noise


def build_unite(config: ModelConfig = MODEL) -> UNITE:
    torch.manual_seed(0)
    model = UNITE(config, build_domain(IMAGES), FlowConfig())
    randomise(model)
    return model


def build_encoder(**changes) -> GenerativeEncoder:
    torch.manual_seed(0)
    config = replace(ENCODER, **changes)
    encoder = GenerativeEncoder(config, num_registers=12, latent_dim=8, num_classes=10)
    randomise(encoder)
    return encoder


def inputs(batch: int = 3, registers: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    latent = torch.randn(batch, registers, 8, generator=generator)
    return latent, torch.rand(batch, generator=generator), torch.arange(batch)


def test_fresh_model_predicts_the_norms_shift_and_starts_from_the_method() -> None:
    model = UNITE(MODEL, build_domain(IMAGES), FlowConfig())
    z0_BKD = model.tokenize(torch.rand(2, 3, 8, 8))
    assert z0_BKD.shape == (2, 16, 8) and not z0_BKD.any()
    assert model.decode(torch.randn(2, 16, 8)).shape == (2, 3, 8, 8)
    for block in model.tokenizer.blocks:
        assert not block.modulation.weight.any()
    assert not model.embedder.positions.any()
    assert torch.equal(model.tokenizer.registers[0, 0], torch.tensor([0.0] * 16 + [1.0] * 16))
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith("qkv.bias"))
    limit = (6 / (32 + 96)) ** 0.5
    qkv = model.tokenizer.blocks[0].attention.qkv.weight
    assert 0.95 * limit < qkv.abs().max() <= limit


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    encoder = build_encoder(rotary=False)
    latent, t_B, labels_B = inputs(registers=7)
    tokens = torch.randn(3, 7, 32)
    plain = encoder(latent, t_B, labels_B, tokens)
    mask = torch.arange(12).expand(3, 12) < 7
    padded_latent = torch.full((3, 12, 8), 9.0)
    padded_latent[:, :7] = latent
    padded_tokens = torch.full((3, 12, 32), -5.0)
    padded_tokens[:, :7] = tokens
    padded = encoder(padded_latent, t_B, labels_B, padded_tokens, mask_BK=mask, token_mask_BN=mask)
    torch.testing.assert_close(padded[:, :7], plain, atol=1e-4, rtol=0)
    assert not padded[:, 7:].any()
    unmasked = encoder(padded_latent, t_B, labels_B, padded_tokens)
    assert (unmasked[:, :7] - plain).abs().max() > 1e-2


@torch.no_grad()
def test_padding_changes_nothing_in_generation_and_decoder() -> None:
    encoder = build_encoder()
    head = _TokenHead()
    decoder = Decoder(DECODER, latent_dim=8, positions_KH=torch.randn(12, 32), head=head)
    latent, t_B, labels_B = inputs(registers=7)
    mask = torch.arange(12).expand(3, 12) < 7
    padded = torch.cat([latent, torch.full((3, 5, 8), 9.0)], dim=1)
    plain_z = encoder(latent, t_B, labels_B)
    padded_z = encoder(padded, t_B, labels_B, mask_BK=mask)
    torch.testing.assert_close(padded_z[:, :7], plain_z, atol=1e-4, rtol=0)
    plain = decoder(latent)
    torch.testing.assert_close(decoder(padded, mask)[:, :7], plain, atol=1e-4, rtol=0)
    assert head.mask is mask


class _TokenHead(nn.Module):
    mask: Tensor | None = None

    def forward(self, x_BKH: Tensor, mask_BK: Tensor | None) -> Tensor:
        self.mask = mask_BK
        return x_BKH


@torch.no_grad()
def test_samples_do_not_see_each_other() -> None:
    model = build_unite()
    latent, t_B, labels_B = inputs()
    images = torch.rand(3, 3, 8, 8)
    z0_BKD = model.tokenize(images, latent, t_B)
    z_hat_BKD = model.denoise(latent, t_B, labels_B)
    for row in range(3):
        one = slice(row, row + 1)
        z0 = model.tokenize(images[one], latent[one], t_B[one])
        torch.testing.assert_close(z0, z0_BKD[one], atol=1e-4, rtol=0)
        z_hat = model.denoise(latent[one], t_B[one], labels_B[one])
        torch.testing.assert_close(z_hat, z_hat_BKD[one], atol=1e-4, rtol=0)
    assert (z_hat_BKD[0] - z_hat_BKD[1]).abs().max() > 1e-2


def gradients(model: UNITE, checkpoint: bool) -> dict[str, Tensor]:
    model.tokenizer.checkpoint_blocks = model.decoder.checkpoint_blocks = checkpoint
    model.zero_grad()
    latent, t_B, labels_B = inputs()
    z0_BKD = model.tokenize(torch.linspace(0, 1, 576).reshape(3, 3, 8, 8), latent, t_B)
    z_hat_BKD = model.denoise(latent, t_B, labels_B)
    (model.decode(z0_BKD).square().mean() + z_hat_BKD.square().mean()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_checkpointing_keeps_gradients_and_reaches_every_parameter() -> None:
    model = build_unite()
    plain, recomputed = gradients(model, False), gradients(model, True)
    assert all(gradient is not None for gradient in plain.values())
    for name, gradient in plain.items():
        assert torch.equal(gradient, recomputed[name]), name


def test_checkpointing_drops_what_blocks_keep_for_the_backward_pass() -> None:
    encoder = build_encoder()
    saved = {}
    for encoder.checkpoint_blocks in (False, True):
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(*inputs(registers=12))
        saved[encoder.checkpoint_blocks] = count
    assert saved[True] < saved[False] / 3


@torch.no_grad()
def test_activations_are_the_registers_of_every_block() -> None:
    model = build_unite()
    latent, t_B, labels_B = inputs()
    tokenized: list[Tensor] = []
    generated: list[Tensor] = []
    model.tokenize(torch.rand(3, 3, 8, 8), latent, t_B, activations=tokenized)
    z_hat_BKD = model.denoise(latent, t_B, labels_B, activations=generated)
    assert [tuple(x.shape) for x in tokenized + generated] == [(3, 16, 32)] * 6
    encoder = model.denoiser
    condition = nn.functional.silu(encoder.time(t_B) + encoder.classes(labels_B))
    again = encoder.norm(encoder.final(generated[-1], condition))
    torch.testing.assert_close(again, z_hat_BKD)


@torch.no_grad()
def test_defaults_are_the_null_class_and_nearly_pure_noise_time() -> None:
    model = build_unite()
    latent, t_B, _ = inputs()
    null_B = torch.full((3,), 10)
    assert torch.equal(model.denoise(latent, t_B), model.denoise(latent, t_B, null_B))
    seen = []
    handle = model.tokenizer.time.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.tokenize(torch.rand(64, 3, 8, 8))
    handle.remove()
    assert 0 <= seen[0].min() and 0.005 < seen[0].max() <= 0.01


def test_separate_weights_have_their_own_denoiser() -> None:
    config = replace(MODEL, sharing="separate")
    model = UNITE(config, build_domain(IMAGES), FlowConfig())
    assert model.denoiser is model.separate_denoiser is not model.tokenizer
    shared = UNITE(MODEL, build_domain(IMAGES), FlowConfig())
    assert shared.denoiser is shared.tokenizer
    assert not any(name.startswith("separate") for name in shared.state_dict())


@torch.no_grad()
def test_autocast_keeps_the_latent_in_float32_and_close() -> None:
    model = build_unite()
    latent, t_B, labels_B = inputs()
    exact = model.denoise(latent, t_B, labels_B)
    with torch.autocast("cpu", torch.bfloat16):
        z_hat_BKD = model.denoise(latent, t_B, labels_B)
        image_BCHW = model.decode(z_hat_BKD)
    assert z_hat_BKD.dtype == image_BCHW.dtype == torch.float32
    assert 0 < (z_hat_BKD - exact).abs().max() < 0.3


@pytest.mark.parametrize("qk_norm", [True, False])
def test_blocks_are_one_graph_for_the_compiler(qk_norm: bool) -> None:
    encoder = build_encoder(qk_norm=qk_norm)
    expected = encoder(*inputs(registers=12))
    for block in encoder.blocks:
        block.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(encoder(*inputs(registers=12)), expected)


def test_meta_device_builds_and_runs() -> None:
    with torch.device("meta"):
        model = UNITE(MODEL, build_domain(IMAGES), FlowConfig())
        z_hat_BKD = model.denoise(torch.randn(2, 16, 8), torch.rand(2))
    assert z_hat_BKD.shape == (2, 16, 8) and z_hat_BKD.is_meta


def test_rotary_pairs_turn_by_relative_position() -> None:
    table = rotary_table(6, 8, num_identity=2).double()
    assert torch.equal(table[0, :3], torch.ones(3, 4).double()) and not table[1, :3].any()
    q, k = torch.randn(2, 1, 8, dtype=torch.float64)
    scores = [rotate(q, table[:, i : i + 1]) @ rotate(k, table[:, i + 1 : i + 2]).T for i in (2, 5)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=0)
    turned = rotate(torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]]), table[:, 3:4].float())
    assert turned[0, :2].tolist() == pytest.approx([0.5403023, 0.8414710])


def test_grid_positions_are_row_major() -> None:
    table = sincos_2d(3, 8)
    assert torch.equal(table[1, :4], table[7, :4]) and torch.equal(table[3, 4:], table[5, 4:])
    assert not torch.equal(table[1, :4], table[3, :4])


def test_in_context_tokens_after_the_last_block_are_refused() -> None:
    with pytest.raises(ValueError, match="in_context_start = 3"):
        build_encoder(in_context_start=3)


def test_more_tokens_than_registers_are_refused() -> None:
    with pytest.raises(ValueError, match="longer than the rotary table"):
        build_encoder()(*inputs(registers=12), torch.zeros(3, 20, 32))


def test_registers_must_match_the_patches() -> None:
    with pytest.raises(ValueError, match="num_registers = 15.*16"):
        UNITE(replace(MODEL, num_registers=15), build_domain(IMAGES), FlowConfig())


def biased_encoder(bias: float, **changes) -> GenerativeEncoder:
    """An encoder with all its pair biases at one value."""
    encoder = build_encoder(pair_bias=1.0, **changes)
    torch.nn.init.constant_(encoder.pair_bias, bias)
    return encoder


@torch.no_grad()
def test_a_large_pair_bias_shows_a_register_its_own_token_alone() -> None:
    """Beyond one block, or with mixing otherwise, others reach it too."""
    latent, t_B, labels_B = inputs(registers=12)
    tokens = torch.randn(3, 12, 32)
    changed = tokens.clone()
    changed[:, 5] += 1.0
    one = {"depth": 1, "in_context_tokens": 0, "in_context_start": 0}
    moved = {}
    for bias in (0.0, 60.0):
        encoder = biased_encoder(bias, **one)
        z, other = (encoder(latent, t_B, labels_B, each) for each in (tokens, changed))
        moved[bias] = (z - other).abs().amax((0, 2)) > 1e-6
    assert moved[0.0].all()
    assert moved[60.0].nonzero().flatten().tolist() == [5]


@torch.no_grad()
def test_pair_bias_of_zero_computes_as_without_it() -> None:
    latent, t_B, labels_B = inputs(registers=12)
    tokens = torch.randn(3, 12, 32)
    mask = torch.arange(12) < torch.tensor([[12], [7], [3]])
    plain, biased = build_encoder(), biased_encoder(0.0)
    biased.load_state_dict(plain.state_dict(), strict=False)
    for masks in ({}, {"mask_BK": mask, "token_mask_BN": mask}):
        expected = plain(latent, t_B, labels_B, tokens, **masks)
        torch.testing.assert_close(biased(latent, t_B, labels_B, tokens, **masks), expected)


def test_pair_bias_acts_and_learns_in_the_tokenization_pass_alone() -> None:
    encoder = biased_encoder(4.0)
    assert encoder.pair_bias.shape == (3, 4)
    encoder(*inputs(registers=12), torch.randn(3, 12, 32)).sum().backward()
    assert (encoder.pair_bias.grad != 0).all()
    encoder.zero_grad()
    encoder(*inputs(registers=12)).sum().backward()
    assert encoder.pair_bias.grad is None
    assert build_encoder().pair_bias is None


def test_a_separate_denoiser_has_no_pair_bias() -> None:
    config = replace(MODEL, sharing="separate", encoder=replace(ENCODER, pair_bias=4.0))
    model = build_unite(config)
    assert model.tokenizer.pair_bias is not None
    assert model.denoiser.pair_bias is None
