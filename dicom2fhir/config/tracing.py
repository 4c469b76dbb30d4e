"""The section of the configuration for traces."""

from __future__ import annotations

from pydantic import Field

from dicom2fhir.config import value_types
from dicom2fhir.config.sections import SettingsTable


class TracingSettings(SettingsTable):
    """``[tracing]``."""

    endpoint: value_types.OptionalUrl = Field(
        "",
        description="URL of a collector, OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. Without it nothing is"
        " sent. Needs the extra otel: pip install 'dicom2fhir-bridge[otel]'.",
    )
    share: float = Field(1.0, ge=0, le=1, description="Share of the studies whose traces are sent.")
