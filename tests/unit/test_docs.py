"""The generated documents are what the code would write now."""

from __future__ import annotations

import ast
import importlib.util
import re
from difflib import unified_diff
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).parents[2]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "docs" / "make_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE_DOCS = load_generator()


def test_the_generated_documents_are_current() -> None:
    stale = [
        line
        for path, text in MAKE_DOCS.documents().items()
        for line in unified_diff(path.read_text("utf-8").splitlines(), text.splitlines(), path.name, n=0, lineterm="")
    ]
    assert stale == [], "run `make docs`"


def test_every_command_is_documented() -> None:
    from dicom2fhir.cli import cli

    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert all(f"## dicom2fhir {name}\n" in text for name in cli.list_commands(click.Context(cli)))


def test_markers_must_be_there() -> None:
    with pytest.raises(ValueError, match="markers"):
        MAKE_DOCS.between("nothing", "mapping", "x")


def test_every_log_event_and_field_is_documented() -> None:
    texts, calls = MAKE_DOCS.event_texts(), MAKE_DOCS.log_calls()
    assert sorted(texts["event"]) == sorted(calls), "docs/events.toml has a table for each event of the code"
    assert list(texts["event"]) == sorted(texts["event"])
    unnamed = [name for name, (_, fields) in calls.items() if MAKE_DOCS.OTHER_FIELDS in fields]
    assert sorted(unnamed) == [name for name, row in texts["event"].items() if "fields" in row]
    fields = {field for _, fields in calls.values() for field in fields} - {MAKE_DOCS.OTHER_FIELDS}
    fields |= {field for row in texts["event"].values() for field in row.get("fields", ())}
    assert list(texts["field"]) == sorted(fields), "docs/events.toml says what each field holds"


def test_log_events_are_named_in_one_style() -> None:
    assert [name for name in MAKE_DOCS.log_calls() if not re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", name)] == []


def test_an_event_is_logged_by_name_where_it_happens() -> None:
    """Otherwise the documentation, which reads the code, would miss it."""
    for path, tree in MAKE_DOCS.modules().items():
        nodes = list(ast.walk(tree))
        known = [method for node in nodes if isinstance(node, ast.Call) for method in MAKE_DOCS.log_methods(node.func)]
        others = [ast.unparse(node) for node in nodes if MAKE_DOCS.is_log_method(node) and node not in known]
        assert others == [], path
