"""Who may know whom. The sources are read, not imported; every import counts, also one inside a function.

A new room needs a line in ``RULES``. The line that fits best holds: ``fhir.send.http`` before ``fhir.send``.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dicom2fhir"
EVERYTHING = "*"
HEADERS = (
    "dicom.attributes dicom.completeness dicom.data_elements dicom.element_encoding dicom.instance_reader"
    " dicom.normalized dicom.part10 dicom.reader sop_classes"
)
"""What reads data sets. A receiver passes its reader on with each instance; only ingest has the reader decode it."""

DECLARED_DEFAULTS = (
    "deliver.retry dicom.data_elements fhir.mapping.options fhir.send.client_authentication fhir.send.deadlines"
    " fhir.version.formats fhir.version.names fhir.version.validate ops.log_names receive.dimse.options"
    " receive.folder.options store.options web.options"
)
"""Where rooms declare defaults and choices, for the configuration to take over."""

RULES = {
    # room                  rooms that it may import                        packages that it may import
    "":                     ("api",                                         ""),
    "model":                ("",                                            ""),
    "mapped_resources":     ("model",                                       ""),
    "sop_classes":          ("",                                            ""),
    "document_references":  ("model",                                       ""),
    "outcomes":             ("model",                                       ""),
    "errors":               ("",                                            ""),
    "system":               ("errors system",                               "structlog"),
    "system.terminal":      ("system.text",                                 "click"),
    "dicom":                ("model errors sop_classes document_references dicom", ""),
    "dicom.documents":      ("model document_references",                   ""),
    "dicom.character_sets": ("",                                            ""),
    "dicom.data_elements":  ("",                                            ""),
    "dicom.element_encoding": ("dicom.data_elements",                       ""),
    "dicom.completeness":   ("model dicom.data_elements dicom.element_encoding", ""),
    "dicom.substitutes":    ("model",                                       ""),
    "dicom.walk_state":     ("model dicom.data_elements dicom.element_encoding", ""),
    "dicom.element_walk":   ("model errors dicom.data_elements dicom.element_encoding dicom.substitutes"
                             " dicom.walk_state dicom.wrong_vr", ""),
    "dicom.walk":           ("errors dicom.element_walk dicom.walk_state",  ""),
    "dicom.wrong_vr":       ("model dicom.substitutes",                     ""),
    "dicom.header_cache":   ("model errors dicom.data_elements dicom.walk", ""),
    "ingest":               ("model errors sop_classes dicom store.base store.statuses", "structlog"),
    "receive.dimse":        (f"model errors system {HEADERS} receive.dimse", "pydicom pynetdicom structlog"),
    "receive.dimse.command_set": ("errors sop_classes",                   ""),
    "receive.dimse.options": ("dicom.data_elements sop_classes receive.dimse.tls", ""),
    "receive.folder":       (f"model errors system {HEADERS} receive.folder store.file_marks", "structlog"),
    "receive.folder.watch_events": ("",                                     "watchdog"),
    "store.base":           ("model outcomes errors dicom.patients store.file_marks store.notices store.statuses"
                             " store.study_search", ""),
    "store.statuses":       ("model dicom.patients store.notices",          ""),
    "store.study_search":   ("store.statuses",                              ""),
    "store.study_keys":     ("model store.statuses store.study_search",     ""),
    "store.file_marks":     ("",                                            ""),
    "store.options":        ("",                                            ""),
    "store.notices":        ("model errors",                                ""),
    "store.selection":      ("model",                                       ""),
    "store.sql":            ("model outcomes errors dicom.documents dicom.late_part dicom.patients dicom.procedure_step"
                             " dicom.rejection_notes dicom.study store.base store.file_marks store.notices"
                             " store.selection store.statuses store.study_keys store.study_search store.sql",
                             "orjson structlog"),
    "store.sqlite":         ("errors system store.base store.options store.statuses store.sql store.sqlite",
                             "orjson structlog"),
    "store.postgres":       ("errors dicom.rejection_notes store.base store.options store.statuses store.sql"
                             " store.postgres",                             "psycopg structlog"),
    "store.migration":      ("errors system.text store.sql.statements store.sqlite store.postgres store.migration",
                             "psycopg"),
    "deliver":              ("model outcomes errors system.text store.base store.statuses store.selection deliver",
                             "structlog"),
    "deliver.retry":        ("",                                            ""),
    "fhir.version":         ("model errors fhir.version",                   "orjson structlog"),
    "fhir.version.names":   ("",                                            ""),
    "fhir.version.validate": ("model mapped_resources errors fhir.version",                  "fhir pydantic"),
    "fhir.mapping":         ("model mapped_resources errors sop_classes document_references"
                             " fhir.version fhir.mapping", "structlog"),
    "fhir.profile":         ("model mapped_resources errors fhir.version fhir.mapping fhir.profile", "structlog"),
    "fhir.profile.template": ("fhir.version.names",                         "pydantic"),
    "fhir.profile.model":   ("model errors fhir.profile.template",           "pydantic"),
    "fhir.profile.load":    ("errors system.text fhir.profile.model fhir.profile.template fhir.profile.element_check",
                             "pydantic"),
    "fhir.mapper":          ("model mapped_resources errors fhir.version fhir.mapping fhir.profile", "structlog"),
    "fhir.send":            ("model mapped_resources outcomes errors fhir.version fhir.mapper"
                             " fhir.send", "orjson structlog"),
    "fhir.send.access_tokens": ("errors fhir.send.auth",                    "requests"),
    "fhir.send.auth":       ("errors",                                      "requests"),
    "fhir.send.client_authentication": ("",                                 ""),
    "fhir.send.client_key": ("errors",                                      "authlib joserfc"),
    "fhir.send.client":     ("model mapped_resources errors outcomes system.text fhir.version"
                             " fhir.send", "orjson requests structlog"),
    "fhir.send.directory":  ("model mapped_resources outcomes errors system.durable fhir.version"
                             " fhir.mapper fhir.send", ""),
    "fhir.send.http":       ("errors outcomes system.network fhir.send",    "requests structlog urllib3"),
    "fhir.send.tls_and_proxy": ("",                                         "requests"),
    "ops":                  ("errors system ops store.base store.statuses store.study_search", "orjson structlog"),
    "config":               (f"errors system.permissions system.text config {DECLARED_DEFAULTS}",
                             "pydantic pydantic_core"),
    "jobs":                 ("model mapped_resources errors system.text dicom receive.folder.files"
                             " store fhir.send.bundle jobs",
                             "orjson"),
    "jobs.backfill_readers": ("errors jobs.backfill_chunk jobs.backfill_worker", "distributed"),
    "jobs.objects":         ("errors receive.folder.files",                 "botocore"),
    "ops.tracing":          ("errors outcomes",                             "opentelemetry structlog"),
    "ops.metrics":          ("ops",                                         "prometheus_client"),
    "ops.masking":          ("model",                                       ""),
    "ops.settlement":       ("model dicom.patients system.text",            ""),
    "ops.changes":          ("model",                                       "orjson"),
    "ops.previews":         ("model",                                       ""),
    "web":                  ("errors system.memory_budget system.text ops store.base store.statuses store.study_search"
                             " web",
                             "orjson starlette structlog"),
    "web.one_study":        ("errors model dicom.patients ops store.statuses store.study_search web", ""),
    "web.studies":          ("errors model dicom.patients ops store.statuses store.study_search web", "starlette"),
    "web.all_of_a_kind":    ("errors model dicom.patients store.statuses store.study_search web", "starlette"),
    "web.facts":            ("model dicom.patients ops.status store.statuses store.study_search", ""),
    "web.templates":        ("ops system.text",                             "jinja2 markupsafe orjson starlette"),
    "web.options":          ("",                                            ""),
    "web.connection":       ("web",                                         "starlette uvicorn"),
    "web.server":           ("errors ops.metrics ops.previews system.memory_budget web", "structlog uvicorn"),
    # These put the rooms together; nobody else sees the configuration.
    "wiring":               (EVERYTHING,                                    EVERYTHING),
    "wiring.options":       ("model mapped_resources errors dicom fhir.version fhir.mapping"
                             " fhir.mapper fhir.profile config", ""),
    "wiring.store_options": ("errors config dicom.reader_fingerprint store", "psycopg"),
    "wiring.translation":   ("model mapped_resources errors config dicom.study fhir.mapper"
                             " fhir.mapping fhir.profile wiring", ""),
    "conformance":          ("model mapped_resources errors dicom.attributes dicom.character_sets"
                             " fhir.mapping fhir.version"
                             " receive.dimse sop_classes conformance",      "pydicom"),
    "api":                  ("model errors config fhir.send.bundle fhir.version.names jobs.conversion wiring.options"
                             " wiring.translation",                         "pydicom"),
    "daemon":               (EVERYTHING,                                    EVERYTHING),
    "demo":                 (EVERYTHING,                                    EVERYTHING),
    "demo.synthetic":       ("",                                            "pydicom"),
    "__main__":             ("cli",                                         ""),
    "cli":                  (EVERYTHING,                                    EVERYTHING),
    "cli.tables":           ("ops store.statuses system.text",              "rich"),
    "cli.mapping_tables":   ("model mapped_resources cli.tables fhir.mapping fhir.profile",  "rich"),
}  # fmt: skip

DISTRIBUTIONS = {
    "fhir": "fhir.resources",
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client",
    "pydantic_core": "pydantic",
}
"""Package -> the dependency that brings it, where the names differ."""

AT_IMPORT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
"""Statements that a module may have at its top level, besides texts and ``if TYPE_CHECKING``."""


def name_of(path: Path) -> str:
    """``dicom2fhir/fhir/send/client.py`` -> ``fhir.client``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def is_within(name: str, room: str) -> bool:
    """Whether a module is a room or lies in it."""
    return name == room or name.startswith(f"{room}.")


def rule_of(module: str) -> tuple[str, str]:
    fitting = [room for room in RULES if is_within(module, room)]
    if module in MODULES and not fitting and MODULES[module].name == "__init__.py":
        return "", ""
    assert fitting, f"{module} has no line in RULES; see the architecture for what it may import"
    return RULES[max(fitting, key=len)]


def imports_of(module: str) -> Iterator[str]:
    """Absolute names of everything that a module imports; of ``from a import b``, ``a.b`` where that is a module."""
    path = MODULES[module]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("dicom2fhir.") in MODULES else node.module


def may_import(module: str, name: str) -> bool:
    rooms, packages = (entry.split() for entry in rule_of(module))
    package, _, room = name.partition(".")
    if package == "dicom2fhir":
        return EVERYTHING in rooms or not room or any(is_within(room, allowed) for allowed in rooms)
    return package in sys.stdlib_module_names or EVERYTHING in packages or package in packages


def test_a_module_imports_only_what_it_may_know() -> None:
    wrong = [
        f"{module} must not import {name}"
        for module in MODULES
        for name in imports_of(module)
        if not may_import(module, name)
    ]
    assert wrong == []


def test_asyncio_is_used_by_the_web_page_alone() -> None:
    users = {module for module in MODULES for name in imports_of(module) if is_within(name, "asyncio")}
    assert users
    assert {module for module in users if not is_within(module, "web")} == set()


def runs_at_import(node: ast.stmt) -> bool:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_guarded = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
    return not (isinstance(node, AT_IMPORT) or is_text or is_guarded)


def test_nothing_happens_at_import() -> None:
    running = [
        f"{path}:{node.lineno}" for path in MODULES.values() for node in tree_of(path).body if runs_at_import(node)
    ]
    assert running == []


def test_every_package_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in declared}
    imported = {name.partition(".")[0] for module in MODULES for name in imports_of(module)}
    third_party = imported - set(sys.stdlib_module_names) - {"dicom2fhir"}
    assert {DISTRIBUTIONS.get(package, package) for package in third_party} <= names


def test_any_is_rare() -> None:
    """Three in a thousand lines: a value that is only looked at is an ``object``, or ``Json``, and mypy finds more."""
    names = [node for path in MODULES.values() for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)]
    lines = sum(len(path.read_text().splitlines()) for path in MODULES.values())
    assert sum(node.id == "Any" for node in names) <= 3 * lines / 1000


def test_no_two_classes_share_a_name() -> None:
    """So that a name says which is meant, in a message and in a search; those of a module's own begin with ``_``."""
    where: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(module)
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}
