from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.deliver.retry import Circuit, Permit, RetryPolicy

POLICY = RetryPolicy(first_s=1.0, factor=2.0, cap_s=60.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def down(clock: Clock, at_least_s: float = 0.0) -> Circuit:
    circuit = Circuit(POLICY, clock, lambda: 1.0)
    assert circuit.failed(entered(circuit), "away", at_least_s)
    return circuit


def entered(circuit: Circuit) -> Permit:
    permit = circuit.enter()
    assert permit is not None
    return permit


def test_pauses_grow_up_to_the_cap() -> None:
    assert [POLICY.pause_s(n, 0, 1.0) for n in (1, 2, 3, 6, 7, 10**9)] == [1, 2, 4, 32, 60, 60]


@given(st.integers(0, 10**12), st.floats(0, 3600), st.floats(0, 1))
def test_a_pause_is_never_shorter_than_asked_nor_much_longer(failures: int, at_least_s: float, random: float) -> None:
    assert at_least_s <= POLICY.pause_s(failures, at_least_s, random) <= at_least_s + POLICY.cap_s


def test_while_up_everybody_may_enter() -> None:
    circuit = Circuit(POLICY, Clock(), lambda: 1.0)
    assert [circuit.enter() for _ in range(3)] == [Permit(is_probe=False)] * 3
    assert circuit.reason == ""


def test_while_down_one_probe_at_a_time_enters_after_the_pause() -> None:
    clock = Clock()
    circuit = down(clock)
    assert circuit.enter() is None
    assert circuit.wait_s() == 1.0
    clock.now_s = 1.0
    probe = entered(circuit)
    assert probe.is_probe
    assert circuit.enter() is None
    assert not circuit.failed(probe, "still away", 0.0)
    assert circuit.wait_s() == 2.0
    clock.now_s = 3.0
    assert circuit.answered(entered(circuit))
    assert circuit.enter() == Permit(is_probe=False)
    assert circuit.wait_s() == 0.0


def test_what_was_under_way_when_it_went_down_does_not_lengthen_the_pause() -> None:
    clock = Clock()
    circuit = Circuit(POLICY, clock, lambda: 1.0)
    first, second = entered(circuit), entered(circuit)
    assert circuit.failed(first, "away", 0.0)
    assert not circuit.failed(second, "away", 0.0)
    assert circuit.wait_s() == 1.0
    clock.now_s = 1.0
    probe = entered(circuit)
    circuit.failed(second, "late", 0.0)
    assert circuit.enter() is None, "the probe is still under way"
    circuit.leave(probe)
    assert circuit.enter() is not None


def test_the_destination_s_wish_is_kept() -> None:
    clock = Clock()
    circuit = down(clock, at_least_s=100.0)
    clock.now_s = 100.0
    assert circuit.enter() is None
    clock.now_s = 101.0
    assert circuit.enter() is not None
