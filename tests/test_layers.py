"""Who may know whom. The sources are read, not imported; every import counts, also one inside a function.

A new room needs a line in ``RULES``. The line that fits best holds: ``fhir.http`` before ``fhir``.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dicom2fhir"
EVERYTHING = "*"
HEADERS = (
    "dicom.attributes dicom.completeness dicom.encoding dicom.header dicom.instance_reader dicom.part10 dicom.reader"
)
"""What reads data sets. A receiver passes its reader on with each instance; only ingest has the reader decode it."""

RULES = {
    # room            rooms that it may import                       packages that it may import
    "":               ("",                                           ""),
    "model":          ("",                                           ""),
    "texts":          ("",                                           ""),
    "versions":       ("",                                           ""),
    "network":        ("",                                           ""),
    "durable":        ("",                                           ""),
    "errors":         ("",                                           ""),
    "dicom":          ("model errors dicom",                         ""),
    "dicom.character_sets": ("",                                     ""),
    "dicom.header":   ("model errors",                               ""),
    "dicom.encoding": ("dicom.header",                               ""),
    "dicom.completeness": ("model dicom.header dicom.encoding",            ""),
    "dicom.walk":     ("model errors dicom.header dicom.encoding dicom.wrong_vr", ""),
    "dicom.wrong_vr": ("",                                           ""),
    "dicom.runs":     ("model errors dicom.header dicom.walk",       ""),
    "dicom.reader":   ("model errors dicom.header dicom.completeness dicom.encoding dicom.walk dicom.runs", ""),
    "dicom.part10":   ("model errors dicom.header dicom.completeness dicom.encoding dicom.reader dicom.runs", ""),
    "receive":        (f"model errors {HEADERS} durable mounts receive",   "pydicom pynetdicom structlog"),
    "receive.dimse":  ("errors",                                     ""),
    "receive.folder": (f"model errors texts {HEADERS} receive store.base", "structlog"),  # the ledger as a type
    "receive.echo":   ("errors network receive",                      ""),
    "receive.intake": (f"model errors {HEADERS} receive store.base", "structlog"),
    "receive.notices": ("",                                          "watchdog"),
    "patients":       ("model",                                      ""),
    "aggregate":      ("model dicom.attributes patients",                     ""),
    "ingest":         ("model errors dicom store.base",              "structlog"),
    "store":          ("access model errors aggregate durable mounts patients selection store", "orjson structlog"),
    "store.base":     ("model errors patients",                               ""),
    "fhir":           ("model errors fhir",                          "orjson structlog"),
    "fhir.auth":      ("model errors fhir",                          "requests"),
    "fhir.client":    ("model errors texts fhir",                          "orjson requests structlog"),
    "fhir.http":      ("model errors network fhir",                  "requests structlog urllib3"),
    "fhir.files":     ("model errors durable fhir",                  ""),
    "fhir.trust":     ("",                                           "requests"),
    "fhir.validate":  ("model errors fhir",                          "fhir pydantic"),
    "selection":      ("model",                                      ""),
    "deliver":        ("model errors texts store.base fhir retry selection",         "structlog"),
    "access":         ("texts",                                      ""),
    "mounts":         ("",                                           ""),
    "retry":          ("",                                           ""),
    "ops":            ("model errors ops texts store.base",          "structlog"),
    "ops.state":      ("access",                                     "orjson structlog"),
    "ops.unit":       ("access",                                     ""),
    "fhir.profile":   ("model errors versions",                               "pydantic"),
    "fhir.profile_files": ("errors texts fhir.profile fhir.profile_elements", "pydantic"),
    "config":         ("access errors texts versions config",                        "pydantic pydantic_core"),
    "convert":        ("model errors texts dicom aggregate fhir receive.files", "orjson"),
    "chunks":         ("model errors dicom receive.files",           ""),
    "backfill":       ("model errors texts chunks dicom receive.files store", ""),
    "status":         ("ops.state store.base texts",                 ""),
    "report":         ("model ops.state status store.base fhir texts", "rich"),
    "synthetic":      ("",                                           "pydicom"),
    # These put the rooms together; nobody imports them, and nobody else sees the configuration.
    "translation":    ("model errors dicom fhir config",                   "structlog"),
    "assembly":       (EVERYTHING,                                   EVERYTHING),
    "reload":         ("dicom fhir receive config assembly translation", ""),
    "daemon":         (EVERYTHING,                                   EVERYTHING),
    "__main__":       ("cli",                                        ""),
    "cli":            (EVERYTHING,                                   EVERYTHING),
    "demo":           (EVERYTHING,                                   EVERYTHING),
}  # fmt: skip

DISTRIBUTIONS = {"fhir": "fhir.resources", "pydantic_core": "pydantic"}
"""Package -> the dependency that brings it, where the names differ."""

AT_IMPORT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
"""Statements that a module may have at its top level, besides texts and ``if TYPE_CHECKING``."""


def name_of(path: Path) -> str:
    """``dicom2fhir/fhir/send/client.py`` -> ``fhir.client``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_within(name: str, room: str) -> bool:
    """Whether a module is a room or lies in it."""
    return name == room or name.startswith(f"{room}.")


def rule_of(module: str) -> tuple[str, str]:
    fitting = [room for room in RULES if is_within(module, room)]
    if module in MODULES and not fitting and MODULES[module].name == "__init__.py":
        return RULES[""]
    assert fitting, f"{module} has no line in RULES; see the architecture for what it may import"
    return RULES[max(fitting, key=len)]


def imports_of(module: str) -> Iterator[str]:
    """Absolute names of everything that a module imports; of ``from a import b``, ``a.b`` where that is a module."""
    path = MODULES[module]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("dicom2fhir.") in MODULES else node.module


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_it_may_know(module: str) -> None:
    rooms, packages = (entry.split() for entry in rule_of(module))
    for name in imports_of(module):
        package, _, room = name.partition(".")
        if package == "dicom2fhir":
            may = EVERYTHING in rooms or not room or any(is_within(room, allowed) for allowed in rooms)
        else:
            may = package in sys.stdlib_module_names or EVERYTHING in packages or package in packages
        assert may, f"{module} must not import {name}"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_happens_at_import(module: str) -> None:
    path = MODULES[module]
    for node in ast.parse(path.read_text()).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_guarded = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        assert isinstance(node, AT_IMPORT) or is_text or is_guarded, f"{path}:{node.lineno} runs at import"


def test_every_package_imported_is_a_declared_dependency() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in declared}
    imported = {name.partition(".")[0] for module in MODULES for name in imports_of(module)}
    third_party = imported - set(sys.stdlib_module_names) - {"dicom2fhir"}
    assert {DISTRIBUTIONS.get(package, package) for package in third_party} <= names
