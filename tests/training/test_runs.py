"""Requests to stop: they mean one driver's run, or whoever trains it."""

from __future__ import annotations

import pytest

from unite.storage import Store
from unite.training.runs import request_stop, stop_asked


@pytest.mark.parametrize(
    "owner, asked, stops", [("a", "a", True), ("a", "", True), ("a", "b", False), ("", "", True)]
)
def test_a_request_stops_its_own_run_alone(tmp_path, owner, asked, stops):
    folder = Store.open(tmp_path)
    assert not stop_asked(folder, owner)
    request_stop(folder, asked)
    assert stop_asked(folder, owner) is stops
