"""Applies a profile: what the mapping made of a study becomes what the profile asks for.

A profile acts on the finished resources and the study that they came from, so the rules of the mapping know nothing of
profiles.
"""

from __future__ import annotations

from dataclasses import replace

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.mapping.options import MappingOptions
from dicom2fhir.fhir.profile.model import Missing, Profile
from dicom2fhir.fhir.profile.related import RelatedResources
from dicom2fhir.fhir.profile.resource import with_contained
from dicom2fhir.fhir.profile.study import StudyInProfile
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Study


def conform(
    profile: Profile,
    mapped: Mapped,
    study: Study,
    dialect: Dialect,
    options: MappingOptions,
    missing: Missing | None = None,
) -> Mapped:
    """Make the resources of a study what the profile asks for.

    Parameters
    ----------
    mapped
        What :func:`~dicom2fhir.fhir.mapping.engine.map_study` made of ``study`` in this dialect.
    missing
        What to do when a required value is missing; None: what the profile says.

    Raises
    ------
    NotExpressible
        Something required is missing and ``missing`` is ``"refuse"``; the text names the elements.
    """
    context = MappingContext(study, dialect, options)
    context.notes = dict.fromkeys(mapped.notes)
    first, *others = mapped.entries
    imaging_study = StudyInProfile(profile, first.resource, context, missing or profile.missing)
    related = RelatedResources(imaging_study, others)
    imaging_study.identifiers()
    imaging_study.orders()
    imaging_study.write_elements()
    imaging_study.starts()
    imaging_study.extend_levels()
    related.conform()
    imaging_study.limit_elements()
    unmet = imaging_study.unmet
    unmet |= related.unmet()
    if unmet and imaging_study.missing == "refuse":
        raise NotExpressible(f"Values that profile {profile.name} requires are missing: {', '.join(unmet)}.")
    canonical = profile.versions[dialect.name]
    for where in unmet:
        context.note("warning", where, f"is missing: the ImagingStudy does not claim profile {profile.name}")
    finished = with_contained(imaging_study.finished(canonical), context)
    are = f"{', '.join(unmet)} {'is' if len(unmet) == 1 else 'are'} missing"
    unclaimed = f"does not claim profile {profile.name}: {are}" if unmet and canonical else ""
    entries = replace(first, resource=finished), *related.referred_to(finished)
    return replace(mapped, entries=entries, notes=tuple(context.notes), unclaimed=unclaimed)
