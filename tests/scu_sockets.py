"""A fixture for tests that send with pynetdicom; what imports it has it for each of its tests."""

from __future__ import annotations

import pytest
from pynetdicom.transport import AssociationSocket


@pytest.fixture(autouse=True)
def client_sockets_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom's SCU does not close a socket whose peer was quicker, and the garbage collector warns later."""

    def shut_down(self: AssociationSocket) -> None:
        if self.socket is not None:
            self.socket.close()

    monkeypatch.setattr(AssociationSocket, "_shutdown_socket", shut_down)
