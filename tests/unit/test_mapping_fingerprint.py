"""The short text that says what a delivery was made with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir import config
from dicom2fhir.config import Settings
from dicom2fhir.errors import ConfigError
from dicom2fhir.fhir.mapper import DialectChoice
from dicom2fhir.fhir.mapping.engine import MAPPING_REVISION
from dicom2fhir.wiring import options, parts

PLACES = {"device": "referenced", "location": "referenced", "practitioner": "referenced"}


def settings(**fhir: Any) -> Settings:
    destinations = {
        "server": {"url": "http://127.0.0.1:1/fhir"},
        "files": {"type": "file", "directory": "/out"},
        "old": {"url": "http://127.0.0.1:1/fhir", "version": "DSTU2"},
    }
    return config.load(overrides={"fhir": fhir, "destinations": destinations}, environ={})


def fingerprint(made: Settings, profile: str = "none") -> str:
    return "R4 " + options.mapping_fingerprint(made, "link", options.load_profile(profile))


def test_it_names_version_and_profile() -> None:
    assert fingerprint(settings()).startswith("R4 base@")
    assert fingerprint(settings(), "osiris").startswith("R4 osiris@")
    assert fingerprint(settings()) == fingerprint(settings())


def test_what_shapes_the_output_changes_it(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    text = """
        title = "Own"
        doc = "Mine."
        [versions]
        R4 = "http://example.org/A"
        [resource.analysis]
        type = "Observation"
        value = {code = {text = "x"}, method = {text = {from = "KVP"}, when_known = true}}
    """
    own.write_text(text)
    first = fingerprint(settings(), str(own))
    own.write_text(text.replace("Mine", "Yours").replace("[versions]", 'unverified = "draft"\n[versions]', 1))
    assert fingerprint(settings(), str(own)) == first, "words are for people"
    own.write_text(text.replace("when_known = true", "when_known = false"))
    other = fingerprint(settings(), str(own))
    own.write_text(text.replace("/A", "/B"))
    found = [
        first,
        fingerprint(settings(), str(own)),
        other,
        fingerprint(settings()),
        fingerprint(settings(time_zone="Europe/Paris")),
        fingerprint(settings(max_instances=5)),
        fingerprint(settings(**PLACES)),
        "R4 " + options.mapping_fingerprint(settings(), "ensure"),
        "R5 " + options.mapping_fingerprint(settings(), "link"),
    ]
    assert len(set(found)) == len(found)


def test_what_does_not_shape_it_leaves_it() -> None:
    assert fingerprint(settings(validation="never")) == fingerprint(settings())


def test_another_revision_of_the_mapping_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(settings())
    monkeypatch.setattr(options, "MAPPING_REVISION", MAPPING_REVISION + 1)
    assert fingerprint(settings()) != before


def test_it_is_the_same_in_every_process() -> None:
    """A set of texts has another order in each."""
    program = f"from tests.unit import test_mapping_fingerprint as t; print(t.fingerprint(t.settings(**{PLACES})))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(2)
    }
    assert printed == {fingerprint(settings(**PLACES)).encode() + b"\n"}


def test_a_server_that_chooses_the_version_is_taken_to_speak_what_it_spoke() -> None:
    made = settings()
    assert parts.mapping_fingerprint_of(made, "server", "").startswith("auto base@")
    assert parts.mapping_fingerprint_of(made, "server", "R5 osiris@12345678").startswith("R5 base@")
    assert parts.mapping_fingerprint_of(made, "old", "R5 osiris@12345678").startswith("DSTU2 base@")
    assert parts.mapping_fingerprint_of(made, "files", "R5 osiris@12345678").startswith("R4 base@")


def test_a_server_of_another_version_is_told_all_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"supported versions: DSTU2 \(1.0.2\), 1.4.0 \(1.4.0\), STU3 \(3.0.2\)"):
        DialectChoice().dialect("2.9.9")
    assert DialectChoice().dialect("3.0.1").name == "STU3"
    assert DialectChoice("R4").dialect("2.9.9").name == "R4"
