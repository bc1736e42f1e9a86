"""Objects of an S3 store through boto3: whole uploads, conditional writes, limits of time.

An upload appears when it is complete, or not at all. A conditional write is what a lock is made of
where there are no files: of several writers, one succeeds. boto3 is imported on first use; reading
goes through pyarrow.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import pyarrow.fs as pafs

T = TypeVar("T")

PREFIX = "s3://"
PART_BYTES = 16 * 2**20
"""Size of an upload's parts, of which there may be 10,000."""
STREAMS = 4
"""Parts that are uploaded at the same time."""
CONNECT_S, ANSWER_S, ATTEMPTS = 5, 20, 4
"""Seconds for a connection and for an answer, and tries of each request."""
CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
ABSENT = ("NoSuchKey", "NotFound", "404")


AWAY = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|SlowDown|INTERNAL_FAILURE|InternalError|SERVICE_UNAVAILABLE|"
    r"ServiceUnavailable|REQUEST_TIMEOUT|RequestTimeout\b|curlCode|HTTP status (429|50[0234]|52\d)|"
    r"Could not connect|"
    r"[Tt]imeout on endpoint|timed out|[Cc]onnection (was )?(closed|reset)|did not answer within"
)
"""Pattern of the errors of a store that is away or overloaded."""


class ConflictError(OSError):
    """The object is not what a conditional write asks for: somebody else wrote it."""


def read_tagged(uri: str) -> tuple[bytes, str] | None:
    """Content and tag (ETag) of a small object; None when there is none. OSError by the store."""
    bucket, key = _split(uri)

    def read() -> tuple[bytes, str]:
        answer = _client().get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]

    return _asked(read, absent=True)


def write_if(uri: str, data: bytes, tag: str | None) -> str:
    """Write an object that has this tag, or that does not exist (None); its new tag.

    ConflictError when another writer was first; OSError by the store.
    """
    bucket, key = _split(uri)
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    answer = _asked(lambda: _client().put_object(Bucket=bucket, Key=key, Body=data, **condition))
    return answer["ETag"]


def upload(uri: str, pieces: Iterable[bytes | memoryview]) -> None:
    """Write an object piece by piece; an error, also one of `pieces`, leaves the place as it was.

    OSError by the store.
    """
    bucket, key = _split(uri)
    place = {"Bucket": bucket, "Key": key}
    parts = _joined(pieces)
    begin = list(itertools.islice(parts, 2))
    if len(begin) < 2:
        _asked(lambda: _client().put_object(**place, Body=b"".join(begin)))
        return
    place["UploadId"] = _asked(lambda: _client().create_multipart_upload(**place))["UploadId"]
    try:
        tags = _sent(place, itertools.chain(begin, parts))
        whole = {"Parts": tags}
        _asked(lambda: _client().complete_multipart_upload(**place, MultipartUpload=whole))
    except BaseException:
        with suppress(OSError):  # the store's own rules tidy unfinished uploads away
            _asked(lambda: _client().abort_multipart_upload(**place))
        raise


def _sent(place: dict[str, str], parts: Iterator[bytes]) -> list[dict[str, Any]]:
    """Upload parts, STREAMS at a time; their numbers and tags, in order."""
    numbered = enumerate(parts, start=1)
    tags: list[dict[str, Any]] = []
    with ThreadPoolExecutor(STREAMS, thread_name_prefix="upload") as pool:
        while some := list(itertools.islice(numbered, STREAMS)):
            tags += pool.map(lambda part: _part(place, *part), some)
    return tags


def _part(place: dict[str, str], number: int, data: bytes) -> dict[str, Any]:
    answer = _asked(lambda: _client().upload_part(**place, PartNumber=number, Body=data))
    return {"PartNumber": number, "ETag": answer["ETag"]}


def _joined(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The bytes of `pieces` in parts of PART_BYTES; the last one is shorter."""
    kept = bytearray()
    for piece in pieces:
        kept += piece
        while len(kept) >= PART_BYTES:
            yield bytes(kept[:PART_BYTES])
            del kept[:PART_BYTES]
    if kept:
        yield bytes(kept)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(PREFIX).partition("/")
    return bucket, key


def is_away(error: BaseException) -> bool:
    """True if an error says that the store does not answer now, and not that it refuses."""
    return isinstance(error, OSError) and AWAY.search(str(error)) is not None


def endpoint() -> str:
    """URL of the object store that the environment names; empty = AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def reader_of(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system by which objects are listed and read, and the path of a URI in it."""
    # The key goes as it is: in from_uri it would be unquoted, and boto3 does not.
    path = uri.removeprefix(PREFIX)
    found, _ = pafs.FileSystem.from_uri(f"{PREFIX}{path.partition('/')[0]}")
    scheme, _, host = endpoint().rpartition("://")
    limited = pafs.S3FileSystem(
        region=found.region,
        endpoint_override=host.rstrip("/") or None,
        scheme=scheme or None,
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )
    return limited, path


def _client() -> Any:
    """The client of this process, by endpoint and credentials: tests and jobs change these."""
    names = [name for name in os.environ if name.startswith("AWS_")]
    return _made(os.getpid(), tuple((name, os.environ[name]) for name in sorted(names)))


@functools.lru_cache(maxsize=8)
def _made(pid: int, environment: tuple[tuple[str, str], ...]) -> Any:
    import boto3
    from botocore.config import Config

    # Every thread may use a client; a session may not be shared.
    return boto3.Session().client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=ANSWER_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Of checksums, some stores know none but those that S3 always had.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _asked(call: Callable[[], T], *, absent: bool = False) -> Any:
    """Result of a request, or None where an object may be `absent`; its errors become OSError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if absent and code in ABSENT:
            return None
        if code in CONFLICTS:
            raise ConflictError(str(error)) from error
        # boto3 tells no status: of a gateway before the store that has no words of S3, only that.
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise OSError(f"{error} (HTTP status {status})") from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error
