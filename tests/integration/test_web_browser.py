"""The web page of a live daemon in Chromium: what a person sees and presses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.store.study_search import StudyFilter
from tests.daemon_process import wait_until
from tests.integration.test_web_problems import STUDY as CONFLICT
from tests.integration.test_web_problems import put_conflict, refused_study
from tests.servers.browser.chromium import PHONE, SCREENS, Chromium, Screen
from tests.web_client import TOKEN, WITHIN_S, Browser, serving, settings_in

HOSTILE = "<script>alert(1)</script>'\"&amp;{{7*7}}"
STUDY = "2.25.42"
PAGES = ("/", "/studies", f"/studies/{STUDY}", "/problems", "/explain", "/login", "/nothing")

Live = tuple[Daemon, Browser]


@pytest.fixture
def disposable(tmp_path: Path) -> Iterator[Live]:
    """A daemon with a study that a test may remove."""
    with serving(settings_in(tmp_path)) as (daemon, browser):
        made = instance("CT")
        made.StudyInstanceUID = STUDY
        made.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().delivered, WITHIN_S, "it is delivered")
        wait_until(lambda: daemon.store.find_studies(StudyFilter()), WITHIN_S, "it is in the index")
        yield daemon, browser


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A daemon with a study whose values are hostile, and a file that was refused."""
    folder = tmp_path_factory.mktemp("daemon")
    with serving(settings_in(folder)) as (daemon, browser):
        made = instance("CT")
        made.PatientName, made.SeriesDescription, made.StudyInstanceUID = HOSTILE, HOSTILE, STUDY
        made.save_as(folder / "inbox" / "1.dcm", enforce_file_format=True)
        refused = instance("CT")
        del refused.SeriesInstanceUID
        refused.save_as(folder / "inbox" / "<img src=x onerror=alert(2)>.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().delivered and daemon.store.rejections(), WITHIN_S, "both are there")
        wait_until(lambda: daemon.store.find_studies(StudyFilter()), WITHIN_S, "it is in the index")
        put_conflict(folder / "inbox")
        conflict = StudyFilter(is_conflict=True)
        wait_until(lambda: daemon.store.find_studies(conflict), WITHIN_S, "the conflict is in the index")
        daemon.look()
        yield daemon, browser


@pytest.mark.parametrize("screen", SCREENS, ids=str)
@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("is_logged_in", [False, True], ids=["reader", "operator"])
def test_a_page_is_sound(chromium: Chromium, live: Live, path: str, screen: Screen, is_logged_in: bool) -> None:
    _, browser = live
    if is_logged_in:
        chromium.log_in(browser.url)
    chromium.show_on(screen)
    chromium.complaints()
    chromium.open(browser.url.rstrip("/") + path)
    assert chromium.faults() == []
    assert not chromium.is_too_wide()
    assert chromium.shift() == 0
    complaints = chromium.complaints()
    if path == "/nothing":  # the browser notes the status
        assert all("404" in line for line in complaints)
    else:
        assert complaints == []


def test_a_page_keeps_its_width_when_it_grows_longer_than_the_screen(chromium: Chromium, live: Live) -> None:
    _, browser = live
    chromium.show_on(PHONE)
    width = "return document.querySelector('nav').getBoundingClientRect().width"
    chromium.open(f"{browser.url}nothing")
    short = chromium.ask(width)
    chromium.ask("document.querySelector('main').style.height = '300vh'")
    assert chromium.ask("return document.documentElement.scrollHeight > innerHeight")
    assert chromium.ask(width) == short


@pytest.mark.parametrize("path", PAGES)
def test_every_control_is_reached_by_keyboard(chromium: Chromium, live: Live, path: str) -> None:
    _, browser = live
    chromium.log_in(browser.url)
    chromium.open(browser.url.rstrip("/") + path)
    assert chromium.unreachable() == []


def test_hostile_values_are_text(chromium: Chromium, live: Live) -> None:
    chromium.open(live[1].url)
    chromium.waits_for("<img src=x onerror=alert(2)>")
    assert "49" not in chromium.find("#refused").text
    assert not chromium.has("img")
    assert chromium.complaints() == []


def test_hostile_values_of_a_study_are_text(chromium: Chromium, live: Live) -> None:
    chromium.open(f"{live[1].url}studies/{STUDY}")
    chromium.waits_for("CT, ")
    chromium.press("summary")
    assert "resourceType" in chromium.find("pre").text
    assert not chromium.has("main script")
    assert chromium.complaints() == []


def test_a_study_is_found_and_sent_again_and_forgotten(chromium: Chromium, disposable: Live) -> None:
    daemon, browser = disposable
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}studies")
    chromium.find("#study_uid").send_keys(f"{STUDY}\n")
    wait_until(lambda: "study_uid=" in chromium.driver.current_url, WITHIN_S, "the search has begun")
    chromium.press("article a")
    chromium.waits_for("revision 1 was delivered, which is the present one")
    before = daemon.state().destinations[0].written
    chromium.press("#retry")
    wait_until(lambda: daemon.state().destinations[0].written > before, WITHIN_S, "it is sent again")
    wait_until(lambda: daemon.store.stats().delivered, WITHIN_S, "it is delivered again")
    chromium.open(f"{browser.url}studies/{STUDY}")
    chromium.press("#forget")
    chromium.accept()
    chromium.waits_for("No study matches")
    assert daemon.store.study_status(STUDY) is None
    assert chromium.complaints() == []


def test_a_conflict_is_settled_undone_and_forgotten(chromium: Chromium, tmp_path: Path) -> None:
    with serving(settings_in(tmp_path)) as (daemon, browser):
        put_conflict(tmp_path / "inbox")
        conflict = StudyFilter(is_conflict=True)
        wait_until(lambda: daemon.store.find_studies(conflict), WITHIN_S, "the conflict is in the index")
        chromium.log_in(browser.url)
        chromium.open(f"{browser.url}problems")
        chromium.press(f"[id='drop-{CONFLICT}-1']")
        chromium.accept()
        wait_until(lambda: verdicts(daemon) == ["dropped", "right"], WITHIN_S, "it is settled")
        chromium.open(f"{browser.url}studies/{CONFLICT}")
        chromium.press(f"[id='undo-{CONFLICT}']")
        wait_until(lambda: verdicts(daemon) == [None, None], WITHIN_S, "it is undone")
        chromium.waits_for("not settled")
        chromium.press(f"[id='keep-{CONFLICT}-2']")
        chromium.accept()
        wait_until(lambda: verdicts(daemon) == ["wrong", "right"], WITHIN_S, "it is settled")
        assert chromium.complaints() == []


def test_all_conflicts_between_the_same_patients_are_settled(chromium: Chromium, tmp_path: Path) -> None:
    with serving(settings_in(tmp_path)) as (daemon, browser):
        put_conflict(tmp_path / "inbox")
        put_conflict(tmp_path / "inbox", "2.25.71")
        conflict = StudyFilter(is_conflict=True)
        wait_until(lambda: len(daemon.store.find_studies(conflict)) == 2, WITHIN_S, "both are in the index")
        chromium.log_in(browser.url)
        chromium.open(f"{browser.url}problems")
        chromium.press(f"[id='keep-alike-{CONFLICT}-1']")
        chromium.accept()
        wait_until(lambda: all(one.verdict for one in daemon.store.patients("2.25.71")), WITHIN_S, "it is settled, too")
        assert chromium.complaints() == []


def test_all_that_a_destination_refused_is_forgotten(chromium: Chromium, tmp_path: Path) -> None:
    with refused_study(tmp_path) as (daemon, browser):
        chromium.log_in(browser.url)
        chromium.open(f"{browser.url}problems")
        chromium.press("#forget-refused-dead")
        chromium.accept()
        wait_until(lambda: daemon.store.study_status(CONFLICT) is None, WITHIN_S, "it is forgotten")
        chromium.waits_for("No study is refused.")


def test_damage_of_the_store_is_acknowledged(chromium: Chromium, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "store.db").write_bytes(b"damaged" * 1000)
    with serving(settings_in(tmp_path)) as (daemon, browser):
        chromium.log_in(browser.url)
        chromium.open(f"{browser.url}problems")
        chromium.press("#acknowledge")
        wait_until(lambda: not daemon.store.damages, WITHIN_S, "it is acknowledged")
        wait_until(lambda: not chromium.has("#acknowledge"), WITHIN_S, "the page is loaded again")


def verdicts(daemon: Daemon) -> list[str | None]:
    return [one.verdict for one in daemon.store.patients(CONFLICT)]


def test_a_refused_study_is_forgotten_from_the_problems(chromium: Chromium, tmp_path: Path) -> None:
    with refused_study(tmp_path) as (daemon, browser):
        chromium.log_in(browser.url)
        chromium.open(f"{browser.url}problems")
        assert chromium.has("#retry-dead")
        chromium.press(f"[aria-label='Forget study {CONFLICT}']")
        chromium.accept()
        wait_until(lambda: daemon.store.study_status(CONFLICT) is None, WITHIN_S, "it is forgotten")


@pytest.mark.parametrize("button", ["#retry-dead", f"[aria-label='Send study {CONFLICT} again now']"])
def test_a_refused_study_is_sent_again_from_the_problems(chromium: Chromium, tmp_path: Path, button: str) -> None:
    with refused_study(tmp_path) as (daemon, browser):
        chromium.log_in(browser.url)
        chromium.open(f"{browser.url}problems")
        chromium.press(button)
        wait_until(lambda: daemon.store.stats().refused == 0, WITHIN_S, "it is sent again")


def test_a_file_is_explained(chromium: Chromium, live: Live, tmp_path: Path) -> None:
    _, browser = live
    made = instance("CT")
    made.StudyDescription = HOSTILE
    made.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    (tmp_path / "2.dcm").write_bytes(b"no DICOM")
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}explain")
    chromium.find("#file").send_keys(str(tmp_path / "1.dcm"))
    chromium.press("#explain button")
    chromium.waits_for(HOSTILE)
    assert chromium.faults() == []
    assert chromium.complaints() == []
    chromium.find("#file").send_keys(str(tmp_path / "2.dcm"))
    chromium.press("#explain button")
    wait_until(lambda: chromium.find("#message").is_displayed(), WITHIN_S, "the reason is shown")


def test_a_resource_is_copied(chromium: Chromium, live: Live) -> None:
    chromium.open(f"{live[1].url}studies/{STUDY}")
    chromium.allow_clipboard(live[1].url)
    chromium.press("summary")
    chromium.press("button.copy")
    chromium.waits_for("Copied")
    copied = chromium.ask_later("navigator.clipboard.readText().then(arguments[arguments.length - 1])")
    assert copied.strip() == chromium.find("pre").text.strip()


def test_the_policy_stops_what_gets_into_a_page(chromium: Chromium, live: Live) -> None:
    """The check for complaints works: without the policy this script would run."""
    chromium.open(live[1].url)
    chromium.ask(
        "const made = document.createElement('script'); made.textContent = 'window.ran = true';"
        " document.body.append(made)"
    )
    assert chromium.ask("return window.ran") is None
    assert any("Content Security Policy" in line for line in chromium.complaints())


def test_a_destination_is_paused_and_resumed_by_keyboard(chromium: Chromium, live: Live) -> None:
    daemon, browser = live
    chromium.open(browser.url)
    chromium.tab_to("a[href='/login']").send_keys("\n")
    chromium.waits_for("Token")
    chromium.tab_to("#token").send_keys(f"{TOKEN}\n")
    chromium.waits_for("Log out")
    chromium.tab_to("#pause-files").send_keys("\n")
    chromium.accept()
    chromium.waits_for("by an operator")
    assert daemon.store.destinations()[0].paused_at
    chromium.tab_to("#resume-files").send_keys("\n")
    wait_until(lambda: chromium.has("#pause-files"), WITHIN_S, "it can be paused again")
    assert daemon.store.destinations()[0].paused_at is None
    assert chromium.complaints() == []


def test_retry_and_log_out(chromium: Chromium, live: Live) -> None:
    daemon, browser = live
    chromium.log_in(browser.url)
    before = daemon.store.requeued("files")
    chromium.press("#retry-files")
    wait_until(lambda: daemon.store.requeued("files") == before + 1, WITHIN_S, "it is tried again")
    wait_until(lambda: chromium.ask("return document.readyState") == "complete", WITHIN_S, "the page is loaded again")
    chromium.press("nav button")
    chromium.waits_for("Log in")
    assert not chromium.has("#retry-files")


def test_refused_files_are_forgotten(disposable: Live, chromium: Chromium) -> None:
    daemon, browser = disposable
    refused = instance("CT")
    del refused.SeriesInstanceUID
    refused.save_as(daemon.settings.folders["inbox"].path / "2.dcm", enforce_file_format=True)
    wait_until(daemon.store.rejections, WITHIN_S, "it is refused")
    chromium.log_in(browser.url)
    chromium.open(f"{browser.url}problems")
    chromium.press("#forget-rejections")
    chromium.accept()
    chromium.waits_for("No instance and no file was refused.")
    assert not chromium.has("#forget-rejections")
    assert not daemon.store.rejections()


def test_why_a_change_failed_is_shown(chromium: Chromium, live: Live) -> None:
    _, browser = live
    chromium.log_in(browser.url)
    chromium.driver.delete_all_cookies()
    chromium.press("#retry-files")
    chromium.waits_for("The token is needed")


def test_the_overview_renews_itself_without_a_shift_and_keeps_the_focus(chromium: Chromium, live: Live) -> None:
    _, browser = live
    chromium.log_in(browser.url)
    chromium.tab_to("#retry-files")
    shift = chromium.ask_later(
        """
        const done = arguments[arguments.length - 1];
        let shift = 0;
        new PerformanceObserver((list) => { for (const entry of list.getEntries()) shift += entry.value; })
            .observe({type: "layout-shift", buffered: true});
        document.addEventListener("htmx:afterSettle", () => requestAnimationFrame(() => setTimeout(() => done(shift))));
        """
    )
    assert shift == 0
    assert chromium.ask("return document.activeElement.id") == "retry-files"


def test_a_missing_file_of_a_page_would_be_noticed(chromium: Chromium, live: Live) -> None:
    _, browser = live
    chromium.open(browser.url)
    chromium.ask("const made = new Image(); made.src = '/static/missing.png'; document.body.append(made)")
    wait_until(lambda: any("404" in line for line in chromium.complaints()), WITHIN_S, "the browser complains")
