"""Labels of nodes, and which nodes each kind of work prefers by them.

cluster.yaml and docs/deploy/kuberay give every group of nodes a `unite-role` and a `market`:

    unite-role=train   nodes with GPUs: training asks for GPUs, and others keep off their CPUs
    unite-role=data    nodes of CPUs: reading and decoding of data, chemistry and evaluation
    market=spot        nodes that may vanish: evaluation, whose chunks are kept one by one

A preference is no condition: where no such node can be had, work goes to any other one. So a
laptop, whose one node has no labels, does everything.
"""

from __future__ import annotations

from typing import Any, Literal

ROLE, MARKET = "unite-role", "market"
ROLES = ("head", "train", "data")
MARKETS = ("on-demand", "spot")
WISHES: dict[str, dict[str, str]] = {
    "decode": {ROLE: "data"},
    "evaluate": {ROLE: "data", MARKET: "spot"},
    "evaluate on GPUs": {MARKET: "spot"},
}
"""Kind of work -> labels of the nodes that it prefers."""
OFF_GPUS = {ROLE: "!train"}

Work = Literal["decode", "evaluate", "evaluate on GPUs"]


def preferred(work: Work) -> dict[str, Any]:
    """Ray's options of tasks and actors of a kind of work: its nodes, else others, else any."""
    others = [OFF_GPUS, {}] if ROLE in WISHES[work] else [{}]
    return {
        "label_selector": WISHES[work],
        "fallback_strategy": [{"label_selector": each} for each in others],
    }
