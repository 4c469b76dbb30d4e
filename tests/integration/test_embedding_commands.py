"""``convert`` and ``backfill`` embed documents up to the limit of the receiver, and ``status`` counts the others."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from tests.command_line import Run
from tests.daemon_process import to_files

pytestmark = pytest.mark.usefixtures("logging_as_before")

STUDY = "embedded"
SMALL, LARGE = b"%PDF-1.4 small", b"%PDF-1.4 " + b"large " * 40
LIMIT = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two documents of a study."""
    made = tmp_path / "in"
    made.mkdir()
    for number, content in enumerate((SMALL, LARGE), start=1):
        document = instance("DOC", STUDY, 1, number, EncapsulatedDocument=content + b"\0" * (len(content) % 2))
        document.save_as(made / f"{number}.dcm", enforce_file_format=True)
    return made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f"[fhir]\nembed_documents = {LIMIT}\n{to_files(tmp_path / 'out')}")
    return path


@pytest.mark.parametrize(("limit", "embedded"), [(LIMIT, [SMALL]), (1000, [SMALL, LARGE]), (0, [])])
def test_convert_embeds_what_is_small_enough(
    run: Run, folder: Path, config: Path, limit: int, embedded: list[bytes]
) -> None:
    config.write_text(config.read_text().replace(f"embed_documents = {LIMIT}", f"embed_documents = {limit}"))
    (bundle,) = run("convert", "--config", config, folder).lines
    found = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "DocumentReference"]
    data = [b64decode(one["content"][0]["attachment"]["data"]) for one in found if "data" in json.dumps(one)]
    assert len(found) == 2
    assert sorted(data) == sorted(embedded)


def test_backfill_keeps_what_is_small_enough_and_status_counts_the_other(
    run: Run, folder: Path, config: Path, tmp_path: Path
) -> None:
    state = ("--config", config, "--state-dir", tmp_path / "state")
    assert run("backfill", *state, "--workers", "1", folder).status == 0
    study = make_uid(STUDY)
    assert run("status", study, "--json", *state).json["without_content"] == 1
    shown = " ".join(run("status", study, *state).stdout.decode().split())
    assert "1 document without its content: larger than fhir.embed_documents" in shown
    config.write_text(config.read_text().replace(f"embed_documents = {LIMIT}", "embed_documents = 1000"))
    assert run("backfill", *state, "--workers", "1", "--again", folder).status == 0
    assert run("status", study, "--json", *state).json["without_content"] == 0
    assert "without its content" not in run("status", study, *state).stdout.decode()
