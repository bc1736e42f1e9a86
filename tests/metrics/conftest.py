"""A model for metrics of both passes."""

import pytest
import torch

from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.models.unite import UNITE


@pytest.fixture(scope="module")
def model():
    """The smoke model with weights that make every block and both passes do something."""
    config = recipe("smoke")
    torch.manual_seed(0)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
