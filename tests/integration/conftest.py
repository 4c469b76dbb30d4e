from __future__ import annotations

from tests.command_line import run
from tests.users import open_path

__all__ = ["open_path", "run"]
