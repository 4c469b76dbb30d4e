"""Files in zip and tar archives, read one after the other. Nothing is extracted, so that their names do no harm."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

from dicom2fhir.errors import BudgetExceeded, CannotUnderstand
from dicom2fhir.system.text import counted

ENCRYPTED = 0x1
"""General purpose bit 0 of a member of a zip archive (APPNOTE.TXT section 4.4.4)."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Those of which :mod:`zipfile` decompresses no more than is asked for: 100 bytes of bzip2 may be 100 MB."""
_MOST_MEMBERS = 100_000
_LONGEST_READ_BYTES = 16 * 1024 * 1024
"""The list of the files of a zip archive is read at once, and so are long names in a tar archive."""
_INFLATED_BYTES, _INFLATED_RATIO = 1024 * 1024 * 1024, 200
"""An archive may be decompressed to so many bytes and so many times its size: 10 MB to 3 GB, which takes seconds."""
_LONGEST_NAME = 500
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
)
_UNPACK = "unpack it and import the folder"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes
    ----------
    name
        Its path in the archive, as valid text.
    open
        Opens it, for the caller to close before the next member.
    """

    name: str
    open: Callable[[], BinaryIO]


def is_archive(path: str) -> bool:
    """Whether a file is an archive by its name."""
    return path.lower().endswith(SUFFIXES)


def members(file: BinaryIO, path: str, size_bytes: int, on_problem: Callable[[str], None]) -> Iterator[Member]:
    """The files in an archive, in its order. Links, folders and devices in it are passed over.

    Parameters
    ----------
    file
        The archive, open at its start; seekable.
    path
        Its name says what it is.
    on_problem
        Called with the reason if some of its files cannot be read.

    Raises
    ------
    CannotUnderstand
        It is damaged or ends too early; what came before was yielded.
    BudgetExceeded
        It has too many files, or decompresses to too much.
    """
    limit = _Limit(_INFLATED_BYTES + _INFLATED_RATIO * size_bytes)
    made = _zip_members(file, limit, on_problem) if path.lower().endswith(".zip") else _tar_members(file, path, limit)
    with closing(made):
        while True:
            with _damage_told("archive"):
                member = next(made, None)
            if member is None:
                return
            yield Member(member.name, _refuse_nested) if is_archive(member.name) else member


def _refuse_nested() -> BinaryIO:
    raise CannotUnderstand("It is an archive in an archive, which is not read; unpack the outer one.")


@contextmanager
def _damage_told(what: str) -> Iterator[None]:
    """Translate what :mod:`zipfile`, :mod:`tarfile` and the decompressors raise because of damage.

    Raises
    ------
    CannotUnderstand
        In place of these.
    """
    try:
        yield
    except _DAMAGE as error:
        raise CannotUnderstand(f"The {what} is damaged: {error}.") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise CannotUnderstand(f"The {what} is damaged: {error}.") from None


class _Limit:
    """How many more bytes an archive may be decompressed to."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BudgetExceeded(
                f"The archive decompresses to more than {_INFLATED_RATIO} times its size; if that is right, {_UNPACK}."
            )


class _Limited(io.RawIOBase):
    """A file with limits: of a single read, and of the bytes that are read or passed over in all."""

    def __init__(self, file: BinaryIO, limit: _Limit | None) -> None:
        self._file = file
        self._limit = limit
        self.last = b""
        """What was read last."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._take(max(0, offset - self._file.tell()))
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        most = _LONGEST_READ_BYTES + 1
        data = self._file.read(most if size < 0 else min(size, most))
        if len(data) == most:
            raise BudgetExceeded(f"The archive has too many files, or names that are too long; {_UNPACK}.")
        self._take(len(data))
        self.last = data
        return data

    def _take(self, size: int) -> None:
        if self._limit:
            self._limit.take(size)


class _OpenMember(_Limited):
    """A member that is being read."""

    def read(self, size: int = -1) -> bytes:
        with _damage_told("file in the archive"):
            return super().read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


def _zip_members(file: BinaryIO, limit: _Limit, on_problem: Callable[[str], None]) -> Generator[Member, None, None]:
    with zipfile.ZipFile(cast("BinaryIO", _Limited(file, None))) as archive:
        found = [member for member in archive.infolist() if not member.is_dir()]
        _check_number(len(found))
        for reason in obstacles(found):
            on_problem(reason)
        for member in found:
            if not obstacle(member):
                yield Member(_text(member.filename), partial(_open_zip_member, archive, member, limit))


def obstacle(member: zipfile.ZipInfo) -> str:
    """Why a member of a zip archive cannot be read; empty if it can."""
    if member.flag_bits & ENCRYPTED:
        return "encrypted; unpack the archive with its password first"
    if member.compress_type not in _METHODS:
        return f"compression method {member.compress_type} is not supported; unpack the archive first"
    return ""


def obstacles(found: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Why members of a zip archive cannot be read, each reason once, with the number of members."""
    for reason, number in Counter(filter(None, map(obstacle, found))).items():
        yield f"{counted(number, 'file')} of the archive cannot be read: {reason}"


def open_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    """Open a member of a zip archive.

    Raises
    ------
    CannotUnderstand
        It cannot be read, for a reason that the archive's directory did not tell.
    """
    return _open_zip_member(archive, member, None)


def _open_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: _Limit | None) -> BinaryIO:
    try:
        opened = cast("BinaryIO", archive.open(member))
    except (*_DAMAGE, NotImplementedError, RuntimeError) as error:
        # not visible in the directory, or a version of ZIP that Python does not support
        raise CannotUnderstand(f"The member of the archive cannot be read: {error}.") from None
    return cast("BinaryIO", _OpenMember(opened, limit))


def _tar_members(file: BinaryIO, path: str, limit: _Limit) -> Generator[Member, None, None]:
    decompress = next((how for suffix, how in _DECOMPRESSORS.items() if path.lower().endswith(suffix)), None)
    source = _Limited(decompress(file), limit) if decompress else _Limited(file, None)
    number = 0
    with tarfile.open(fileobj=cast("BinaryIO", source), mode="r:") as archive:
        while (member := archive.next()) is not None:
            number += 1
            _check_number(number)
            if member.size < 0:
                raise CannotUnderstand("The archive is damaged: a file has a negative size.")
            if member.isreg():
                yield Member(_text(member.name), partial(_open_tar_member, archive, member))
            archive.members.clear()  # type: ignore[attr-defined]  # kept for look-ups, which nobody does
    if len(source.last) < tarfile.BLOCKSIZE or source.last.strip(b"\0"):  # tarfile ends there without an error
        raise CannotUnderstand("The archive is damaged or incomplete: the mark at its end is missing.")


def _open_tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    return cast("BinaryIO", _OpenMember(cast("BinaryIO", archive.extractfile(member)), None))


def _check_number(members: int) -> None:
    if members > _MOST_MEMBERS:
        raise BudgetExceeded(f"The archive has more than {counted(_MOST_MEMBERS, 'file')}; {_UNPACK}.")


def _text(name: str) -> str:
    """A name as valid UTF-8 text of limited length."""
    return os.fsencode(name[:_LONGEST_NAME]).decode("utf-8", "backslashreplace")


def _gunzip(file: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))


def _bunzip2(file: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", bz2.BZ2File(file))


_DECOMPRESSORS = {".tar.gz": _gunzip, ".tgz": _gunzip, ".tar.bz2": _bunzip2, ".tbz2": _bunzip2}
"""Not xz: its headers decide how much memory decompressing needs, up to 4 GiB."""
SUFFIXES = (".zip", ".tar", *_DECOMPRESSORS)
"""Of the names of archives."""
