"""The `unite` command: look at recipes and checkpoints, convert, and check what runs depend on.

Training, sampling and evaluation are scripts: python jobs/train.py --help, and so on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from unite.config.flags import RULES
from unite.config.scales import ScaleName
from unite.entry import run

# Everything heavy is imported inside the subcommands, so that help and typos answer at once.

app = SubcommandApp()
mlflow = SubcommandApp()
cluster = SubcommandApp()
app.command(mlflow, name="mlflow", help="Check the tracking server; send what it missed.")
app.command(cluster, name="cluster", help="Check a Ray cluster file before `ray up`.")

Name = Annotated[Positional[str], arg(metavar="NAME")]
Path = Annotated[Positional[str], arg(metavar="PATH")]


@app.command
def recipes(name: Name = "", yaml: bool = False) -> None:
    """List the named runs: what each reproduces, and its true parameter counts in millions.

    Args:
        name: Recipe to list alone.
        yaml: Print its whole config as a file for `jobs/train.py --config`.
    """
    from unite.commands.recipes import list_recipes, print_yaml

    print_yaml(name) if yaml else list_recipes(name)


@app.command
def diff(first: Name, second: Name, recipe: str = "unite-b") -> None:
    """Show, field by field, where two recipes or two variants of one recipe differ.

    For example `unite diff paper released` or `unite diff digits cifar10`.

    Args:
        first: A variant (paper, released, checkpoints) or the name of a recipe.
        second: The variant or recipe to compare it with.
        recipe: The base recipe whose variants are meant.
    """
    from unite.commands.recipes import diff_recipes

    diff_recipes(first, second, recipe)


@app.command
def inspect(checkpoint: Path = "latest", storage: str = "") -> None:
    """Show what a run, checkpoint, export or weights file holds, and whether it is intact.

    Nothing is executed from the file. Exits with 2 when a digest does not match or a file of
    the run is damaged.

    Args:
        checkpoint: latest, a run's name or MLflow id, or a path or s3:// URI of a run, a
            checkpoint, an export or a weights file.
        storage: Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs.
    """
    from unite.commands.checkpoints import inspect as show
    from unite.runs import default_storage

    show(checkpoint, storage or default_storage())


@app.command(name="import-authors")
def import_authors(file: Path, out: str, ema: bool = True, state: str = "") -> None:
    """Convert a checkpoint in the UNITE authors' layout into safetensors and a config.

    Prints the result for every key. `unite.load` also reads such files directly.

    Args:
        file: Their .pt file (or a bare state dict); local or an s3:// URI.
        out: Folder or s3:// URI for model.safetensors and config.json.
        ema: Take the averaged weights where the file holds both kinds.
        state: Path of the weights in a file that holds several, as `unite inspect` lists them.
    """
    from unite.commands.checkpoints import import_authors as run

    run(file, out, ema=ema, state=state)


@app.command
def plan(
    name: Name,
    scale: ScaleName = "laptop",
    seeds: int = 0,
    equal: Literal["images", "compute"] = "images",
    values: tuple[str, ...] = (),
    epochs: float = 0.0,
    samples: int = 0,
    rate: float = 0.0,
    measure: bool = False,
    gpus: int = 1,
    gpus_per_node: int = 8,
    cores_per_gpu: float = 0.0,
    decode_rate: float = 0.0,
    storage_rate: float = 0.0,
    network_rate: float = 0.0,
) -> None:
    """Show what a recipe or an ablation costs: FLOPs, storage, device hours, wall time.

    For example `unite plan unite-b --rate 1.2e14 --gpus 64` or `unite plan sweep_flow_ratio`. Of a
    recipe on several GPUs the bottleneck is named.

    Args:
        name: A recipe, or an ablation such as flow_ratio.
        scale: Scale of an ablation.
        seeds: Number of seeds of an ablation; 0 = the scale's own number.
        equal: Budget that is the same at every point of an ablation.
        values: Points of an ablation to try; empty = the scale's.
        epochs: Passes over the training set; 0 = the scale's, or the recipe's.
        samples: Number of measured samples of an ablation; 0 = the scale's.
        rate: FLOP/s of one device.
        measure: Time a few training steps on this machine instead.
        gpus: Devices that share the work.
        gpus_per_node: Devices of one machine.
        cores_per_gpu: CPU cores that decode for one device; 0 = 8.
        decode_rate: Samples that one core decodes a second; 0 = as measured for the domain.
        storage_rate: Bytes a second between one machine and the storage; 0 = 1e9.
        network_rate: Bytes a second between one machine and the others; 0 = 12.5e9.
    """
    from unite.ablation.options import SweepOptions
    from unite.commands.plan import plan as run

    options = SweepOptions(
        scale=scale, seeds=seeds, equal=equal, values=values, epochs=epochs, samples=samples
    )
    around = {
        "gpus_per_node": gpus_per_node,
        "cores_per_gpu": cores_per_gpu,
        "decode_rate": decode_rate,
        "storage_rate": storage_rate,
        "network_rate": network_rate,
    }
    run(name, options, rate=rate, measure=measure, gpus=gpus, around=around)


@app.command(name="doctor")
def examine(storage: str = "", cluster: str = "", recipe: str = "", json: bool = False) -> None:
    """Check what a run needs, on this machine or on every node of a cluster, before it starts.

    Versions equal everywhere, processors, memory, shared memory, storage (writable, how fast),
    tracking, clocks, and with --cluster an all-reduce between each two nodes. Exits with 1 when a
    check fails; each failing row comes with its cure.

    Args:
        storage: Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs.
        cluster: Address of a Ray cluster, or auto for the one on this machine; empty = this
            machine alone, without Ray.
        recipe: Recipe whose memory the machines must have.
        json: Print facts and findings as JSON.
    """
    from unite.commands.doctor import doctor as run

    run(storage=storage, cluster=cluster, recipe=recipe, as_text=json)


@app.command(name="spot-watch")
def spot_watch(
    cloud: Literal["auto", "aws", "gcp"] = "auto",
    address: str = "",
    node: str = "",
    every_s: float = 2.0,
    once: bool = False,
) -> None:
    """Agent of a spot node: drain it in Ray as soon as its cloud takes the machine back.

    Start it on every spot node beside Ray. Runs with workers there save at once, leave shortly
    before the machine is gone, and go on elsewhere without a lost step. It ends once the node is
    drained. For example `unite spot-watch --address HEAD:6379`.

    Args:
        cloud: Cloud whose metadata service tells of the machine's end; auto = the one that
            answers (AWS_EC2_METADATA_SERVICE_ENDPOINT and GCE_METADATA_HOST name others).
        address: HOST:PORT of the cluster's head; empty = RAY_ADDRESS.
        node: Identity of this machine's Ray node; empty = found by the machine's address.
        every_s: Seconds between two looks.
        once: Look once, at the cloud and the cluster, and say what is found: a check of the setup.
    """
    from unite.commands.spot_watch import spot_watch as run

    run(cloud=cloud, address=address, node=node, every_s=every_s, once=once)


@app.command
def drill(
    names: Annotated[
        Positional[tuple[Literal["worker", "node", "driver", "spot", "storage", "tracking"], ...]],
        arg(metavar="DRILL"),
    ],
    recipe: str = "smoke",
    steps: int = 160,
    keep: bool = False,
    json: bool = False,
) -> None:
    """Do a fault for real on a scratch run here, and compare its cost with what is promised.

    For example `unite drill worker driver`. Beside each the same training runs undisturbed: images
    trained again, longest pause, and whether the weights are bit-equal. Minutes each. Exits with 1
    when a promise is broken.

    Args:
        names: worker, node, driver, spot, storage or tracking; several are done in turn.
        recipe: A recipe that brings its own data.
        steps: Optimiser steps of a scratch run; more where a fast machine ends it too early.
        keep: Keep the temporary storage with its runs and logs.
        json: Print what was seen as JSON.
    """
    from unite.commands.drill import drill as run

    run(names, recipe=recipe, steps=steps, keep=keep, as_text=json)


@mlflow.command
def push(file: Path) -> None:
    """Send metrics that runs kept in files, because their MLflow server was away, to MLflow.

    Args:
        file: The file that the run's log names, or a folder: of all runs below it.
    """
    from unite.commands.tracking import push as run

    run(file)


@mlflow.command
def doctor(uri: str = "") -> None:
    """Check that the tracking server answers, can be written to, and suits many metrics.

    Args:
        uri: Tracking URI; empty = MLFLOW_TRACKING_URI, else the local default.
    """
    from unite.commands.tracking import doctor as run

    run(uri)


@cluster.command
def check(file: Path = "cluster.yaml") -> None:
    """Validate a Ray cluster file without network or credentials; list every problem.

    Args:
        file: The YAML file that `ray up` will be given.
    """
    from unite.commands.cluster import check as run

    run(file)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 and one line after any error."""
    sys.exit(run(lambda: app.cli(prog="unite", description=__doc__, args=args, registry=RULES)))


if __name__ == "__main__":
    main()
