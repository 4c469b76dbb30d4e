"""The demonstration: a temporary daemon, sender and watched folder, with a table that shows the progress."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context
from rich.console import Console
from rich.json import JSON
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from dicom2fhir import config
from dicom2fhir.cli.tables import STATE_STYLES
from dicom2fhir.daemon import Daemon
from dicom2fhir.demo import synthetic
from dicom2fhir.errors import BridgeError
from dicom2fhir.store.statuses import State, StudyStatus
from dicom2fhir.system.text import counted

QUIET_PERIOD_S = 1.0
_LIMIT_S = 60.0
_REFRESH_S = 0.1
_TRIES = 5
_ANSWER_S = 5.0
_WRITTEN = re.compile(r"[0-9a-f-]{36}\.\d+\.json")
"""File names of the file destination; the folder may contain other files."""
_DROPPED = 2
"""Every n-th study is put into the folder instead of being sent."""


class Demo:
    """Runs the demonstration.

    Parameters
    ----------
    output_dir
        Folder for the Bundles; None: a new temporary folder.
    """

    def __init__(self, console: Console, output_dir: Path | None) -> None:
        self._console = console
        self._output = (output_dir or Path(tempfile.mkdtemp(prefix="dicom2fhir-demo-"))).absolute()
        self._studies = list(synthetic.studies())
        self._names = {str(datasets[0].StudyInstanceUID): name for name, datasets in self._studies}
        self._errors: list[str] = []

    def run(self, keep_running: bool) -> None:
        """Run until everything is delivered (with ``keep_running``: until Ctrl-C).

        Raises
        ------
        BridgeError
            Something was not delivered.
        """
        with (
            tempfile.TemporaryDirectory(prefix="dicom2fhir-demo-state-") as temporary,
            self._daemon(temporary) as daemon,
        ):
            host, port = daemon.receiver.address if daemon.receiver else ("", 0)
            inbox = daemon.settings.folders["inbox"].path
            self._say(f"C-STORE SCP [bold]DICOM2FHIR[/] at {host}:{port}; watched folder {inbox}\n")
            sender = threading.Thread(target=self._send, args=(host, port, inbox), name="sender", daemon=True)
            sender.start()
            with Live(self._table([]), console=self._console, refresh_per_second=1 / _REFRESH_S) as live:
                done = self._watch(daemon, live)
            sender.join()
            if self._errors or not done:
                raise BridgeError("The demonstration did not finish: " + ("; ".join(self._errors) or "timeout."))
            self._show_result()
            if keep_running:
                page = f" The web page is {daemon.web.url}." if daemon.web and daemon.web.url else ""
                self._say(f"\nStill listening at {host}:{port} and watching {inbox}.{page} Ctrl-C ends it.")
                with Live(self._table([]), console=self._console, refresh_per_second=1) as live:
                    self._watch_until_interrupted(daemon, live)

    @contextmanager
    def _daemon(self, temporary: str) -> Iterator[Daemon]:
        inbox = Path(temporary) / "inbox"
        inbox.mkdir()
        settings = config.load(
            overrides={
                "receiver": {"port": 0},
                "web": {"port": 0},
                "folders": {"inbox": {"path": str(inbox), "stable_s": 0.2, "rescan_s": 1}},
                "store": {
                    "directory": str(Path(temporary) / "state"),
                    "quiet_period_s": QUIET_PERIOD_S,
                    "max_wait_s": _LIMIT_S,
                    "min_free_bytes": 0,
                },
                "destinations": {"files": {"type": "file", "directory": str(self._output)}},
            },
            environ={},
        )
        daemon = Daemon(settings)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()

    def _send(self, host: str, port: int, inbox: Path) -> None:
        """Send studies by C-STORE, and put the others into the folder."""
        try:
            for number, (name, datasets) in enumerate(self._studies):
                if number % _DROPPED == 1:
                    for dataset in datasets:
                        dataset.save_as(inbox / f"{name}-{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
                else:
                    self._store(host, port, datasets)
        except (OSError, BridgeError) as error:
            self._errors.append(str(error))

    def _store(self, host: str, port: int, datasets: Sequence[Dataset]) -> None:
        """Send a study; instances without a response are sent again, which changes nothing if they had arrived."""
        for _ in range(_TRIES):
            datasets = self._store_once(host, port, datasets)
            if not datasets:
                return
        raise BridgeError("The sender of the demonstration got no response.")

    def _store_once(self, host: str, port: int, datasets: Sequence[Dataset]) -> Sequence[Dataset]:
        """Send over one association; returns the instances from the first without a response on."""
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it reports responses that are requested again
        ae = AE(ae_title="DEMO")
        ae.dimse_timeout = _ANSWER_S
        kinds = {(str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets}
        association = ae.associate(
            host,
            port,
            [build_context(UID(sop_class), UID(syntax)) for sop_class, syntax in sorted(kinds)],
            ae_title="DICOM2FHIR",
        )
        if not association.is_established:
            raise BridgeError("The sender of the demonstration could not connect.")
        try:
            for number, dataset in enumerate(datasets):
                if not association.is_established:
                    return datasets[number:]
                status = association.send_c_store(dataset)
                if not status:  # pynetdicom's reactor sometimes consumes the response
                    return datasets[number:]
                if status.Status != 0x0000:
                    raise BridgeError("An instance was not accepted.")
        finally:
            association.release()
        return ()

    def _watch(self, daemon: Daemon, live: Live) -> bool:
        """Refresh the table until everything is delivered; False if that takes too long."""
        deadline = time.monotonic() + _LIMIT_S
        expected = {uid: len(datasets) for (_, datasets), uid in zip(self._studies, self._names, strict=True)}
        while time.monotonic() < deadline and not self._errors:
            studies = daemon.store.studies()
            live.update(self._table(studies))
            arrived = {study.study_uid: study.instances for study in studies}
            if arrived == expected and all(d.state is State.DELIVERED for s in studies for d in s.deliveries):
                return True
            time.sleep(_REFRESH_S)
        return False

    def _watch_until_interrupted(self, daemon: Daemon, live: Live) -> None:
        try:
            while not daemon.trouble():
                daemon.look()
                live.update(self._table(daemon.store.studies()))
                time.sleep(1.0)
        except KeyboardInterrupt:
            return

    def _table(self, studies: Sequence[StudyStatus]) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("Study", "received by", "series", "instances", "revision", "ImagingStudy"):
            table.add_column(column, justify="right" if column in ("series", "instances", "revision") else "left")
        by_uid = {study.study_uid: study for study in studies}
        for number, (uid, name) in enumerate(self._names.items()):
            way = "folder" if number % _DROPPED == 1 else "C-STORE"
            study = by_uid.pop(uid, None)
            table.add_row(name, way, *_progress(study))
        for uid, study in by_uid.items():
            table.add_row(uid, "you", *_progress(study))
        return table

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)

    def _show_result(self) -> None:
        files = sorted(file for file in self._output.iterdir() if _WRITTEN.fullmatch(file.name))
        smallest = min(files, key=lambda file: file.stat().st_size)
        for entry in orjson.loads(smallest.read_bytes())["entry"]:
            if entry["resource"]["resourceType"] == "ImagingStudy":
                self._console.print("\nOne of the resulting resources:\n")
                self._console.print(JSON(orjson.dumps(entry["resource"]).decode(), indent=2), soft_wrap=True)
        self._say(
            f"\n{counted(len(files), 'transaction Bundle')} (FHIR R4) written to [bold]{escape(str(self._output))}[/]"
        )
        self._console.print("Convert your own files: [bold]dicom2fhir convert FOLDER[/]")


def _progress(study: StudyStatus | None) -> tuple[str, str, str, str]:
    if study is None:
        return "", "", "", "[dim]not yet[/]"
    state = study.deliveries[0].state
    word = "delivered" if state is State.DELIVERED else "waiting" if state is State.WAITING else state.value
    return str(study.series), str(study.instances), str(study.revision), f"[{STATE_STYLES[state]}]{word}[/]"
