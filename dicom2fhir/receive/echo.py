"""A C-ECHO service class user, to ask a receiver whether it is there (PS3.4 annex A)."""

from __future__ import annotations

import time

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time

from dicom2fhir.errors import ServerUnavailable


def echo(host: str, port: int, called_ae: str, calling_ae: str, timeout_s: float = 10.0) -> float:
    """Send one C-ECHO; the seconds from the connection to the answer.

    Raises
    ------
    ServerUnavailable
        Nobody answers, or not with Success, and what to look at.
    """
    ae = AE(ae_title=calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout_s
    ae.add_requested_context(Verification)
    where = f"{called_ae} at {host}:{port}"
    started = time.monotonic()
    association = ae.associate(host, port, ae_title=called_ae)
    if association.is_rejected:
        raise ServerUnavailable(f"{where} rejects the association: check both AE titles and the allowed networks.")
    if not association.is_established:
        raise ServerUnavailable(f"{where} cannot be reached: is it running, and is this its port?")
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if not status or status.Status != 0x0000:
        raise ServerUnavailable(f"{where} did not answer C-ECHO with Success.")
    return time.monotonic() - started
