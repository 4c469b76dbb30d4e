"""The commands of the how-to pages, as they stand there, with other ports. ``test_tutorial.py`` has the tutorial's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from tests.command_line import run_here
from tests.daemon_process import DaemonProcess, folder_to_files, to_files
from tests.doc_commands import DOCS, blocks, free_ports, run_script, until


def image(path: Path, study: str) -> None:
    instance("CT", study).save_as(path, enforce_file_format=True)


def with_ports(steps: list[str], **ports: str) -> list[str]:
    """The steps with other ports; a name is the port of the page after a ``p``."""
    for old, new in ports.items():
        steps = [step.replace(old.removeprefix("p"), new) for step in steps]
    return steps


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[DaemonProcess]:
    made = DaemonProcess(tmp_path / "daemon", (), to_files(tmp_path / "out"))
    made.start()
    yield made
    made.clean_up()


@pytest.mark.needs("Orthanc")
def test_orthanc_routes_what_is_stored(bridge: DaemonProcess, tmp_path: Path) -> None:
    image(tmp_path / "image.dcm", "orthanc")
    (web,) = free_ports(1)
    start, jobs = with_ports(blocks("pacs.md")[:2], p8042=web, p11112=str(bridge.address[1]))
    start = start.replace('"StableAge": 60', '"StableAge": 1')
    upload = f"curl --fail --silent http://127.0.0.1:{web}/instances --data-binary @image.dcm"
    ended = until("curl --silent 'http://127.0.0.1:" + web + "/jobs?expand' | grep -q Success")
    run_script(tmp_path, start, jobs, upload, ended)
    bridge.holds(1)
    assert set(bridge.studies()) == {make_uid("orthanc")}


@pytest.mark.needs("storescp", "dcmsend")
def test_dcmtk_routes_a_study_when_it_is_quiet(bridge: DaemonProcess, tmp_path: Path) -> None:
    image(tmp_path / "image.dcm", "dcmtk")
    (port,) = free_ports(1)
    (start,) = with_ports(blocks("pacs.md")[2:], p10104=port, p11112=str(bridge.address[1]))
    start = start.replace("--eostudy-timeout 10", "--eostudy-timeout 1")
    sent = until(f"dcmsend 127.0.0.1 {port} image.dcm 2>/dev/null")
    came = until(f"dicom2fhir status --state-dir {bridge.state_dir} {make_uid('dcmtk')} >/dev/null 2>&1")
    run_script(tmp_path, start, sent, came)
    assert set(bridge.studies()) == {make_uid("dcmtk")}


@pytest.mark.needs("openssl", "echoscu", "storescu", "Orthanc")
def test_tls_from_certificates_to_senders(tmp_path: Path) -> None:
    image(tmp_path / "image.dcm", "tls")
    dicom, http, page = free_ports(3)
    steps = with_ports(blocks("tls.md"), p11112=dicom, p8042=http, p8112=page)
    steps[1] = steps[1].replace('url = "https://fhir.example/fhir"', 'type = "file"\ndirectory = "out"')
    steps[1] = steps[1].replace("ca_file =", "# ca_file =").replace("sleep 1", "sleep 0.1")
    steps[0] = steps[0].replace("rsa:3072", "rsa:2048")  # keys that are made in a tenth of the time
    said = run_script(tmp_path, *steps, variables={"DICOM2FHIR_WEB__PORT": page})
    status = run_here("status", "--json", "--state-dir", tmp_path / "state").json
    assert [study["study_uid"] for study in status["studies"]] == [make_uid("tls")]
    assert "connection.failed" in said, "the sender without a certificate"


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_key_for_smart_backend_services_in_the_steps_of_the_page(tmp_path: Path, algorithm: str) -> None:
    text = (DOCS / "authentication.md").read_text("utf-8")
    section = text[text.index("## SMART Backend Services") : text.index("## Client credentials with a secret")]
    lines = [line.strip() for line in section.splitlines() if line.startswith(" " * 7)]
    (make_key,) = (line for line in lines if line.startswith("openssl genpkey "))
    configuration = "\n".join(lines[lines.index("[destinations.main]") :])
    if algorithm == "RS384":
        (options,) = re.findall(r"for RS384, use `([^`]+)`", section)
        make_key = re.sub(r"-algorithm EC -pkeyopt \S+", options, make_key)
        assert "RSA" in make_key
    (tmp_path / "config.toml").write_text(configuration.replace("/etc/dicom2fhir", str(tmp_path)))
    make_key = make_key.replace("/etc/dicom2fhir", str(tmp_path))
    said = run_script(
        tmp_path, make_key, "dicom2fhir check-config --config config.toml", "dicom2fhir jwks --config config.toml"
    )
    assert f'"alg": "{algorithm}"' in said
    assert '"d":' not in said, "the private half"


def test_an_archive_is_imported_with_the_commands_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    image(tmp_path / "archive" / "1.dcm", "backfill")
    dry_run, *steps = blocks("backfill.md")
    store = tmp_path / "state" / "store.db"
    nothing = f"test ! -e {store}"
    said = run_script(tmp_path, f"export DICOM2FHIR_STORE__DIRECTORY={store.parent}", dry_run, nothing, *steps)
    assert re.search(r"^Studies +1$", said, re.MULTILINE)


def test_a_backup_is_made_and_old_ones_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "archive").mkdir()
    image(tmp_path / "archive" / "1.dcm", "backup")
    (commands,) = blocks("backup.md")
    old, kept = tmp_path / "backup" / "store-2020-01-01.db", tmp_path / "backup" / "notes.txt"
    run_script(
        tmp_path,
        f"touch --date '15 days ago' {old} {kept}",
        f"export DICOM2FHIR_STORE__DIRECTORY={tmp_path / 'state'}",
        "dicom2fhir backfill archive >/dev/null",
        commands,
    )
    (made,) = (tmp_path / "backup").glob("store-*.db")
    assert made != old and kept.exists()
    assert run_here("store", "restore", made, "--state-dir", tmp_path / "restored").status == 0


@pytest.mark.needs("systemd-analyze")
def test_the_timer_of_the_backup_is_one_for_systemd(tmp_path: Path) -> None:
    service, timer = blocks("backup.md", "ini")
    (tmp_path / "dicom2fhir-backup.service").write_text(service)
    (tmp_path / "dicom2fhir-backup.timer").write_text(timer)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    done = subprocess.run(
        [*command, *tmp_path.glob("dicom2fhir-backup.*")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_store_moves_and_nothing_is_sent_again(tmp_path: Path) -> None:
    old = DaemonProcess(tmp_path / "old", (), folder_to_files(tmp_path))
    new = DaemonProcess(tmp_path / "new", (), to_files(tmp_path / "elsewhere"))
    image(tmp_path / "inbox" / "1.dcm", "moving")
    try:
        old.start()
        old.holds(1)
        assert old.settled().delivered == 1
        assert old.terminate() == 0
        backup, restore = blocks("moving.md")
        option = "export DICOM2FHIR_STORE__DIRECTORY={}"
        said = run_script(tmp_path, option.format(old.state_dir), backup, option.format(new.state_dir), restore)
        assert re.search(r"^Studies +1$", said, re.MULTILINE)
        new.start()
        assert new.settled().delivered == 1
        assert new.terminate() == 0
    finally:
        old.clean_up()
        new.clean_up()
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


def test_a_profile_of_ones_own_in_the_steps_of_the_page(tmp_path: Path) -> None:
    (profile, *_) = blocks("profile-format.md", "toml")
    (tmp_path / "region.toml").write_text(profile)
    image(tmp_path / "image.dcm", "profile")
    text = (DOCS / "profile-format.md").read_text("utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    typed = [words for words in re.findall(r"`(dicom2fhir [^`]+)`", section) if "region.toml" in words]
    assert len(typed) == 3
    (tmp_path / "data").mkdir()
    image(tmp_path / "data" / "1.dcm", "profile")
    said = run_script(tmp_path, *(words.replace("/data", "data") for words in typed))
    assert "region" in said
    (written,) = (tmp_path / "out").iterdir()
    assert "https://region.example/fhir/StructureDefinition/region-study" in written.read_text()
