"""Measure reading a header against pydicom: ``python -m bench.headers``.

Both open the same CT files, read up to Pixel Data, and decode the attributes that the bridge keeps, those in sequences
too; in turn, in this process, on one core, from a warm file cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import pydicom
from pydicom.dataset import Dataset

from bench.report import Goal, Result, Row, options, progress, show, use_one_core
from dicom2fhir.dicom.attributes import Attribute, taken
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.folder.files import open_file
from testdata.make_dicom import EncodedInstance, ct_files, ct_instances

_ASKED_RATIO = 6.0
_ATTRIBUTES = tuple(taken())


def by_pydicom(path: str) -> None:
    """Read a header and decode by ``pydicom.dcmread``."""
    decode(pydicom.dcmread(path, stop_before_pixels=True), _ATTRIBUTES)


def decode(data_set: Dataset, attributes: Iterable[Attribute]) -> None:
    """Have pydicom decode attributes, which it does when they are looked at."""
    for attribute in attributes:
        if attribute.tag in data_set:
            value = data_set[attribute.tag].value
            if attribute.items:
                for item in value:
                    decode(item, attribute.items)


def by_us(path: str) -> None:
    """Read a header and make a record, without a cache."""
    with open_file(path) as file:
        header = read_file(file, WANTED)
    decode_instance(header.received(Origin("file", path=path)))


def read_by(reader: InstanceReader, path: str) -> None:
    """Read a header and make a record, as ``convert`` and ``backfill`` do."""
    with open_file(path) as file:
        header = reader.read_file(file)
    reader.decode(header.received(Origin("file", path=path)))


def series_by_us() -> Callable[[str], None]:
    """Read the files of a series by one reader."""
    return partial(read_by, InstanceReader())


def receiver(sent: Mapping[str, EncodedInstance]) -> Callable[[str], None]:
    """Take the data sets of a series out of memory, as the receiver does when they came over the network."""
    reader = InstanceReader()
    origin = Origin("dimse")
    data_sets = {path: memoryview(instance.header + instance.pixels) for path, instance in sent.items()}

    def take(path: str) -> None:
        instance = sent[path]
        header = reader.open_header(instance.transfer_syntax)
        header.write(data_sets[path])
        taken = header.end()
        reader.decode(Received(taken, header.transfer_syntax, origin, instance.sop_class, instance.sop_instance))

    return take


def per_file_s(read: Callable[[str], None], paths: Sequence[str]) -> float:
    """Processor time for each file."""
    started = time.process_time()
    for path in paths:
        read(path)
    return (time.process_time() - started) / len(paths)


def measure(files: int, rounds: int, side: int) -> Result:
    """Read the same files each way in turn."""
    times: dict[str, list[float]] = {
        "pydicom.dcmread": [],
        "this bridge, file by file": [],
        "the same, as series": [],
        "the receiver, from memory": [],
    }
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        paths = [str(path) for path in ct_files(Path(name), files, side=side)]
        sent = dict(zip(paths, ct_instances(files, side=side), strict=True))
        size = Path(paths[0]).stat().st_size
        with progress(rounds, "reading") as advance:
            for _ in range(rounds):
                for way, read in zip(times, (by_pydicom, by_us, series_by_us(), receiver(sent)), strict=True):
                    times[way].append(per_file_s(read, paths))
                advance()
    theirs = times["pydicom.dcmread"]
    ratios = {way: median(a / b for a, b in zip(theirs, ours, strict=True)) for way, ours in times.items()}
    rows: list[Row] = [
        {"what": way, "us a file": median(found) * 1e6, "ratio": ratios[way]} for way, found in times.items()
    ]
    goals = [
        Goal(f"header of a CT file, {way}", ratios[way], f">= {_ASKED_RATIO:g}", ratios[way] >= _ASKED_RATIO)
        for way in list(ratios)[1:3]
    ]
    remarks = [f"{files} files of {size:,} bytes, processor time, median of {rounds} rounds; ratios within a round"]
    return Result("Reading a header", rows, goals, remarks)


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", type=int, default=128, help="pixels of a slice's edge")
    chosen = parser.parse_args()
    use_one_core()
    show(measure(10, 1, 16) if chosen.quick else measure(chosen.files, chosen.rounds, chosen.side), chosen.json)


if __name__ == "__main__":
    main()
