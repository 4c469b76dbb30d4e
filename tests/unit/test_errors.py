"""Exceptions that nobody foresaw, and those that were."""

from __future__ import annotations

import pytest

from dicom2fhir import errors
from dicom2fhir.errors import BridgeFault, attempt

SECRET = "Canary^Yellow"


def fail(error: BaseException) -> None:
    raise error


def sink(depth: int) -> int:
    return sink(depth + 1)


@pytest.mark.parametrize("kind", [KeyError, ValueError, RuntimeError, AssertionError, StopIteration, UnicodeError])
def test_what_nobody_foresaw_is_a_fault_without_its_text(kind: type[Exception]) -> None:
    with pytest.raises(BridgeFault) as caught:
        attempt(fail, kind(SECRET))
    assert str(caught.value).startswith(f"The bridge failed: {kind.__name__} at ")
    assert SECRET not in str(caught.value) + str(caught.value.places)
    assert caught.value.kind == "bridge-fault"


def test_too_deep_a_recursion_is_a_fault_of_a_few_places() -> None:
    with pytest.raises(BridgeFault) as caught:
        attempt(sink, 0)
    assert "RecursionError" in str(caught.value)
    assert len(caught.value.places) <= 20


@pytest.mark.parametrize(
    "error",
    [
        errors.MissingUID("x"),
        errors.StoreUnavailable(),
        OSError(5, "x"),
        MemoryError(),
        KeyboardInterrupt(),
        SystemExit(),
    ],
)
def test_what_was_foreseen_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        attempt(fail, error)
    assert caught.value is error


def test_kinds_are_the_names_of_classes_in_words() -> None:
    assert errors.MissingUID().kind == "missing-uid"
    assert errors.NotAnInstance().kind == "not-an-instance"
    assert errors.CannotUnderstand().kind == "cannot-understand"
