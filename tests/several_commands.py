"""``python -m tests.several_commands RESULT COMMAND... + COMMAND...``: the bridge several times in one process.

The exit statuses are written to the file RESULT.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from dicom2fhir import cli

NEXT = "+"


def statuses(arguments: list[str]) -> Iterator[int]:
    """Run each command, its exit status."""
    for is_next, command in groupby(arguments, key=lambda argument: argument == NEXT):
        if is_next:
            continue
        sys.argv[1:] = command
        try:
            cli.main()
        except SystemExit as ended:
            yield int(ended.code or 0)


if __name__ == "__main__":
    result, *arguments = sys.argv[1:]
    Path(result).write_text(json.dumps(list(statuses(arguments))))
