"""Standard output, for people."""

from __future__ import annotations

from rich.console import Console


class Page(Console):
    """Tables and styled text."""

    def on_broken_pipe(self) -> None:
        """Leave the exit status to the command line; rich would exit with status 1."""
        raise  # rich calls this while it handles the BrokenPipeError
