"""One process of the official FHIR validator, started by ``run.sh`` beside this file."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_RUN = Path(__file__).parent / "run.sh"
_ANSWER_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 20.0

COMPACT_DEFINITIONS = Path(__file__).parents[2] / "data" / "definitions"
"""One folder for each version, with the StructureDefinitions and ValueSets that the tests have of its profiles."""
VERSIONS = ("DSTU2", "1.4.0", "STU3", "R4", "R4B", "R5")
"""FHIR versions that there is an official validator for."""
_ENTRY = re.compile(r"^Bundle\.entry\[\d+\]\.resource/\*(\w+)/[^*]*\*/")


def compact_definitions(version: str) -> tuple[Path, ...]:
    """The folder with the StructureDefinitions and ValueSets that the tests have of the profiles of a version."""
    folder = COMPACT_DEFINITIONS / version
    return (folder,) if folder.is_dir() else ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One message of the validator."""

    location: str
    """FHIRPath of the element; in a Bundle, from the resource of its entry."""
    message: str
    id: str
    """Of the message in HL7's list of messages, e.g. ``Terminology_TX_NoValid_1_CC``; empty when it has none."""

    def __str__(self) -> str:
        return f"{self.location}: {self.message} [{self.id}]"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the validator says about one resource."""

    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One resource to be checked.

    Attributes
    ----------
    resource
        A resource, or a file of one, JSON or XML.
    profiles
        Canonical URLs to check against, besides those of ``meta.profile``.
    definitions
        Folders of definitions beside those of the version; None: :func:`compact_definitions`.
    """

    version: str
    resource: dict[str, Any] | Path
    profiles: Sequence[str] = ()
    definitions: Sequence[Path] | None = None


def together(resources: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A Bundle of resources that refer to one another by ``urn:uuid:`` and id: each target is checked, too."""
    entries = [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


class Validator(ABC):
    """Checks resources; several threads may ask."""

    @abstractmethod
    def check_all(self, questions: Iterable[Question]) -> list[Findings]:
        """Check resources, those of different versions or definitions side by side; answers in the order of questions.

        Raises
        ------
        RuntimeError
            The validator failed at a resource, or gave no answer; the message holds the end of its log.
        """

    def check(self, version: str, resource: dict[str, Any] | Path, profiles: Sequence[str] = ()) -> Findings:
        """Check one resource; the first of a version takes seconds."""
        (findings,) = self.check_all([Question(version, resource, profiles)])
        return findings


class ValidatorProcess(Validator):
    """A Java process that checks resources for as long as it is open."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process runs)
        self._process = subprocess.Popen(
            [_RUN, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for pytest, which then closes this in its own order
        )
        self._lock = threading.Lock()
        self._asked = 0
        self._askers: dict[int, queue.Queue[dict[str, Any]]] = {}
        """Number of a question -> where its answer is awaited."""
        self._reader = threading.Thread(target=self._read, name="validator", daemon=True)
        self._reader.start()

    def check_all(self, questions: Iterable[Question]) -> list[Findings]:
        """See :meth:`Validator.check_all`."""
        answers: queue.Queue[dict[str, Any]] = queue.Queue()
        numbers = self._ask(questions, answers)
        found = dict(self._next(answers) for _ in numbers)
        return [found[number] for number in numbers]

    def _ask(self, questions: Iterable[Question], answers: queue.Queue[dict[str, Any]]) -> range:
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            first = self._asked
            try:
                for question in questions:
                    self._askers[self._asked] = answers
                    stdin.write(json.dumps(_request(self._asked, question)) + "\n")
                    self._asked += 1
                stdin.flush()
            except BrokenPipeError:
                raise RuntimeError(f"the validator has ended; the end of its log:\n{self._end_of_log()}") from None
            return range(first, self._asked)

    def close(self) -> None:
        """End the process."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        stdout.close()
        self._log.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            answer = json.loads(line)
            with self._lock:
                asker = self._askers.pop(answer["number"])
            asker.put(answer)
        with self._lock:
            for asker in self._askers.values():
                asker.put({})

    def _next(self, answers: queue.Queue[dict[str, Any]]) -> tuple[int, Findings]:
        try:
            answer = answers.get(timeout=_ANSWER_TIMEOUT_S)
        except queue.Empty:
            answer = {}
        if not answer:
            raise RuntimeError(f"the validator gives no answer; the end of its log:\n{self._end_of_log()}")
        if "failure" in answer:
            raise RuntimeError(f"the validator failed: {answer['failure']}\n{self._end_of_log()}")
        sorted_out: dict[bool, list[Finding]] = {True: [], False: []}
        for one in answer["findings"]:
            location = _ENTRY.sub(r"\1", one["location"] or "")
            sorted_out[one["error"]].append(Finding(location, one["message"], one["id"] or ""))
        return answer["number"], Findings(tuple(sorted_out[True]), tuple(sorted_out[False]))

    def _end_of_log(self) -> str:
        log = self._log.fileno()  # not seek: the process writes where this file stands
        return os.pread(log, 8000, max(0, os.fstat(log).st_size - 8000)).decode(errors="replace")


def _request(number: int, question: Question) -> dict[str, Any]:
    resource, definitions = question.resource, question.definitions
    text = resource.read_text("utf-8") if isinstance(resource, Path) else json.dumps(resource, ensure_ascii=False)
    folders = compact_definitions(question.version) if definitions is None else definitions
    return {
        "number": number,
        "version": question.version,
        "resource": text,
        "profiles": list(question.profiles),
        "definitions": [str(folder) for folder in folders],
    }
