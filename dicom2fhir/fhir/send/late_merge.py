"""Merge of an ImagingStudy whose earlier instances the store has forgotten: what is on the server is the study.

The server's values stand for all instances, ours only for those that came late. So series and instances of ours are
added by UID, elements that the server lacks are filled in, and nothing else changes, except in instances that came
again.
"""

from __future__ import annotations

from dicom2fhir.fhir.send.merge import identities, merge
from dicom2fhir.model import Resource


def merge_late(ours: Resource, theirs: Resource, *, acquisition_only: bool = False) -> Resource:
    """The ImagingStudy to write.

    Parameters
    ----------
    ours
        Made of the instances that came late.
    theirs, acquisition_only
        As of :func:`~dicom2fhir.fhir.send.merge.merge`.
    """
    late = _without_claims(_with_published_number(ours, theirs))
    return merge(None, _corrected(theirs, ours), late, acquisition_only=acquisition_only)


def _corrected(theirs: Resource, ours: Resource) -> Resource:
    """The server's study with our content of the instances that came again."""
    again = {
        (series.get("uid"), instance.get("uid")): instance
        for series in ours.get("series", ())
        for instance in series.get("instance", ())
    }
    if "series" not in theirs:
        return theirs
    return {**theirs, "series": [_corrected_series(series, again) for series in theirs["series"]]}


def _corrected_series(series: Resource, again: dict[tuple[object, object], Resource]) -> Resource:
    if "instance" not in series:
        return series
    instances = ((instance, again.get((series.get("uid"), instance.get("uid")))) for instance in series["instance"])
    return {**series, "instance": [merge(None, late, known) if late else known for known, late in instances]}


def _with_published_number(ours: Resource, theirs: Resource) -> Resource:
    """Ours with another accession number as an identifier: ``accession`` holds one, which was published."""
    if "accession" not in ours or "accession" not in theirs:
        return ours
    number = ours["accession"]
    rest = {name: value for name, value in ours.items() if name != "accession"}
    if set(identities("accession", number)) & set(identities("accession", theirs["accession"])):
        return rest
    return {**rest, "identifier": [*rest.get("identifier", ()), number]}


def _without_claims(ours: Resource) -> Resource:
    """Ours without its profiles: a part may conform where the whole does not."""
    meta = {name: value for name, value in ours.get("meta", {}).items() if name != "profile"}
    rest = {name: value for name, value in ours.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest
