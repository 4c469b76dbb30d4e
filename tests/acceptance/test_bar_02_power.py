"""Power loss at any moment: what a daemon writes, syncs and answers is recorded, and disks are rebuilt."""

from __future__ import annotations

import copy
import json
import random
import shutil
import sqlite3
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom2fhir.errors import BridgeError
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import EncodedInstance
from tests.acceptance.earlier_stores import keep, write_earlier
from tests.acceptance.load import Load, of, slices, stored
from tests.acceptance.promises import Instance, Ledger, breaches
from tests.daemon_process import DaemonProcess, wait_until
from tests.power.disk import RECORDER, Call, Disk, read_calls
from tests.preload import build

pytestmark = [pytest.mark.bar(2), pytest.mark.needs("cc"), pytest.mark.timeout(300)]

STUDIES, SENT, IN_FOLDER, BEFORE = 12, 400, 40, 40
_ELEMENT = struct.Struct("<HHL")
_STATUS, _SOP_INSTANCE = 0x0900, 0x1000
"""Elements of group 0000 (PS3.7 table E.1-1)."""
_COMMAND_SET = _ELEMENT.pack(0, 0, 4)
"""How each begins: Command Group Length."""
_EARLY = 0.3
SETTINGS = """
[destinations.files]
type = "file"
directory = "{place}/out"
[folders.inbox]
path = "{place}/inbox"
stable_s = 0.05
rescan_s = 1
afterwards = "{afterwards}"
"""


def acknowledged(call: Call) -> Iterator[str]:
    """The SOP instances that a message answers with Success."""
    for rest in call.text.split(_COMMAND_SET)[1:] if call.kind == "A" else ():
        values, at = {}, 4
        while at + _ELEMENT.size <= len(rest):
            group, element, length = _ELEMENT.unpack_from(rest, at)
            at += _ELEMENT.size
            if group == 0:
                values[element] = rest[at : at + length]
            at += length
        if values.get(_STATUS) == b"\0\0" and _SOP_INSTANCE in values:
            yield values[_SOP_INSTANCE].rstrip(b"\0").decode()


@dataclass
class Life:
    """What a daemon did from its start to its end.

    Attributes
    ----------
    disk
        As it was before.
    instances
        All that there are, by SOP Instance UID.
    before
        Those that the store held before.
    files
        Path in the daemon's folder -> the file that waited there to be taken.
    moves
        Whether files that were taken go to another folder.
    """

    disk: Disk
    calls: list[Call]
    instances: Mapping[str, Instance]
    before: set[Instance]
    files: Mapping[str, EncodedInstance]
    moves: bool

    def power_losses(self, count: int, draw: random.Random, syncs: bool = True) -> Iterator[PowerLoss]:
        """Some, after calls of every kind as often, and early ones: the beginning has what happens only once."""
        disk = copy.deepcopy(self.disk)
        disk.syncs = syncs
        moments = Counter(self._moment(draw) for _ in range(count))
        told = set(self.before)
        for at, call in enumerate(self.calls):
            disk.happen(call)
            told.update(self.instances[uid] for uid in acknowledged(call))
            for _ in range(moments[at]):
                yield PowerLoss(self, set(told), disk.fails(draw))

    def _moment(self, draw: random.Random) -> int:
        if draw.random() < _EARLY:
            return draw.randrange(len(self.calls) // 20)
        kind = draw.choice(sorted({call.kind for call in self.calls}))
        return draw.choice([at for at, call in enumerate(self.calls) if call.kind == kind])


@dataclass
class PowerLoss:
    """What had been acknowledged, and what the disk holds: path in the daemon's folder -> content."""

    life: Life
    told: set[Instance]
    content: dict[str, bytes]

    def wrong(self, place: Path) -> list[str]:
        """What does not hold when the store is opened again."""
        for name, data in self.content.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        store_path = place / "state" / "store.db"
        try:
            store = SqliteStore(store_path, min_free_bytes=0)
        except BridgeError as error:
            return [str(error)]
        damages = [damage.reason for damage in store.damages]
        store.close()
        taken = {name: file for name, file in self.life.files.items() if self.content.get(name) != file.file}
        return [
            *breaches(
                sent=self.life.instances.values(),
                acknowledged=self.told.union(map(of, taken.values())),
                stored=stored(store_path),
            ),
            *damages,
            *self._lost_files(taken),
            *self._lost_deliveries(store_path),
        ]

    def _lost_files(self, taken: Mapping[str, EncodedInstance]) -> list[str]:
        if not self.life.moves:
            return []
        moved = {data for name, data in self.content.items() if name.startswith("done/")}
        return [f"{name} is in neither folder" for name, file in taken.items() if file.file not in moved]

    def _lost_deliveries(self, store_path: Path) -> list[str]:
        there = {uid for name, data in self.content.items() if name.startswith("out/") for uid in _study_uids(data)}
        with closing(sqlite3.connect(store_path)) as connection:
            rows = connection.execute(
                "SELECT uid FROM study JOIN delivery ON study_id = study.id WHERE state = 'delivered'"
            ).fetchall()
        return [f"the delivery of {uid} is recorded and not there" for (uid,) in rows if uid not in there]


def _study_uids(bundle: bytes) -> list[str]:
    """Study Instance UIDs in what may be a Bundle."""
    try:
        entries = json.loads(bundle)["entry"]
    except ValueError:
        return []
    return [one["value"].removeprefix("urn:oid:") for one in entries[0]["resource"]["identifier"]]


def live(daemon: DaemonProcess, history: Path, draw: random.Random, version: int, moves: bool) -> Life:
    """Have a daemon take what comes over associations and from a folder, until it is told to stop."""
    place = daemon.state_dir.parent
    (place / "inbox").mkdir()
    every = slices(SENT + IN_FOLDER + BEFORE, STUDIES, draw)
    before, in_folder, rest = every[:BEFORE], every[BEFORE : BEFORE + IN_FOLDER], every[BEFORE + IN_FOLDER :]
    if version:
        start_with(daemon, before, version, history)
    files = {f"inbox/{one.sop_instance}.dcm": one for one in in_folder}
    for name, one in files.items():
        (place / name).write_bytes(one.file)
    disk = Disk(place)
    daemon.start()
    ledger = Ledger(history / "ledger.jsonl")
    with Load(daemon, ledger, rest) as load:
        load.ends()
    wait_until(lambda: not list((place / "inbox").iterdir()), 60, "the folder was taken")
    daemon.settled()
    assert daemon.terminate() == 0
    return Life(
        disk,
        read_calls(history / "calls"),
        {one.sop_instance: of(one) for one in (*before, *in_folder, *rest)},
        set(map(of, before if version else ())),
        files,
        moves,
    )


def start_with(daemon: DaemonProcess, before: list[EncodedInstance], version: int, history: Path) -> None:
    """Give a daemon a store of an earlier version of the schema, with a few instances that wait."""
    today = SqliteStore(history / "today.db", min_free_bytes=0)
    today.set_destinations(["files"])
    keep(today, before)
    today.close()
    daemon.state_dir.mkdir()
    write_earlier(history / "today.db", daemon.store_path, version)


@contextmanager
def another_file_system(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("version", "taken"),
    [(0, "deleted"), (1, "moved"), pytest.param(0, "moved elsewhere", marks=pytest.mark.needs("mount"))],
)
def test_what_is_acknowledged_survives_a_power_loss(
    version: int,
    taken: str,
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    tmp_path: Path,
    seed: int,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """The store is fresh or of an earlier version; files that were taken are deleted or moved."""
    draw = random.Random(seed)
    place = history / "daemon-0"
    afterwards = "delete" if taken == "deleted" else f'move"\nmove_to = "{place}/done'
    variables = {
        "LD_PRELOAD": build(RECORDER, tmp_path),
        "RECORD_BELOW": str(place),
        "RECORD_TO": str(history / "calls"),
    }
    settings = SETTINGS.format(place=place, afterwards=afterwards)
    daemon = make_daemon(("--quiet-period", "0.2"), settings, variables=variables)
    with another_file_system(place / "done") if taken == "moved elsewhere" else nullcontext():
        life = live(daemon, history, draw, version, moves=taken != "deleted")
    wrong = wrong_after(life.power_losses(scale(100, 5_000), draw), tmp_path)
    without_syncs = wrong_after(life.power_losses(scale(30, 500), draw, syncs=False), tmp_path)
    bad = sum(map(bool, without_syncs))
    figure(f"{len(wrong)} crash states of {len(life.calls)} calls; without syncs {bad} of {len(without_syncs)} are bad")
    assert not any(wrong), next(filter(None, wrong))
    assert bad > len(without_syncs) / 4, "the disk forgives what it should not"


def wrong_after(losses: Iterator[PowerLoss], folder: Path) -> list[list[str]]:
    """What is wrong after each."""
    found = []
    for loss in losses:
        place = folder / "after"
        found.append(loss.wrong(place))
        shutil.rmtree(place)
    return found
