"""The configuration of a run: frozen dataclasses with the unit and meaning beside each field.

A run is a named recipe (`config/recipes.py`) overridden by flags; nothing else holds settings.
`validate` (`config/validate.py`) checks the whole tree before Ray or an accelerator is touched.
Counts are in images (samples) unless a field says otherwise. t = 1 is clean data, t = 0 is noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unite.config.cluster import ClusterConfig
from unite.config.domains import DomainConfig, ImagesConfig
from unite.config.serialise import LATER

Sharing = Literal["shared", "separate"]
Solver = Literal["dopri5", "heun", "midpoint", "euler"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The Generative Encoder (METHOD 1; paper Table 7)."""

    depth: int = 12
    """Number of transformer blocks."""
    width: int = 768
    """Hidden width H."""
    num_heads: int = 12
    """Attention heads; must divide `width` into an even head width (rotary pairs)."""
    mlp_ratio: float = 4.0
    """SwiGLU hidden width = int(2/3 * mlp_ratio * width)."""
    qk_norm: bool = True
    """RMSNorm on queries and keys, per head."""
    rotary: bool = True
    """1-D rotary positions along the sequence of registers and sample tokens."""
    in_context_tokens: int = 32
    """Class tokens prepended from block `in_context_start` on; 0 switches them off."""
    in_context_start: int = 4
    """Index of the first block that sees the in-context class tokens."""
    patch_positions: Literal["zeros", "sincos2d"] = "zeros"
    """Frozen position table of the patches: zeros as released (rotary only), or 2-D sin-cos."""
    pair_bias: float = field(default=0.0, metadata=LATER)
    """Initial value of a learned bias, one for each block and head, on the attention between
    register i and token i in the tokenization pass; 0 = none and no parameter."""
    tokenize_t_max: float = 0.01
    """Largest t of tokenization, t ~ U[0, tokenize_t_max]: almost the maximum noise level."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The ViT decoder (METHOD 2)."""

    depth: int = 12
    """Number of transformer layers."""
    width: int = 768
    """Hidden width."""
    num_heads: int = 12
    """Attention heads; must divide `width`."""
    mlp_width: int = 3072
    """Hidden width of the MLP."""
    stem_width: int = 768
    """Width between the two input projections: Linear(d, stem_width), Linear(stem_width, width)."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """UNITE: Generative Encoder + decoder."""

    num_registers: int = 256
    """K, the number of latent tokens. The decoder needs one per patch: K = N for images."""
    latent_dim: int = 32
    """d, channels per latent token."""
    sharing: Sharing = "shared"
    """`shared`: one Generative Encoder is tokenizer and denoiser. `separate`: two (ablation)."""
    init: Literal["xavier", "released"] = field(default="xavier", metadata=LATER)
    """Initial weights of Linears; `released`: torch's in decoder and patches, class token 0."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The flow-matching term (METHOD 3, steps 4-6)."""

    steps: int = 14
    """F, noisings of each latent per reconstruction (paper Fig. 5)."""
    chunk: int = 0
    """Noisings per forward pass, to bound memory; 0 = all F at once. Must divide `steps`."""
    weight: float = 1.0
    """w_g, weight of the flow loss."""
    reduction: Literal["sum", "mean"] = "sum"
    """Reduction over the F noisings: `sum` (paper) grows with F, `mean` does not."""
    warmup_fraction: float = 0.0
    """Share of training over which the weight ramps linearly from 0 (cure for collapse)."""
    stop_gradient: bool = True
    """Detach the latent before noising; false lets the flow loss shape the tokenizer's output."""
    timesteps: Literal["logit_normal", "uniform"] = "logit_normal"
    """Distribution of t: sigmoid(N(t_mean, t_std)) as released, or U[0, 1] (paper text)."""
    t_mean: float = 0.0
    """Mean of the normal under the sigmoid (logit_normal only)."""
    t_std: float = 1.0
    """Standard deviation of the normal under the sigmoid (logit_normal only)."""
    shift: float = 0.5
    """alpha: t <- alpha t / (1 + (alpha - 1) t); 0 = no shift (as does 1). Also shifts sampling."""
    loss_space: Literal["velocity", "data"] = "velocity"
    """`velocity`: errors divided by max(1 - t, t_clamp), as released; `data`: plain squares."""
    t_clamp: float = 0.05
    """Lower bound of 1 - t in velocities, in training and in sampling."""
    class_dropout: float = 0.1
    """Probability of training the generation pass on the null class (classifier-free guidance)."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionNoiseConfig:
    """Noise on the latent before the decoder (METHOD 3, step 2; paper Table 6 top)."""

    form: Literal["interpolated", "additive"] = "interpolated"
    """`interpolated`: t z + (1 - t) eps with t ~ U[sigma, 1]; `additive`: z + sigma eps (text)."""
    sigma: float = 0.7
    """interpolated: lowest t (0 = full noise, 1 = none). additive: its scale (0 = none)."""
    probability: float = 0.5
    """Share of images whose latent is noised."""


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """LPIPS (VGG) in the reconstruction loss."""

    weight: float = 1.0
    """w_p, weight of LPIPS; 0 switches the term off and needs no pretrained weights."""
    input_range: Literal["-1..1", "0..1"] = "-1..1"
    """Range of LPIPS' input: [-1, 1], for which it was made, or [0, 1] as in the released code."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Reconstruction loss: weight * (L1 + w_p LPIPS) (METHOD 3, step 3)."""

    reconstruction_weight: float = 1.0
    """Weight of the whole reconstruction loss; above 1 is a cure for small-scale collapse."""
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Muon for hidden matrices, AdamW for the rest (METHOD 3; paper Table 8)."""

    lr: float = 1e-4
    """Base learning rate of both optimisers, before the batch rule."""
    lr_batch_reference: int = 384
    """Batch size of the rule lr * max(1, batch / lr_batch_reference); 0 switches it off."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    """Schedule of lr. `cosine`: warm-up, cosine to `lr_min`. `plateau` (released): warm-up, flat to
    `plateau_epochs[0]`, cosine to half by `plateau_epochs[1]`, flat after."""
    lr_min: float = 1e-6
    """Final learning rate of `cosine`."""
    warmup_epochs: float = 20.0
    """Length of the linear warm-up, in epochs."""
    plateau_epochs: tuple[float, float] = (30.0, 50.0)
    """Epochs between which `plateau` halves the learning rate."""
    muon: bool = True
    """Train hidden matrices with Muon; false trains every parameter with AdamW."""
    muon_momentum: float = 0.95
    """Nesterov momentum of Muon."""
    muon_eps: float = field(default=1e-7, metadata=LATER)
    """Smallest norm that Muon divides an update by (released: 1e-6)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW betas."""
    eps: float = 1e-6
    """AdamW epsilon."""
    weight_decay: float = 0.0
    """Decoupled weight decay of both optimisers."""
    grad_clip: float = 3.0
    """Global gradient norm limit; 0 = none."""
    ema_decay: float = 0.9978
    """Decay of the weight average, per optimiser step."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Length, batch, precision and execution of training."""

    epochs: float = 240.0
    """Passes over the training set; may be fractional."""
    batch_size: int = 1024
    """Images per optimiser step, over all workers."""
    accumulation: int = 1
    """Micro-batches per optimiser step and worker; with a range of workers, of the largest group
    (smaller ones make more, of the same size)."""
    micro_batch: int = field(default=0, metadata=LATER)
    """Largest number of images that a worker's memory holds at once; where given, `accumulation`
    follows from it and from the number of workers. 0 = none."""
    precision: Precision = "bfloat16"
    """bfloat16 = autocast; weights, norms, losses and optimiser state stay float32."""
    gradient_checkpointing: bool = False
    """Recompute the encoder's blocks in the backward pass: less memory, more FLOPs."""
    compile: bool = False
    """torch.compile each transformer block (full graph)."""
    kernels: Literal["auto", "plain"] = field(default="auto", metadata=LATER)
    """auto = fused Triton kernels for the encoder where a GPU passes their probe, which computes
    the same to rounding; plain = torch's own operations everywhere."""
    graphs: Literal["auto", "off"] = field(default="auto", metadata=LATER)
    """auto = on a GPU, CUDA graphs replay the steps of a model that needs little memory, once they
    have given what the plain step gives; off = never."""
    fit: Literal["auto", "as_set"] = field(default="auto", metadata=LATER)
    """auto = on a GPU, flow.chunk, training.gradient_checkpointing and training.micro_batch are
    chosen for its memory where they stand as in the recipe, which changes a step by rounding alone;
    as_set = never."""
    exchange: Precision = field(default="float32", metadata=LATER)
    """Precision in which ranks exchange and sum gradients; bfloat16 halves what is sent."""
    seed: int = 0
    """Address of all randomness: order, noise, flips, initial weights."""
    log_every_steps: int = 50
    """Optimiser steps between log points (the only steps that wait for the device)."""
    collapse_std: float = 0.1
    """Limit of latent/std: mostly under it, once the flow loss has weight, a warning is given."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training and held-out shards, folders or s3:// URIs of parquet files, and their reading."""

    train: str = ""
    """Folder of training shards (`jobs/prepare_data.py` writes them; Hugging Face style parquet
    also works). Files named train-* are taken when the folder holds several splits.
    `builtin:digits` makes scikit-learn's digits in the storage folder, `builtin:qm9` (extra [qm9])
    QM9. Of a joint model MOLECULES::CRYSTALS."""
    eval: str = ""
    """Folder of held-out shards; empty = files named validation-*, else eval-*, else test-*, beside
    `train`."""
    lanes: int = 4
    """Smallest number of streams that the epoch's order is interleaved from. A new run takes the
    next multiple of its workers, so that each reads its own rows alone, and keeps it."""
    shuffle_window: int = 2048
    """Rows that are shuffled together within a lane (compressed bytes in memory per lane)."""
    decode_threads: int = 0
    """Threads that decode images in each worker; 0 = one per core it may use."""
    max_bad_fraction: float = 0.01
    """Share of unreadable rows above which the run aborts (they are replaced, counted, and listed
    in the run's folder bad_rows)."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Times of saving; a checkpoint holds everything that the exact next step needs."""

    every_images: int = 1_281_167
    """Images between checkpoints (the last step always saves)."""
    every_minutes: float = 10.0
    """Minutes after which one more is saved, kept until the next is there; 0 = none. It bounds what
    a loss without notice costs."""
    keep_last: int = 2
    """Number of the most recent checkpoints that are kept."""
    keep_best: int = 1
    """Number of checkpoints kept for the best evaluation (images: PSNR)."""
    asynchronous: bool = True
    """Write in a background thread from a snapshot; at most one save is in flight."""
    max_failed_saves: int = 2
    """Failed saves in a row after which training pauses until there is room again."""
    patience_s: float = 900.0
    """Seconds that a run waits for storage that does not answer or has no room, then it ends."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The light evaluation during training (full suites: jobs/evaluate.py)."""

    every_images: int = 1_281_167
    """Images between evaluations (the last step always evaluates)."""
    num_images: int = 1024
    """Held-out images that are reconstructed."""
    num_samples: int = 64
    """Class-conditional samples of the fixed-seed grid."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Solver and guidance of sampling (METHOD 4)."""

    solver: Solver = "dopri5"
    """dopri5 (adaptive, per sample) or a fixed-step heun, midpoint, euler."""
    num_steps: int = 50
    """Intervals of the fixed-step solvers on linspace(0, 1, num_steps + 1) shifted by flow.shift
    (heun: two evaluations each). dopri5 chooses its own steps."""
    cfg_scale: float = 1.0
    """Guidance scale w; 1 = none."""
    cfg_interval: tuple[float, float] = (0.1, 1.0)
    """Interval of t in which guidance acts, both ends excluded (an interval from 0 includes 0);
    outside it the unconditional pass is skipped."""
    atol: float = 1e-6
    """Absolute tolerance of dopri5."""
    rtol: float = 1e-3
    """Relative tolerance of dopri5."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Tracking in MLflow."""

    uri: str = ""
    """Tracking URI; empty = MLFLOW_TRACKING_URI, else sqlite in the storage folder."""
    experiment: str = "unite"
    """Name of the MLflow experiment."""
    run_name: str = ""
    """Name shown in the UI; empty = the run's name."""
    enabled: bool = True
    """Track the run in MLflow; false keeps metrics in the storage folder only."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run: all settings of its computation, its storage and its workers."""

    recipe: str = "digits"
    """The recipe that this config was derived from."""
    name: str = ""
    """Folder of the run under `storage`; empty = recipe and a digest of the config."""
    storage: str = ""
    """Folder or s3:// URI for runs; empty = UNITE_STORAGE, else ./runs (~/unite-runs in a job)."""
    weights: str = ""
    """Folder or s3:// URI with pretrained files (VGG, LPIPS, Inception), found by digest;
    empty = UNITE_WEIGHTS, then torch's cache."""
    domain: DomainConfig = field(default_factory=ImagesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    reconstruction_noise: ReconstructionNoiseConfig = field(
        default_factory=ReconstructionNoiseConfig
    )
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
