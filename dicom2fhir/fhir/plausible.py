"""Numbers that cannot be what their attribute says: a wrong unit, or a number typed to fill a field.

Nothing is corrected: whether 175 is a size in centimetres or a weight in the wrong field, the header does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from dicom2fhir.fhir.values import decimal

BOUNDS: Mapping[str, tuple[Decimal, Decimal]] = {
    # kg and m of people: from the smallest children that survived (212 g, 24 cm) to the heaviest and the tallest person
    # on record (635 kg, 2.72 m), with some room
    "PatientWeight": (Decimal("0.2"), Decimal("700")),
    "PatientSize": (Decimal("0.2"), Decimal("3")),
    # T; some headers give gauss, and no magnet that a body fits into has 30 T
    "MagneticFieldStrength": (Decimal("0.001"), Decimal("30")),
}
"""Keyword -> what its numbers may be at least and at most, in the unit of the attribute."""

POSITIVE = frozenset(
    {
        *("SliceThickness", "PixelSpacing", "ReconstructionDiameter", "ReconstructionFieldOfView"),
        *("DataCollectionDiameter", "KVP", "ImagingFrequency", "TransducerFrequency", "PulseRepetitionFrequency"),
        *("RadionuclideTotalDose", "RadionuclideHalfLife"),
    }
)
"""Lengths, voltages, frequencies and activities: without them there is no image. PS3.3 section 10.7.1.3 says it of
spacing."""

NOT_NEGATIVE = frozenset(
    {
        *("RepetitionTime", "EchoTime", "InversionTime", "ExposureTime", "XRayTubeCurrent", "Exposure", "CTDIvol"),
        "SpiralPitchFactor",
    }
)
"""Times, currents and doses, which may be none."""


_JUDGED = BOUNDS.keys() | POSITIVE | NOT_NEGATIVE


def is_plausible(keyword: str, value: str) -> bool:
    """Whether a value can be what the attribute says; text that is no number is not judged here."""
    if keyword not in _JUDGED or (number := decimal(value)) is None:
        return True
    if keyword in BOUNDS:
        least, most = BOUNDS[keyword]
        return least <= number <= most
    return number > 0 or (number == 0 and keyword in NOT_NEGATIVE)
