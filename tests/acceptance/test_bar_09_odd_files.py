"""Bar 9: malformed and odd data sets come to the same over an association as in a watched folder, by a table.

``tests/data/odd_files.toml`` says for each what the sender is told, what it comes to and why that is right; for the few
where the roads differ, why they do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.odd_files import FILES, INSTANCE, as_file
from tests.daemon_process import SETTLES_WITHIN_S, DaemonProcess, to_files, wait_until
from tests.scripted_peer import RELEASE_RQ, Peer, associate_rq, command, p_data, pdv

pytestmark = pytest.mark.bar(9)

TABLE: dict[str, dict[str, str]] = tomllib.loads(
    (Path(__file__).parents[1] / "data" / "odd_files.toml").read_text("utf-8")
)


def status_of(daemon: DaemonProcess, number: int, content: bytes) -> str:
    """What a sender is told of a data set, over an association whose calling AE title has the number."""
    with Peer(daemon.address, associate_rq(calling=f"ROW{number}")) as peer:
        assert peer.receive()[0] == 2
        peer.send(p_data(pdv(1, 3, command(INSTANCE))) + p_data(pdv(1, 2, content)) + RELEASE_RQ)
        return f"{peer.status():04X}"


def by_road(daemon: DaemonProcess, inbox: Path) -> dict[str, dict[str, Any]]:
    """What became of each data set on both roads."""
    statuses = {name: status_of(daemon, number, content) for number, (name, content) in enumerate(FILES.items())}
    paths = {name: inbox / f"row-{number}.dcm" for number, name in enumerate(FILES)}
    for name, content in FILES.items():
        paths[name].write_bytes(as_file(content))
    with daemon.store() as store:

        def marks() -> Any:
            found = store.file_marks(map(str, paths.values()))
            return found if len(found) == len(paths) else None

        found = wait_until(marks, SETTLES_WITHIN_S, "the folder has been gone through")
        told = {rejection.origin.calling_ae: rejection.reason for rejection in store.rejections(limit=1000)}
    rows = {}
    for number, (name, path) in enumerate(paths.items()):
        mark = found[str(path)]
        rows[name] = {
            "status": statuses[name],
            "folder": mark.outcome,
            "reason": mark.reason,
            "told": told.get(f"ROW{number}", ""),
        }
    return rows


def test_both_roads_come_to_what_the_table_says(
    make_daemon: Callable[..., DaemonProcess], history: Path, figure: Callable[[str], None]
) -> None:
    inbox = history / "inbox"
    inbox.mkdir()
    daemon = make_daemon(
        ("--quiet-period", "30"),
        settings=f'[folders.inbox]\npath = "{inbox}"\nstable_s = 0.1\nincomplete_s = 0.5\nrescan_s = 0.5\n'
        + to_files(history / "out"),
    )
    daemon.start()
    rows = by_road(daemon, inbox)
    assert daemon.terminate() == 0
    for name, row in rows.items():
        expected = TABLE[name]
        assert {key: row[key] for key in ("status", "folder", "reason")} == {
            key: expected.get(key, "") for key in ("status", "folder", "reason")
        }, name
        taken, acknowledged = row["folder"] == "taken", row["status"] == "0000"
        assert (taken is not acknowledged) is ("differs" in expected), f"{name}: one road takes what the other refuses"
        assert taken or acknowledged or row["told"] == row["reason"], f"{name}: two reasons"
    figure(f"{len(rows)} odd data sets, {sum(row['status'] == '0000' for row in rows.values())} of them taken")


def test_each_row_says_why() -> None:
    assert TABLE.keys() == FILES.keys()
    assert all(row["why"].strip() for row in TABLE.values())
