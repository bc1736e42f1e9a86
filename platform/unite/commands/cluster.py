"""`unite cluster check`: a cluster file's problems, or a summary of its nodes."""

from __future__ import annotations

from unite.cluster.cluster_yaml import check_cluster
from unite.tables import print_table


def check(path: str) -> None:
    """Validate a cluster file and print its node types; ClusterFileError lists the problems."""
    summary = check_cluster(path)
    print_table(
        ("node type", "instance", "market", "min", "max"),
        (
            (node.name, node.instance, node.market, node.min_workers, node.max_workers)
            for node in summary.node_types
        ),
    )
    print(f"\n{path} is valid: cluster {summary.name}. Nothing was started.")
    if summary.placeholders:
        print("Still to fill in before `ray up`:")
        for place in summary.placeholders:
            print(f"  {place}")
