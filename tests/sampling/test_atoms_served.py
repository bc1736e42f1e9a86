"""Served molecules and crystals: sizes or structures in, texts out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.config.recipes import recipe
from unite.config.schema import SamplingConfig
from unite.config.serialise import replace as change
from unite.domains import build_domain
from unite.domains.atoms.elements import SYMBOLS
from unite.models import UNITE
from unite.sampling.serving import ServedModel, serving_for


@pytest.fixture(params=[MoleculesConfig(max_atoms=6), CrystalsConfig(max_atoms=6)])
def served(request):
    base = replace(recipe("smoke"), domain=request.param)
    config = change(base, {"model.num_registers": 6, "model.encoder.rotary": False})
    torch.manual_seed(0)
    domain = build_domain(config.domain)
    model = UNITE(config.model, domain, config.flow).eval()
    fields = domain.example_fields(8, np.random.default_rng(0))
    fields["numbers"][0, :3] = 8, 1, 6
    model.statistics.take(domain.statistics([fields]))
    return ServedModel(model, SamplingConfig(solver="euler", num_steps=2))


def texts(found) -> list[str]:
    (column,) = found.values()
    return column


def test_sizes_give_structures_of_these_sizes(served):
    found = texts(served.predict({"size": np.array([3, 0, 5])}, {"seed": 1}))
    assert len(found) == 3 and all(found)
    if "xyz" in serving_for(served._model.domain.config).outputs:
        assert [text.splitlines()[0] for text in found] == ["3", "6", "5"]
    alone = texts(served.predict({"size": [3]}, {"seed": 1}))
    assert alone[0].splitlines()[0] == found[0].splitlines()[0]
    with pytest.raises(ValueError, match="size -1 in row 1: a number of atoms, or 0"):
        served.predict({"size": [1, -1]})
    with pytest.raises(ValueError, match="size 7: the model makes samples of 1 to 6"):
        served.predict({"size": [7]})
    with pytest.raises(ValueError, match="--cfg-scale 3.0 has no effect: it acts with classes"):
        served.predict({"size": [3]}, {"cfg_scale": 3.0})


def test_structures_give_what_comes_back(served):
    tables = serving_for(served._model.domain.config)
    cells = {
        "numbers": [np.array([8, 1, 1], np.uint8).tobytes(), [6, 1, 1]],
        "positions": [[0, 0, 0, 1, 0, 0, 0, 1, 0.0]] * 2,
        "frac": [[0, 0, 0, 0.5, 0, 0, 0, 0.5, 0.0]] * 2,
        "lengths": [[4.0, 4.0, 4.0]] * 2,
        "angles": [[90.0, 90.0, 90.0]] * 2,
    }
    given = {name: cells[name] for name in tables.stored}
    assert len(texts(served.predict(given))) == 2
    with pytest.raises(ValueError, match="give the column 'size' .* not numbers$"):
        served.predict({"numbers": cells["numbers"]})
    seen = served._model.statistics.tensors["elements"]
    number = 9 if len(serving_for(served._model.domain.config).stored) == 2 else 54
    seen[number] = False
    given["numbers"] = [[8, 1, 1], [8, 1, number]]
    symbol = SYMBOLS[number]
    with pytest.raises(ValueError, match=f"numbers in row 1: unknown_element: {symbol}; known: H "):
        served.predict(given)
    given["numbers"] = [[8, 1], [6, 1, 1]]
    with pytest.raises(ValueError, match="numbers in row 0: shape"):
        served.predict(given)
