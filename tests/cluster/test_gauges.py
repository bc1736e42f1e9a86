"""The Grafana dashboard asks for what Ray and our runs export; gauges never cost a run."""

from __future__ import annotations

import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from unite.cluster.gauges import IMAGES_SEEN, GaugedTracker, gauge_name, with_gauges
from unite.metrics.specs import logged

# What this cluster need not export, and why. Ray's own dashboards must know each name.
ELSEWHERE = {
    "ray_node_gram_used": "needs a GPU",
    "ray_node_gpus_utilization": "needs a GPU",
}
OURS = {f"ray_{gauge_name(name)}" for name in [*logged(), IMAGES_SEEN]}
PATIENCE_S = 60
GRID_WIDTH = 24

BY = re.compile(r"\bby\s*\(([^)]*)\)")
SELECTOR = re.compile(r"\{([^}]*)\}")


@pytest.fixture(scope="module")
def dashboard(root) -> dict:
    return json.loads((root / "dashboards" / "grafana.json").read_text())


def charts(dashboard: dict) -> list[dict]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(dashboard: dict) -> Iterator[tuple[str, str, str]]:
    """Title, PromQL and legend of everything that is drawn."""
    for panel in charts(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def asked(dashboard: dict) -> set[str]:
    """Every metric that some panel asks for."""
    return {name for _, promql, _ in targets(dashboard) for name in metric_names(promql)}


def metric_names(promql: str) -> set[str]:
    """The metrics of an expression: its words without functions, labels, strings and ranges."""
    bare = re.sub(r'"[^"]*"', "", promql)
    bare = re.sub(r"\[[^\]]*\]", "", SELECTOR.sub("", BY.sub("", bare)))
    return set(re.findall(r"[a-zA-Z_:][\w:]*\b(?!\s*\()", bare))


def label_names(promql: str) -> set[str]:
    """Labels that an expression selects or groups by."""
    bare = re.sub(r'"[^"]*"', "", promql)
    selected = re.findall(r"(\w+)\s*[=!]", " ".join(SELECTOR.findall(bare)))
    return {*selected, *grouped(promql)}


def grouped(promql: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(BY.findall(promql))))


def scrape(port: int) -> dict[str, set[str]]:
    """Metrics that a node exports now, each with its labels."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, set[str]] = {}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def strays(dashboard: dict, live: dict[str, set[str]]) -> list[str]:
    """What the dashboard asks for in vain."""
    return [
        f"{title}: {name} {problem}"
        for title, promql, _ in targets(dashboard)
        for name in sorted(metric_names(promql))
        if (problem := problem_with(name, label_names(promql), live))
    ]


def problem_with(name: str, labels: set[str], live: dict[str, set[str]]) -> str:
    if name in live:
        return f"has no label {labels - live[name]}" if labels - live[name] else ""
    return "" if name in ELSEWHERE else "is not exported"


def provoke(ray) -> None:
    """Let Ray Data run, and a worker die: some metrics appear with the first such event."""

    @ray.remote(num_cpus=0, max_retries=0)
    def die() -> None:
        os._exit(1)

    failed = die.remote()
    ray.data.range(64, override_num_blocks=2).map_batches(lambda batch: batch).materialize()
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(failed)


@pytest.mark.ray
def test_every_metric_of_the_dashboard_is_exported_by_a_live_ray(ray_cluster, dashboard):
    @ray_cluster.remote(num_cpus=0)
    class RankZero:
        """In here because workers cannot import this module."""

        def log(self, metrics: list[str]) -> None:
            from unite.cluster.gauges import with_gauges
            from unite.tracking import Tracker

            for run in ("one", "two"):  # as trials that share a process
                with_gauges(Tracker(), run).log(dict.fromkeys(metrics, 0.5), 64)

    rank = RankZero.remote()
    provoke(ray_cluster)
    port = ray_cluster.nodes()[0]["MetricsExportPort"]
    live: dict[str, set[str]] = {}
    deadline = time.monotonic() + PATIENCE_S
    while problems := sorted(OURS - set(live)) + strays(dashboard, live):
        assert time.monotonic() < deadline, problems
        ray_cluster.get(rank.log.remote(list(logged())))
        time.sleep(1)
        live |= scrape(port)

    assert {name for name in asked(dashboard) if name not in live} <= set(ELSEWHERE)
    assert {"dataset", "operator"} <= live["ray_data_output_rows"]

    first = dashboard["panels"][1]["targets"][0]
    for wrong in ("ray_unite_throughputs_images_per_s", "ray_node_gram_use"):
        first["expr"] = f"sum by (run) ({wrong})"
        assert strays(dashboard, live) == [f"Throughput: {wrong} is not exported"]


def test_what_is_exported_elsewhere_is_known_to_rays_own_dashboards(dashboard):
    import ray

    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    source = "\n".join(path.read_text() for path in folder.glob("*.py"))
    assert [name for name in ELSEWHERE if not re.search(rf"\b{name}\b", source)] == []
    assert set(ELSEWHERE) <= asked(dashboard), (
        "a name that no panel asks for has no business in the list"
    )


def test_panels_can_be_imported_and_read(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert [chart["title"] for chart in charts(dashboard) if not chart["description"]] == []
    for chart in charts(dashboard):
        assert chart["fieldConfig"]["defaults"]["unit"], chart["title"]
        assert {t["datasource"]["uid"] for t in [chart, *chart["targets"]]} == {"${datasource}"}
    for title, promql, legend in targets(dashboard):
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) == grouped(promql), title


def test_panels_do_not_overlap(dashboard):
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= GRID_WIDTH, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{panel['title']} lies on {other}"


def test_runs_are_chosen_from_those_that_log(dashboard):
    source, run = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert run["query"]["query"] == f"label_values(ray_{gauge_name(IMAGES_SEEN)}, run)"
    ours = [promql for _, promql, _ in targets(dashboard) if metric_names(promql) & OURS]
    assert ours and all('{run=~"$run"}' in promql for promql in ours)


class Kept:
    def __init__(self) -> None:
        self.logged: list[tuple[dict, int]] = []

    def log(self, metrics, step) -> None:
        self.logged.append((dict(metrics), step))

    def image(self, key, image, step) -> None: ...

    def close(self) -> None: ...


def test_metrics_have_gauges_of_their_own():
    assert len(OURS) == len(logged()) + 1
    assert all(re.fullmatch(r"ray_unite_[a-z0-9_]+", name) for name in OURS)


def test_without_ray_a_tracker_stays_as_it_is(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    tracker = Kept()
    assert with_gauges(tracker, "run") is tracker


def test_gauges_that_fail_cost_neither_the_run_nor_its_metrics(monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise RuntimeError("Ray is gone")

    monkeypatch.setattr("ray.util.metrics.Gauge", refuse)
    kept = Kept()
    tracker = GaugedTracker(kept, "run")
    with caplog.at_level(logging.WARNING, "unite"):
        tracker.log({"lr": 0.1}, 8)
        tracker.log({"lr": 0.2}, 16)
    assert kept.logged == [({"lr": 0.1}, 8), ({"lr": 0.2}, 16)]
    (warning,) = caplog.records
    assert "Ray is gone" in warning.message


def test_a_run_may_be_named_in_any_script(monkeypatch):
    """Ray takes ASCII alone for tags, and would otherwise cost such a run all of its gauges."""
    tags = []

    class Gauge:
        def __init__(self, name, **about): ...

        def set_default_tags(self, given):
            tags.append(given["run"])
            return self

        def set(self, value):
            tags[-1].encode("ascii")

    monkeypatch.setattr("ray.util.metrics.Gauge", Gauge)
    GaugedTracker(Kept(), "r\u00e9sum\u00e9 1").log({"lr": 0.1}, 8)
    assert set(tags) == {"r\\xe9sum\\xe9 1"} and len(tags) == 2
