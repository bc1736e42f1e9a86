"""The architecture: Generative Encoder, decoder and UNITE. Nothing here knows of training."""

from unite.models.decoder import Decoder
from unite.models.generative_encoder import GenerativeEncoder
from unite.models.groups import optimizer_group, parameter_counts
from unite.models.unite import UNITE

__all__ = ["UNITE", "Decoder", "GenerativeEncoder", "optimizer_group", "parameter_counts"]
