"""`unite doctor`: whether this machine, or every node of a cluster, can run a recipe."""

from __future__ import annotations

import json
import os
import sys

from unite.config.recipes import recipe as named_recipe
from unite.config.schema import RunConfig
from unite.drivers.doctor import Finding, as_json, diagnose
from unite.drivers.machine import facts
from unite.runs import default_storage
from unite.tables import print_table
from unite.tracking import Login


def doctor(*, storage: str, cluster: str, recipe: str, as_text: bool) -> None:
    """Print the table of findings, or JSON; exits with 1 when a check fails."""
    place = storage or default_storage()
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    nodes, pairs = [facts(place, tracking)], None
    if cluster:
        from unite.cluster.probe import all_pairs, cluster_facts

        os.environ["RAY_ADDRESS"] = cluster
        joined = cluster_facts(facts, place, tracking, Login.of_this_process())
        sound = [each for each in joined if "error" not in each]
        on_gpus = [each for each in sound if each["gpus"] and each["ray_gpus"]]
        pairs = {"gloo": all_pairs(sound), "nccl": all_pairs(on_gpus, "nccl")}
        nodes += joined
    config = named_recipe(recipe) if recipe else None
    findings = diagnose(nodes, needs=_needs(config), cluster=config and config.cluster, pairs=pairs)
    if as_text:
        print(json.dumps(as_json(nodes, findings), indent=1))
    else:
        _show(findings, place)
    if not all(each.ok for each in findings):
        sys.exit(1)


def _show(findings: list[Finding], storage: str) -> None:
    rows = [("ok" if each.ok else "FAILS", each.check, each.node, each.found) for each in findings]
    print_table(("", "check", "node", "found"), rows)
    print(f"\nstorage: {storage}")
    for each in findings:
        if not each.ok:
            print(f"{each.check} on {each.node}: {each.cure}")


def _needs(config: RunConfig | None) -> int:
    """Main memory in bytes that a worker of a recipe takes; 0 without one."""
    if config is None:
        return 0
    from unite.training.memory import worker_memory

    memory = worker_memory(config)
    return memory.host + (0 if config.cluster.use_gpu else memory.device)
