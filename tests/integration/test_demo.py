"""The sender of the demonstration."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from rich.console import Console

from dicom2fhir.demo import run
from dicom2fhir.demo.run import Demo


@pytest.fixture
def log_level() -> Iterator[None]:
    """Restores the level, which the demonstration sets for its process."""
    logger = logging.getLogger("pynetdicom")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.usefixtures("log_level")
def test_an_instance_without_a_response_is_sent_again_and_nothing_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "_ANSWER_S", 0.5)
    demo = Demo(Console(), None)
    _, datasets = demo._studies[0]
    arrived: list[object] = []
    ended = threading.Event()

    def store(event: evt.Event) -> int:
        arrived.append(getattr(event.request, "AffectedSOPInstanceUID", None))
        if len(arrived) == 1:
            ended.wait()
        return 0x0000

    ae = AE(ae_title="DICOM2FHIR")
    ae.supported_contexts = [build_context(UID(d.SOPClassUID), d.file_meta.TransferSyntaxUID) for d in datasets[:1]]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        demo._store("127.0.0.1", server.server_address[1], datasets)
    finally:
        ended.set()
        server.shutdown()
    uids = [dataset.SOPInstanceUID for dataset in datasets]
    assert arrived == [uids[0], *uids]
    assert caplog.records == []
