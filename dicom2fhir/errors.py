"""The errors of the bridge; the docstring of a class is its default message.

Each error is translated once: by the association into a DIMSE status, by the folder into a reason file, by the delivery
into a :data:`dicom2fhir.outcomes.Outcome`, by the command line into an exit status.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PACKAGE = Path(__file__).parent
_PLACES = 20
"""Number of innermost frames that are kept of an exception; a RecursionError has a thousand."""


class BridgeError(Exception):
    """Something went wrong.

    Parameters
    ----------
    issues
        The server's messages, for people. They may contain patient data and must not be logged.
    """

    def __init__(self, message: str = "", *, issues: tuple[str, ...] = ()) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        self.issues = issues

    @property
    def kind(self) -> str:
        """The class name in lower case with hyphens, for people and for counters: ``missing-uid``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__).lower()


class Transient(BridgeError):
    """A temporary failure: it may work when tried again."""


class Permanent(BridgeError):
    """A permanent failure: trying again does not help."""


class NotDicom(Permanent):
    """Not a DICOM data set."""


class NotAnInstance(NotDicom):
    """DICOM, but not a SOP instance (a DICOMDIR)."""


class CannotUnderstand(Permanent):
    """The data set cannot be parsed."""


class BudgetExceeded(CannotUnderstand):
    """The data set is larger or deeper than the configured limits."""


class EndsTooEarly(CannotUnderstand):
    """The file ends within its pixel data, or within what follows its header."""


class MissingUID(CannotUnderstand):
    """A Study, Series or SOP Instance UID is missing or unusable."""


class Mismatch(Permanent):
    """The SOP class or instance of the command and of the data set differ."""


class MissingAttribute(Permanent):
    """A required attribute is missing."""


class InvalidValue(Permanent):
    """An attribute has an invalid value."""


class InvalidInstanceUID(Permanent):
    """The SOP Instance UID is not a valid UID."""


class DuplicateInstance(Permanent):
    """Another SOP instance with this UID exists."""


class NoSuchInstance(Permanent):
    """There is no SOP instance with this UID."""


class NoLongerUpdatable(Permanent):
    """Performed Procedure Step Object may no longer be updated"""


class Unreadable(Transient):
    """The file cannot be read."""


class BridgeFault(Permanent):
    """The bridge failed.

    Parameters
    ----------
    cause
        The unexpected exception. Its text is not kept: it may quote the data set.

    Attributes
    ----------
    places
        As :func:`places_of` returns them.
    """

    def __init__(self, cause: BaseException) -> None:
        self.places = places_of(cause)
        ours = [place for place in self.places if place.startswith(_PACKAGE.name)]
        where = "".join(f" at {place}" for place in (ours or self.places)[-1:])
        super().__init__(f"The bridge failed: {type(cause).__name__}{where}.")


class NotExpressible(Permanent):
    """The study cannot be written in this FHIR version."""


class NothingToWrite(Permanent):
    """No instance of the study has arrived yet."""


class NotReady(Transient):
    """Something that is needed to start is not available yet."""


class StudyBusy(Transient):
    """The study is being sent now."""


class StoreUnavailable(Transient):
    """The store cannot commit."""


class NoStore(StoreUnavailable):
    """There is no store yet."""


class StoreInUse(StoreUnavailable):
    """Another process owns the store."""


class OutOfSpace(StoreUnavailable):
    """Too little free space on the store's disk."""


class StoreDamaged(Permanent):
    """The store's file is damaged."""


class ServerUnavailable(Transient):
    """The FHIR server cannot be reached or asks for a pause.

    Parameters
    ----------
    after_s
        Seconds after which the server asks to be tried again; 0 if it does not say.
    alive
        Whether the server answered with success, but the answer cannot be used: other studies may go on.
    unclear
        Whether the request may be the cause: the server received it, and may answer others.
    """

    def __init__(
        self,
        message: str = "",
        after_s: float = 0.0,
        alive: bool = False,
        *,
        unclear: bool = False,
        issues: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, issues=issues)
        self.after_s = after_s
        self.alive = alive
        self.unclear = unclear


class NotAuthorised(ServerUnavailable):
    """The FHIR server does not accept the credentials."""


class EditConflict(Transient):
    """Another client wrote the resource at the same time."""


class ServerRefused(Permanent):
    """The FHIR server refuses the request."""

    def __init__(self, message: str = "", issues: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.issues = issues or (str(self),)


class Misshapen(Permanent):
    """The FHIR server has a resource that is not valid FHIR."""


class Ambiguous(Permanent):
    """Several resources on the server match, but only one may."""


class ConfigError(Permanent):
    """The configuration is not usable."""


def attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function for one file, instance or study, so that an unexpected exception concerns only that one.

    Raises
    ------
    BridgeFault
        In place of any unexpected exception. :class:`BridgeError` and :class:`OSError` are raised unchanged, and so is
        :class:`MemoryError`, which says nothing about the file.
    """
    try:
        return function(*args, **kwargs)
    except (BridgeError, OSError, MemoryError):
        raise
    except Exception as error:
        raise BridgeFault(error) from error


def words_of(error: BaseException) -> str:
    """What an exception says without patient data: its message, if it is a BridgeError or an OSError.

    For an OSError without the path, which may name a patient. The text of any other exception may quote a value, so the
    name of its class is used.
    """
    if isinstance(error, BridgeError):
        return str(error)
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__


def log_fields(error: BaseException) -> dict[str, str | list[str]]:
    """The fields of a log entry about a failure: every such entry has these.

    Returns
    -------
    dict
        ``kind``, as :func:`kind_of` returns it; ``reason``, as :func:`words_of` returns it; ``frames``, the stack
        frames, for a :class:`BridgeFault` only.
    """
    fields: dict[str, str | list[str]] = {"kind": kind_of(error), "reason": words_of(error)}
    if isinstance(error, BridgeFault):
        fields["frames"] = error.places
    return fields


def kind_of(error: BaseException) -> str:
    """The kind of a :class:`BridgeError`, or the class name of another exception; for counters."""
    return error.kind if isinstance(error, BridgeError) else type(error).__name__


def places_of(error: BaseException) -> list[str]:
    """The stack frames of an exception, the innermost last: ``dicom2fhir/dicom/decode.py:12 extract``.

    The exception's text and source lines with values are left out: they may contain patient data.
    """
    return [
        f"{_short(frame.filename)}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__, limit=-_PLACES)
    ]


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_PACKAGE.parent)) if path.is_relative_to(_PACKAGE) else filename
