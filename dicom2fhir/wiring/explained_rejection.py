"""What ``explain`` says of a file that is a rejection note."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dicom2fhir.config import Settings
from dicom2fhir.dicom.rejection_notes import rejection_note, title_of
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.fhir.version.dialect import Dialect
from dicom2fhir.model import InstanceRecord
from dicom2fhir.system.text import counted


@dataclass(frozen=True, slots=True)
class ExplainedRejection:
    """A rejection note, and from whom it would be applied.

    Attributes
    ----------
    code
        Its title, of PS3.16 CID 7031.
    modifiers
        Its Document Title Modifiers: why the title says so.
    problem
        Why it cannot be applied; empty if it can.
    instances, studies
        The number of instances that it names, and of their studies.
    status
        ``ImagingStudy.status`` of a study of which nothing is left; empty in versions without one.
    calling_ae_titles, folders
        Senders and watched folders from which it is applied.
    not_applied_at
        Destinations at which rejection notes change nothing.
    """

    code: str
    modifiers: tuple[str, ...]
    problem: str
    instances: int
    studies: int
    status: str
    calling_ae_titles: tuple[str, ...]
    folders: tuple[str, ...]
    not_applied_at: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.problem:
            yield f"Rejection note {self.code} that is refused: {self.problem}"
            return
        named, studies = counted(self.instances, "instance"), counted(self.studies, "study")
        status = f"status {self.status}" if self.status else "availability UNAVAILABLE"
        title = " ".join((self.code, *(f"({words})" for words in self.modifiers)))
        yield f"Rejection note {title}: {named} of {studies} will be left out; if nothing is left: {status}."
        senders = ", ".join(self.calling_ae_titles)
        yield f"Over C-STORE it is applied from {senders or 'nobody: receiver.rejection_notes_from is empty'}."
        if self.folders:
            yield f"It is applied from the folders {', '.join(self.folders)}."
        if self.not_applied_at:
            yield f"It changes nothing at the destinations {', '.join(self.not_applied_at)}."


def explained_rejection(record: InstanceRecord, settings: Settings, dialect: Dialect) -> ExplainedRejection | None:
    """What an instance rejects; None if it is no rejection note."""
    code = title_of(record)
    if not code:
        return None
    problem, modifiers, named = "", list[str](), dict[str, tuple[str, ...]]()
    try:
        note = rejection_note(record, is_applied=True)
        if note:
            named.update(note.instances)
            modifiers += [each.meaning or each.value for each in note.modifiers]
    except CannotUnderstand as error:
        problem = str(error)
    return ExplainedRejection(
        code,
        tuple(modifiers),
        problem,
        sum(map(len, named.values())),
        len(named),
        dialect.rejected[code] if "status" in dialect.elements else "",
        tuple(sorted(settings.receiver.rejection_notes_from)),
        tuple(name for name, folder in settings.folders.items() if folder.rejection_notes),
        tuple(name for name in settings.destinations if settings.resources_of(name).rejection_notes == "never"),
    )
