"""Exit statuses of the command line."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_UNAVAILABLE = 69
EXIT_IO = 74
EXIT_CONFIG = 78
"""As in sysexits.h: EX_UNAVAILABLE, EX_IOERR, EX_CONFIG."""
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141
"""As shells report the end by SIGINT and SIGPIPE."""
