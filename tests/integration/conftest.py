from __future__ import annotations

from tests.command_line import run
from tests.pki import pki
from tests.users import open_path
from tests.watched_folder import bridge, inbox, start

__all__ = ["bridge", "inbox", "open_path", "pki", "run", "start"]
