"""Both sets of definitions find the faults of ``tests/data/broken_outputs.toml``, and nothing without them."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.model import Resource
from tests import guides
from tests.conformance_cases import Case, golden
from tests.servers.validator.validator import Question, Validator, compact_definitions, together

_FAULTS = Path(__file__).parents[1] / "data" / "broken_outputs.toml"
pytestmark = pytest.mark.timeout(900)
Definitions = Sequence[Path]


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry of the file."""

    profile: str
    title: str
    case: str
    type: str
    path: str
    version: str = "R4"
    value: Any = None
    twice: bool = False

    def __str__(self) -> str:
        return f"{self.version} {self.profile}: {self.title}"

    @property
    def sound(self) -> Case:
        """The golden case that it is planted in."""
        (found,) = [
            case
            for case in golden()
            if (case.output.version, case.output.profile) == (self.version, self.profile)
            and case.where == f"golden {self.case}"
        ]
        return found

    def planted(self) -> list[Resource]:
        """The resources with the fault."""
        resources = copy.deepcopy(list(self.sound.resources))
        for resource in resources:
            for one in (resource, *resource.get("contained", ())):
                if one["resourceType"] == self.type:
                    self._change(one, self.path.split("."))
        assert resources != list(self.sound.resources), "nothing to break"
        return resources

    def _change(self, node: Any, path: Sequence[str]) -> None:
        if isinstance(node, list):
            for item in node:
                self._change(item, path)
        elif len(path) > 1:
            self._change(node.get(path[0], []), path[1:])
        elif self.twice and path[0] in node:
            node[path[0]] *= 2
        elif self.value is not None and path[0] in node:
            node[path[0]] = self.value
        else:
            node.pop(path[0], None)


@cache
def faults() -> tuple[Fault, ...]:
    return tuple(Fault(**entry) for entry in tomllib.loads(_FAULTS.read_text("utf-8"))["broken"])


def compact(fault: Fault) -> Definitions:
    return compact_definitions(fault.version)


def guide(fault: Fault) -> Definitions:
    return guides.definitions(fault.version, fault.profile)


def _judged(validator: Validator, of: Iterable[tuple[Fault, list[Resource], Definitions]]) -> list[bool]:
    """Whether there is an error; equal questions are asked once."""
    asked = [(fault.version, json.dumps(together(resources)), tuple(folders)) for fault, resources, folders in of]
    different = list(dict.fromkeys(asked))
    answers = validator.check_all(
        Question(version, json.loads(text), definitions=folders) for version, text, folders in different
    )
    found = {question: bool(findings.errors) for question, findings in zip(different, answers, strict=True)}
    return [found[question] for question in asked]


@pytest.mark.parametrize("definitions", [compact, guide])
def test_each_fault_is_found_and_nothing_without_it(validator: Validator, definitions: Any) -> None:
    if definitions is guide and not guides.are_there():
        pytest.skip(guides.NOT_FOUND)
    judged = [fault for fault in faults() if definitions(fault)]
    sound = _judged(validator, ((fault, list(fault.sound.resources), definitions(fault)) for fault in judged))
    assert [str(fault) for fault, wrong in zip(judged, sound, strict=True) if wrong] == []
    broken = _judged(validator, ((fault, fault.planted(), definitions(fault)) for fault in judged))
    assert [str(fault) for fault, wrong in zip(judged, broken, strict=True) if not wrong] == []
