"""Archives: what is read of them, and what hostile ones may cost."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import BridgeError, BudgetExceeded, CannotUnderstand
from dicom2fhir.jobs import archives
from dicom2fhir.jobs.archives import SUFFIXES, is_archive, members

FILES = {"a.dcm": b"first " * 5000, "deep/../../b.dcm": b"", "c": b"third"}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    ".zip": zipped,
    ".tar": tarred,
    ".tar.gz": lambda files: gzip.compress(tarred(files)),
    ".tgz": lambda files: gzip.compress(tarred(files)),
    ".tar.bz2": lambda files: bz2.compress(tarred(files)),
    ".tbz2": lambda files: bz2.compress(tarred(files)),
}


def contents(archive: bytes, path: str, problems: list[str] | None = None) -> dict[str, bytes]:
    found = {}
    tell = (problems if problems is not None else []).append
    for member in members(io.BytesIO(archive), path, len(archive), tell):
        with member.open() as file:
            found[member.name] = b"".join(iter(lambda: file.read(1000), b""))
    return found


def test_every_kind_of_archive_is_tried() -> None:
    assert MAKERS.keys() == set(SUFFIXES)


@pytest.mark.parametrize("suffix", MAKERS)
def test_the_files_are_read_in_their_order(suffix: str) -> None:
    assert is_archive(f"/x/EXPORT{suffix.upper()}")
    found = contents(MAKERS[suffix](FILES), f"EXPORT{suffix.upper()}")
    assert list(found.items()) == list(FILES.items())


def test_files_that_are_not_compressed() -> None:
    assert contents(zipped(FILES, zipfile.ZIP_STORED), "x.zip") == FILES


def test_what_is_not_an_archive() -> None:
    assert not any(map(is_archive, ["x.dcm", "zip", "x.tar.xz", "x.gz", "x.7z", "x.zip.dcm", "/a.zip/x"]))


def test_links_folders_and_devices_are_passed_over() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(kind.decode())
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert contents(made.getvalue(), "x.tar") == {}


@pytest.mark.parametrize("suffix", MAKERS)
def test_an_archive_that_ends_too_early_is_never_taken_for_whole(suffix: str) -> None:
    files = {str(number): bytes([number] * 700) for number in range(3)}
    whole = MAKERS[suffix](files)
    told = 0
    for end in range(0, len(whole), 1 if len(whole) < 1000 else 97):
        try:  # of a tar archive, zeros at the end may be missing
            assert contents(whole[:end], f"x{suffix}") == files
        except CannotUnderstand:
            told += 1
    assert told > 30


def test_a_damaged_header_within_a_tar_archive_is_told() -> None:
    archive = bytearray(tarred(FILES))
    archive[archive.index(b"c\0\0\0") + 150] ^= 0xFF  # its checksum
    with pytest.raises(CannotUnderstand, match="damaged or incomplete"):
        contents(bytes(archive), "x.tar")


def test_an_archive_in_an_archive_is_refused_alone() -> None:
    archive = zipped({"inner.zip": zipped(FILES), "x": b"1"})
    by_name = {member.name: member for member in members(io.BytesIO(archive), "x.zip", len(archive), pytest.fail)}
    with pytest.raises(CannotUnderstand, match="unpack the outer one"):
        by_name["inner.zip"].open()


# Hostile archives


@pytest.mark.parametrize("suffix", MAKERS)
def test_too_many_files(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 3)
    contents(MAKERS[suffix](FILES), f"x{suffix}")
    with pytest.raises(BudgetExceeded, match="more than 3 files; unpack it"):
        contents(MAKERS[suffix](FILES | {"one": b"", "more": b""}), f"x{suffix}")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2"])
def test_too_much_to_decompress(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_INFLATED_BYTES", 100_000)
    with pytest.raises(BudgetExceeded, match="200 times its size"):
        contents(MAKERS[suffix]({"zeros": bytes(10_000_000)}), f"x{suffix}")


def test_a_member_that_is_passed_over_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_INFLATED_BYTES", 100_000)
    archive = gzip.compress(tarred({"zeros": bytes(10_000_000), "x": b"1"}))
    with pytest.raises(BudgetExceeded, match="200 times its size"):
        list(members(io.BytesIO(archive), "x.tgz", len(archive), pytest.fail))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_name_of_gigabytes_is_not_read(kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 200_000_000
    archive = gzip.compress(header.tobuf() + bytes(header.size), compresslevel=1)
    assert peak_of(lambda: refused(archive, "x.tgz")) < 60_000_000


def test_a_list_of_millions_of_files_is_not_read(tmp_path: Path) -> None:
    archive = zipped({"x": b""})
    end = archive.rindex(b"PK\x05\x06")
    size = 100_000_000
    fake = bytearray(archive[:end] + bytes(size) + archive[end:])
    fake[-10:-6] = size.to_bytes(4, "little")  # the size of the central directory
    (tmp_path / "x.zip").write_bytes(fake)
    with (tmp_path / "x.zip").open("rb") as file, pytest.raises(BudgetExceeded, match="too many files"):
        list(members(file, "x.zip", len(fake), pytest.fail))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_inflate_without_limit_are_refused(method: int) -> None:
    problems: list[str] = []
    assert contents(zipped(FILES, method), "x.zip", problems) == {}
    assert problems == [
        f"3 files of the archive cannot be read: compression method {method} is not supported; unpack the archive first"
    ]


def test_a_negative_size_does_not_go_round_for_ever() -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-1024).to_bytes(2, "big", signed=True)
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    with pytest.raises(CannotUnderstand):
        contents(tarred({"a": b"1"})[:1024] + bytes(header) + bytes(1024), "x.tar")


def test_names_that_follow_each_other_without_end() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 512
    with pytest.raises(CannotUnderstand, match="damaged"):
        contents((header.tobuf() + bytes(512)) * 5000, "x.tar")


def test_long_names_are_cut() -> None:
    assert {len(name) for name in contents(tarred({"x" * 5000: b""}), "x.tar")} == {500}


@given(st.sampled_from(sorted(MAKERS)), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8))
def test_damage_is_told_in_words(suffix: str, changes: list[tuple[int, int]]) -> None:
    archive = bytearray(MAKERS[suffix](FILES))
    for at, value in changes:
        archive[at % len(archive)] = value
    try:
        contents(bytes(archive), f"x{suffix}")
    except BridgeError as error:
        assert error.kind in ("cannot-understand", "budget-exceeded")


def refused(archive: bytes, path: str) -> None:
    with pytest.raises(BudgetExceeded, match="too long"):
        contents(archive, path)


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
