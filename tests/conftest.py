"""What every test shares: a quiet, private Ray, an S3 server on loopback, the data beside the repo.

The environment is set at import time, before any test module can import ray: Ray reads these
variables when it is imported or started, and its workers inherit them.
"""

import atexit
import functools
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Unix sockets live below it and their paths may hold 107 characters, so it must be short.
RAY_TMPDIR = tempfile.mkdtemp(prefix="unite-", dir="/tmp")
atexit.register(shutil.rmtree, RAY_TMPDIR, ignore_errors=True)

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ADDRESS": "local",  # never attach to a cluster that happens to run on this machine
    "RAY_TMPDIR": RAY_TMPDIR,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "GOMP_SPINCOUNT": "0",  # two processes share the cores
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # `make numeric` asks for 2, too
    "UNITE_LOGS": f"{RAY_TMPDIR}/logs",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    ),
}
os.environ.update(ENVIRONMENT)


# Fixtures of a tiny trained run and its evaluations, for several folders.
pytest_plugins = ("tiny_run", "joint_run")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REQUIRE_BROWSER = "UNITE_REQUIRE_BROWSER"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take minutes run under --all alone."""
    if not config.getoption("--all"):
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where a browser is required (`.ci/run`), a browser test that was skipped has failed."""
    report = yield
    if report.skipped and item.get_closest_marker("browser") and os.environ.get(REQUIRE_BROWSER):
        *_, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_BROWSER} is set, but this browser test was skipped: {reason}"
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """The machine's Chromium; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    return program


@pytest.fixture(scope="session")
def screens(tmp_path_factory):
    """Keeps a screenshot of a page: in the folder UNITE_SCREENSHOTS, or among the tests' files."""
    folder = Path(os.environ.get("UNITE_SCREENSHOTS") or tmp_path_factory.mktemp("screens"))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return keep


@pytest.fixture
def turned_clock(monkeypatch):
    """Give modules a `time` of their own: in the library's, sleeping threads would turn it too.

    Call it with a module and the functions to replace, for example `sleep=lambda seconds: None`.
    """

    def turn(module: ModuleType, **functions: Callable[..., object]) -> None:
        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), **functions}))

    return turn


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The folder of log files, empty."""
    from unite import logs

    monkeypatch.setenv(logs.FOLDER_VARIABLE, str(tmp_path / "logs"))
    logs.log_file.cache_clear()
    yield tmp_path / "logs"
    logs.log_file.cache_clear()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Public data sets beside the repository; the test is skipped where they are absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder}, which is absent")
    return folder


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on a free loopback port; the environment points to it for the session."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server) -> str:
    """The URI of a fresh, empty bucket."""
    import boto3

    bucket = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture
def stumbling_s3(s3, s3_server, monkeypatch):
    """A bucket's URI and the proxy before its server, which spoils answers when told to."""
    from unite.drivers.stumbling import Stumbling

    with Stumbling(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield s3, proxy


@pytest.fixture(scope="session")
def untrained_run():
    """Writes a run of the smoke recipe without training it: its data and checkpoints.

    Each checkpoint has random weights of its own.
    """
    import torch

    from unite.checkpoints.store import CheckpointWriter
    from unite.config.recipes import recipe
    from unite.config.schema import CheckpointConfig
    from unite.config.serialise import replace, to_dict
    from unite.data.ingest.digits import prepare_digits
    from unite.data.shards import ShardSet
    from unite.domains import build_domain
    from unite.domains.columns import IMAGES
    from unite.models import UNITE
    from unite.storage import Store
    from unite.training.runs import begin, open_run

    def make(storage, name="tiny", images=(256,), **changes) -> Store:
        data = Store.open(storage) / "data" / "digits"
        prepare_digits(data)
        changes = {"storage": str(storage), "name": name, **changes}
        run = open_run(replace(recipe("smoke"), changes))
        begin(run)
        keep = CheckpointConfig(asynchronous=False, keep_last=len(images))
        writer = CheckpointWriter(run=run.folder, config=keep)
        for seen in images:
            torch.manual_seed(seen)
            config = run.config
            model = UNITE(config.model, build_domain(config.domain), config.flow)
            with torch.no_grad():
                for parameter in model.parameters():  # fresh ones ignore their input
                    parameter += 0.1 * torch.randn_like(parameter)
            state = model.state_dict()
            facts = {
                "images": seen,
                "step": seen // config.training.batch_size,
                "config": to_dict(config),
                "manifest_digest": ShardSet.open(data.uri, "train", IMAGES).digest,
                "metrics": {},
                "history": [],
            }
            writer.save({"model": state, "ema": state, "optimizer": {}}, facts)
        return run.folder

    return make


@pytest.fixture(scope="session")
def ray_cluster(s3_server):
    """One local cluster for the whole session: starting it takes ten seconds.

    The dashboard stays on: without it Train cannot clean up after a worker group. The S3 server
    comes first because workers take over the environment as it is now.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=512 * 2**20,
        include_dashboard=True,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def smoke_sweep(ray_cluster, tmp_path_factory):
    """A real sweep of two trials, trained, measured and tracked once: (sweep, its result)."""
    from unite.ablation.options import SweepOptions
    from unite.ablation.trials import expand
    from unite.config.axes import find_axis
    from unite.config.schema import TrackingConfig
    from unite.drivers.sweep import run_sweep

    folder = tmp_path_factory.mktemp("sweep")
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    options = SweepOptions(scale="smoke", storage=str(folder), tracking=config)
    sweep = expand(find_axis("weight_sharing"), options)
    return sweep, run_sweep(sweep)


@pytest.fixture(scope="session", autouse=True)
def _quick_mlflow(tmp_path_factory) -> Iterator[None]:
    """MLflow's tables are made once, which takes seconds: later databases of this process are
    copies (`__wrapped__` makes them for real). A server that is not there is asked for a second."""
    from unite.tracking import database, server

    make, first = database._make, tmp_path_factory.mktemp("mlflow") / "mlflow.db"

    @functools.wraps(make)
    def copied(temporary: Path, place: Path) -> None:
        if not first.exists():
            make(first, first)
        shutil.copyfile(first, temporary)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_make", copied)
        patch.setattr(server, "PATIENCE_S", 1.0)
        yield


@pytest.fixture(scope="session")
def textbook_molecules() -> dict[str, tuple[list[int], list[list[float]]]]:
    """Atomic numbers and positions in A of small molecules, from textbook lengths and angles."""
    s = 1.087 / 3**0.5
    return {
        "methane": ([6, 1, 1, 1, 1], [[0, 0, 0], [s, s, s], [s, -s, -s], [-s, s, -s], [-s, -s, s]]),
        "water": ([8, 1, 1], [[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]),
        "ammonia": (
            [7, 1, 1, 1],
            [
                [0, 0, 0.116],
                [0, 0.9397, -0.271],
                [0.8138, -0.4699, -0.271],
                [-0.8138, -0.4699, -0.271],
            ],
        ),
        "hydrogen fluoride": ([9, 1], [[0, 0, 0], [0, 0, 0.917]]),
        "carbon dioxide": ([6, 8, 8], [[0, 0, 0], [0, 0, 1.162], [0, 0, -1.162]]),
        "hydrogen cyanide": ([6, 7, 1], [[0, 0, 0], [0, 0, 1.156], [0, 0, -1.064]]),
        "formaldehyde": (
            [6, 8, 1, 1],
            [[0, 0, 0], [0, 0, 1.205], [0, 0.9429, -0.5876], [0, -0.9429, -0.5876]],
        ),
        "ethene": (
            [6, 6, 1, 1, 1, 1],
            [
                *([0, 0, 0.6695], [0, 0, -0.6695], [0, 0.9289, 1.2321], [0, -0.9289, 1.2321]),
                *([0, 0.9289, -1.2321], [0, -0.9289, -1.2321]),
            ],
        ),
    }


@pytest.fixture(scope="session")
def textbook_crystals() -> dict[str, dict[str, list]]:
    """Cells of textbook crystals: `numbers`, `frac`, `lengths` in A and `angles` in degrees."""
    right = [90.0, 90.0, 90.0]
    face = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    moved = [[x + 0.25, y + 0.25, z + 0.25] for x, y, z in face]
    u = 0.3053
    cells = {
        "CsCl": ([55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], [4.123] * 3, right),
        "NaCl": (
            [11] * 4 + [17] * 4,
            face + [[x + 0.5, y, z] for x, y, z in face],
            [5.6402] * 3,
            right,
        ),
        "Si": ([14] * 8, face + moved, [5.4310] * 3, right),
        "Si primitive": ([14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]], [3.8403] * 3, [60.0] * 3),
        "rutile": (
            [22, 22, 8, 8, 8, 8],
            [
                *([0, 0, 0], [0.5, 0.5, 0.5], [u, u, 0], [-u, -u, 0]),
                *([0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]),
            ],
            [4.5937, 4.5937, 2.9587],
            right,
        ),
        "perovskite": (
            [38, 22, 8, 8, 8],
            [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
            [3.905] * 3,
            right,
        ),
        "magnesium": (
            [12, 12],
            [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
            [3.2094, 3.2094, 5.2108],
            [90.0, 90.0, 120.0],
        ),
    }
    names = ("numbers", "frac", "lengths", "angles")
    return {name: dict(zip(names, cell, strict=True)) for name, cell in cells.items()}
