"""Names that users' scripts, dashboards and checkpoints depend on change only on purpose.

UNITE_UPDATE_GOLDEN=1 python -m pytest tests/test_surfaces.py   writes the lists anew; the commit
then shows what changed, and CONTRIBUTING.md says who must be told.
"""

import ast
import inspect
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from unite.config import domains, finetune, schema
from unite.config.recipes import names, recipe
from unite.config.schema import RunConfig
from unite.config.serialise import flatten
from unite.metrics.specs import directions, logged
from unite.training.finetune_arguments import FinetuneArguments

GOLDEN = Path(__file__).parent / "golden"


def flags() -> list[str]:
    """Flags of jobs/train.py: every field of a run, in the order of --help."""
    return [f"--{field}" for field in flatten(RunConfig())]


def finetune_flags() -> list[str]:
    """Flags of jobs/finetune_decoder.py."""
    return [f"--{field}" for field in flatten(FinetuneArguments())]


def checkpoint_keys() -> list[str]:
    """Keys and shapes of the smallest recipe's model, as its checkpoints hold them."""
    import torch

    from unite.domains import build_domain
    from unite.models import UNITE

    config = recipe("smoke")
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
    return [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]


SURFACES: dict[str, Callable[[], list[str]]] = {
    "flags.txt": flags,
    "finetune_flags.txt": finetune_flags,
    "recipes.txt": names,
    "metrics.txt": lambda: list(logged()),
    "directions.txt": lambda: [f"{name} {better}" for name, better in directions().items()],
    "checkpoint_keys.txt": checkpoint_keys,
}


@pytest.mark.parametrize("file", SURFACES)
def test_surface_is_frozen(file):
    now = SURFACES[file]()
    golden = GOLDEN / file
    if os.environ.get("UNITE_UPDATE_GOLDEN"):
        golden.write_text("\n".join(now) + "\n")
    before = golden.read_text().splitlines()
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    assert (gone, new) == ([], []), (
        f"{golden.name}: gone {gone}, new {new}. If that is meant, set UNITE_UPDATE_GOLDEN=1 and "
        "run this test again."
    )


def test_every_flag_is_explained():
    """The docstring below a field is its --help."""
    riddles = []
    for node in (each for file in (schema, domains, finetune) for each in parsed(file)):
        body = node.body if isinstance(node, ast.ClassDef) else []
        for item, after in pairwise([*body, None]):
            is_flag = isinstance(item, ast.AnnAssign) and not is_group(item)
            if is_flag and not (isinstance(after, ast.Expr) and inspect.cleandoc(text_of(after))):
                riddles.append(f"{node.name}.{item.target.id}")
    assert not riddles, f"write the meaning and unit below: {', '.join(riddles)}"


def parsed(module: ModuleType) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(module)).body


def is_group(item: ast.AnnAssign) -> bool:
    return "Config" in ast.unparse(item.annotation)


def text_of(node: ast.Expr) -> str:
    return node.value.value if isinstance(node.value, ast.Constant) else ""
