from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.fhir.version.names import NUMBERS, canonical
from dicom2fhir.system.text import counted, printable

PACKAGE = Path(__file__).parents[2] / "dicom2fhir"


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "study", "1 study"),
        (0, "study", "0 studies"),
        (2, "delivery", "2 deliveries"),
        (2, "series", "2 series"),
        (1, "series", "1 series"),
        (2, "address", "2 addresses"),
        (2, "other key", "2 other keys"),
        (12345, "instance", "12,345 instances"),
    ],
)
def test_things_are_counted_in_words(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


@pytest.mark.parametrize("name", [b"caf\xe9\n\x1b[31m.dcm", b"\xe2\x80\xa8\xff"])
def test_a_name_that_is_no_utf_8_is_printed_alike_however_it_is_held(name: bytes) -> None:
    held = name.decode("utf-8", "surrogateescape")
    assert printable(held) == printable(name.decode("utf-8", "backslashreplace"))
    assert printable(held).isprintable()


def test_what_is_no_character_is_printed_too() -> None:
    assert printable("a\ud800b") == "a\\ud800b"


PLURALS = re.compile(r" (other |new )?(studies|instances|files|deliveries|errors|entries|problems)\b(?!/)")


def test_there_is_one_way_to_count_things() -> None:
    """A number that is put before a plural by hand says "1 studies" some day."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                for value, text in zip(node.values, node.values[1:], strict=False):
                    if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                        if ast.unparse(value.value) == "counts":  # a sum in words: "2 + 1 instances"
                            continue
                        assert not PLURALS.match(str(text.value)), f"{path}:{node.lineno}: use texts.counted"


def test_each_dialect_has_its_number() -> None:
    assert {name: dialect.fhir_version for name, dialect in DIALECTS.items()} == NUMBERS


@pytest.mark.parametrize(
    ("said", "meant"),
    [(name.lower(), name) for name in NUMBERS]
    + [(number.upper(), name) for name, number in NUMBERS.items()]
    + [("1.0", "DSTU2"), ("1.0.1", "DSTU2"), ("3.0.1", "STU3"), ("4.0", "R4"), (" r4 ", "R4"), ("4.3", "R4B")],
)
def test_a_version_is_known_by_its_names(said: str, meant: str) -> None:
    assert canonical(said) == meant


@pytest.mark.parametrize("said", ["", "R7", "4", "4.0.", "4.0.1.2", "4.0.1-x", "6.0.0", "6.0", "6.0.0-ballot2", "auto"])
def test_other_texts_stand_as_they_are(said: str) -> None:
    assert canonical(said) == said
