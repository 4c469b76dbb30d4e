"""Doing something as another user, which only root can."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65534
"""A user and a group that own nothing (Debian's ``nobody`` and ``nogroup``)."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everybody may enter; pytest closes its own to other users."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def as_user(uid: int, action: Callable[[], object]) -> str:
    """Run ``action`` in a process of that user; what it returned, or its traceback."""
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            said = str(action())
        except BaseException:
            said = traceback.format_exc()
        os.write(start, said.encode())
        os._exit(0)
    os.close(start)
    with os.fdopen(end) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said
