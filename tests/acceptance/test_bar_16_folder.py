"""Bar 16: whatever writers do to a watched folder, each good file is taken exactly once and nothing else is touched."""

from __future__ import annotations

import os
import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom2fhir.system.text import token
from testdata.make_dicom import EncodedInstance
from tests.acceptance.load import of, slices, stored
from tests.acceptance.promises import Ledger, check
from tests.daemon_process import SETTLES_WITHIN_S, DaemonProcess, to_files, wait_until

pytestmark = [pytest.mark.bar(16), pytest.mark.timeout(300)]

STABLE_S = 0.2
STALL_S = 5 * STABLE_S
INCOMPLETE_S = 30 * STABLE_S
"""So long a writer may stall; the files that never become whole are refused after it."""
WRITERS = 24
FILES_PER_S = 20
"""On a machine that does much else; an idle one takes thousands."""
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
PERMISSIONS_COUNT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
"""Root, too, cannot read what its mode forbids then."""

Write = Callable[[Path, bytes, random.Random], None]


def at_once(path: Path, data: bytes, _: random.Random) -> None:
    path.write_bytes(data)


def by_renaming(path: Path, data: bytes, _: random.Random) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    partial.rename(path)


def from_outside(path: Path, data: bytes, _: random.Random) -> None:
    outside = inbox_of(path).parent / "outside" / path.name
    outside.write_bytes(data)
    outside.rename(path)


def by_linking(path: Path, data: bytes, _: random.Random) -> None:
    outside = inbox_of(path).parent / "outside" / path.name
    outside.write_bytes(data)
    os.link(outside, path)


def in_a_new_folder(path: Path, data: bytes, _: random.Random) -> None:
    outside = inbox_of(path).parent / "outside" / f"{path.name}-series"
    outside.mkdir()
    (outside / path.name).write_bytes(data)
    outside.rename(path.parent / outside.name)


def in_pieces(path: Path, data: bytes, draw: random.Random) -> None:
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(data), 400):
            file.write(data[at : at + 400])
            time.sleep(draw.random() * STABLE_S / 2)


def with_a_stall(path: Path, data: bytes, draw: random.Random) -> None:
    cut = draw.randrange(1, len(data))
    with path.open("wb", buffering=0) as file:
        file.write(data[:cut])
        time.sleep(STALL_S)
        file.write(data[cut:])


def locked_at_first(path: Path, data: bytes, _: random.Random) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0)
    with open(descriptor, "wb") as file:
        file.write(data)
    time.sleep(STALL_S)
    path.chmod(0o644)


def with_another_date(path: Path, data: bytes, _: random.Random) -> None:
    path.write_bytes(data)
    os.utime(path, (0, 0))


def within_an_element(encoded: EncodedInstance, draw: random.Random) -> int:
    """Where to cut its file so that anybody sees that it is cut: in the head of the first element, or in the pixels."""
    end, head = len(encoded.file), 8
    places = (range(len(encoded.meta) + 1, len(encoded.meta) + head), range(end - len(encoded.pixels) + 2 * head, end))
    return draw.choice(draw.choice(places))


GOOD: tuple[Write, ...] = (
    at_once,
    by_renaming,
    from_outside,
    by_linking,
    in_a_new_folder,
    in_pieces,
    with_a_stall,
    locked_at_first,
    with_another_date,
)


def inbox_of(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "inbox")


@dataclass
class Site:
    """A watched folder, and what is put into it.

    Attributes
    ----------
    good
        Path -> its bytes, of everything that has to be taken.
    interrupted
        Those of ``good`` whose writer paused.
    left
        What has to stay as it is.
    refused
        What has to be refused.
    """

    root: Path
    ledger: Ledger
    good: dict[Path, bytes] = field(default_factory=dict)
    interrupted: set[Path] = field(default_factory=set)
    left: set[Path] = field(default_factory=set)
    refused: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in ("inbox", "outside", "done", "rejected"):
            (self.root / name).mkdir()

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    def settings(self, mode: str, afterwards: str) -> str:
        return f"""
[folders.inbox]
path = "{self.inbox}"
watch = "{mode}"
stable_s = {STABLE_S}
incomplete_s = {INCOMPLETE_S}
rescan_s = 2
poll_s = 0.5
afterwards = "{afterwards}"
rejected_to = "{self.root / "rejected"}"
{f'move_to = "{self.root / "done"}"' if afterwards == "move" else ""}
{to_files(self.root / "out")}"""

    def write(self, instances: Sequence[EncodedInstance], draw: random.Random) -> None:
        """Write good files, many at a time and each in another manner."""

        def one(encoded: EncodedInstance, manner: Write, own: random.Random) -> None:
            path = self.inbox / f"writer-{own.randrange(10)}" / f"{encoded.sop_instance}.dcm"
            path.parent.mkdir(exist_ok=True)
            self.ledger.send(of(encoded))
            manner(path, encoded.file, own)
            made = path.parent / f"{path.name}-series" / path.name if manner is in_a_new_folder else path
            self.good[made] = encoded.file
            if manner in (in_pieces, with_a_stall):
                self.interrupted.add(made)
            self.ledger.acknowledge(of(encoded))

        manners = [GOOD[number % len(GOOD)] for number in range(len(instances))]
        draws = [random.Random(draw.random()) for _ in instances]
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(one, instances, manners, draws))

    def overflow(self, daemon: DaemonProcess, instances: Sequence[EncodedInstance], draw: random.Random) -> None:
        """Write while the daemon stands still and the system's queue of notices runs over."""
        with daemon.stopped():
            for number in range(int(QUEUE.read_text()) // 2 + 100):  # creating and closing are two notices
                noise = self.inbox / f".{number}"
                noise.touch()
                noise.unlink()
            self.write(instances, draw)

    @contextmanager
    def odd(self, instances: Sequence[EncodedInstance], draw: random.Random) -> Iterator[None]:
        """What is not to be taken: other kinds of files, files that vanish, cannot be read or never become whole."""
        self._links(instances[0])
        os.mkfifo(self.inbox / "fifo")
        for number, encoded in enumerate(instances[1:]):
            path = self.inbox / f"odd-{number}.dcm"
            match number % 4:
                case 0:
                    path.write_bytes(encoded.file[: within_an_element(encoded, draw)])
                    self.refused.add(path)
                case 1:
                    os.close(os.open(path, os.O_CREAT, 0))
                    self.left.add(path)
                case 2:
                    self.ledger.send(of(encoded))  # which may be taken before it vanishes
                    path.write_bytes(encoded.file)
                    path.unlink()
                case _:
                    path.write_text("This is not DICOM, however long one looks at it." * 20)
                    self.left.add(path)
        with socket.socket(socket.AF_UNIX) as server:
            short = Path(os.path.relpath(self.inbox / "socket"))  # its name may have 107 characters
            server.bind(str(short))
            self.left |= {self.inbox / name for name in ("fifo", "socket")}
            yield

    def _links(self, encoded: EncodedInstance) -> None:
        secret = self.root / "outside" / "secret.dcm"
        secret.write_bytes(encoded.file)
        (self.root / "outside" / "folder").mkdir()
        shutil.copy(secret, self.root / "outside" / "folder")
        targets = {"to-file": secret, "to-folder": secret.parent / "folder", "loop": self.inbox, "dangling": Path("-")}
        for name, target in targets.items():
            (self.inbox / name).symlink_to(target)
            self.left.add(self.inbox / name)

    def remain(self) -> set[Path]:
        """Everything in the folder that is no folder itself."""
        return {Path(folder, name) for folder, _, names in os.walk(self.inbox) for name in names} | {
            path for path in self.inbox.iterdir() if path.is_symlink()
        }


def wait_for(site: Site, daemon: DaemonProcess, afterwards: str) -> None:
    """Wait until everything is where it belongs."""
    kept = set(site.good) if afterwards == "keep" else set[Path]()
    wait_until(
        lambda: site.remain() == site.left | kept and len(stored(daemon.store_path)) >= len(site.good),
        SETTLES_WITHIN_S + len(site.good) / FILES_PER_S,
        "only what has to stay is left in the folder",
    )
    daemon.settled()


def where(path: Path, site: Site, folder: str) -> Path:
    return site.root / folder / path.relative_to(site.inbox)


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize(
    ("mode", "afterwards", "files"), [("native", "move", 1_000), ("native", "keep", 300), ("poll", "delete", 300)]
)
def test_each_good_file_is_taken_exactly_once(
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    seed: int,
    scale: Callable[[int, int], int],
    mode: str,
    afterwards: str,
    files: int,
) -> None:
    draw = random.Random(seed)
    instances = slices(scale(files, 20 * files), 20, draw)
    odd, late, usual = instances[:41], instances[41:91], instances[91:]
    site = Site(history, Ledger(history / "ledger.jsonl"))
    site.write(usual[:50], draw)  # before the daemon is there
    daemon = make_daemon(("--quiet-period", "0.5"), site.settings(mode, afterwards), behind=PERMISSIONS_COUNT)
    daemon.start()
    with site.odd(odd, draw):
        site.write(usual[50:], draw)
        site.overflow(daemon, late, draw)
        wait_for(site, daemon, afterwards)
        assert daemon.terminate() == 0

    rows = stored(daemon.store_path)
    check(sent=site.ledger.sent, acknowledged=site.ledger.acknowledged, stored=rows)
    lines = [line for line in daemon.log_lines() if line["event"] == "file.processed" and line["outcome"] == "taken"]
    taken = Counter(line["path"] for line in lines)
    vanished = set(rows) - site.ledger.acknowledged
    assert len(taken) == len(site.good) + len(vanished), "each is taken"
    # A pause between two elements leaves a file that is complete without the rest; kept, it is taken again as it grows.
    may_grow = {token(str(path)) for path in site.interrupted} if afterwards == "keep" else set[str]()
    assert {path for path, times in taken.items() if times > 1} <= may_grow, "others are taken once"
    if afterwards == "move":
        moved = Counter(path for path in (site.root / "done").rglob("*") if path.is_file())
        assert moved == Counter(where(path, site, "done") for path in site.good)
        assert all(where(path, site, "done").read_bytes() == data for path, data in site.good.items())
    if afterwards == "keep":
        assert all(path.read_bytes() == data for path, data in site.good.items())
    rejected = {path for path in (site.root / "rejected").rglob("*") if path.is_file()}
    reasons = {path for path in rejected if path.name.endswith(".reason.txt")}
    assert rejected - reasons == {where(path, site, "rejected") for path in site.refused}
    assert len(reasons) == len(site.refused)
