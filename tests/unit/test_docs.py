"""The generated documents are what the code would write now."""

from __future__ import annotations

import importlib.util
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


@pytest.mark.parametrize("path", MAKE_DOCS.documents(), ids=lambda path: path.name)
def test_a_generated_document_is_current(path: Path) -> None:
    assert path.read_text("utf-8") == MAKE_DOCS.documents()[path], "run `make docs`"


def test_every_command_is_documented() -> None:
    from dicom2fhir.cli import cli

    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert all(f"## dicom2fhir {name}\n" in text for name in cli.list_commands(click.Context(cli)))


def test_markers_must_be_there() -> None:
    with pytest.raises(ValueError, match="markers"):
        MAKE_DOCS.between("nothing", "mapping", "x")
