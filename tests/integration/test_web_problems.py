"""What a person must decide, on the web page and in the API of a live daemon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import StudyFilter
from dicom2fhir.web import all_of_a_kind
from tests.daemon_process import wait_until
from tests.web_client import WITHIN_S, Browser, serving, settings_in

Live = tuple[Daemon, Browser]
STUDY = "2.25.7"
RIGHT, WRONG = "CANARY-RIGHT", "CANARY-WRONG"
SETTLE = f"/api/v1/studies/{STUDY}/settle"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A daemon with a study of two patients, which is refused."""
    with serving(settings_in(tmp_path)) as (daemon, browser):
        put_conflict(tmp_path / "inbox")
        wait_until(lambda: daemon.store.stats().refused == 1, WITHIN_S, "the conflict is refused")
        wait_until(lambda: daemon.store.find_studies(StudyFilter(is_conflict=True)), WITHIN_S, "it is in the index")
        yield daemon, browser


def put_conflict(inbox: Path, study: str = STUDY, other: str = WRONG) -> None:
    made = instance("CT")
    for number, patient in enumerate((RIGHT, other, other)):
        made.StudyInstanceUID, made.PatientID, made.SOPInstanceUID = study, patient, f"{study}.{number}"
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        file = inbox / f"{study}-{number}.dcm"
        made.save_as(file, enforce_file_format=True)
        # in this order, so that the first patient is the right one
        file.touch()


def state(daemon: Daemon) -> State:
    status = daemon.store.study_status(STUDY)
    assert status
    return status.deliveries[0].state


def numbers(browser: Browser) -> dict[int, int]:
    """Number of a patient -> instances."""
    return {one["number"]: one["instances"] for one in browser.get(f"/api/v1/studies/{STUDY}/patients").json}


def test_both_sides_of_a_conflict_are_shown_without_identifiers(live: Live) -> None:
    _, browser = live
    assert sorted(numbers(browser).values()) == [1, 2]
    for path in ("/problems", f"/studies/{STUDY}", f"/api/v1/studies/{STUDY}/patients", "/"):
        text = browser.get(path).text
        assert RIGHT not in text
        assert WRONG not in text
    page = browser.get("/problems").text
    assert "Patient 1" in page
    assert "C*****-*****" in page


@pytest.mark.parametrize("choice", ["keep", "drop"])
def test_a_conflict_is_settled_and_the_decision_undone(live: Live, choice: str) -> None:
    daemon, browser = live
    alone, pair = sorted(numbers(browser), key=lambda number: numbers(browser)[number])
    form = {choice: str(alone if choice == "keep" else pair)}
    with capture_logs() as logs:
        answer = browser.change(SETTLE, form)
    verdicts = {one["number"]: one["verdict"] for one in answer.json["patients"]}
    assert verdicts == {alone: "right", pair: "wrong" if choice == "keep" else "dropped"}
    assert [(one["change"], one["study"]) for one in logs if one["event"] == "web.changed"] == [("settle", STUDY)]
    assert RIGHT not in str(logs)
    wait_until(lambda: state(daemon) == State.DELIVERED, WITHIN_S, "it is delivered")
    assert browser.change(SETTLE, {"undo": "true"}).status == 200
    wait_until(lambda: state(daemon) == State.REFUSED, WITHIN_S, "it is a conflict again")


CHOICES: tuple[dict[str, str], ...] = (
    {},
    {"keep": "3"},
    {"keep": "x"},
    {"drop": "1,2"},
    {"drop": "x"},
    {"keep": "1", "drop": "1"},
)


@pytest.mark.parametrize("form", CHOICES)
def test_a_choice_that_decides_nothing_is_refused(live: Live, form: dict[str, str]) -> None:
    daemon, browser = live
    answer = browser.change(SETTLE, form)
    assert answer.status == 400
    assert answer.json["error"].endswith(".")
    assert not any(one.verdict for one in daemon.store.patients(STUDY))


def test_one_patient_is_nothing_to_settle(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    made = instance("CT")
    made.StudyInstanceUID = "2.25.8"
    made.save_as(tmp_path / "inbox" / "other.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.study_status("2.25.8"), WITHIN_S, "it is there")
    answer = browser.change("/api/v1/studies/2.25.8/settle", {"keep": "1"})
    assert (answer.status, "no conflict" in answer.json["error"]) == (409, True)


def refuse(daemon: Daemon, study: str) -> None:
    """Refuse a study in the place of a destination that is down: its own worker asks it only now and then."""
    # the worker may be quicker; then it fails once more
    claims = wait_until(
        lambda: daemon.store.requeue(study) and daemon.store.claim("dead", "test", 60), WITHIN_S, "a claim"
    )
    (claim,) = claims
    assert claim.study_uid == study
    daemon.store.refuse(claim, claim.revision, f"Patient {RIGHT} is <b>unknown</b>")


@contextmanager
def refused_study(folder: Path) -> Iterator[Live]:
    """A daemon with a study that a server refused, which is down now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = settings_in(folder, destinations={"dead": {"url": f"http://127.0.0.1:{port}/fhir"}})
    with serving(settings) as (daemon, browser):
        made = instance("CT")
        made.StudyInstanceUID, made.PatientID = STUDY, RIGHT
        made.save_as(folder / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.state().destinations[0].state == "down", WITHIN_S, "it is down")
        refuse(daemon, STUDY)
        wait_until(lambda: daemon.store.find_studies(StudyFilter(state=State.REFUSED)), WITHIN_S, "it is found")
        yield daemon, browser


def test_conflicts_between_the_same_patients_are_settled_together(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    put_conflict(tmp_path / "inbox", "2.25.71")
    put_conflict(tmp_path / "inbox", "2.25.72", other="CANARY-THIRD")
    wait_until(lambda: len(daemon.store.find_studies(StudyFilter(is_conflict=True))) == 3, WITHIN_S, "all are found")
    page = browser.get("/problems", cookie=browser.log_in()).text
    assert f'id="keep-alike-{STUDY}-1"' in page
    assert "in every study with these patients (2 here)" in page
    assert "keep-alike-2.25.72" not in page
    (right,) = (number for number, count in numbers(browser).items() if count == 1)
    with capture_logs() as logs:
        answer = browser.change(f"/api/v1/studies/{STUDY}/settle-alike", {"keep": str(right)})
    assert answer.json == {"study_uid": STUDY, "settled": 2, "more": False}
    assert [one["study"] for one in logs if one["event"] == "web.changed"] == [STUDY, "2.25.71"]
    verdicts = {
        uid: {one.instances: one.verdict for one in daemon.store.patients(uid)} for uid in (STUDY, "2.25.71", "2.25.72")
    }
    again = browser.change(f"/api/v1/studies/{STUDY}/settle-alike", {"keep": str(right)})
    assert again.json["settled"] == 1, "the index may still list the other one"
    settled = {1: "right", 2: "wrong"}
    assert verdicts == {STUDY: settled, "2.25.71": settled, "2.25.72": {1: None, 2: None}}


def test_one_request_settles_so_many(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, browser = live
    put_conflict(tmp_path / "inbox", "2.25.71")
    wait_until(lambda: len(daemon.store.find_studies(StudyFilter(is_conflict=True))) == 2, WITHIN_S, "both are found")
    monkeypatch.setattr(all_of_a_kind, "AT_ONCE", 1)
    answer = browser.change(f"/api/v1/studies/{STUDY}/settle-alike", {"keep": "1"})
    assert (answer.json["settled"], answer.json["more"]) == (1, True)


def test_what_a_destination_refused_is_forgotten_without_conflicts(tmp_path: Path) -> None:
    with refused_study(tmp_path) as (daemon, browser):
        put_conflict(tmp_path / "inbox", "2.25.72")
        wait_until(lambda: daemon.store.stats().instances == 4, WITHIN_S, "all of it has come")
        refuse(daemon, "2.25.72")
        wait_until(lambda: daemon.store.find_studies(StudyFilter(is_conflict=True)), WITHIN_S, "it is in the index")
        assert "Forget 1 study that dead refused" in browser.get("/problems", cookie=browser.log_in()).text
        assert browser.change("/api/v1/destinations/other/forget-refused").status == 404
        with capture_logs() as logs:
            answer = browser.change("/api/v1/destinations/dead/forget-refused")
        assert answer.json == {"destination": "dead", "forgotten": 1, "busy": 0, "more": False}
        assert daemon.store.study_status(STUDY) is None
        assert daemon.store.study_status("2.25.72")
        changes = [(one["change"], one.get("study")) for one in logs if one["event"] == "web.changed"]
        assert changes == [("forget", STUDY)]


@pytest.mark.parametrize("until", ["", "now", "-1", "1e9", "nan", "1" * 11])
def test_rejections_are_forgotten_up_to_a_time_only(live: Live, until: str) -> None:
    _, browser = live
    assert browser.change("/api/v1/rejections/forget", {"until": until}).status == 400


def test_one_request_forgets_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused_study(tmp_path) as (_, browser):
        monkeypatch.setattr(all_of_a_kind, "AT_ONCE", 0)
        answer = browser.change("/api/v1/destinations/dead/forget-refused")
        assert (answer.json["forgotten"], answer.json["more"]) == (0, True)


def test_what_a_server_refused_is_listed_with_its_words_masked(tmp_path: Path) -> None:
    with refused_study(tmp_path) as (_, browser):
        page = browser.get("/problems").text
        assert "Patient *** is &lt;b&gt;unknown&lt;/b&gt;" in page
        assert RIGHT not in page + browser.get("/").text + browser.get(f"/studies/{STUDY}").text


def test_damage_of_the_store_is_acknowledged(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "store.db").write_bytes(b"damaged" * 1000)
    with serving(settings) as (daemon, browser):
        assert len(daemon.store.damages) == 1
        assert "docs/store-damaged.md" in browser.get("/problems").text
        assert browser.change("/api/v1/damages/acknowledge").json == {"acknowledged": 1}
        assert not daemon.store.damages
