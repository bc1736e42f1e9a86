"""Waiting for other programs: a deadline of ours, and no proxy on the way to this machine.

Libraries retry for as long as their authors found right: Ray for a quarter of an hour, MLflow for
minutes. Every call that a user waits for at the start of a command goes through `within`.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import random
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
logger = logging.getLogger(__name__)

DEADLINE_S = 60.0
"""Seconds that a command waits for a server, a cluster or a lock before it gives up."""
TELL_S = 60.0
"""Seconds between two lines that say what is waited for."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between two tries, in seconds."""
CREDENTIAL = re.compile(r"(^|[&;])\w*(passw|pwd|secret|token)\w*=", re.IGNORECASE)
"""Pattern of a credential in the query of a URL."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class DeadlineError(TimeoutError):
    """Another program did not answer in time; the message names it and the cure."""


def within(call: Callable[[], T], seconds: float, late: str) -> T:
    """The result of `call`, or DeadlineError with the message `late` when it takes longer.

    It runs in a thread that is abandoned when it is late: a call that blocks in a library cannot be
    stopped, but it does not keep the process from ending.
    """
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = call()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome["error"] = error

    thread = threading.Thread(target=work, name="within", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise DeadlineError(late)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def persist(
    call: Callable[[], T],
    patience_s: float,
    *,
    passing: Callable[[Exception], bool],
    doing: str,
) -> T:
    """The result of `call`, tried again while its errors are `passing`, for `patience_s` seconds
    since the first one: a long call that fails at its end has all of them.

    Pauses double up to half a minute and are random, so that many processes do not come back at
    once. One line a minute says that `doing` waits; the last error is raised.
    """
    failed, told, pause = None, -math.inf, FIRST_PAUSE_S
    while True:
        try:
            return call()
        except Exception as error:
            now = time.monotonic()
            failed = now if failed is None else failed
            left = patience_s - (now - failed)
            if left <= 0 or not passing(error):
                raise
            if now - told >= TELL_S:
                told = now
                why = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("%s waits, for at most %.0f s more: %s", doing, left, why)
        time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def answers(host: str, port: int, *, patience_s: float = 5.0) -> str:
    """Error of connecting to a TCP port, empty when it listens; tried for `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection((host, port), timeout=patience_s).close()
            return ""
        except OSError as error:
            reason = str(error)
        if time.monotonic() + 0.5 > deadline:
            return reason
        time.sleep(0.5)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_loopback(host: str) -> bool:
    """True if a host's name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def spare_loopback() -> None:
    """Add this machine's own addresses to NO_PROXY where a proxy is set: none is needed here."""
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [each.strip() for each in before.split(",") if each.strip()]
    if "*" not in hosts:
        hosts += [each for each in LOOPBACK if each not in hosts]
    # Libraries disagree on which of the two spellings wins.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


def holds_password(url: str) -> bool:
    """True if a URL holds a credential, as user:password@HOST or as ?password=..."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a path with brackets is no URL
        return False
    return parts.password is not None or CREDENTIAL.search(parts.query) is not None


def proxy_of(url_scheme: str, host: str) -> str:
    """NAME=VALUE of the variable that sends a call through a proxy; empty for a direct one."""
    if not host or urllib.request.proxy_bypass(host):
        return ""
    for name in (f"{url_scheme}_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            if os.environ.get(spelling):
                shown = os.environ[spelling].rpartition("@")[2]  # without user and password
                return f"{spelling}={shown}"
    return ""
