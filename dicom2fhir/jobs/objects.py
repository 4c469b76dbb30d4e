"""Objects in an S3 store: listed page by page, and read in ranges, so that of a file only its header is transferred.

Credentials, region and endpoint are found as the AWS tools find them: environment, ``~/.aws``, role of the machine.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, BinaryIO, cast

from dicom2fhir.errors import ConfigError
from dicom2fhir.receive.folder.files import Found

SCHEME = "s3://"
_FIRST_BYTES = 64 * 1024
"""Most headers are shorter."""
_LONGEST_RANGE_BYTES = 1024 * 1024
"""Ranges that follow each other double up to this length."""
_AT_ONCE = 16
"""Requests of a worker, because a request takes long and little of the processor."""
_BODIES = 3
"""How often the body of a response is read before its failure counts; what comes before it, botocore repeats."""
_ATTEMPTS = 6
_MAKING = Lock()
"""Else all threads of a worker would make a client at the same time, which takes 0.2 s of the processor each."""
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
_REMEDIES = {
    "AccessDenied": "the credentials need s3:ListBucket for the bucket and s3:GetObject for its objects",
    "NoSuchBucket": "check the bucket's name, and the endpoint if the store is not that of AWS",
    "NoCredentialsError": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "EndpointConnectionError": "check --s3-endpoint or AWS_ENDPOINT_URL, and the network",
    "InvalidObjectState": "it is in an archive tier; restore it first",
}
_CHANGED = {"412", "PreconditionFailed", "404", "NoSuchKey"}


@dataclass(frozen=True, slots=True)
class FoundObject(Found):
    """An object as it was listed."""

    etag: str
    endpoint: str | None


def require_botocore() -> None:
    """Check that the extra is installed.

    Raises
    ------
    ConfigError
        It is not.
    """
    try:
        import botocore.session  # noqa: F401
    except ImportError:
        raise ConfigError("s3:// needs botocore; install it with: pip install 'dicom2fhir-bridge[s3]'") from None


def bucket_and_key(url: str) -> tuple[str, str]:
    """The bucket and the key, or beginning of keys, of ``s3://bucket/key``."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    return bucket, key


def list_objects(url: str, endpoint: str | None, on_error: Callable[[str, OSError], None]) -> Iterator[Found]:
    """The objects whose keys begin with that of ``url``, in the order of their keys.

    Parameters
    ----------
    on_error
        Called if the list, or the rest of it, cannot be read.
    """
    bucket, prefix = bucket_and_key(url)
    try:
        with _failures_told():
            pages = _client(endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):  # stands for a folder
                        yield _found(bucket, entry, endpoint)
    except OSError as error:
        on_error(url, error)


def _found(bucket: str, entry: dict[str, Any], endpoint: str | None) -> FoundObject:
    mtime_ns = round(entry["LastModified"].timestamp() * 1000) * 1_000_000
    return FoundObject(f"{SCHEME}{bucket}/{entry['Key']}", entry["Size"], mtime_ns, 0, entry["ETag"], endpoint)


def _client(endpoint: str | None) -> Any:
    """The client of this process; it may be used by several threads."""
    with _MAKING:
        return _made_client(endpoint)


@lru_cache(maxsize=8)
def _made_client(endpoint: str | None) -> Any:
    from botocore.config import Config
    from botocore.session import get_session

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_AT_ONCE,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        user_agent_extra="dicom2fhir",
    )
    return get_session().create_client("s3", endpoint_url=endpoint, config=config)


@contextmanager
def _failures_told() -> Iterator[None]:
    """Translate what botocore raises.

    Raises
    ------
    OSError
        In place of its errors; ``EAGAIN`` if the object is not the one that was listed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        if code in _CHANGED:
            raise OSError(errno.EAGAIN, "The object changed or was deleted while it was read") from None
        raise OSError(errno.EIO, _words(code, str(answer.get("Message", "")))) from None
    except BotoCoreError as error:
        raise OSError(errno.EIO, _words(type(error).__name__, str(error))) from None


def _words(code: str, message: str) -> str:
    remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
    return f"The object store responds: {code}: {message.rstrip('.')}{remedy}"


class _ObjectFile(io.RawIOBase):
    """An object as a file that can be read anywhere; holds one range of it at a time."""

    def __init__(self, file: FoundObject) -> None:
        self._file = file
        self._pos = 0
        self._begin = 0
        self._data = b""
        self._range_bytes = _FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._pos

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._pos = offset + (0, self._pos, self._file.size_bytes)[whence]
        if self._pos < 0:
            raise ValueError("negative position")
        return self._pos

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._file.size_bytes - self._pos)
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted:
            at = self._pos - self._begin
            if not 0 <= at < len(self._data):
                self._fill(at == len(self._data) > 0)
                at = 0
            pieces.append(self._data[at : at + wanted])
            self._pos += len(pieces[-1])
            wanted -= len(pieces[-1])
        return b"".join(pieces)

    def _fill(self, follows: bool) -> None:
        """Get the range that begins at the present position."""
        self._range_bytes = min(2 * self._range_bytes, _LONGEST_RANGE_BYTES) if follows else _FIRST_BYTES
        end = min(self._pos + self._range_bytes, self._file.size_bytes)
        self._data = _get(self._file, self._pos, end)
        self._begin = self._pos


def _get(file: FoundObject, begin: int, end: int) -> bytes:
    """The bytes of an object from ``begin`` to before ``end``."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    bucket, key = bucket_and_key(file.path)
    with _failures_told():
        for left in reversed(range(_BODIES)):
            response = _client(file.endpoint).get_object(
                Bucket=bucket, Key=key, Range=f"bytes={begin}-{end - 1}", IfMatch=file.etag
            )
            try:
                data: bytes = response["Body"].read()
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                if not left:
                    raise
                continue
            if len(data) == end - begin:
                return data
    raise OSError(errno.EIO, f"The object store sent less than bytes {begin} to {end - 1} of the object")


def open_object(file: FoundObject) -> BinaryIO:
    """Open an object, with its first range.

    Raises
    ------
    OSError
        It cannot be read; ``EAGAIN`` if it is not the one that was listed.
    """
    opened = _ObjectFile(file)
    opened.read(min(1, file.size_bytes))
    opened.seek(0)
    return cast("BinaryIO", opened)


def open_ahead(files: list[FoundObject]) -> Iterator[Callable[[], BinaryIO]]:
    """Request the first ranges of many objects at once; for each, what gives the open object or raises."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for future in [pool.submit(open_object, file) for file in files]:
            yield future.result
