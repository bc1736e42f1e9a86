"""The released code's initial weights where it does not set them itself (METHOD 1)."""

from __future__ import annotations

from torch import nn

from unite.models.decoder import Decoder


def initialise_as_released(embedder: nn.Module, decoder: Decoder) -> None:
    """Draw the embedder and the decoder anew as the authors' code leaves them: torch's defaults.

    Weights and biases of every Linear and convolution, the stem and the domain's head included, are
    uniform in +-1/sqrt(fan_in); the class token is zero. Norms and the Generative Encoder stay.
    """
    for module in (*embedder.modules(), *decoder.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    nn.init.zeros_(decoder.class_token)
