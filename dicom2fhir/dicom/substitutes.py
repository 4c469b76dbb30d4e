"""Placeholders for values that the reader does not take; the decoder makes a note of each."""

from __future__ import annotations

from dicom2fhir.model import Raw

DAMAGED = b"damaged"
"""For a sequence that cannot be read: bytes where items should be."""
NO_VALUE: list[Raw] = [{}]
"""For a value that is invalid for its VR: items where bytes should be."""
TOO_LONG: list[Raw] = [{}, {}]
"""For a value that is longer than the budget allows."""
CUT: Raw = {0: b"cut"}
"""The last item of a sequence of content of which not all items were taken: the budget for content is spent."""
