"""Mutants of the rooms that compute: a fixed random sample, each against the tests that cover it.

    make mutants                 half an hour on two cores; interrupted, it goes on where it was,
                                 and survivors without a reason run again, by the tests of now
    make mutants ARGS="--num 50" fewer of them; ARGS=--report prints what is known

mutmut (pyproject.toml, [tool.mutmut]) changes one expression at a time in a copy of the tree. A
mutant runs the test file that mirrors its module, then others that reach it, until one fails: see
`covering`. The sample is by the hash of a mutant's name, so that code elsewhere does not
change it. Left out are mutants of messages and of what is the same on every input here: see
`plain`. `survivors.yaml` beside this file holds those that no test can kill, each with the reason;
any other survivor is a missing test.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

# mutmut reads its settings in the folder where it is imported, which is the copy: so inside.

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_EFFECT = {"strict", "device", "non_blocking", "map_location", "dtype"}
"""Keywords that guard what never happens, or choose what a CPU and float32 inputs choose alone."""

OPEN = {"survived", "no tests"}
"""Verdicts that a new test may change: such a mutant runs again."""

TESTED_IN = (
    *("flow", "training", "sampling", "data", "evaluation", "metrics"),
    *("models", "domains", "drivers", "ablation", "scheduling", "reporting"),
)
"""Folders of tests/ whose files may cover a module; files directly in tests/ may too."""
MOST_FILES = 12
"""Largest number of test files that a mutant runs against, the nearest first."""
FILE_S = 20.0
"""Seconds of a test file, for the time limit of a mutant that hangs."""

MUTMUT_DOT = "\u01c1"
"""Stands between class and method in mutmut's names."""


def copy_tree(place: Path) -> None:
    """The tracked files below `place`, platform/ as src/: the one source root that mutmut knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().splitlines():
        source, target = ROOT / name, place / name.replace("platform/", "src/", 1)
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    settings = (ROOT / "pyproject.toml").read_text()
    settings = settings.replace('pythonpath = ["platform"]', 'pythonpath = ["src"]')
    (place / "pyproject.toml").write_text(settings)
    (place / "mutants").mkdir(exist_ok=True)
    for link, target in {"mutants/platform": "src", "shared": ROOT.parent / "shared"}.items():
        if not (place / link).is_symlink():
            (place / link).symlink_to(target)


def make_mutants() -> dict[str, Path]:
    """Writes all of them; name -> file."""
    from mutmut import __main__ as mutmut

    mutmut.set_mutant_under_test("mutant_generation")
    with mutmut.CatchOutput(spinner_title="Generating mutants"):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(os.cpu_count() or 1)
    files = list(mutmut.walk_mutatable_files())
    return {name: file for file in files for name in exit_codes(file)}


def exit_codes(file: Path) -> dict[str, int | None]:
    """What came of each mutant of a file; None where it was not tested yet."""
    from mutmut.mutation.data import SourceFileMutationData

    data = SourceFileMutationData(path=file)
    data.load()
    return data.exit_code_by_key


def covering(module: str) -> list[str]:
    """Test files of a module such as unite.flow.path, the nearest first.

    Its own, then those of the modules that import it, through which it is tested too.
    """
    texts = {str(path): path.read_text() for path in _test_files()}
    source = {_module(path): path.read_text() for path in sorted(Path("src/unite").rglob("*.py"))}
    users = [name for name, text in source.items() if _imports(text, module)]
    found = [file for each in (module, *users) for file in _nearest(each, texts)]
    return list(dict.fromkeys(found))[:MOST_FILES]


def _nearest(module: str, texts: Mapping[str, str]) -> list[str]:
    """The file that mirrors a module, those that import it, and those of its package.

    What a registry finds by name is tested by its package.
    """
    folder, _, file = f"tests/{module.replace('.', '/').removeprefix('unite/')}".rpartition("/")
    parent, _, package = folder.rpartition("/")
    importing = [name for name, text in texts.items() if _imports(text, module)]
    mirrors = [f"{folder}/test_{file}.py", f"{parent}/test_{package}.py"]
    beside = [name for name in texts if name.startswith(f"{folder}/") and package != "tests"]
    ordered = [mirrors[0], *sorted(importing, key=lambda name: len(texts[name])), mirrors[1]]
    return [name for name in (*ordered, *beside) if name in texts]


def _test_files() -> list[Path]:
    found = [*Path("tests").glob("test_exact.py")]
    for room in TESTED_IN:
        found += Path("tests", room).rglob("test_*.py")
    return sorted(found)


def _module(path: Path) -> str:
    return ".".join(path.relative_to("src").with_suffix("").parts)


def _imports(text: str, module: str) -> bool:
    package, _, name = module.rpartition(".")
    return f"from {module} import" in text or bool(
        re.search(rf"^from {re.escape(package)} import .*\b{name}\b", text, re.MULTILINE)
    )


def associate(mutants: Sequence[str]) -> None:
    """Tell mutmut which test files to run for which function, instead of its run of all tests."""
    from mutmut.state import state
    from mutmut.utils.format_utils import mangled_name_from_mutant_name

    known = {module: covering(module) for module in sorted(set(map(module_of, mutants)))}
    for name in mutants:
        files = known[module_of(name)]
        function = mangled_name_from_mutant_name(name)
        state().tests_by_mangled_function_name[function] = set(files)
    for files in known.values():
        for rank, file in enumerate(files):
            before = state().duration_by_test.get(file, FILE_S + MOST_FILES)
            state().duration_by_test[file] = min(before, FILE_S + rank)


def module_of(mutant: str) -> str:
    """unite.flow.path of a mutant of it."""
    return mutant.split("__mutmut_")[0].rpartition(".")[0]


def verdict(name: str, file: Path) -> str:
    """mutmut's word for what came of a mutant."""
    from mutmut.stats import status_by_exit_code

    return status_by_exit_code[exit_codes(file)[name]]


def chosen(mutants: dict[str, Path], num: int) -> list[str]:
    """The sample, in its order."""
    order = sorted(mutants, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    sample: list[str] = []
    for name in order:
        if len(sample) == num:
            break
        if plain(*functions(name, mutants[name])):
            sample.append(name)
    return sample


def functions(name: str, path: Path) -> tuple[str, str]:
    """The source of the function as it is, and changed."""
    import libcst
    from mutmut.mutation.diff_apply import read_functions_from_index

    found = read_functions_from_index(name, path)
    assert found, f"{name}: mutmut's index does not hold it"
    before, after = (libcst.Module([function]).code.strip() for function in found)
    return before, after


def plain(before: str, after: str) -> bool:
    """Whether the two differ in more than messages and keywords without effect."""
    trees = (ast.dump(Quiet().visit(ast.parse(code))) for code in (before, after))
    return len(set(trees)) == 2


class Quiet(ast.NodeTransformer):
    """Takes out what nobody computes with: texts of errors and logs, keywords without effect."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        if name.split(".")[0] in ("logger", "log", "console", "warnings") or name == "cast":
            return ast.Constant(None)
        node.keywords = [kept for kept in node.keywords if kept.arg not in WITHOUT_EFFECT]
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        sentence = isinstance(node.value, str) and " " in node.value.strip("X")
        return ast.Constant("") if sentence else node


def change(before: str, after: str) -> str:
    """The changed lines: "what it was -> what it became"."""
    old, new = before.splitlines(), after.splitlines()
    gone = " ".join(line.strip() for line in old if line not in new)
    come = " ".join(line.strip() for line in new if line not in old)
    return f"{gone} -> {come}"


def title(name: str) -> str:
    """unite.flow.path.velocity, or of a method unite.training.muon.Muon.step."""
    module, _, function = name.split("__mutmut_")[0].rpartition(".")
    return f"{module}.{function[2:].replace(MUTMUT_DOT, '.')}"


def line(name: str, path: Path) -> str:
    """What was changed where, as `survivors.yaml` names a mutant."""
    return f"{title(name)}: {change(*functions(name, path))}"


def equivalent(mutants: dict[str, Path], names: list[str]) -> set[str]:
    """Those of the names that have a reason in `survivors.yaml`."""
    reasons = yaml.safe_load(Path(__file__).with_name("survivors.yaml").read_text())
    return {name for name in names if line(name, mutants[name]) in reasons}


def report(sample: list[str], mutants: dict[str, Path]) -> int:
    """Prints killed and survived by room, and each survivor; the number without a reason."""
    excused = equivalent(mutants, sample)
    rooms: dict[str, Counter[str]] = {}
    alive: list[str] = []
    for name in sample:
        status = verdict(name, mutants[name])
        if status in OPEN:
            status = "equivalent" if name in excused else status
            alive += [] if name in excused else [f"  {line(name, mutants[name])!r}:"]
        elif status not in ("not checked", "timeout"):
            status = "killed"  # by a test or a crash
        rooms.setdefault(name.split(".")[1], Counter())[status] += 1
    total = sum(rooms.values(), Counter())
    for room, counts in [*sorted(rooms.items()), ("all", total)]:
        print(f"{room:12}", ", ".join(f"{status} {counts[status]}" for status in sorted(counts)))
    print(f"{len(alive)} survivors without a reason in survivors.yaml:", *alive, sep="\n")
    return len(alive)


def main() -> None:
    parser = argparse.ArgumentParser(description="run a sample of mutants against their tests")
    parser.add_argument("--num", type=int, default=300)
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()) / "unite-mutants")
    parser.add_argument("--processes", type=int, default=None, help="default: one for each core")
    parser.add_argument("--report", action="store_true", help="print what is known, run nothing")
    arguments = parser.parse_args()
    arguments.place.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        copy_tree(arguments.place)
    os.chdir(arguments.place)
    mutants = make_mutants()
    sample = chosen(mutants, arguments.num)
    known = equivalent(mutants, sample)
    todo = [
        n for n in sample if verdict(n, mutants[n]) in {"not checked", *OPEN} and n not in known
    ]
    if todo and not arguments.report:
        print(f"{len(sample)} of {len(mutants)} mutants chosen, {len(todo)} to run")
        from mutmut import __main__ as mutmut
        from mutmut.workers.isolation import ForkRunner

        # mutmut would run all tests twice before the first mutant, timed and again.
        mutmut.collect_or_load_stats = lambda *_, **__: associate(todo)
        ForkRunner.run_clean_tests = lambda self, tests: 0  # type: ignore[method-assign]
        # Its own check fails where a conftest calls changed code; what is imported here, once, is
        # not imported again for every mutant.
        mutmut.run_forced_fail_test = lambda runner: runner.test_runner.warm_up()
        mutmut._run(todo, arguments.processes)
    sys.exit(report(sample, mutants) > 0)


if __name__ == "__main__":
    main()
