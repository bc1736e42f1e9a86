"""Settings on which the sources disagree: the paper's text, the released code, the checkpoints.

A recipe's name ends with one of them (`recipes.py`); METHOD 3 says where they come from.
"""

# The authors' configuration file, where the paper's text is silent or says otherwise (METHOD 3).
RELEASED = {
    "model.init": "released",
    "flow.steps": 3,
    "flow.timesteps": "logit_normal",
    "flow.loss_space": "velocity",
    "loss.perceptual.input_range": "0..1",
    "optim.schedule": "plateau",
    "optim.lr_min": 0.0,
    "optim.warmup_epochs": 40.0,
    "optim.plateau_epochs": (60.0, 100.0),
    "optim.muon_eps": 1e-6,
    "training.epochs": 600.0,
}
# The paper's text. Where it is silent or contradicts its own tables, DECISIONS says what is taken.
PAPER = {
    "model.init": "xavier",
    "flow.steps": 14,
    "flow.timesteps": "uniform",
    "flow.loss_space": "data",
    "loss.perceptual.input_range": "-1..1",
    "optim.schedule": "cosine",
    "optim.lr_min": 1e-6,
    "optim.warmup_epochs": 20.0,
    "optim.muon_eps": 1e-7,
    "training.epochs": 240.0,
}
# The published checkpoints: trained by the released code with the paper's F and length (METHOD 3).
CHECKPOINTS = {**RELEASED, "flow.steps": 14, "training.epochs": 240.0}
# The full-scale weighting, which the laptop recipes replace because it collapses there.
FULL_SCALE = {
    "flow.reduction": "sum",
    "flow.warmup_fraction": 0.0,
    "loss.reconstruction_weight": 1.0,
}
VARIANTS: dict[str, dict[str, object]] = {
    "paper": PAPER,
    "released": RELEASED,
    "checkpoints": CHECKPOINTS,
}
# Where one base differs from the others of its variant: the L checkpoint is of epoch 120.
EXCEPTIONS: dict[str, dict[str, object]] = {"unite-l-checkpoints": {"training.epochs": 120.0}}
# Length and learning rate, which a laptop recipe keeps in every variant.
LENGTH_FIELDS = (
    "training.epochs",
    "optim.lr_min",
    "optim.warmup_epochs",
    "optim.plateau_epochs",
)
