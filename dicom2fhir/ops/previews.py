"""What a destination gets of a study, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dicom2fhir.model import Note, Resource, Study


@dataclass(frozen=True, slots=True)
class Preview:
    """The resources that a destination gets of a study now.

    Attributes
    ----------
    notes
        What was left out or replaced, and why.
    unclaimed
        Why the ImagingStudy does not claim the profile of the destination.
    link
        URL that finds the ImagingStudy on the server; empty for files.
    error
        Why there are no resources.
    """

    destination: str
    version: str
    resources: tuple[Resource, ...] = ()
    notes: tuple[Note, ...] = ()
    unclaimed: str = ""
    link: str = ""
    error: str = ""


class Previewer(Protocol):
    """Makes previews."""

    def of(self, study: Study, name: str, fingerprint: str) -> Preview:
        """What a destination gets of a study now.

        Parameters
        ----------
        fingerprint
            The mapping fingerprint of the destination.
        """

    def viewer(self, study_uid: str) -> str:
        """The URL that opens a study in a viewer; empty without one."""
