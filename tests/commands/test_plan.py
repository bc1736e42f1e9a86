"""`unite plan`: the command itself, from flags to what it prints."""

from __future__ import annotations

import re

import pytest

from unite.cli import main


def printed(capsys, *flags: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *flags])
    assert not ended.value.code
    return capsys.readouterr().out


def amount(text: str, what: str) -> float:
    """The first number of a row."""
    found = re.search(rf"^{what} +([0-9.,e+]+)", text, re.MULTILINE)
    assert found, text
    return float(found[1].replace(",", ""))


@pytest.fixture(autouse=True)
def storage(tmp_path, monkeypatch):
    monkeypatch.setenv("UNITE_STORAGE", str(tmp_path))


def test_a_sweep_is_planned_with_the_flags_of_its_script(capsys):
    usual = printed(capsys, "sweep_flow_ratio")
    assert "sweep-flow_ratio-laptop: 14 training runs" in usual
    two = printed(capsys, "flow_ratio", "--values", "1", "14", "--seeds", "1")
    assert "6 training runs" in two
    longer = printed(capsys, "flow_ratio", "--epochs", "25.6")
    assert amount(longer, "training images") == 2 * amount(usual, "training images")
    more = printed(capsys, "flow_ratio", "--samples", "1000")
    assert amount(more, "measured samples") == pytest.approx(2 * amount(usual, "measured samples"))
    equal = printed(capsys, "flow_ratio", "--equal", "compute")
    assert amount(equal, "training images") != amount(usual, "training images")


def test_a_recipe_takes_a_length_and_a_rate(capsys):
    text = printed(capsys, "digits", "--epochs", "2", "--rate", "1e10", "--gpus", "2")
    assert amount(text, "training images") == pytest.approx(3000, abs=64)
    assert "at 1e+10 FLOP/s, given" in text and "on 2 devices" in text
    assert "training molecules" in printed(capsys, "qm9-tiny", "--rate", "1e10")


def slowest(text: str) -> str:
    return re.search(r"^bottleneck: ([a-z-]+),", text, re.MULTILINE)[1]


def test_the_bottleneck_of_64_gpus_is_named(capsys):
    usual = ("unite-b", "--rate", "1.2e14", "--gpus", "64")
    text = printed(capsys, *usual)
    assert slowest(text) == "compute" and "on 64 GPUs in 8 nodes" in text
    assert "no limit" not in text
    assert slowest(printed(capsys, *usual, "--cores-per-gpu", "0.01")) == "decoding"
    slow = (*usual, "--storage-rate", "1e6")
    assert slowest(printed(capsys, *slow)) == "storage"
    assert slowest(printed(capsys, *slow, "--gpus-per-node", "1")) == "checkpoint", "64 nodes read"
    assert slowest(printed(capsys, *usual, "--network-rate", "1e8")) == "all-reduce"
    eight = printed(capsys, *usual[:3], "--gpus", "8")
    assert "no limit" in eight, "within one node"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["digits", "--values", "1"], "--values 1 has no effect on the recipe digits, but on abl"),
        (["digits", "--scale", "gpu"], "--scale gpu has no effect on the recipe digits"),
        (["flow_ratio", "--values", "5"], "'5' is not on axis flow_ratio"),
        (["flow_ratio", "--seeds", "-1"], "--seeds -1 must not be negative"),
        (["sweep_nothing"], r"unknown axis 'sweep_nothing'\. Axes: flow_ratio, "),
        (["nothing"], "nothing"),
        (["digits", "--gpus", "0"], "--gpus 0"),
        (["unite-b", "--gpus", "96", "--rate", "1e14"], "--gpus 96 must divide .* = 1024"),
        (["digits", "--rate", "1", "--measure"], "exclude each other"),
        (["flow_ratio", "--rate", "1", "--gpus", "2", "--decode-rate", "9"], "--decode-rate 9 has"),
        (["digits", "--rate", "1e9", "--gpus-per-node", "4"], "--gpus-per-node 4 has no effect"),
        (["digits", "--gpus", "2", "--network-rate", "1e9"], "--network-rate .* has no effect"),
        (["digits", "--rate", "1", "--gpus", "2", "--storage-rate", "-1"], "must not be negative"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_line(flags, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *flags])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_what_cannot_be_measured_here_asks_for_the_rate(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(["plan", "unite-b", "--measure"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("there is none here: give --rate instead of --measure")
