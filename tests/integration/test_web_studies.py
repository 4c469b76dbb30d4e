"""Studies on the web page and in the API of a live daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.jobs import conversion
from dicom2fhir.ops.daemon_state import DiskState
from dicom2fhir.ops.masking import MASK
from dicom2fhir.store.study_search import MinuteCounts, StudyFilter
from dicom2fhir.web import one_study
from dicom2fhir.web.activity import activity, full_in_days
from tests.daemon_process import wait_until
from tests.web_client import TOKEN, WITHIN_S, Browser, serving, settings_in

Live = tuple[Daemon, Browser]
NAME, NUMBER, ACCESSION = "Canaryname^Given", "CANARYID", "CANARYACC"


def put(folder: Path, daemon: Daemon, *uids: str, **values: str) -> None:
    """Studies of one CT instance, in the store, delivered and in the index."""
    count = daemon.store.stats().delivered + len(uids)
    for uid in uids:
        made = instance("CT")
        made.StudyInstanceUID, made.PatientName, made.PatientID, made.AccessionNumber = uid, NAME, NUMBER, ACCESSION
        made.SeriesDescription = "of Canaryname"
        for keyword, value in values.items():
            setattr(made, keyword, value)
        made.save_as(folder / "inbox" / f"{uid}.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.stats().delivered == count, WITHIN_S, "they are delivered")
    wait_until(lambda: len(daemon.store.find_studies(StudyFilter())) == count, WITHIN_S, "they are in the index")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with serving(settings_in(tmp_path)) as (daemon, browser):
        put(tmp_path, daemon, "2.25.1")
        yield daemon, browser


def test_a_study_is_found_by_what_it_has(live: Live) -> None:
    _, browser = live
    for query in (
        "",
        "study_uid=2.25.1",
        f"accession_number={ACCESSION}",
        "modality=CT",
        "state=delivered",
        "destination=files&state=delivered",
        "study_date=20240101-20241231",
        "study_date=20240101-&modality=CT",
    ):
        (found,) = browser.get(f"/api/v1/studies?{query}").json["studies"]
        assert found["study_uid"] == "2.25.1"
        assert "/studies/2.25.1" in browser.get(f"/studies?{query}").text
    for query in ("study_uid=2.25.2", "study_date=-19991231", "modality=MR", "state=refused", "conflict=true"):
        assert browser.get(f"/api/v1/studies?{query}").json == {"studies": [], "next": ""}
        assert "No study matches" in browser.get(f"/studies?{query}").text or query == "conflict=true"


@pytest.mark.parametrize(
    "query", ["state=lost", "after=x", "after=1.5", "after=1.5,x", "limit=999", "study_date=2024-01-02"]
)
def test_a_wrong_parameter_is_named(live: Live, query: str) -> None:
    answer = live[1].get(f"/api/v1/studies?{query}")
    assert answer.status == 400
    assert answer.json["error"].startswith(query.partition("=")[0])


def test_pages_follow_each_other(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    put(tmp_path, daemon, "2.25.2", "2.25.3")
    for query in ("", "&study_date=20000101-"):
        found, following = list[str](), ""
        for _ in range(3):
            page = browser.get(f"/api/v1/studies?limit=1&after={following}{query}").json
            found += [study["study_uid"] for study in page["studies"]]
            following = page["next"]
        assert sorted(found) == ["2.25.1", "2.25.2", "2.25.3"]
        assert following == ""


def canaries(text: str) -> list[str]:
    return [word for word in ("Canaryname", NUMBER, ACCESSION) if word in text]


PATHS = ("/studies", "/studies/2.25.1", "/api/v1/studies", "/api/v1/studies/2.25.1", "/api/v1/studies/2.25.1/resources")


@pytest.mark.parametrize("path", PATHS)
def test_identifiers_are_hidden(live: Live, path: str) -> None:
    answer = live[1].get(path)
    assert answer.status == 200
    assert canaries(answer.text) == []
    assert "2.25.1" in answer.text


def test_identifiers_are_shown_where_that_is_set(tmp_path: Path) -> None:
    web = {"port": 0, "token": TOKEN, "show_identifiers": True}
    with serving(settings_in(tmp_path, web=web)) as (daemon, browser):
        put(tmp_path, daemon, "2.25.1")
        assert ACCESSION in browser.get("/studies").text
        assert canaries(browser.get("/studies/2.25.1").text) == ["Canaryname", NUMBER, ACCESSION]
        (found,) = browser.get("/api/v1/studies?patient_name=given").json["studies"]
        assert ACCESSION in found["accession_numbers"]
        assert browser.get("/api/v1/studies?patient_id=other").json["studies"] == []


def test_patients_cannot_be_guessed_where_they_are_hidden(live: Live) -> None:
    for query in (f"patient_id={NUMBER}", "patient_name=given"):
        assert live[1].get(f"/api/v1/studies?{query}").status == 403
        assert live[1].get(f"/studies?{query}").status == 403
    assert "patient_name" not in live[1].get("/studies").text


def test_the_page_shows_the_resources_as_the_destination_got_them(live: Live, tmp_path: Path) -> None:
    _, browser = live
    (preview,) = browser.get("/api/v1/studies/2.25.1/resources").json
    (file,) = (tmp_path / "out").glob("*.json")
    sent = json.loads(file.read_text())["entry"]
    assert (preview["destination"], preview["version"]) == ("files", "R4")
    assert [one["resourceType"] for one in preview["resources"]] == [
        entry["resource"]["resourceType"] for entry in sent
    ]
    study, (made,) = sent[0]["resource"], preview["resources"][:1]
    assert made["series"][0]["uid"] == study["series"][0]["uid"]
    assert made["id"] == study["id"]
    page = browser.get("/studies/2.25.1").text
    assert "&#34;resourceType&#34;: &#34;ImagingStudy&#34;" in page


def test_a_study_has_its_series_senders_and_attempts(live: Live) -> None:
    document = live[1].get("/api/v1/studies/2.25.1").json
    assert document["series_found"][0] | {"uid": ""} == {
        "uid": "",
        "modality": "CT",
        "description": "of ***",
        "instances": 1,
    }
    (attempt,) = document["attempts"]
    assert (attempt["destination"], attempt["outcome"], attempt["revision"]) == ("files", "written", 1)


def add_instance(folder: Path, daemon: Daemon, **values: str) -> None:
    """One more instance of the study 2.25.1, while its destination is paused."""
    daemon.store.pause("files")
    made = instance("CT")
    made.StudyInstanceUID, made.PatientName, made.PatientID, made.AccessionNumber = "2.25.1", NAME, NUMBER, ACCESSION
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.save_as(folder / "inbox" / "more.dcm", enforce_file_format=True)
    status = daemon.store.study_status
    wait_until(lambda: (found := status("2.25.1")) and found.revision == 2, WITHIN_S, "it has arrived")


def changes(browser: Browser) -> dict[str, tuple[Any, Any]]:
    (preview,) = browser.get("/api/v1/studies/2.25.1/resources").json
    return {one["path"]: (one["before"], one["now"]) for one in preview["changes"]}


def test_what_has_changed_since_the_last_delivery_is_shown(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    assert changes(browser) == {}
    page = browser.get("/studies/2.25.1").text
    assert "<p>Nothing.</p>" in page.partition("Changed since the last delivery")[2]
    add_instance(tmp_path, daemon, SeriesInstanceUID="2.25.1.9", StudyDescription="other")
    found = changes(browser)
    assert found["numberOfSeries"] == (1, 2)
    assert found["series[2.25.1.9]"][0] is None
    page = browser.get("/studies/2.25.1").text
    assert "ImagingStudy.numberOfSeries</th><td>1</td><td>2</td>" in page
    daemon.store.resume("files")
    wait_until(lambda: daemon.store.stats().delivered, WITHIN_S, "it is delivered")
    assert changes(browser) == {}


def test_a_hidden_value_that_has_changed_is_named_but_not_shown(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    sent = conversion.instance_of(conversion.named_file(str(tmp_path / "inbox" / "2.25.1.dcm")))
    corrected = {"SOPInstanceUID": sent.sop_uid, "SeriesInstanceUID": sent.series_uid, "PatientName": "Othername^Given"}
    add_instance(tmp_path, daemon, **corrected)
    assert changes(browser)["name"] == (MASK, MASK)
    page = browser.get("/studies/2.25.1").text
    assert "Patient.name</th><td>***</td><td>***</td>" in page
    for text in (page, browser.get("/api/v1/studies/2.25.1/resources").text):
        assert canaries(text) == []
        assert "Othername" not in text


def test_only_the_first_changes_are_listed(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, browser = live
    monkeypatch.setattr(one_study, "MOST_CHANGES", 1)
    add_instance(tmp_path, daemon, SeriesInstanceUID="2.25.1.9", StudyDescription="other")
    (preview,) = browser.get("/api/v1/studies/2.25.1/resources").json
    assert (len(preview["changes"]), preview["more_changes"] > 0) == (1, True)
    assert "more changes" in browser.get("/studies/2.25.1").text


@pytest.mark.parametrize(
    ("template", "shows", "expected"),
    [
        ("https://viewer.example/{study_uid}", False, 'href="https://viewer.example/2.25.1"'),
        ("https://viewer.example/?a={accession}", True, f'href="https://viewer.example/?a={ACCESSION}"'),
        ("https://viewer.example/?a={accession}", False, "The viewer is opened by accession number, which is hidden"),
    ],
)
def test_the_viewer_is_linked(tmp_path: Path, template: str, shows: bool, expected: str) -> None:
    web = {"port": 0, "token": TOKEN, "show_identifiers": shows}
    with serving(settings_in(tmp_path, web=web, pacs={"viewer_url": template})) as (daemon, browser):
        put(tmp_path, daemon, "2.25.1")
        page = browser.get("/studies/2.25.1").text
    assert expected in page
    assert shows or canaries(page) == []


def test_there_is_no_such_study(live: Live) -> None:
    _, browser = live
    for answer in (
        browser.get("/studies/2.25.9"),
        browser.get("/api/v1/studies/2.25.9"),
        browser.change("/api/v1/studies/2.25.9/retry"),
        browser.change("/api/v1/studies/2.25.9/forget"),
    ):
        assert answer.status == 404
        assert "There is no such study." in answer.text


def test_a_study_is_sent_again_and_forgotten_with_an_audit_line(live: Live) -> None:
    daemon, browser = live
    with capture_logs() as logs:
        assert browser.change("/api/v1/studies/2.25.1/retry", {"destination": "other"}).status == 404
        assert browser.change("/api/v1/studies/2.25.1/retry", {"destination": "files"}).json["due"] == 1
        wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered again")
        assert browser.change("/api/v1/studies/2.25.1/forget").json["forgotten"] is True
    assert daemon.store.study_status("2.25.1") is None
    assert [(one["change"], one["study"]) for one in logs if one["event"] == "web.changed"] == [
        ("retry", "2.25.1"),
        ("forget", "2.25.1"),
    ]


class Counts:
    def __init__(self, *minutes: MinuteCounts) -> None:
        self.minutes = minutes

    def counts(self, since: float) -> list[MinuteCounts]:
        return [one for one in self.minutes if one.at >= since]


def test_the_chart_has_a_bar_for_each_hour() -> None:
    now = 1_800_000_000.0
    store: Any = Counts(
        MinuteCounts(now - 90_000, 5, 5),
        MinuteCounts(now - 86_000, 40, 0),
        MinuteCounts(now - 7_000, 10, 1),
        MinuteCounts(now - 60, 20, 2),
        MinuteCounts(now + 30, 20, 0),
    )
    day = activity(store, now)
    assert (day.received_hour, day.received_day) == (40, 90)
    assert (day.delivered_hour, day.delivered_day) == (2, 3)
    assert [(bar.kind, bar.x, bar.height) for bar in day.bars] == [
        ("received", 1, 96),
        ("received", 441, 24),
        ("received", 461, 96),
        ("sent", 450, 48),
        ("sent", 470, 96),
    ]
    assert day.bars[1].title.startswith("10 instances in the hour from ")


@pytest.mark.parametrize(
    ("free", "instances", "received", "days"),
    [(1_100, 100, 20, 5), (100, 100, 20, 0), (50, 100, 20, 0), (1_100, 100, 0, None), (1_100, 0, 0, None)],
)
def test_when_the_disk_will_be_full(free: int, instances: int, received: int, days: float | None) -> None:
    """Ten bytes an instance; 100 must stay free."""
    disk = DiskState(free_bytes=free, min_free_bytes=100, intake_stopped=False)
    assert full_in_days(disk, 10 * instances, instances, received) == days


def test_the_overview_says_when_the_disk_will_be_full(live: Live) -> None:
    daemon, browser = live
    wait_until(lambda: daemon.store.counts(0), WITHIN_S, "it is counted")
    daemon.look()
    assert "years, if as much is received" in browser.get("/").text
