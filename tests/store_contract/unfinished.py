"""Studies that every destination has, and what keeps study 1.1 of them from being finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.store_contract.bench import DEST, QUIET_S, Bench, delivered, over, record

LONG_S = 86_400.0


def all_rounds(next_part: Callable[[], Sequence[str] | None]) -> list[str]:
    """What two rounds through the store return: the first may begin in the middle of one."""
    done: list[str] = []
    for _ in range(2):
        while (part := next_part()) is not None:
            done += part
    return sorted(done)


def deliver_all(bench: Bench) -> None:
    """Deliver every study that is due after the quiet period."""
    bench.later(QUIET_S)
    while claims := bench.store.claim(DEST, "w1", 60):
        delivered(bench.store, claims[0], claims[0].revision, b"base")


def wait(bench: Bench) -> None:
    """A late slice waits to be delivered."""
    bench.add(record(2))


def hold(bench: Bench) -> None:
    """An association that sends it is open."""
    bench.store.add(record(1), over("open"))


def refuse(bench: Bench) -> None:
    """A destination has refused it."""
    bench.store.requeue("1.1", all_states=True)
    bench.store.refuse(bench.claim(), 1, "422")


def be_sent(bench: Bench) -> None:
    """It is being sent again."""
    bench.store.requeue("1.1", all_states=True)
    bench.claim(lease_s=10 * LONG_S)
