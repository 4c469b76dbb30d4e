"""The web page of a live daemon that delivers to a real FHIR server, in Chromium; pictures for the documentation.

``--screenshots FOLDER`` keeps the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from pydicom import Dataset

from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import StudyFilter
from tests.daemon_process import wait_until
from tests.notice_sender import association
from tests.servers.browser.chromium import PICTURE, Chromium
from tests.servers.outage_proxy import OutageProxy
from tests.web_client import TOKEN, WITHIN_S, Browser, serving, settings_in

Live = tuple[Daemon, Browser]
PNG = b"\x89PNG"
MOST_BYTES = 200_000
"""Of a picture: they are part of the repository."""


@pytest.fixture
def live(hapi_r4: str, tmp_path: Path) -> Iterator[Live]:
    """A daemon that delivers to HAPI."""
    with serving(settings_in(tmp_path, destinations={"main": {"url": hapi_r4}})) as made:
        yield made


def new_study(*modalities: str, description: str = "Synthetic study") -> list[Dataset]:
    """One instance for each modality, of a study and a patient that no other test has."""
    name = f"browser/{uuid4()}"
    return [instance(one, name, series, StudyDescription=description) for series, one in enumerate(modalities, start=1)]


def send(daemon: Daemon, *instances: Dataset, calling: str = "CT_1") -> None:
    """Send them over one association."""
    assert daemon.receiver
    kinds = {str(one.SOPClassUID) for one in instances}
    with association(daemon.receiver.address, sop_classes=kinds, calling=calling) as over:
        assert [over.send_c_store(one).Status for one in instances] == [0] * len(instances)


def state(daemon: Daemon, study: str) -> State | None:
    found = daemon.store.study_status(study)
    return found.deliveries[0].state if found else None


def is_delivered(daemon: Daemon, study: str) -> None:
    wait_until(lambda: state(daemon, study) == State.DELIVERED, WITHIN_S, "it is delivered")


def on_server(base_url: str, study: str) -> list[dict[str, object]]:
    """The ImagingStudy resources of a study; HAPI may remember an earlier answer, unless it is told not to."""
    query = {"identifier": f"urn:dicom:uid|urn:oid:{study}"}
    answer = requests.get(f"{base_url}/ImagingStudy", query, headers={"Cache-Control": "no-cache"}, timeout=WITHIN_S)
    return [entry["resource"] for entry in answer.json().get("entry", ())]


def test_a_study_is_followed_to_the_server(chromium: Chromium, live: Live) -> None:
    daemon, browser = live
    made = new_study("CT", "CT")
    study = str(made[0].StudyInstanceUID)
    send(daemon, *made)
    is_delivered(daemon, study)
    daemon.look()
    chromium.open(browser.url)
    for shown in ("All is well", "up since", "FHIR R4 ", "an attempt takes", "1 written"):
        chromium.waits_for(shown)
    chromium.press(f"a[href='/studies/{study}']")
    for shown in ("CT_1", "which is the present one", "Nothing."):
        chromium.waits_for(shown)
    chromium.press("summary")
    assert "resourceType" in chromium.find("pre").text
    assert chromium.faults() == []
    assert chromium.complaints() == []
    chromium.press("a[href*='/ImagingStudy?']")
    chromium.waits_for(f"urn:oid:{study}")


def test_what_changed_is_shown_until_it_is_delivered(chromium: Chromium, live: Live, hapi_r4: str) -> None:
    daemon, browser = live
    first, second = new_study("CT", "PT")
    study = str(first.StudyInstanceUID)
    send(daemon, first)
    is_delivered(daemon, study)
    chromium.log_in(browser.url)
    chromium.press("#pause-main")
    chromium.accept()
    chromium.waits_for("by an operator")
    send(daemon, second)
    chromium.open(f"{browser.url}studies/{study}")
    for shown in ("ImagingStudy.numberOfSeries", f"ImagingStudy.series[{second.SeriesInstanceUID}]"):
        chromium.waits_for(shown)
    assert chromium.faults() == []
    chromium.open(browser.url)
    chromium.press("#resume-main")
    wait_until(lambda: [one["numberOfSeries"] for one in on_server(hapi_r4, study)] == [2], WITHIN_S, "it is there")
    is_delivered(daemon, study)
    chromium.open(f"{browser.url}studies/{study}")
    chromium.waits_for("Nothing.")
    assert chromium.complaints() == []


def test_a_study_that_was_deleted_there_is_sent_again(chromium: Chromium, live: Live, hapi_r4: str) -> None:
    daemon, browser = live
    made = new_study("MR")
    study = str(made[0].StudyInstanceUID)
    send(daemon, *made)
    is_delivered(daemon, study)
    (resource,) = on_server(hapi_r4, study)
    requests.delete(f"{hapi_r4}/ImagingStudy/{resource['id']}", timeout=WITHIN_S).raise_for_status()
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}studies/{study}")
    chromium.press("#retry")
    wait_until(lambda: on_server(hapi_r4, study), WITHIN_S, "it is there again")
    is_delivered(daemon, study)
    chromium.open(f"{browser.url}studies/{study}")
    chromium.press("#forget")
    chromium.accept()
    chromium.waits_for("No study matches")
    assert on_server(hapi_r4, study), "nothing is removed from a server"


def test_a_study_that_was_refused_is_sent_again(chromium: Chromium, live: Live, hapi_r4: str) -> None:
    daemon, browser = live
    made = new_study("CT")
    study = str(made[0].StudyInstanceUID)
    ids = [twin(hapi_r4, study) for _ in range(2)]
    send(daemon, *made)
    wait_until(lambda: state(daemon, study) == State.REFUSED, WITHIN_S, "two match")
    wait_until(lambda: daemon.store.find_studies(StudyFilter(state=State.REFUSED)), WITHIN_S, "it is found")
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}problems")
    for one in ids:
        chromium.waits_for(one)
    requests.delete(f"{hapi_r4}/ImagingStudy/{ids[0]}", timeout=WITHIN_S).raise_for_status()
    chromium.press(f"[aria-label='Send study {study} again now']")
    is_delivered(daemon, study)
    (kept,) = on_server(hapi_r4, study)
    assert kept["id"] == ids[1]


def twin(base_url: str, study: str) -> str:
    """The id of an ImagingStudy that somebody else wrote for a study."""
    resource = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}],
        "subject": {"display": "somebody"},
    }
    answer = requests.post(f"{base_url}/ImagingStudy", json=resource, timeout=WITHIN_S)
    answer.raise_for_status()
    return str(answer.json()["id"])


def test_a_conflict_is_settled_and_delivered(chromium: Chromium, live: Live, hapi_r4: str) -> None:
    daemon, browser = live
    made = conflict()
    study = str(made[0].StudyInstanceUID)
    send(daemon, *made)
    wait_until(lambda: state(daemon, study) == State.REFUSED, WITHIN_S, "it is a conflict")
    wait_until(lambda: daemon.store.find_studies(StudyFilter(is_conflict=True)), WITHIN_S, "it is in the index")
    assert on_server(hapi_r4, study) == []
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}problems")
    chromium.press(f"[id='keep-{study}-1']")
    chromium.accept()
    is_delivered(daemon, study)
    (resource,) = on_server(hapi_r4, study)
    assert resource["numberOfInstances"] == len(made)


def conflict() -> list[Dataset]:
    """A study with instances of two patients."""
    made = new_study("CT", "CT")
    made[1].PatientID = f"{made[0].PatientID}-2"
    return made


def test_an_outage_is_shown_and_ended(
    chromium: Chromium, hapi_r4: str, outage_proxy: Callable[[str], OutageProxy], tmp_path: Path
) -> None:
    proxy = outage_proxy(hapi_r4)
    destinations = {"main": {"url": proxy.url, "retry_max_s": 3600}}
    with serving(settings_in(tmp_path, destinations=destinations)) as (daemon, browser):
        proxy.go_away()
        made = new_study("CT")
        study = str(made[0].StudyInstanceUID)
        send(daemon, *made)
        wait_until(lambda: daemon.state().destinations[0].state == "down", WITHIN_S, "it is down")
        daemon.look()
        chromium.log_in(browser.url)
        for shown in ("Needs attention", "down since", "next try at", "Waits longest, since"):
            chromium.waits_for(shown)
        proxy.come_back()
        chromium.press("#retry-main")
        is_delivered(daemon, study)
        daemon.look()
        chromium.waits_for("up since")


@pytest.fixture
def keep(chromium: Chromium, pytestconfig: pytest.Config, tmp_path: Path) -> Callable[[str], None]:
    """``keep("overview")`` takes a picture of the page as it is; it is kept with ``--screenshots``."""
    folder = Path(pytestconfig.getoption("screenshots") or tmp_path)
    chromium.show_on(PICTURE)

    def take(name: str) -> None:
        content = chromium.picture()
        assert content.startswith(PNG)
        assert len(content) <= MOST_BYTES, f"{name} has {len(content):,} bytes"
        (folder / f"{name}.png").write_bytes(content)

    return take


def test_pictures_for_the_documentation(
    chromium: Chromium, live: Live, keep: Callable[[str], None], hapi_r4: str
) -> None:
    daemon, browser = live
    assert daemon.receiver
    for modalities in (("CT", "CT"), ("MR", "MR", "MR"), ("US",), ("MG", "MG"), ("DX",)):
        made = new_study(*modalities)
        send(daemon, *made, calling=f"{modalities[0]}_1")
        is_delivered(daemon, str(made[0].StudyInstanceUID))
    first, second = new_study("CT", "PT", description="PET-CT whole body")
    study = str(first.StudyInstanceUID)
    send(daemon, first, calling="PETCT_1")
    is_delivered(daemon, study)
    daemon.store.pause("main")
    send(daemon, second, calling="PETCT_1")
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}studies/{study}")
    chromium.waits_for("ImagingStudy.numberOfSeries")
    keep("study")
    daemon.store.resume("main")
    is_delivered(daemon, study)
    wait_until(lambda: len(daemon.store.find_studies(StudyFilter())) == 6, WITHIN_S, "all are in the index")
    with association(daemon.receiver.address, sop_classes=[first.SOPClassUID], calling="CT_1"):
        daemon.look()
        wait_until(lambda: sum(one.delivered for one in daemon.store.counts(0)) >= 6, WITHIN_S, "they are counted")
        chromium.open(browser.url)
        chromium.waits_for("All is well")
        keep("overview")
    wrong = conflict()
    send(daemon, *wrong, calling="CT_1")
    twins = new_study("CR")
    for _ in range(2):
        twin(hapi_r4, str(twins[0].StudyInstanceUID))
    send(daemon, *twins, calling="CR_2")
    wait_until(lambda: daemon.store.stats().refused == 2, WITHIN_S, "both are refused")
    wait_until(lambda: daemon.store.find_studies(StudyFilter(is_conflict=True)), WITHIN_S, "the conflict is found")
    chromium.open(f"{browser.url}problems")
    chromium.waits_for("several ImagingStudy resources")
    keep("problems")
    assert TOKEN not in chromium.text
