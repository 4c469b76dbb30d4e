"""What a destination gets of a study, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

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
    compared
        Resources as they were delivered last and as they are made now, if they may differ; empty before, if one was not
        delivered. None if nothing was delivered, or what was delivered was not kept.
    """

    destination: str
    version: str
    resources: tuple[Resource, ...] = ()
    notes: tuple[Note, ...] = ()
    unclaimed: str = ""
    link: str = ""
    error: str = ""
    compared: tuple[tuple[Resource, Resource], ...] | None = None


class Previewer(Protocol):
    """Makes previews."""

    def of(self, study: Study, name: str, fingerprint: str, last_sent: bytes) -> Preview:
        """What a destination gets of a study now.

        Parameters
        ----------
        fingerprint
            The mapping fingerprint of the destination.
        last_sent
            As in :meth:`dicom2fhir.store.study_search.StudySearch.last_sent`; empty if nothing was delivered.
        """

    def choices(self) -> tuple[Sequence[str], Sequence[str]]:
        """The FHIR versions and the profiles that :meth:`explain` knows."""

    def explain(self, file: BinaryIO, version: str, profile: str) -> Mapping[str, Any]:
        """What becomes of a file, which is closed: the document of ``dicom2fhir explain --json``.

        Raises
        ------
        Permanent
            It is no SOP instance, or cannot be understood.
        ConfigError
            There is no such version or profile.
        """

    def viewer(self, study: Study) -> str:
        """The URL that opens a study in a viewer; empty without one, or if it needs what the study does not have."""

    @property
    def viewer_needs_accession(self) -> bool:
        """Whether the URL of the viewer contains the accession number."""
