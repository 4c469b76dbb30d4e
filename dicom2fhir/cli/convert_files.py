"""``convert``."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import click

from dicom2fhir.cli.exit_status import EXIT_FAILED
from dicom2fhir.cli.options import (
    config_option,
    load_settings,
    profile_option,
    version_option,
)
from dicom2fhir.cli.terminal import progress_on_stderr
from dicom2fhir.config import PatientMode
from dicom2fhir.errors import BridgeFault, NotExpressible, attempt
from dicom2fhir.fhir.mapper import log_finding
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.version.formats import Format, dump
from dicom2fhir.jobs import conversion
from dicom2fhir.model import Note
from dicom2fhir.system.text import counted
from dicom2fhir.wiring import options
from dicom2fhir.wiring.translation import Translation

_SEVERAL: dict[Format, str] = {
    "json": "Standard output is NDJSON: one Bundle per line.",
    "xml": "Standard output is one XML document per line.",
}


@click.command()
@click.argument("paths", nargs=-1, required=True)
@config_option
@version_option
@profile_option
@click.option(
    "--patient",
    type=click.Choice(["link", "ensure", "upsert"]),
    help="How the Patient is handled (see fhir.patient).  [default: ensure]",
)
@click.option("--time-zone", help="Time zone of times without an offset, for example Europe/Paris.")
@click.option(
    "--as",
    "shape",
    type=click.Choice(["bundle", "resources"]),
    default="bundle",
    show_default=True,
    help="One transaction Bundle per study, or one resource per line (bulk data NDJSON; for XML one document"
    " per line).",
)
@click.option("--format", "format_", type=click.Choice(["json", "xml"]), help="Output format.  [default: json]")
@click.option(
    "-o",
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write one file per study to this folder.",
)
@click.option("--ignore-rejection-notes", is_flag=True, help="Treat rejection notes as key objects like any.")
@click.pass_context
def convert(
    context: click.Context,
    paths: tuple[str, ...],
    config_file: Path | None,
    version: str | None,
    profile_name: str | None,
    patient: PatientMode | None,
    time_zone: str | None,
    shape: str,
    format_: Format | None,
    output_dir: Path | None,
    ignore_rejection_notes: bool,
) -> None:
    """Convert DICOM files to FHIR. PATHS are files, folders or zip archives; - reads standard input.

    Several studies are written to standard output as NDJSON, one Bundle per line (XML: one document per line).
    """
    fhir = {"version": version, "profile": profile_name, "patient": patient, "time_zone": time_zone, "format": format_}
    settings = load_settings(config_file, {"fhir": fhir})
    translation = Translation(settings, _log_finding)
    out = sys.stdout.buffer
    problems = written = 0

    with ExitStack() as stack:
        shown = stack.enter_context(progress_on_stderr())

        def tell(name: str, reason: str) -> None:
            nonlocal problems
            problems += 1
            shown.say(f"{name}: {reason}")

        found = list(conversion.input_files(paths, sys.stdin.buffer, tell, stack))
        shown.begin("reading", len(found))
        reading = conversion.read(
            found, tell, shown.advance, options.budgets(settings), may_reject=not ignore_rejection_notes
        )
        shown.begin("mapping", len(reading.studies))
        indent = out.isatty() or output_dir is not None
        if out.isatty() and output_dir is None:
            shown.stop()  # it would erase lines of what is now written to the same terminal

        lacking: Counter[str] = Counter()

        def converted(study_uid: str) -> tuple[str, bytes]:
            mapped = translation.map(reading.study(study_uid))
            resources = [standalone(mapped)] if shape == "bundle" else conversion.as_resources(mapped)
            content = b"".join(
                dump(resource, translation.dialect.name, settings.fhir.format, indent and shape == "bundle")
                for resource in resources
            )
            if mapped.unclaimed:
                lacking[f"the ImagingStudy {mapped.unclaimed}"] += 1
            lacking.update({note.text for note in mapped.notes if note.level == "version"})
            return mapped.entries[0].resource["id"], content

        for study_uid in sorted(reading.studies):
            shown.advance()
            try:
                name, content = attempt(converted, study_uid)
            except (NotExpressible, BridgeFault) as error:
                tell(study_uid, str(error))
                continue
            written += 1
            if output_dir:
                suffix = settings.fhir.format if shape == "bundle" else f"nd{settings.fhir.format}"
                conversion.write_file(output_dir, f"{name}.{suffix}", content)
            else:
                out.write(content)
        out.flush()
    for text, studies in sorted(lacking.items()):
        shown.say(f"{text} ({counted(studies, 'study')})")
    if written > 1 and shape == "bundle" and not indent:
        shown.say(_SEVERAL[settings.fhir.format])
    if output_dir or problems or reading.skipped:
        told = [f"{counted(reading.instances, 'instance')} of {counted(len(reading.studies), 'study')}"]
        if reading.skipped:
            told.append(f"{counted(reading.skipped, 'other file')} skipped")
        if problems:
            told.append(counted(problems, "problem"))
        where = f"; written to {output_dir}" if output_dir else ""
        shown.say(", ".join(told) + where)
    if problems or not reading.studies:
        if not reading.studies:
            shown.say("nothing was converted: no SOP instance found")
        context.exit(EXIT_FAILED)


def _log_finding(study_uid: str, finding: Note) -> None:
    from dicom2fhir.ops import logs

    logs.configure("error", "text")  # only now; see dicom2fhir.ops.lazy_logs
    log_finding(study_uid, finding)
