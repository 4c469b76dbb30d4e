"""Convert files to FHIR, without a store and a server (``dicom2fhir convert``)."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from dicom2fhir.dicom.completeness import noted
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets
from dicom2fhir.dicom.documents import mentioned_studies
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.rejection_notes import rejection_note
from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import BridgeError, NotDicom, attempt
from dicom2fhir.fhir.send import bundle
from dicom2fhir.jobs.archives import obstacle, obstacles, open_zip_member
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import InstanceRecord, Origin, RejectedInstance, Resource, Study
from dicom2fhir.receive.folder.files import open_file, walk

STDIN = "-"
_ZIP_MAGIC = b"PK\x03\x04"
_IN_MEMORY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file, or a member of an archive, that may be DICOM.

    ``asked_for`` is True if the user named it, not only its folder or archive: then it must be DICOM.
    """

    name: str
    open: Callable[[], BinaryIO]
    asked_for: bool


@dataclass(slots=True)
class ReadInstances:
    """The instances of all files that were read."""

    studies: dict[str, dict[tuple[str, str], InstanceRecord]] = field(default_factory=lambda: defaultdict(dict))
    """Study Instance UID -> Series and SOP Instance UID -> record; of several files of an instance, the last one."""
    rejections: dict[str, dict[RejectedInstance, None]] = field(default_factory=lambda: defaultdict(dict))
    """Study Instance UID -> what rejection notes state of its instances."""
    skipped: int = 0
    """Files that are not SOP instances and that the user did not name."""
    failed: int = 0

    @property
    def instances(self) -> int:
        """The number of instances; one that is in several files counts once."""
        return sum(map(len, self.studies.values()))

    def study(self, uid: str) -> Study:
        """One of :attr:`studies`, assembled."""
        records = self.studies[uid].values()
        return assemble(
            uid, 1, records, rejections=self.rejections[uid], rejected_elsewhere=self._rejected_elsewhere(records)
        )

    def _rejected_elsewhere(self, records: Iterable[InstanceRecord]) -> dict[str, frozenset[str]]:
        named = {uid for record in records for uid in mentioned_studies(record)} & self.rejections.keys()
        return {uid: frozenset(one.uid for one in self.rejections[uid] if one.uid != one.note) for uid in named}

    def add(self, record: InstanceRecord, may_reject: bool) -> None:
        """Add an instance; a rejection note is applied if ``may_reject``.

        Raises
        ------
        CannotUnderstand
            It is a rejection note that cannot be applied as a whole.
        """
        note = rejection_note(record, may_reject)
        if note and note.is_applied:
            for study_uid, uids in (*note.instances.items(), (record.study_uid, (note.uid,))):
                rejected = (RejectedInstance(uid, note.uid, note.code, note.modifiers) for uid in uids)
                self.rejections[study_uid].update(dict.fromkeys(rejected))
        self.studies[record.study_uid][record.series_uid, record.sop_uid] = record


def input_files(
    paths: Iterable[str], stdin: BinaryIO, on_error: Callable[[str, str], None], open_until: ExitStack
) -> Iterator[InputFile]:
    """The files behind the paths: files themselves, all below folders, the members of zip archives, ``-`` for stdin.

    Parameters
    ----------
    on_error
        Called with the name and the reason of what cannot be opened.
    open_until
        Closes the archives, which stay open while their members are read.
    """
    for path in paths:
        if path == STDIN:
            yield from _file_or_members("stdin", stdin, on_error, open_until)
        elif Path(path).is_dir():
            tell = partial(_tell, on_error)
            yield from (
                InputFile(found.path, partial(open_file, found.path), asked_for=False)
                for found in walk([path], in_order=True, on_error=tell)
            )
        else:
            try:
                yield from _named(path, on_error, open_until)
            except OSError as error:
                _tell(on_error, path, error)


def _named(path: str, on_error: Callable[[str, str], None], open_until: ExitStack) -> Iterator[InputFile]:
    """A file that the user named; only archives and pipes stay open, because there may be very many files."""
    with ExitStack() as for_now:
        file = for_now.enter_context(Path(path).open("rb"))
        if file.seekable() and not _is_archive(file):
            yield InputFile(path, lambda: Path(path).open("rb"), asked_for=True)  # noqa: SIM115 (closed by who reads)
        else:
            open_until.push(for_now.pop_all())
            yield from _file_or_members(path, file, on_error, open_until)


def _is_archive(file: BinaryIO) -> bool:
    """Whether it is a zip archive, or begins like one."""
    file.seek(0)
    begins = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    return begins or zipfile.is_zipfile(file)


def _tell(on_error: Callable[[str, str], None], name: str, error: OSError) -> None:
    on_error(name, error.strerror or str(error))


def _file_or_members(
    name: str, file: BinaryIO, on_error: Callable[[str, str], None], open_until: ExitStack
) -> Iterator[InputFile]:
    """A file that stays open, or, of a zip archive, its members.

    Only the header of a member is read, so that one that inflates to a huge size does no harm.
    """
    if not file.seekable():
        spooled = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (closed with open_until)
        held = cast("BinaryIO", open_until.enter_context(spooled))
        shutil.copyfileobj(file, held)
        file = held
    if not _is_archive(file):
        file.seek(0)
        yield InputFile(name, lambda: file, asked_for=True)
        return
    if not zipfile.is_zipfile(file):
        on_error(name, "the zip archive is damaged or incomplete")
        return
    try:
        archive = open_until.enter_context(attempt(zipfile.ZipFile, file))
    except (OSError, BridgeError) as error:
        on_error(name, f"the archive cannot be read: {error}")
        return
    members = [member for member in archive.infolist() if not member.is_dir()]
    for reason in obstacles(members):
        on_error(name, reason)
    for member in members:
        if not obstacle(member):
            yield InputFile(f"{name}:{member.filename}", partial(open_zip_member, archive, member), asked_for=False)


def read(
    found: Iterable[InputFile],
    on_error: Callable[[str, str], None],
    on_read: Callable[[], None] = lambda: None,
    budgets: Budgets = DEFAULT_BUDGETS,
    may_reject: bool = True,
) -> ReadInstances:
    """Read every file; those that cannot be read are reported and left out.

    Parameters
    ----------
    on_error
        Called with the name and the reason.
    on_read
        Called after each file, for a progress bar.
    may_reject
        Whether rejection notes are applied.
    """
    reading = ReadInstances()
    reader = InstanceReader(budgets)
    for source in found:
        try:
            reading.add(attempt(_read_one, source, reader), may_reject)
        except NotDicom as error:
            if source.asked_for:
                reading.failed += 1
                on_error(source.name, str(error))
            else:
                reading.skipped += 1
        except BridgeError as error:
            reading.failed += 1
            on_error(source.name, str(error))
        except OSError as error:
            reading.failed += 1
            on_error(source.name, error.strerror or str(error))
        except MemoryError:
            reading.failed += 1
            on_error(source.name, "not enough memory to read the file")
        on_read()
    return reading


def _read_one(source: InputFile, reader: InstanceReader) -> InstanceRecord:
    with source.open() as file:
        header = reader.read_file(file)
        # the end of an archive's member or of a pipe is known only after reading all of it
        is_file = isinstance(file, io.BufferedReader)
        notes = noted(file, header.rest, os.fstat(file.fileno()).st_size) if is_file else ()
    return reader.decode(header.received(Origin("file", path=source.name), notes))


def named_file(path: str) -> InputFile:
    """A file that is read as it is, not as an archive."""
    return InputFile(path, partial(open_file, path), asked_for=True)


def instance_of(source: InputFile, budgets: Budgets = DEFAULT_BUDGETS) -> InstanceRecord:
    """The instance in a single file.

    Raises
    ------
    Permanent
        The file is no SOP instance, or cannot be understood.
    """
    return _read_one(source, InstanceReader(budgets))


def as_resources(mapped: Mapped) -> list[Resource]:
    """The resources without a Bundle, for bulk data; they refer to each other by type and id."""
    targets = {
        entry.placeholder: bundle.unlinked(entry)
        if entry.write is Write.LINK
        else f"{entry.resource['resourceType']}/{entry.resource['id']}"
        for entry in mapped.everything
    }
    return [
        bundle.refer(entry.resource, targets, mapped.everything)
        for entry in mapped.everything
        if entry.write is not Write.LINK
    ]


def write_file(directory: Path, name: str, content: bytes) -> Path:
    """Write a file; it is either complete or absent."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            shutil.copyfileobj(io.BytesIO(content), file)
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).rename(path)
    return path
