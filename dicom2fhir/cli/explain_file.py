"""``explain``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dicom2fhir.cli import tables
from dicom2fhir.cli.explained_rejection import ExplainedRejection, explained_rejection
from dicom2fhir.cli.options import (
    config_option,
    json_option,
    load_settings,
    patient_mode,
    profile_option,
    put_json,
    version_option,
)
from dicom2fhir.cli.output import Page
from dicom2fhir.config import Settings
from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import attempt
from dicom2fhir.fhir.mapping.engine import trace_study
from dicom2fhir.fhir.mapping.rule import Trace
from dicom2fhir.fhir.profile.trace import trace_profile
from dicom2fhir.jobs import conversion
from dicom2fhir.model import Mapped
from dicom2fhir.wiring import options as translation


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@config_option
@version_option
@profile_option
@json_option
def explain(file: str, config_file: Path | None, version: str | None, profile_name: str | None, as_json: bool) -> None:
    """Show which attribute of FILE is mapped to which element, what is left out and why."""
    settings = load_settings(config_file, {"fhir": {"version": version, "profile": profile_name}})
    mapped, traces, rejection = attempt(_traced, file, settings)
    if as_json:
        put_json(tables.explain_json(mapped, traces) | {"rejection_note": asdict(rejection) if rejection else None})
    else:
        Page().print(tables.explain_tables(mapped, traces, list(rejection.lines()) if rejection else ()))


def _traced(file: str, settings: Settings) -> tuple[Mapped, list[Trace], ExplainedRejection | None]:
    profile = translation.load_profile(settings.fhir.profile)
    dialect = translation.dialect(settings.fhir.version, profile)
    record = conversion.instance_of(file, translation.budgets(settings))
    study = assemble(record.study_uid, 1, [record])
    patient = patient_mode(settings)
    mapped, traces = trace_study(study, dialect, translation.mapping_options(settings, patient))
    if profile:
        mapped = translation.mapper(settings, patient, profile).conformed(mapped, study, dialect)
        traces += trace_profile(profile, mapped, study, dialect.name)
    return mapped, traces, explained_rejection(record, settings, dialect)
