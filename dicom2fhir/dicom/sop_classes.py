"""UIDs of SOP classes that are handled differently from the others (PS3.4, PS3.6 annex A)."""

from __future__ import annotations

INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
ENCAPSULATED_DOCUMENTS = tuple(f"1.2.840.10008.5.1.4.1.1.104.{number}" for number in range(1, 6))
"""PDF, CDA, STL, OBJ and MTL (PS3.4 B.5)."""
