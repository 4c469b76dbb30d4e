"""From a study to the resources that one destination gets: version, rules, profile, and a check of the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dicom2fhir.errors import ConfigError, NotExpressible, NothingToWrite
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect, by_fhir_version
from dicom2fhir.fhir.version.validate import Validator
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Note, Study

if TYPE_CHECKING:
    from dicom2fhir.fhir.profile.model import Missing, Profile


def check_version(version: str, profile: Profile | None) -> None:
    """Check that a profile is made for a FHIR version.

    Raises
    ------
    ConfigError
        It is not.
    """
    if profile and version not in profile.versions:
        made_for = " and ".join(profile.versions)
        raise ConfigError(f"The profile {profile.name} is for FHIR {made_for}, not for {version}.")


def log_finding(study_uid: str, finding: Note) -> None:
    """Log what fhir.resources finds wrong with the resources of a study."""
    import structlog  # here, because commands that make FHIR hardly ever log, and it takes long to load

    structlog.get_logger(__name__).error("resource.invalid", study=study_uid, where=finding.where, finding=finding.text)


@dataclass(frozen=True, slots=True)
class DialectChoice:
    """Which FHIR version is written.

    Attributes
    ----------
    version
        The name of the version that is set; ``auto``: the server's own.
    profile
        What the resources are made to conform to.
    """

    version: str = "auto"
    profile: Profile | None = None

    def dialect(self, fhir_version: str) -> Dialect:
        """The dialect for the ``fhirVersion`` of a server's ``/metadata``.

        Raises
        ------
        ConfigError
            No dialect has this version, it is not the version that is set, or the profile is not made for it.
        """
        spoken = by_fhir_version(fhir_version)
        if self.version == "auto":
            if spoken is None:
                known = ", ".join(f"{one.name} ({one.fhir_version})" for one in DIALECTS.values())
                raise ConfigError(f"This version is not supported; supported versions: {known}.")
            found = spoken
        else:
            found = DIALECTS[self.version]
            if spoken is not None and not spoken.writes_as(found):
                raise ConfigError(
                    f'version = "{self.version}" is set, but this is {spoken.name}, which has other elements: some'
                    f' would be lost without an error. Set version = "{spoken.name}" or "auto". Nothing is sent until'
                    " then."
                )
        check_version(found.name, self.profile)
        return found


def require_announceable(study: Study, dialect: Dialect) -> None:
    """Check that a study of which no instance has arrived can be written.

    Raises
    ------
    NothingToWrite
        It cannot.
    """
    if not study.patient:
        raise NothingToWrite("No instance has arrived yet, and no procedure step (MPPS) names the patient.")
    if "status" not in dialect.elements:
        raise NothingToWrite(f"No instance has arrived yet, and {dialect.name} has no status for such a study.")


class StudyMapper:
    """Maps studies.

    Parameters
    ----------
    profile
        What the resources are made to conform to; None: to FHIR alone.
    missing
        What to do when something is missing that the profile requires; None: what the profile says.
    validator
        Which results fhir.resources checks; None: none.
    fingerprint
        Of the mapping, without the FHIR version; empty where nobody asks for it.
    on_finding
        Called with the Study Instance UID and what is wrong with the resources.
    """

    def __init__(
        self,
        policy: MappingOptions,
        profile: Profile | None = None,
        missing: Missing | None = None,
        validator: Validator | None = None,
        fingerprint: str = "",
        on_finding: Callable[[str, Note], None] = log_finding,
    ) -> None:
        self._policy = policy
        self._profile = profile
        self._missing = missing
        self._validator = validator or Validator("never")
        self._fingerprint = fingerprint
        self._on_finding = on_finding

    def map(self, study: Study, dialect: Dialect) -> Mapped:
        """The resources of a study in one FHIR version.

        Raises
        ------
        NotExpressible
            The profile requires what the study does not have, or rejected instances that are written nevertheless
            name another patient.
        NothingToWrite
            No instance has arrived yet, and what is known of the study cannot be written.
        """
        if self._policy.rejection_notes == "never":
            if study.rejection and study.rejection.before.conflict:
                raise NotExpressible(study.rejection.before.conflict)
            study = study.before_rejection
        if study.is_announced:
            require_announceable(study, dialect)
        mapped = self.conformed(map_study(study, dialect, self._policy), study, dialect)
        for finding in self._validator.findings(mapped, dialect.name):
            self._on_finding(study.uid, finding)
        return replace(mapped, fingerprint=f"{dialect.name} {self._fingerprint}") if self._fingerprint else mapped

    def conformed(self, mapped: Mapped, study: Study, dialect: Dialect) -> Mapped:
        """What :func:`~dicom2fhir.fhir.mapping.engine.map_study` made of a study, as the profile wants it.

        A study of which no instance has arrived, or remains, lacks most of what a profile requires: it is written
        without it, and does not claim the profile. Of what rejection notes left of a study nothing is refused, either:
        the rejected instances would stay where they are.
        """
        if self._profile is None:
            return mapped
        from dicom2fhir.fhir.profile.apply import (
            conform,  # here: without a profile nothing that knows profiles is loaded
        )

        missing = self._missing or self._profile.missing
        if study.is_announced or study.rejected_for or (study.rejection and missing == "refuse"):
            missing = "omit"
        return conform(self._profile, mapped, study, dialect, self._policy, missing)
