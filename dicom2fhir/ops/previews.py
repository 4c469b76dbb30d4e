"""What a destination gets of a study, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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

    def choices(self) -> tuple[Sequence[str], Sequence[str]]:
        """The FHIR versions and the profiles that :meth:`explain` knows."""

    def explain(self, file: bytes, version: str, profile: str) -> Mapping[str, Any]:
        """What becomes of a file: the document of ``dicom2fhir explain --json``.

        Raises
        ------
        Permanent
            It is no SOP instance, or cannot be understood.
        ConfigError
            There is no such version or profile.
        """

    def viewer(self, study_uid: str) -> str:
        """The URL that opens a study in a viewer; empty without one."""
