"""Build what ``make test-all`` needs and has not yet: ``python -m tests.build_servers``.

What is built lies in ``~/.cache/dicom2fhir``. A server whose programs are missing is named and left out.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.left_out import SERVERS, find_program, in_ci, search_path, why_missing

_ARGUMENTS = {"hapi": ("prepare", "r4", "r5", "dstu2", "dstu3")}
"""Of what is not only built."""


def main() -> None:
    """Run the command."""
    os.environ["PATH"] = search_path()
    failed = False
    for server in (one for one in SERVERS if one.size):
        missing = [why_missing(program) for program in server.programs if find_program(program) is None]
        if missing:
            print(f"{server.name}: {'; '.join(missing)}", flush=True)
            failed = failed or in_ci()
            continue
        print(f"{server.name}: building it where that is not done yet", flush=True)
        done = subprocess.run([server.run, *_ARGUMENTS.get(server.key, ("build",))], check=False)
        failed = failed or done.returncode != 0
    sys.exit(failed and in_ci())


if __name__ == "__main__":
    main()
