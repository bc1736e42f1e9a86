"""The house keeps its rooms: who may import whom, how long code may be, what files may hold."""

import ast
import re
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "platform" / "unite"
SCRIPTS = [
    path
    for room in ("jobs", "ablations", "dashboards")
    for path in sorted((ROOT / room).glob("*.py"))
]

# A room imports rooms of lower levels, and of its own level where that makes no circle.
LEVELS = {
    "config": 0,
    "storage": 0,
    "finished": 0,
    "network": 0,
    "content": 0,
    "lazy": 0,
    "words": 0,
    "logs": 0,
    "terminal": 0,
    "tables": 0,
    "entry": 0,
    "paper": 0,
    "weights": 0,
    "objects": 0,
    "flow": 1,
    "models": 1,
    "domains": 2,
    "sampling": 3,
    "metrics": 3,
    "figures": 3,
    "data": 3,
    "checkpoints": 3,
    "runs": 3,
    "training": 4,
    "evaluation": 4,
    "ablation": 5,
    "cluster": 5,
    "scheduling": 6,
    "reporting": 6,
    "drivers": 7,
    "commands": 8,
    "cli": 9,
    "__init__": 9,
}
TRACKING_MAY_IMPORT = {
    *("config", "storage", "runs", "network", "words", "entry", "metrics", "tracking"),
}
MAY_IMPORT_TRACKING = {"tracking", "drivers", "commands", "reporting"}
HOMES = {"ray": "cluster", "mlflow": "tracking"}
WITHOUT_SERVICES = (
    *("config", "flow", "models", "domains", "data", "checkpoints"),
    *(
        "sampling",
        "metrics",
        "figures",
        "training",
        "evaluation",
        "ablation",
        "scheduling",
        "drivers",
    ),
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute in this house"
            module = node.module or ""
            if module == "unite":
                yield from ((node.lineno, f"unite.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    for line, module in imports(path):
        head, _, rest = module.partition(".")
        if head == "unite":
            yield line, rest.split(".")[0] or "__init__"


def may_import(room: str, other: str) -> bool:
    if room == "tracking":
        return other in TRACKING_MAY_IMPORT
    if other == "tracking":
        return room in MAY_IMPORT_TRACKING
    return LEVELS[other] <= LEVELS[room]


ALONG_THE_WAY = {
    "domains/test_another_domain.py",  # a domain of its own from shards to the report
    "evaluation/suites/test_atoms.py",  # suites of molecules and crystals on trained runs
    "evaluation/suites/test_walkthrough.py",  # the suite that CONTRIBUTING.md adds
    "evaluation/test_copied.py",
    "evaluation/test_damage.py",
    "evaluation/test_digests.py",
    "evaluation/test_plain_generation.py",
    "evaluation/test_s3.py",
    "models/kernels/test_kernels.py",
    "models/test_model.py",
    "models/test_parity.py",
    "reporting/test_browser.py",
    "sampling/test_parity.py",
    "tracking/test_mlflow_server.py",
    "training/test_golden_curve.py",
    "training/test_learning_atoms.py",
    "training/test_plain_trainer.py",
}
"""Tests of what several modules do together; all others are named after the module they test."""
NO_MODULE = {"fault", "gpu", "integration", "mutants"}
"""Folders of tests that are about the whole."""


def test_tests_mirror_the_package():
    found = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    of_modules = {
        path
        for path in found
        if len(path.parts) > 1 and path.parts[0] not in NO_MODULE
        if not (PACKAGE / path.parent / path.name.removeprefix("test_")).is_file()
        if not (PACKAGE / path.parent / path.stem.removeprefix("test_") / "__init__.py").is_file()
    }
    assert {path.as_posix() for path in of_modules} == ALONG_THE_WAY


def test_every_room_has_a_level():
    assert {room_of(path) for path in modules()} <= set(LEVELS) | {"tracking"}


def test_imports_go_down():
    strays = [
        f"{where(path, line)}: {room_of(path)} imports {other}"
        for path in modules()
        for line, other in rooms_imported(path)
        if not may_import(room_of(path), other)
    ]
    assert not strays, "\n".join(strays)


def test_rooms_make_no_circle():
    graph: dict[str, set[str]] = {}
    for path in modules():
        others = {other for _, other in rooms_imported(path)} - {room_of(path)}
        graph.setdefault(room_of(path), set()).update(others)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"rooms import each other: {error.args[1]}")


def test_no_file_name_stands_for_a_metric_and_its_suite():
    """The maths of a metric and the suite that measures it are told apart by their names."""
    names = {
        room: {path.name for path in modules() if room_of(path) == room}
        for room in ("metrics", "evaluation")
    }
    suites = {"__init__.py", *(path.name for path in (PACKAGE / "metrics" / "specs").glob("*.py"))}
    assert not (names["metrics"] & names["evaluation"]) - suites


def test_what_is_of_images_alone_has_their_name():
    """Other suites, and what all suites share, know a sample only through its domain."""
    strays = [
        f"{where(path, line)} imports {module}"
        for path in modules()
        if room_of(path) == "evaluation"
        and not any(part.startswith("images") for part in path.relative_to(PACKAGE).parts)
        for line, module in imports(path)
        if module.startswith("unite.evaluation.images")
    ]
    assert not strays, "\n".join(strays)


OF_IMAGES = {
    "checkpoints/infer.py",  # the authors' weights, whose config is read from their shapes
    "drivers/features.py",  # references and extractors of pictures
    "sampling/serving.py",  # one registration, as of every domain
}


def test_rooms_above_domains_know_no_images():
    strays = [
        f"{where(path, node.lineno)} imports {alias.name}"
        for path in modules()
        if room_of(path) not in ("config", "domains")
        and not any(part.startswith("images") for part in path.relative_to(PACKAGE).parts)
        and path.relative_to(PACKAGE).as_posix() not in OF_IMAGES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "ImagesConfig" or "pixel" in alias.name.lower()
    ]
    assert not strays, "\n".join(strays)


def test_ray_and_mlflow_stay_at_home():
    strays = [
        f"{where(path, line)} imports {module}"
        for path in [*modules(), *SCRIPTS]
        for line, module in imports(path)
        if (home := HOMES.get(module.split(".")[0]))
        and not (path.is_relative_to(PACKAGE) and room_of(path) == home)
    ]
    assert not strays, "\n".join(strays)


def test_the_core_imports_without_ray_mlflow_and_boto3():
    script = textwrap.dedent(
        """
        import importlib, pkgutil, sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("ray", "mlflow", "boto3"):
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocked())
        import unite
        for room in sys.argv[1:]:
            package = importlib.import_module(f"unite.{room}")
            for module in pkgutil.walk_packages(package.__path__, f"unite.{room}."):
                importlib.import_module(module.name)
        unite.load, unite.sample, unite.UNITE
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", script, *WITHOUT_SERVICES], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_platform_is_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists(), (
        "platform/__init__.py shadows the standard library's platform; remove it"
    )


PLATFORM_CHECK = "import platform; print(platform.system(), platform.__file__)"


def test_stdlib_platform_survives_the_root_on_the_path():
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {PLATFORM_CHECK}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0]
    assert not run.stdout.split()[1].startswith(str(ROOT / "platform"))


@pytest.mark.ray
@pytest.mark.slow
def test_stdlib_platform_survives_in_a_worker_of_the_working_dir(ray_cluster):
    """Another driver, because a working_dir can be given only when a driver joins."""
    address = ray_cluster.get_runtime_context().gcs_address
    script = textwrap.dedent(
        f"""
        import os, ray

        @ray.remote(num_cpus=0)
        def look():
            import platform
            return platform.system(), platform.__file__, os.path.isdir("platform/unite")

        ray.init(address={address!r}, runtime_env={{"working_dir": {str(ROOT)!r}}})
        print("SEEN", *ray.get(look.remote()))
        """
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    _, system, file, has_root = re.search(r"(SEEN) (\S+) (\S+) (\S+)", run.stdout).groups()
    assert system
    assert "/platform/" not in file
    assert has_root == "True", "the worker did not run in the repository root"


def test_functions_are_short():
    found = [
        (length(node), f"{where(path, node.lineno)} {node.name}")
        for path in [*modules(), *SCRIPTS]
        for node in functions(path)
    ]
    too_long = [f"{lines} lines: {place}" for lines, place in found if lines > 90]
    assert not too_long, "\n".join(too_long)
    assert statistics.median(lines for lines, _ in found) <= 20


def test_public_functions_are_typed():
    untyped = []
    for path in [*modules(), *SCRIPTS]:
        for node in functions(path):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments = [a for a in arguments if a.arg not in ("self", "cls")]
            complete = node.returns is not None and all(a.annotation for a in arguments)
            if not node.name.startswith("_") and not complete:
                untyped.append(f"{where(path, node.lineno)} {node.name}")
    assert not untyped, "\n".join(untyped)


def test_files_are_short():
    limits = {**dict.fromkeys(modules(), 350), **dict.fromkeys(SCRIPTS, 79)}
    lengths = {path: len(path.read_text().splitlines()) for path in limits}
    too_long = [
        f"{path.relative_to(ROOT)}: {lengths[path]} lines, at most {limit}"
        for path, limit in limits.items()
        if lengths[path] > limit
    ]
    assert not too_long, "\n".join(too_long)


RIDDLE = re.compile(r"\s*(What|Where|How|Whether|Which|Who|Why|Of)\b")


def test_docstrings_begin_with_the_noun_or_verb_of_the_thing():
    """Strings that explain a module, class, function or attribute."""
    benchmarks = sorted((ROOT / "benchmarks").glob("*.py"))
    riddles = [
        f"{where(path, node.lineno)}: {node.value.value.strip().splitlines()[0]}"
        for path in [*modules(), *SCRIPTS, *benchmarks]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and RIDDLE.match(str(node.value.value))
    ]
    assert not riddles, "name the thing first (True if ..., Number of ...):\n" + "\n".join(riddles)


# Spelt in pieces, so that this file is not its own finding.
PLACES = re.compile(
    "|".join(
        [
            r"pypi\." + "org",
            "python" + "hosted",
            r"download\.pytorch\.org" + "/whl",
            r"registry\.npmjs" + r"\.org",
            r"deb\.debian" + r"\.org",
            r"--(extra-)?index" + "-url [^-]",
            r"(?<![\w}>/.])/(work|root|opt)/" + r"[\w.]",
            r"(?<![\w}>/.])/tmp/(env|peek)\b",
        ]
    )
)


def text_files() -> Iterator[tuple[Path, str]]:
    """What a commit would hold (without git, as on a cluster: everything outside dot folders)."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.splitlines()]
    else:
        hidden = re.compile(r"(^|/)(\.|runs/|__pycache__)")
        paths = [p for p in ROOT.rglob("*") if not hidden.search(str(p.relative_to(ROOT)))]
    for path in sorted(paths):
        if path.is_file() and b"\0" not in (data := path.read_bytes())[:8192]:
            yield path, data.decode("utf-8", errors="replace")


def test_code_is_ascii():
    suffixes = {".py", ".toml", ".yaml", ".lock", ".md", ".txt", ""}
    strange = [
        f"{where(path, number)}: {line.strip()}"
        for path, text in text_files()
        if path.suffix in suffixes and not text.isascii()
        for number, line in enumerate(text.splitlines(), start=1)
        if not line.isascii()
    ]
    assert not strange, "\n".join(strange)


def test_no_file_names_a_registry_or_a_machine():
    found = [
        f"{where(path, number)}: {match[0]}"
        for path, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if (match := PLACES.search(line))
    ]
    assert not found, "\n".join(found)


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))],
    ids=lambda page: page.name,
)
def test_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), link
        assert not anchor or anchor in anchors(place.read_text()), link
