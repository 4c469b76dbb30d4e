"""``/metrics`` of a live daemon, and what ``monitoring/`` makes of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.ops.metric_table import everything
from tests.command_line import run_here
from tests.daemon_process import wait_until
from tests.web_client import WITHIN_S, Browser, serving, settings_in

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"

Live = tuple[Daemon, Browser]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with serving(settings_in(tmp_path)) as made:
        yield made


def samples(live: Live) -> Samples:
    daemon, browser = live
    daemon.look()  # else it does so within a second
    answer = browser.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_what_is_received_and_delivered_is_counted(live: Live, tmp_path: Path) -> None:
    daemon, _ = live
    before = samples(live)
    assert value(before, "dicom2fhir_store_duration_seconds_count") == 0
    made = instance("CT")
    made.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    wrong = instance("CT")
    del wrong.StudyInstanceUID
    wrong.save_as(tmp_path / "inbox" / "2.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
    wait_until(lambda: daemon.store.stats().rejected == 1, WITHIN_S, "it is refused")
    found = samples(live)
    assert value(found, "dicom2fhir_store_duration_seconds_count") == 1
    assert 0 < value(found, "dicom2fhir_store_duration_seconds_sum") < 60
    assert value(found, "dicom2fhir_delivery_duration_seconds_count", destination="files") == 1
    assert value(found, "dicom2fhir_delivery_attempts_total", destination="files", outcome="written") == 1
    assert value(found, "dicom2fhir_deliveries", state="delivered") == 1
    assert value(found, "dicom2fhir_destination_state", destination="files", state="up") == 1
    assert value(found, "dicom2fhir_destination_state", destination="files", state="down") == 0
    assert value(found, "dicom2fhir_studies") == value(found, "dicom2fhir_instances") == 1
    assert value(found, "dicom2fhir_oldest_undelivered_seconds") == 0
    assert value(found, "dicom2fhir_disk_free_bytes") > 0
    assert value(found, "dicom2fhir_folder_obstructed", folder="inbox") == 0
    assert value(found, "dicom2fhir_receiver_up") == 1
    assert sum(count for (name, _), count in found.items() if name == "dicom2fhir_rejected_instances") == 1
    assert value(found, "process_resident_memory_bytes") > 0


def test_what_waits_has_an_age(live: Live, tmp_path: Path) -> None:
    daemon, _ = live
    daemon.store.pause("files")
    instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.stats().instances == 1, WITHIN_S, "it is stored")
    found = samples(live)
    assert value(found, "dicom2fhir_destination_paused", destination="files") == 1
    assert value(found, "dicom2fhir_deliveries", state="waiting") == 1
    assert value(found, "dicom2fhir_oldest_undelivered_seconds") > 0


def test_every_metric_of_the_table_is_there_and_no_other(live: Live) -> None:
    daemon, browser = live
    daemon.look()
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    declared = {metric.name.removesuffix("_total"): metric for metric in everything()}
    ours = {name for name in families if name.startswith("dicom2fhir_") and not name.endswith("_created")}
    assert ours == set(declared)
    for name, metric in declared.items():
        assert (families[name].type, families[name].documentation) == (metric.kind, metric.text)


def test_names_have_base_units() -> None:
    for metric in everything():
        assert re.fullmatch(r"dicom2fhir_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|minutes|hours|mb|kb|percent)(_|$)", metric.name)
        assert set(metric.labels) <= {"version", "kind", "state", "destination", "outcome", "folder"}


def test_no_patient_study_or_sender_is_named(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    made = instance("CT")
    made.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
    text = browser.get("/metrics").text
    for part in (made.PatientName, made.PatientID, made.StudyInstanceUID, made.SOPInstanceUID, made.AccessionNumber):
        assert str(part) not in text


# monitoring/


@pytest.mark.parametrize("name", ["alerts.yml", "alerts.test.yml", "dashboard.json"])
def test_every_metric_that_is_used_exists(name: str) -> None:
    text = (MONITORING / name).read_text("utf-8")
    used = set(re.findall(r"\bdicom2fhir_\w+", text))
    exposed = {metric.name for metric in everything()}
    for metric in everything():
        if metric.kind == "histogram":
            exposed |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    assert used
    assert used <= exposed


DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))


def test_the_dashboard_shows_each_panel_somewhere() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, "the width of Grafana's grid"
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["targets"] and panel["title"] for panel in DASHBOARD["panels"])


def test_the_dashboard_is_one_for_the_grafana_of_the_containers() -> None:
    """Grafana 11 reads models up to version 39, and changes older ones itself."""
    assert DASHBOARD["schemaVersion"] <= 39
    assert "grafana/grafana:11." in (ROOT / "compose.yaml").read_text()
    variables = {f"${{{one['name']}}}" for one in DASHBOARD["templating"]["list"]}
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"} <= variables


class Prometheus:
    """Prometheus that reads the metrics of a daemon five times a second."""

    def __init__(self, folder: Path, target: str, port: int) -> None:
        configuration = (MONITORING / "prometheus.yml").read_text()
        for old, new in (("127.0.0.1:8112", target), ("scrape_interval: 15s", "scrape_interval: 200ms")):
            assert old in configuration
            configuration = configuration.replace(old, new)
        (folder / "prometheus.yml").write_text(configuration)
        (folder / "alerts.yml").write_text((MONITORING / "alerts.yml").read_text())
        self.url = f"http://127.0.0.1:{port}"
        flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={self.url[7:]}"]
        with (folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(["prometheus", *flags], cwd=folder, stdout=log, stderr=log)

    def query(self, expression: str) -> list[Any]:
        """The series that an expression gives now; none while Prometheus is not ready."""
        try:
            answer = requests.get(f"{self.url}/api/v1/query", {"query": expression}, timeout=WITHIN_S)
        except requests.ConnectionError:
            return []
        found: list[Any] = answer.json()["data"]["result"] if answer.status_code != 503 else []
        return found

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(WITHIN_S)


@pytest.fixture
def prometheus(live: Live, tmp_path: Path, free_port: int) -> Iterator[Prometheus]:
    (tmp_path / "prometheus").mkdir()
    made = Prometheus(tmp_path / "prometheus", live[1].address, free_port)
    yield made
    made.stop()


@pytest.mark.needs("prometheus")
def test_every_panel_has_data_of_a_daemon(live: Live, prometheus: Prometheus, tmp_path: Path) -> None:
    """Each expression, of what Prometheus has read, gives the labels that its legend names."""
    daemon, _ = live
    wait_until(lambda: prometheus.query("up == 1"), WITHIN_S, "Prometheus has read once")
    instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
    assert daemon.receiver
    port = str(daemon.receiver.address[1])
    assert run_here("echo", "--host", "127.0.0.1", "--port", port, "--called-ae", "ANOTHER").status != 0
    daemon.look()
    for name in ("dicom2fhir_delivery_duration_seconds_count > 0", "dicom2fhir_receiver_refused_total"):
        twice = f"count_over_time(({name})[1m:200ms]) > 2"
        wait_until(partial(prometheus.query, twice), WITHIN_S, f"Prometheus has read {name} more than once")
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$job", "dicom2fhir")
            # a reading that takes longer than its interval ends the series until the next one
            found = wait_until(partial(prometheus.query, expression), WITHIN_S, f"{panel['title']}: {expression}")
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert all(legend <= series["metric"].keys() for series in found), panel["title"]
    assert {series["metric"]["job"] for series in prometheus.query("dicom2fhir_info")} == {"dicom2fhir"}


@pytest.mark.needs("promtool")
def test_each_alert_fires_when_it_should() -> None:
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rules, tests = ((MONITORING / name).read_text("utf-8") for name in ("alerts.yml", "alerts.test.yml"))
    assert set(re.findall(r"- alert: (\w+)", rules)) == set(re.findall(r"- name: (\w+)", tests))


@pytest.mark.needs("promtool")
def test_prometheus_reads_the_metrics(live: Live) -> None:
    live[0].look()
    text = live[1].get("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if line.startswith("dicom2fhir_")]
    assert (ours, "error" in done.stderr.lower()) == ([], False)
