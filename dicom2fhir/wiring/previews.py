"""What destinations get of a study that is in the store, for people to look at: nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from dicom2fhir.config import FileDestinationSettings, Settings
from dicom2fhir.errors import BridgeError, ConfigError, attempt
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.endpoints import NUMBER_IN_TEMPLATE, viewer_url
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.send.comparison import compared
from dicom2fhir.fhir.send.last_sent import Base
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.jobs import conversion
from dicom2fhir.model import Study, texts_of
from dicom2fhir.ops.previews import Preview
from dicom2fhir.wiring import options, parts
from dicom2fhir.wiring.translation import Translation


class Previews:
    """Maps studies as the destinations of a configuration want them.

    Parameters
    ----------
    in_force
        Returns the settings in force.
    """

    def __init__(self, in_force: Callable[[], Settings]) -> None:
        self._in_force = in_force

    @property
    def _settings(self) -> Settings:
        settings = self._in_force()
        # fhir.resources would take a second to load, for a check of what people look at anyway
        unchecked = settings.fhir.model_copy(update={"validation": "never"})
        return settings.model_copy(update={"fhir": unchecked})

    def of(self, study: Study, name: str, fingerprint: str, last_sent: bytes) -> Preview:
        """See :meth:`dicom2fhir.ops.previews.Previewer.of`."""
        try:
            dialect, mapper = self._mapping(name, fingerprint)
            if study.conflict:
                return Preview(name, dialect.name, error=study.conflict)
            mapped = attempt(mapper.map, study, dialect)
        except BridgeError as error:
            return Preview(name, fingerprint.partition(" ")[0], error=str(error))
        return Preview(
            name,
            dialect.name,
            resources=tuple(entry["resource"] for entry in standalone(mapped)["entry"]),
            notes=mapped.notes,
            unclaimed=mapped.unclaimed,
            link=self._link(name, mapped.entries[0].search),
            compared=compared(Base.from_bytes(last_sent, dialect.name), mapped),
        )

    def choices(self) -> tuple[Sequence[str], Sequence[str]]:
        """See :meth:`dicom2fhir.ops.previews.Previewer.choices`."""
        return list(DIALECTS), options.profile_names()

    def explain(self, file: BinaryIO, version: str, profile: str) -> Mapping[str, Any]:
        """See :meth:`dicom2fhir.ops.previews.Previewer.explain`."""
        versions, profiles = self.choices()
        if version not in versions or profile not in (*profiles, "none"):  # the path of a file is not for the network
            raise ConfigError("There is no such FHIR version or profile.")
        settings = self._settings
        chosen = settings.fhir.model_copy(update={"version": version, "profile": profile})
        translation = Translation(settings.model_copy(update={"fhir": chosen}))
        source = conversion.InputFile("the file", lambda: file, asked_for=True)
        record = attempt(conversion.instance_of, source, options.budgets(settings))
        return attempt(translation.explain, record).document()

    def viewer(self, study: Study) -> str:
        """See :meth:`dicom2fhir.ops.previews.Previewer.viewer`."""
        number = next(iter(texts_of(study.attrs.get("AccessionNumber"))), "")
        return viewer_url(self._settings.pacs.viewer_url, study.uid, number)

    @property
    def viewer_needs_accession(self) -> bool:
        """See :attr:`dicom2fhir.ops.previews.Previewer.viewer_needs_accession`."""
        return NUMBER_IN_TEMPLATE in self._settings.pacs.viewer_url

    def _mapping(self, name: str, fingerprint: str) -> tuple[Dialect, StudyMapper]:
        """What maps for a destination; the fingerprint tells the FHIR version where the server decides it."""
        settings = self._settings
        profile = parts.profile_of(settings, name)
        version = settings.version_set(name)
        spoken = fingerprint.partition(" ")[0]
        dialect = DIALECTS[spoken] if version == "auto" and spoken in DIALECTS else options.dialect(version, profile)
        return dialect, options.mapper(settings, settings.patient_mode(name), profile, destination=name)

    def _link(self, name: str, search: str) -> str:
        """The URL of the search by which the bridge finds the ImagingStudy, too."""
        destination = self._settings.destinations[name]
        if isinstance(destination, FileDestinationSettings):
            return ""
        return f"{destination.url.rstrip('/')}/ImagingStudy?{search}"
