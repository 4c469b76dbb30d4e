"""A daemon seals what it has delivered, and goes on with it as if it had not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.daemon_process import SETTINGS, DaemonProcess, to_files
from tests.scripted_peer import Peer, associate_rq, store

STUDY, FIRST, LATE = "1.2.3", "1.2.3.4.1", "1.2.3.4.2"


def send(daemon: DaemonProcess, uid: str) -> None:
    with Peer(daemon.address, associate_rq()) as peer:
        assert peer.receive()[0] == 2
        peer.send(store(uid))
        assert peer.status() == 0


def test_a_late_slice_of_a_sealed_study_is_added_to_what_was_delivered(tmp_path: Path) -> None:
    out = tmp_path / "out"
    daemon = DaemonProcess(tmp_path / "daemon", (), to_files(out))
    daemon.config_path.write_text(SETTINGS.replace("[store]", "[store]\nseal_after_s = 0.001") + to_files(out))
    try:
        daemon.start()
        send(daemon, FIRST)
        daemon.settled()
        assert daemon.terminate() == 0
        daemon.start()  # the first round begins at the start
        assert daemon.says(("store.studies_sealed",))["studies"] == 1
        with closing(sqlite3.connect(daemon.store_path)) as connection:
            assert connection.execute("SELECT instances FROM sealed").fetchall() == [(1,)]
            assert connection.execute("SELECT count(*) FROM instance").fetchone() == (0,)
        assert daemon.instances() == {STUDY: {FIRST}}
        send(daemon, LATE)
        daemon.settled()
        assert daemon.instances() == {STUDY: {FIRST, LATE}}
        assert daemon.studies()[STUDY].instances == 2
        written = "".join(file.read_text() for file in out.glob("*.json"))
        assert FIRST in written
        assert LATE in written
        assert daemon.terminate() == 0
    finally:
        daemon.clean_up()
