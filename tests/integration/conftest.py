from __future__ import annotations

from tests.command_line import run
from tests.users import open_path
from tests.watched_folder import bridge, inbox, start

__all__ = ["bridge", "inbox", "open_path", "run", "start"]
