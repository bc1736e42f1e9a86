"""Notices of a cloud that it takes a spot machine back, from its metadata service.

AWS tells about two minutes before by a document with the time (IMDSv2, with a session token); GCP
sets a flag about 30 seconds before. Both answer on the machine alone.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Protocol

AWS_VARIABLE, AWS_PLACE = "AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254"
GCP_VARIABLE, GCP_PLACE = "GCE_METADATA_HOST", "metadata.google.internal"
ANSWER_S = 2.0
TOKEN_S = 21_600
"""Seconds that a session token of AWS lives."""
GCP_NOTICE_S = 30.0

# A proxy must never be asked for what only this machine's own service knows.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class MetadataError(OSError):
    """A metadata service does not answer, or not as its cloud's does; the message names both."""


class Cloud(Protocol):
    """The metadata service of a cloud."""

    name: str

    def ends_at(self) -> float | None:
        """Time at which the machine is taken, in seconds since 1970; None = no notice.

        MetadataError when the service does not answer.
        """
        ...


class Aws:
    """EC2: spot/instance-action of IMDSv2, which is absent (404) without a notice."""

    name = "AWS"

    def __init__(self) -> None:
        self.place = os.environ.get(AWS_VARIABLE, AWS_PLACE).rstrip("/")
        self._token = ""

    def ends_at(self) -> float | None:
        """Time of the action: terminate, stop and hibernate all end the workers."""
        text = self._read(again=True)
        if text is None:
            return None
        try:
            told = json.loads(text)["time"]
            return datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp()
        except (ValueError, KeyError, TypeError) as error:
            raise MetadataError(f"{self.name}'s notice is not understood: {text!r}") from error

    def _read(self, *, again: bool) -> str | None:
        if not self._token:
            life = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
            self._token = _ask(f"{self.place}/latest/api/token", life, method="PUT") or ""
        try:
            return _ask(
                f"{self.place}/latest/meta-data/spot/instance-action",
                {"X-aws-ec2-metadata-token": self._token},
            )
        except RefusedError:
            self._token = ""  # it has expired
            if not again:
                raise
            return self._read(again=False)


class Gcp:
    """Compute Engine: instance/preempted, TRUE from the notice on; the time is not told."""

    name = "GCP"

    def __init__(self) -> None:
        self.place = f"http://{os.environ.get(GCP_VARIABLE, GCP_PLACE)}"
        self._ends: float | None = None

    def ends_at(self) -> float | None:
        """Half a minute after the flag was first seen."""
        said = _ask(
            f"{self.place}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}
        )
        if said not in ("TRUE", "FALSE"):
            raise MetadataError(f"{self.name}'s metadata service says {said!r}: TRUE or FALSE")
        if said == "TRUE" and self._ends is None:
            self._ends = time.time() + GCP_NOTICE_S
        return self._ends


CLOUDS = {"aws": Aws, "gcp": Gcp}


def find_cloud(name: str) -> Cloud:
    """The cloud of that name, or the one whose service answers with `auto`; MetadataError if none
    does."""
    failed = []
    for kind in CLOUDS.values() if name == "auto" else [CLOUDS[name]]:
        cloud = kind()
        try:
            cloud.ends_at()
            return cloud
        except MetadataError as error:
            failed.append(f"{cloud.name}: {error}")
    raise MetadataError(
        f"no metadata service of a cloud answers on this machine ({'; '.join(failed)}), so it "
        "gives no notice of its end: run this on a spot machine of AWS or GCP. In a container on "
        "AWS, the instance's hop limit must be 2 (HttpPutResponseHopLimit)"
    )


class RefusedError(MetadataError):
    """The service refuses the session token."""


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """Text of an answer; None when there is no such document."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with _opener.open(request, timeout=ANSWER_S) as answer:
            return answer.read(10_000).decode().strip()
    except urllib.error.HTTPError as error:
        if error.code == 404 and method == "GET":
            return None
        kind = RefusedError if error.code == 401 else MetadataError
        raise kind(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        raise MetadataError(f"{url} does not answer: {error}") from error
