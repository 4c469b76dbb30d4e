"""What the benches share: their options, what machine they ran on, and how results are shown."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent

_WIDTH = 120

Row = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio or limit that issue or design ask for, and what was measured."""

    name: str
    measured: float
    asked: str
    reached: bool


@dataclass(slots=True)
class Result:
    """What one bench found; every row has the same columns."""

    title: str
    rows: Sequence[Row]
    goals: Sequence[Goal] = ()
    remarks: list[str] = field(default_factory=list)


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every bench has."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, the figures mean little")
    return parser


def use_one_core() -> None:
    """Keep this process and its children on one core, where the system knows how."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine() -> dict[str, Any]:
    """Where and with what the figures come about."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("pydicom", "pynetdicom", "fhir.resources", "orjson")},
    }


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Any]:
    """Give a function that advances a progress bar, which is there on a terminal only."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps=1: bar.advance(task, steps)


def show(result: Result, as_json: bool) -> None:
    """Print a result for people, or for machines."""
    facts = machine()
    if as_json:
        found = {"machine": facts, **asdict(result)}
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    # a table that is cut off says nothing: what is no terminal is as wide as it takes
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    table = Table(title=result.title, title_justify="left")
    for name in result.rows[0] if result.rows else ():
        table.add_column(name, justify="left" if isinstance(result.rows[0][name], str) else "right")
    for row in result.rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,.4g}" for value in row.values()))
    console.print(table)
    for goal in result.goals:
        verdict = "reached" if goal.reached else "NOT reached"
        console.print(f"{goal.name}: {goal.measured:.4g}, asked {goal.asked}: {verdict}", highlight=False)
    for remark in (*result.remarks, ", ".join(f"{name} {value}" for name, value in facts.items())):
        console.print(remark, highlight=False, style="dim")
