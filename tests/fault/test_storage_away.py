"""An object store that does not answer. One that refuses connections for a while: `unite drill`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.long
@pytest.mark.fault
def test_storage_that_never_answers_is_said_at_the_start(stumbling_s3, root):
    uri, proxy = stumbling_s3
    proxy.mode = "hang"
    said = subprocess.run(
        [sys.executable, "jobs/train.py", "smoke", "--storage", f"{uri}/st", "--name", "silent"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 2
    assert f"AWS_ENDPOINT_URL={proxy.url} did not answer within 20 s" in said.stderr
