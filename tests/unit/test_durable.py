"""A file is replaced as a whole or not at all. That it is durable is bar 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom2fhir.system.durable import replacing


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    (tmp_path / "a.new").write_bytes(b"what a crash left, which is longer")
    with replacing(target, "a.new") as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_others_may_not_read_it_unless_the_caller_says_so(tmp_path: Path) -> None:
    for mode in (0o600, 0o640):
        with replacing(tmp_path / f"{mode:o}", "new", mode):
            pass
        assert (tmp_path / f"{mode:o}").stat().st_mode & 0o777 == mode


def test_after_a_failure_the_old_content_stands_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="no space"), replacing(target, "a.new") as file:
        file.write(b"half")
        raise OSError("no space")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_symbolic_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / "a.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), replacing(tmp_path / "a", "a.new"):
        pass
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"
