"""A served model: a table of classes or of image files in, uint8 images out."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unite.checkpoints.export import write_export
from unite.config.recipes import recipe
from unite.config.schema import ImagesConfig, SamplingConfig
from unite.config.serialise import to_dict
from unite.domains import build_domain
from unite.models import UNITE
from unite.sampling import serving
from unite.sampling.generator import sample
from unite.sampling.images_served import ServedImages
from unite.sampling.seeds import sample_seeds
from unite.storage import Store
from unite.tracking.registry import REQUIREMENTS


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    config = recipe("smoke")
    torch.manual_seed(0)
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    with torch.no_grad():
        for parameter in model.parameters():  # fresh ones ignore their input: many are zero
            parameter += 0.1 * torch.randn_like(parameter)
    store = Store.open(tmp_path_factory.mktemp("export"))
    write_export(model, to_dict(config), store)
    return store.path()


@pytest.fixture
def served(export):
    return serving._load_pyfunc(export)


def png(image_HW: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_HW).save(file, format="PNG")
    return file.getvalue()


def test_classes_give_the_samples_that_the_library_draws(served, export):
    import unite

    labels = [3, 1, 4]
    images = served.predict({"label": np.array(labels)}, {"seed": 7, "cfg_scale": 2.0})
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 8, 1)
    model = unite.load(export)
    seeds = sample_seeds(7, torch.arange(3))
    _, expected = sample(
        model, labels, seeds_B=seeds, solver="euler", num_steps=4, cfg_scale=2.0
    )  # as the smoke recipe samples
    np.testing.assert_array_equal(images, model.domain.render(expected).numpy())


def test_a_row_does_not_depend_on_its_table(served, monkeypatch):
    alone = served.predict({"label": [5, 6]})
    monkeypatch.setattr(serving, "BATCH", 2)
    np.testing.assert_allclose(
        served.predict({"label": [5, 6, 7, 8, 9]})[:2].astype(int), alone.astype(int), atol=1
    )
    assert (served.predict({"label": [5, 6]}, {"seed": 1}) != alone).any()


def test_image_files_give_their_reconstructions(served):
    rng = np.random.default_rng(0)
    files = [png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in range(3)]
    images = served.predict({"image": files}, {"seed": 1})
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(images, served.predict({"image": files}, {"seed": 1}))
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize(
    ("table", "params", "words"),
    [
        ({"label": [0, 10]}, {}, "label 10 in row 1: the model has 10 classes, 0 to 9"),
        ({"label": [-1]}, {}, "label -1 in row 0"),
        ({"label": [1.5]}, {}, "label 1.5 in row 0"),
        ({"label": []}, {}, "'label' has no rows"),
        ({"class": [1]}, {}, "not class; an array of classes goes in as {'label': array}"),
        ({}, {}, "not none"),
        ({"label": [1], "image": [b""]}, {}, "give one of the columns"),
        ({"image": [b"nonsense"]}, {}, "image in row 0: not a readable image"),
        ({"image": ["text"]}, {}, "image in row 0: the image cell holds str"),
        ({"label": [1]}, {"solver": "rk9"}, "solver = rk9 is unknown: use one of dopri5, heun"),
        ({"label": [1]}, {"num_steps": 0}, "num_steps = 0 must be above 0"),
        ({"label": [1]}, {"cfg_scale": 0.5}, "cfg_scale = 0.5 must be at least 1"),
        ({"label": [1]}, {"cfg_scale": float("nan")}, "cfg_scale = nan"),
        ({"label": [1]}, {"solver": "dopri5", "num_steps": 7}, "--num-steps 7 has no effect"),
        ({"label": [1]}, {"steps": 3}, "no parameter 'steps'; there are cfg_scale, num_steps"),
    ],
)
def test_what_cannot_be_used_is_named(served, table, params, words):
    with pytest.raises(ValueError) as error:
        served.predict(table, params)
    assert words in str(error.value)


def test_defaults_are_the_runs_own():
    sampling = SamplingConfig(solver="heun", num_steps=7, cfg_scale=3)
    assert serving.default_params(sampling) == {
        "cfg_scale": 3.0,
        "num_steps": 7,
        "solver": "heun",
        "seed": 0,
    }


def test_the_listed_requirements_are_what_the_loader_imports():
    """Every third-party module that unite's files import when a model is served."""
    script = """
import sys, typing, unite.sampling.serving
from unite.config.domains import DomainConfig
from unite.domains import build_domain
for config in typing.get_args(DomainConfig):
    build_domain(config())  # a domain is imported when a model of it is read
print(*(m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "unite"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    found = set()
    for file in done.stdout.split():
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    names = {"PIL": "pillow"}
    needed = {names.get(name, name) for name in found - sys.stdlib_module_names - {"unite"}}
    on_s3_alone = {"boto3", "botocore"}  # imported on first use: a registered model is a folder
    assert needed - on_s3_alone == set(REQUIREMENTS)


@pytest.mark.parametrize(("channels", "colour"), [(1, "grey"), (3, "RGB")])
def test_the_model_card_says_which_images_are_served(channels, colour):
    served = ServedImages(ImagesConfig(size=8, patch=2, channels=channels, num_classes=10))
    assert f"draws 8 x 8 {colour}\nimages of 10 classes" in served.about
    assert served.outputs == (8, 8, channels)
