"""Plant faults one by one and see which test catches each: ``make planted``, outside continuous integration.

The faults of bar *n* are ``tests/data/planted/bar_NN.toml``; other lists name the ``files`` of the tests that guard
their part. Each fault is planted in a copy of the working tree, where these tests must then fail. They have to pass in
a copy without a fault first, or a failure would mean nothing.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom2fhir.cli.progress_bars import progress

ROOT = Path(__file__).parents[1]
LISTS = Path(__file__).parent / "data" / "planted"
BARS = "tests/acceptance"
_ENDS_WITHIN_S = 900
_TESTS_FAILED = 1
"""pytest's exit status; every other one but 0 says that the tests did not run as they should."""
_FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as a replacement in one file.

    Attributes
    ----------
    group
        The name of its list: ``bar 17``, ``web``.
    files
        Where the tests are that must catch it.
    name
        Short, unique, in words joined by hyphens.
    harm
        What it would do to a hospital.
    file
        From the root of the project.
    old, new
        ``old`` occurs exactly once in the file.
    tests
        A pytest expression (``-k``) for the tests that are enough; empty for all of them.
    """

    group: str
    files: tuple[str, ...]
    name: str
    harm: str
    file: str
    old: str
    new: str
    tests: str = ""

    def planted(self, root: Path = ROOT) -> str:
        """The text of the file with the fault in it.

        Raises
        ------
        ValueError
            The file has changed so that the fault does not fit any more, or it is no Python with it.
        """
        text = (root / self.file).read_text("utf-8")
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: the old text must occur once in {self.file}, not {count} times")
        changed = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            before, after = (ast.dump(ast.parse(one)) for one in (text, changed))
            if before == after:
                raise ValueError(f"{self.name}: nothing is changed in {self.file}")
        return changed


@dataclass(frozen=True, slots=True)
class Run:
    """What pytest made of a copy."""

    status: int
    """Its exit status; -1 where it did not end in time."""
    failed_test: str = ""
    message: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a fault."""

    group: str
    name: str
    harm: str
    caught: bool
    by: str
    """The first test that failed, or why that cannot be said."""
    message: str = ""


def all_faults(lists: Path = LISTS) -> list[Fault]:
    """Every fault, by list and in the order of its file."""
    found = []
    for path in sorted(lists.glob("*.toml")):
        listed = tomllib.loads(path.read_text("utf-8"))
        files = tuple(listed.get("files", ())) or _files_of_bar(path.stem)
        found += [Fault(group=_group_of(path.stem), files=files, **entry) for entry in listed["fault"]]
    return found


def _group_of(stem: str) -> str:
    number = stem.removeprefix("bar_")
    return f"bar {int(number)}" if number != stem else stem


def _files_of_bar(stem: str) -> tuple[str, ...]:
    return tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / BARS).glob(f"test_{stem}_*.py")))


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """A copy of the working tree, without what git ignores, that goes away at the end."""
    listed = subprocess.run(
        # in continuous integration the tree may belong to somebody else than who runs this
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder, "tree")
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if (root / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, copy / name)
        yield copy


def run_tests(copy: Path, paths: Sequence[str], *options: str) -> Run:
    """Run tests of a copy, by this interpreter and what is installed for it, until the first fails."""
    temporary = copy.with_name("temporary")
    temporary.mkdir()
    places = {"PYTHONPATH": str(copy), "TMPDIR": str(temporary)}
    # CI: a test that is left out catches nothing, and messages are not cut to the width of a terminal
    environment = {**os.environ, **places, "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    _require_own_sources(copy, environment)
    marked = ["-m", "bar"] if all(path.startswith(BARS) for path in paths) else []
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *marked, *options, *paths]
    with subprocess.Popen(
        command, cwd=copy, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    ) as pytest:  # fmt: skip
        try:
            output, _ = pytest.communicate(timeout=_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return Run(-1, output=f"no end after {_ENDS_WITHIN_S} s")
        finally:
            with suppress(ProcessLookupError):  # what a fault has left running
                os.killpg(pytest.pid, signal.SIGKILL)
    found = _FAILED_TEST.search(output)
    return Run(pytest.returncode, found[1] if found else "", (found[2] or "") if found else "", output)


def _require_own_sources(copy: Path, environment: dict[str, str]) -> None:
    """Processes that the tests start must import the copy and not what is installed."""
    where = "import dicom2fhir, tests.planted; print(dicom2fhir.__file__, tests.planted.__file__)"
    command = [sys.executable, "-c", where]
    imported = subprocess.run(command, cwd=copy.parent, env=environment, check=True, capture_output=True, text=True)
    assert imported.stdout.split() == [str(copy / "dicom2fhir/__init__.py"), str(copy / "tests/planted.py")]


def check_tests(group: str, files: Sequence[str], *options: str) -> str:
    """Why the tests of a list prove nothing about faults; empty where they pass in a copy without one."""
    if not files:
        return f"{group} has no tests"
    with copied() as copy:
        run = run_tests(copy, files, *options)
    return "" if run.status == 0 else f"{group} fails without a fault: {run.failed_test or run.output[-2000:]}"


def try_fault(fault: Fault, *options: str) -> Verdict:
    """Plant a fault in a copy and run its tests there."""
    chosen = ["-k", fault.tests] if fault.tests else []
    with copied() as copy:
        (copy / fault.file).write_text(fault.planted(copy), "utf-8")
        run = run_tests(copy, fault.files, *chosen, *options)
    caught = run.status == _TESTS_FAILED and bool(run.failed_test)
    if caught:
        by = run.failed_test.removeprefix(f"{BARS}/")
    else:
        by = "nothing" if run.status == 0 else f"pytest ended with {run.status}: {run.output[-2000:]}"
    return Verdict(fault.group, fault.name, fault.harm, caught, by, run.message)


def try_all(faults: Sequence[Fault], console: Console, *options: str) -> list[Verdict]:
    """Try every fault, and first the tests of each list."""
    lists = {fault.group: fault.files for fault in faults}
    verdicts = []
    with progress(console) as shown:
        task = shown.add_task("", total=len(lists) + len(faults))
        for group, files in lists.items():
            shown.update(task, description=f"{group} without a fault")
            trouble = check_tests(group, files, *options)
            shown.advance(task)
            for fault in (one for one in faults if one.group == group):
                shown.update(task, description=fault.name)
                untried = Verdict(fault.group, fault.name, fault.harm, False, trouble)
                verdicts.append(untried if trouble else try_fault(fault, *options))
                shown.advance(task)
                console.print(_line(verdicts[-1]), soft_wrap=True, markup=False)
    return verdicts


def _line(verdict: Verdict) -> str:
    said = f"{'caught' if verdict.caught else 'NOT CAUGHT'}: {verdict.group} {verdict.name}: {verdict.by}"
    return f"{said} - {verdict.message}" if verdict.message else said


def table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts for a person."""
    shown = Table("list", "planted fault", "caught by")
    for verdict in verdicts:
        shown.add_row(verdict.group, verdict.name, Text(verdict.by if verdict.caught else "NOT CAUGHT"))
    return shown


def main() -> None:
    """Try the faults that were asked for; exit status 1 where one is not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="this fault; can be repeated")
    parser.add_argument("--bar", action="append", type=int, metavar="N", help="the faults of this bar; can be repeated")
    parser.add_argument("--list", action="append", metavar="NAME", help="the faults of this list; can be repeated")
    parser.add_argument("--seed", default="1", help="the bars' seed; %(default)s where none is given")
    parser.add_argument("--json", action="store_true", help="the verdicts as JSON on standard output")
    wanted = parser.parse_args()
    groups = {*(f"bar {number}" for number in wanted.bar or ()), *(wanted.list or ())}
    faults = [
        fault
        for fault in all_faults()
        if (not wanted.only or fault.name in wanted.only) and (not groups or fault.group in groups)
    ]
    if not faults:
        parser.error("no such fault")
    verdicts = try_all(faults, Console(stderr=True), "--seed", wanted.seed)
    if wanted.json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        Console().print(table(verdicts))
    sys.exit(not all(verdict.caught for verdict in verdicts))


if __name__ == "__main__":
    main()
