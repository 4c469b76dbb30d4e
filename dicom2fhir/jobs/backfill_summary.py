"""The result of a backfill, or its progress."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from dicom2fhir.system.text import counted, printable

_LISTED_FAILURES = 1000


@dataclass(slots=True)
class Summary:
    """The result of a run, or its progress.

    Every file counts once, in one of ``done_before``, ``taken``, ``skipped`` and ``failed``; of an archive that was
    read, each of its files, and what is wrong with the archive itself.
    """

    files: int = 0
    """Found; an archive is one."""
    archives: int = 0
    """Of these, the archives that were read."""
    members: int = 0
    """Files in these archives."""
    done_before: int = 0
    """Imported or skipped by an earlier run or a watched folder, and not changed since."""
    outdated: int = 0
    """Of those done before: imported by another version of the program, which may have read less."""
    taken: int = 0
    new: int = 0
    """Of those taken; the store had the others, equal (``unchanged``) or with other attributes (``changed``)."""
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Not SOP instances."""
    failed: int = 0
    """Files and folders that cannot be read or understood, also those that failed in an earlier run."""
    studies: int = 0
    """Distinct studies of those taken; counting them needs about 100 bytes per study."""
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of the first 1,000."""

    def fail(self, path: str, reason: str) -> None:
        """Count a failure, and list it unless the list is full."""
        self.failed += 1
        if len(self.failures) < _LISTED_FAILURES:
            self.failures.append((path, reason))

    def add(self, part: Summary) -> None:
        """Count what became of some files."""
        for name in ("archives", "members", "taken", "new", "changed", "unchanged", "skipped", "failed"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.failures += part.failures[: _LISTED_FAILURES - len(self.failures)]

    def as_json(self) -> dict[str, object]:
        """The summary as JSON."""
        failures = [{"path": path, "reason": reason} for path, reason in self.failures]
        return asdict(self) | {"seconds": round(self.seconds, 3), "failures": failures}

    def lines(self, dry_run: bool, daemon_runs: bool) -> Iterator[str]:
        """The summary as text."""
        for path, reason in self.failures:
            yield printable(f"{path}: {reason}")
        if self.failed > len(self.failures):
            yield f"... and {self.failed - len(self.failures):,} more"
        taken = f"{counted(self.taken, 'instance')} of {counted(self.studies, 'study')}"
        counts = [taken if dry_run else f"{taken} ({self.new:,} new)"]
        more = {"already done": self.done_before, "without a SOP instance": self.skipped, "failed": self.failed}
        counts += [f"{number:,} {what}" for what, number in more.items() if number]
        inside = f", {counted(self.archives, 'archive')} with {counted(self.members, 'file')}" if self.archives else ""
        yield f"{counted(self.files, 'file')}{inside} in {self.seconds:,.1f} s: {', '.join(counts)}"
        if self.outdated:
            files = counted(self.outdated, "file")
            yield f"{files} already done by another version of dicom2fhir: --again reads all files again."
        if dry_run:
            yield "Nothing was written."
        elif self.new or self.changed:
            yield (
                "The daemon is running and will deliver the studies after their quiet period."
                if daemon_runs
                else "The studies are in the store; start the daemon (dicom2fhir serve) to deliver them."
            )
