"""What keeps study 1.1, which every destination has, from being finished."""

from __future__ import annotations

from tests.store_contract.bench import Bench, over, record

LONG_S = 86_400.0


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
