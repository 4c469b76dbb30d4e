"""What can go wrong; the docstring of a class is its default message.

Each edge translates these once: the association into a DIMSE status, the folder into a reason file, the delivery into a
:data:`dicom2fhir.model.Outcome`, the command line into an exit status.
"""

from __future__ import annotations


class BridgeError(Exception):
    """Something went wrong."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class Transient(BridgeError):
    """It may work when tried again."""


class Permanent(BridgeError):
    """It will not work however often it is tried."""


class NotDicom(Permanent):
    """Not a DICOM data set."""


class NotAnInstance(NotDicom):
    """DICOM, but not a SOP instance (a DICOMDIR)."""


class CannotUnderstand(Permanent):
    """The data set cannot be understood."""


class BudgetExceeded(CannotUnderstand):
    """The data set is larger or deeper than the configured limits."""


class MissingUID(CannotUnderstand):
    """A Study, Series or SOP Instance UID is missing or unusable."""


class Mismatch(Permanent):
    """The SOP class or instance of the command and of the data set differ."""


class NotExpressible(Permanent):
    """The study cannot be written in this FHIR version."""


class StoreUnavailable(Transient):
    """The store cannot commit."""


class OutOfSpace(StoreUnavailable):
    """Too little free space on the store's disk."""


class StoreDamaged(Permanent):
    """The store's file is damaged."""


class ServerUnavailable(Transient):
    """The FHIR server cannot be reached or asks for patience."""

    def __init__(self, message: str = "", after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class NotAuthorised(ServerUnavailable):
    """The FHIR server does not accept our credentials."""


class EditConflict(Transient):
    """Somebody else wrote the resource at the same time."""


class ServerRefused(Permanent):
    """The FHIR server refuses the request."""

    def __init__(self, message: str = "", issues: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.issues = issues or (str(self),)


class Ambiguous(Permanent):
    """Several resources on the server match where there must be one."""


class ConfigError(Permanent):
    """The configuration is not usable."""


class StoreInUse(ConfigError):
    """Another process owns the store."""
