"""Plausible ranges of numbers. Values outside them have a wrong unit, or were typed to fill a field.

Implausible values are left out and not corrected: 175 may be a size in centimetres or a weight in the wrong field.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from dicom2fhir.fhir.version.datatypes import decimal

BOUNDS: Mapping[str, tuple[Decimal, Decimal]] = {
    # kg and m of people: from the smallest children that survived (212 g, 24 cm) to the heaviest and the tallest person
    # on record (635 kg, 2.72 m), with some room
    "PatientWeight": (Decimal("0.2"), Decimal("700")),
    "PatientSize": (Decimal("0.2"), Decimal("3")),
    # T; some headers give gauss. No whole-body magnet reaches 30 T
    "MagneticFieldStrength": (Decimal("0.001"), Decimal("30")),
}
"""Keyword -> smallest and largest plausible value, in the unit of the attribute."""

POSITIVE = frozenset(
    {
        *("SliceThickness", "PixelSpacing", "ReconstructionDiameter", "ReconstructionFieldOfView"),
        *("DataCollectionDiameter", "KVP", "ImagingFrequency", "TransducerFrequency", "PulseRepetitionFrequency"),
        *("RadionuclideTotalDose", "RadionuclideHalfLife"),
    }
)
"""Lengths, voltages, frequencies and activities, greater than zero in every image (for spacing see PS3.3 section
10.7.1.3)."""

NOT_NEGATIVE = frozenset(
    {
        *("RepetitionTime", "EchoTime", "InversionTime", "ExposureTime", "XRayTubeCurrent", "Exposure", "CTDIvol"),
        "SpiralPitchFactor",
    }
)
"""Times, currents and doses, which may be zero."""


_LIMITED = BOUNDS.keys() | POSITIVE | NOT_NEGATIVE


def is_plausible(keyword: str, value: str) -> bool:
    """Whether a value is in the range of its attribute; text that is not a number always is."""
    if keyword not in _LIMITED or (number := decimal(value)) is None:
        return True
    if keyword in BOUNDS:
        least, most = BOUNDS[keyword]
        return least <= number <= most
    return number > 0 or (number == 0 and keyword in NOT_NEGATIVE)
