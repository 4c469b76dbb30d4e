"""The import of one file of a watched folder: read it, pass it on, record it, then keep, move or delete it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Literal

import structlog

from dicom2fhir.dicom.attributes import UIDS
from dicom2fhir.dicom.completeness import Completeness, completeness
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.part10 import FileHeader
from dicom2fhir.errors import (
    BridgeError,
    BridgeFault,
    BudgetExceeded,
    CannotUnderstand,
    EndsTooEarly,
    Mismatch,
    NotDicom,
    Unreadable,
    attempt,
    log_fields,
)
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.folder.files import Found, found, has_holes, look_at, move, open_file, reason_of
from dicom2fhir.receive.folder.options import Watch
from dicom2fhir.store.file_marks import FileMark, Ledger

log = structlog.get_logger(__name__)

Fate = Literal["taken", "skipped", "rejected", "gone"]

_REFUSED = (BridgeFault, CannotUnderstand, Mismatch)
"""Errors that the file itself causes at every attempt."""

_MOST_MOVED = 10_000
_UID_TAGS = frozenset(uid.tag for uid in UIDS)

_VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ESTALE})
"""The file is gone, or no longer a regular file."""


class Changed(Exception):
    """The file has changed since it was checked."""


class Incomplete(Exception):
    """The file may not be complete yet."""


class Intake:
    """Imports files that no longer change."""

    def __init__(
        self,
        watch: Watch,
        root: str,
        on_received: Callable[[Received, InstanceReader], object],
        on_rejected: Callable[[Origin, BridgeError], None],
        ledger: Ledger,
        budgets: Budgets,
    ) -> None:
        self._watch = watch
        self._root = root
        self._on_received = on_received
        self._on_rejected = on_rejected
        self._ledger = ledger
        self._reader = InstanceReader(budgets)
        self._moved: dict[str, tuple[int, int]] = {}
        """New path of a refused file -> its size and time when it was moved."""

    def is_done_with(self, file: Found) -> bool:
        """Whether the ledger has a mark that holds for the file in its current state."""
        mark = self._ledger.file_mark(file.text)
        return mark is not None and mark.holds_for(file.size_bytes, file.mtime_ns)

    def take(self, file: Found, *, again: bool = False, is_final: bool = False) -> Fate:
        """Import one file; the outcome is durable when this returns.

        Parameters
        ----------
        again
            This file was tried before and its error is recorded.
        is_final
            It has not changed for so long that it counts as complete.

        Raises
        ------
        Changed
            The file is still being written.
        Incomplete
            It must be imported again when it is final. Its instance may have been stored.
        OSError
            The file cannot be read, moved or deleted now. One that was stored meanwhile may be imported again.
        BridgeError
            Raised by ``on_received`` and the ledger when the file is not the cause.
        """
        origin = Origin("folder", path=file.text, folder=str(self._watch.path), may_reject=self._watch.rejection_notes)
        try:
            header, state = self._read(file)
            if state is Completeness.CUT:
                raise EndsTooEarly
        except NotDicom as error:
            return self._mark(file, "skipped", str(error))
        except _REFUSED as error:
            if not is_final and _may_be_for_want_of_bytes(error):
                raise Incomplete from None
            self._on_rejected(origin, error)
            return self._reject(file, str(error))
        except OSError as error:
            if error.errno in _VANISHED:
                return "gone"
            if not again:
                self._on_rejected(origin, Unreadable(f"The file cannot be read: {error.strerror}."))
            raise
        is_safe = is_final or state is Completeness.WHOLE
        if not is_safe and not header.taken.keys() >= _UID_TAGS:
            raise Incomplete
        try:
            self._on_received(header.received(origin), self._reader)
        except NotDicom as error:
            return self._mark(file, "skipped", str(error))
        except _REFUSED as error:
            return self._reject(file, str(error))
        return self._put_away(file, is_safe)

    def _read(self, file: Found) -> tuple[FileHeader, Completeness]:
        limit = self._watch.max_file_bytes
        if file.size_bytes > limit:
            raise BudgetExceeded(f"The file is larger than {limit} bytes.")
        with open_file(file.path) as source:
            try:
                header = attempt(self._reader.read_file, source)
                state = completeness(source, header.rest, file.size_bytes)
                if state is Completeness.WHOLE and has_holes(source, file.size_bytes):
                    state = Completeness.UNKNOWN
            except BudgetExceeded as error:
                if has_holes(source, file.size_bytes):
                    raise EndsTooEarly(str(error)) from None
                raise
            finally:
                if found(file.path, os.fstat(source.fileno())) != file:
                    raise Changed
        return header, state

    def _mark(self, file: Found, fate: Fate, reason: str = "") -> Fate:
        self._ledger.mark_file(FileMark(file.text, file.size_bytes, file.mtime_ns, fate, reason))
        return fate

    def _put_away(self, file: Found, is_safe: bool) -> Fate:
        """Keep, delete or move a stored file; after a crash before this it is imported again, without effect."""
        if self._watch.afterwards == "keep":
            return self._mark(file, "taken")
        if not is_safe:
            raise Incomplete
        if look_at(file.path) != file:
            raise Changed
        if self._watch.afterwards == "delete":
            os.unlink(file.path)
        elif self._watch.move_to is not None:
            move(file, self._root, self._watch.move_to)
        return "taken"

    def _reject(self, file: Found, reason: str) -> Fate:
        if self._watch.rejected_to is None:
            return self._mark(file, "rejected", reason)
        if look_at(file.path) != file:
            raise Changed
        try:
            target = move(file, self._root, self._watch.rejected_to, reason)
        except OSError as error:
            log.warning("folder.not_moved", to="rejected", **log_fields(error))
            return self._mark(file, "rejected", reason)
        if len(self._moved) < _MOST_MOVED:
            self._moved[str(target)] = file.size_bytes, file.mtime_ns
        return "rejected"

    def take_back(self) -> None:
        """Move back refused files that have changed since: they were incomplete, or somebody repaired them."""
        rejected_to = self._watch.rejected_to
        if rejected_to is None:
            return
        for path, moved in list(self._moved.items()):
            file = look_at(path)
            if file and (file.size_bytes, file.mtime_ns) == moved:
                continue
            del self._moved[path]
            if file is None:
                continue
            try:
                move(file, rejected_to, self._root)
                reason_of(file.path).unlink(missing_ok=True)
            except OSError as error:
                log.warning("folder.not_moved", to="watched", **log_fields(error))


def _may_be_for_want_of_bytes(error: BridgeError) -> bool:
    """Whether the error may disappear when more of the file is written."""
    return isinstance(error, CannotUnderstand) and not isinstance(error, BudgetExceeded)
