"""The Python API; its names are those of the package: ``dicom2fhir.convert`` and ``dicom2fhir.explain``.

It does what the commands of the same names do, with the same code.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from dicom2fhir import config as configuration
from dicom2fhir.config import Settings
from dicom2fhir.errors import BridgeFault, CannotUnderstand, NotExpressible, attempt
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.version.names import canonical
from dicom2fhir.jobs import conversion
from dicom2fhir.jobs.conversion import InputFile
from dicom2fhir.model import Note, Resource
from dicom2fhir.wiring import options
from dicom2fhir.wiring.translation import Explanation, Translation

if TYPE_CHECKING:
    from pydicom import Dataset

    Source: TypeAlias = "str | os.PathLike[str] | Dataset"
    """A file, a folder, a zip archive, or a data set of pydicom."""

Bundle: TypeAlias = Resource
"""A transaction Bundle as a JSON object: what ``json.dumps`` takes."""

_BULK_DATA = 0x7FE00000
"""Float Pixel Data, Pixel Data and what comes after them is not read (PS3.3 section C.7.6.3)."""


_log = logging.getLogger(__name__)


def _raise(name: str, reason: str) -> None:
    raise CannotUnderstand(f"{name}: {reason}")


def convert(
    paths: Source | Iterable[Source],
    fhir: str = "R4",
    profile: str | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    on_error: Callable[[str, str], None] = _raise,
) -> Iterator[Bundle]:
    """Convert DICOM to FHIR: one transaction Bundle for each study, as ``dicom2fhir convert`` writes it.

    Everything is read before the first Bundle, because the instances of a study may be anywhere.

    Parameters
    ----------
    paths
        A file, a folder, a zip archive or a ``pydicom.Dataset``, or several of them. Files in folders and archives that
        are not DICOM are skipped.
    fhir
        The FHIR version by name or number, such as ``R4`` or ``5.0.0``; ``auto`` is the profile's first, or R4.
    profile
        The name of a profile (``dicom2fhir profiles list``) or the path of a profile file.
    config
        A configuration file with the other options. Without it they have their defaults; the environment and the
        configuration of a service on this machine are not read.
    on_error
        Called with the name and the reason of what cannot be read or converted, which is then left out. By default
        the first one is raised.

    Raises
    ------
    ConfigError
        An option is not valid. It is raised by the call, the others by the iteration.
    CannotUnderstand
        A file cannot be read, or a study cannot be converted, for example because two patients are in it.
    """
    settings = _settings(fhir, profile, config)
    sources = _sources(paths)
    return _converted(sources, settings, Translation(settings, _log_finding), on_error)


def explain(
    dataset_or_path: Source,
    fhir: str = "R4",
    profile: str | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
) -> Explanation:
    """What becomes of one instance, element by element: the document of ``dicom2fhir explain --json``.

    The parameters are those of :func:`convert`.

    Raises
    ------
    ConfigError
        An option is not valid.
    Permanent
        It is no SOP instance, or cannot be understood.
    OSError
        The file cannot be read.
    """
    settings = _settings(fhir, profile, config)
    translation = Translation(settings, _log_finding)
    source = _input_file(dataset_or_path) or conversion.named_file(str(dataset_or_path))
    record = attempt(conversion.instance_of, source, options.budgets(settings))
    return attempt(translation.explain, record).document()


def _sources(paths: Source | Iterable[Source]) -> list[Source]:
    if isinstance(paths, (str, os.PathLike)):
        return [paths]
    from pydicom import Dataset  # here and below, because a path needs no pydicom

    return [paths] if isinstance(paths, Dataset) else list(paths)


def _settings(fhir: str, profile: str | None, config: str | os.PathLike[str] | None) -> Settings:
    overrides = {"fhir": {"version": canonical(fhir), "profile": profile}}
    return configuration.load(Path(config) if config is not None else None, overrides, environ={})


def _converted(
    sources: list[Source], settings: Settings, translation: Translation, on_error: Callable[[str, str], None]
) -> Iterator[Bundle]:
    with ExitStack() as open_until_read:
        found = _found(sources, on_error, open_until_read)
        reading = conversion.read(found, on_error, budgets=options.budgets(settings))
    for study_uid in sorted(reading.studies):
        try:
            mapped = attempt(translation.map, reading.study(study_uid))
        except (NotExpressible, BridgeFault) as error:
            on_error(study_uid, str(error))
            continue
        yield standalone(mapped)


def _found(sources: list[Source], on_error: Callable[[str, str], None], open_until: ExitStack) -> Iterator[InputFile]:
    for source in sources:
        if (dataset := _input_file(source)) is not None:
            yield dataset
        else:
            yield from conversion.input_files([str(source)], sys.stdin.buffer, on_error, open_until)


def _input_file(source: Source) -> InputFile | None:
    """A data set as a file; None for a path."""
    if isinstance(source, (str, os.PathLike)):
        return None
    return InputFile("data set", partial(_header, source), asked_for=True)


def _header(dataset: Dataset) -> BinaryIO:
    """A data set without its bulk data, in the encoding of Part 10 files."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import ExplicitVRLittleEndian

    header = dataset[:_BULK_DATA]  # a new data set: the caller's is not changed
    own_meta = getattr(dataset, "file_meta", FileMetaDataset())
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = own_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    buffer = io.BytesIO()
    dcmwrite(buffer, header, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def _log_finding(study_uid: str, finding: Note) -> None:
    _log.warning("%s is not valid in study %s: %s", finding.where, study_uid, finding.text)
