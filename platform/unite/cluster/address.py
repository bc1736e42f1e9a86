"""RAY_ADDRESS: its value, its check, and the advice when Ray cannot be joined.

Ray itself tries a dead address for a quarter of an hour, so a port is asked first, and what it does
not tell within a minute is given up.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from unite.network import DEADLINE_S, answers

VARIABLE = "RAY_ADDRESS"
CURE = f"Unset {VARIABLE} to run on this machine alone, or start that cluster"
TOO_LONG = "AF_UNIX path length"
"""Ray's words for a folder of sockets whose path the system cannot hold."""


class AddressError(ValueError):
    """RAY_ADDRESS cannot be used; the message names it and the fix."""


def named_address() -> str:
    """The cluster that the user names, or "" for a private one on this machine."""
    named = os.environ.get(VARIABLE, "")
    return "" if named == "local" else named


def check_address(address: str) -> None:
    """AddressError unless something listens where a cluster is said to be."""
    if address == "auto":
        return
    if address.startswith(("http://", "https://")):
        raise AddressError(
            f"{VARIABLE}={address} is the address of a job server, and a driver joins a cluster by "
            "HOST:PORT (6379 as a rule). To submit the same command as a job instead: "
            f"unset {VARIABLE}; ray job submit --address {address} --working-dir . -- python ..."
        )
    host, port = _parts(address)
    if reason := answers(host, port):
        raise AddressError(
            f"no Ray cluster answers at {VARIABLE}={address}: {reason}. {CURE} (ray start --head)"
        )


def _parts(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise AddressError(f"{VARIABLE}={address} is no HOST:PORT, ray://HOST:PORT or auto. {CURE}")
    return host, port


def too_late(address: str) -> str:
    """Message for a join that takes too long."""
    return (
        f"the Ray cluster at {VARIABLE}={address} did not let this process join within "
        f"{DEADLINE_S:g} s: the port may be another program's, or the cluster is gone. {CURE}"
    )


def advice(error: Exception) -> str:
    """Message for a failed start: Ray's words and the fix."""
    words = str(error).strip() or type(error).__name__
    if TOO_LONG in words:
        folder = os.environ.get("RAY_TMPDIR", "")
        named = f"RAY_TMPDIR={folder}" if folder else "the folder of temporary files"
        return (
            f"{words}. {named} is too long for the sockets that Ray puts below it: set RAY_TMPDIR "
            "to a short folder, such as /tmp"
        )
    address = named_address()
    cure = f"Check {VARIABLE}={address}. {CURE}" if address else "Try again on a less busy machine"
    return f"{words}\n{cure}"
