"""The exit status of a command is its own, also while threads run on."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys, threading, time
from pydantic import BaseModel, field_validator
from dicom2fhir import __main__, cli, daemon

is_inside = threading.Event()

class Checked(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def check(cls, value):
        is_inside.set()
        for _ in range(3_000_000):
            pass
        return value

def run_on():
    while True:
        Checked.model_validate({"value": 1})

class Slow:
    def __del__(self):
        time.sleep(0.3)

def command():
    threading.Thread(target=run_on, daemon=True).start()
    is_inside.wait()
    sys.slow = Slow()  # the end of the interpreter takes some time
    print("done")
    return int(sys.argv[1])

cli._run = command
__main__.main()
"""


@pytest.mark.parametrize("status", [0, 3])
def test_a_thread_inside_a_compiled_module_does_not_abort_the_process(status: int) -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(status)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "done\n", "")
