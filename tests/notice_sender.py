"""Those who send notices: pynetdicom's SCU, and a scripted peer for what it would not send."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association

from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP
from testdata.make_notices import Notice
from tests.scripted_peer import EXPLICIT_LE, associate_rq, context, element, p_data, pdv

N_SET_RQ, N_CREATE_RQ = 0x0120, 0x0140
AE_TITLE = "DICOM2FHIR"
BOTH = (INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP)


@contextmanager
def association(
    address: tuple[str, int],
    syntax: UID = uid.ExplicitVRLittleEndian,
    sop_classes: Iterable[str] = BOTH,
    calling: str = "CT1",
) -> Iterator[Association]:
    """An association of pynetdicom that proposes both SOP classes."""
    scu = AE(calling)
    contexts = [build_context(UID(sop_class), syntax) for sop_class in sop_classes]
    made = scu.associate(*address, contexts, ae_title=AE_TITLE)
    assert made.is_established
    try:
        yield made
    finally:
        made.release()


def send_notice(over: Association, notice: Notice) -> Dataset:
    """The command set of the response."""
    answers: list[Dataset] = []
    over.bind(evt.EVT_DIMSE_RECV, lambda event: answers.append(event.message.command_set))
    if notice.service == "N-CREATE":
        over.send_n_create(notice.data_set, UID(notice.sop_class), UID(notice.uid) if notice.uid else None)
    else:
        over.send_n_set(notice.data_set, UID(notice.sop_class), UID(notice.uid))
    return answers[-1]


def send(address: tuple[str, int], *notices: Notice) -> list[int]:
    """Send notices over one association; the statuses."""
    with association(address) as over:
        return [int(send_notice(over, notice).Status) for notice in notices]


CONTEXTS = b"".join(context(2 * number + 1, sop_class, EXPLICIT_LE) for number, sop_class in enumerate(BOTH))
REQUEST = associate_rq(contexts=CONTEXTS)
"""An association request of a scripted peer: presentation context 1 is for IAN, 3 for MPPS."""
_PDV_BYTES = 100_000


def message(
    notice: Notice, data: bytes, *, sop_class: str = "", field: int = 0, message_id: int = 1, has_data: bool = True
) -> bytes:
    """The PDUs of a request with any bytes as its data set."""
    number = 2 * BOTH.index(notice.sop_class) + 1
    field = field or {"N-CREATE": N_CREATE_RQ, "N-SET": N_SET_RQ}[notice.service]
    command = _command(sop_class or notice.sop_class, notice.uid, field, message_id, has_data)
    values = [pdv(number, 0, data[at : at + _PDV_BYTES]) for at in range(0, len(data), _PDV_BYTES)]
    end = [pdv(number, 2, b"")] if has_data else []
    return b"".join(p_data(value) for value in [pdv(number, 3, command), *values, *end])


def _command(sop_class: str, instance: str, field: int, message_id: int, has_data: bool) -> bytes:
    is_set = field == N_SET_RQ
    body = element(0x0003 if is_set else 0x0002, sop_class.encode()) + element(0x0100, struct.pack("<H", field))
    body += element(0x0110, struct.pack("<H", message_id))
    body += element(0x0800, struct.pack("<H", 1 if has_data else 0x0101))
    body += element(0x1001 if is_set else 0x1000, instance.encode()) if instance else b""
    return element(0x0000, struct.pack("<L", len(body))) + body
