"""Search for inputs that do harm: those of a corpus, then what chance makes of them, the same for the same seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

CORPUS = Path(__file__).parents[1] / "corpus"
VALUES = (
    b"", b"\0", b" ", b"\\", b"\\\\\\", b"^", b"=", b"==", b"^^^^^^", b"=^=^=", b"\x1b", b"\x1b$B", b"\x1b$)C\xb0",
    b"\x1b(J\x1b$B\x1b", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xfe\xff",
    b"\x81\x30\x81",
    b"20240230", b"20240229\\19", b"0000", b"99999999", b"235960.999999999", b"2", b"1e999", b"-0", b"NaN", b"inf",
    b"9" * 400, b"1.2." + b"9" * 100, b"1..2", b".", b"+1400", b"-9999", b"M", b"000Y", b"999D", b"CT\\MR\\", b"urn:x",
    b"http://[x", b"http://x\x7f/ y", b"<&>\"'", b"P1\0garbage", b"a\r\nb\tc", b"x" * 5000, b"\\".join([b"v"] * 300),
    b"1.2.840.10008.5.1.4.1.1.2", b"\0\0\0\0\0\0\xf8\x7f", b"\xa0\xc8\xeb\x85\xf3\xcc\xe1\x7f", b"\0" * 7, b"\x80" * 9,
)  # fmt: skip
"""Bytes that have a meaning somewhere, or none anywhere."""


@cache
def corpus(kind: str) -> tuple[bytes, ...]:
    """Inputs of a folder of ``tests/corpus``: those that did harm once, and good ones to start from."""
    found = tuple(path.read_bytes() for path in sorted((CORPUS / kind).iterdir()))
    assert found
    return found


def mutated(data: bytes, random: Random) -> bytes:
    """An input in which some bytes changed, went or came."""
    damaged = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5, 20])):
        at = random.randrange(len(damaged) + 1)
        match random.randrange(5):
            case 0:
                damaged[at : at + 1] = random.randbytes(1)
            case 1:
                del damaged[at : at + random.randint(1, 8)]
            case 2:
                damaged[at:at] = random.choice(VALUES)[:64]
            case 3:
                damaged[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\0\0", b"\0\0\0\x80"])
            case _:
                there = random.randrange(len(damaged) + 1)
                damaged[at : at + 16] = damaged[there : there + 16]
    return bytes(damaged)


def fuzz(
    play: Callable[[bytes], None],
    made: Callable[[Random], bytes],
    kind: str,
    *,
    seed: int,
    seconds: float,
    history: Path,
    loops: int = 20,
) -> int:
    """Play the corpus of a kind, then what ``made`` makes for so many seconds; how many inputs that were.

    The input that fails, by an exception or by taking too much processor time, is kept in the history.

    Parameters
    ----------
    loops
        The most that one input may take, as a multiple of :func:`_a_loop_s`: twenty are half a second at most on a
        machine of today.
    """
    most_s = loops * _a_loop_s()
    until = time.monotonic() + seconds
    number = 0
    for data in _inputs(made, kind, seed):
        if number > len(corpus(kind)) and time.monotonic() > until:
            break
        number += 1
        with keeping(data, history / f"{kind}.bin"):
            began = time.process_time()
            play(data)
            took_s = time.process_time() - began
            assert took_s <= most_s, f"{took_s:.2f} s of processor time"
    return number


def _inputs(made: Callable[[Random], bytes], kind: str, seed: int) -> Iterator[bytes]:
    yield from corpus(kind)
    for number in count():
        yield made(Random(f"{seed}/{kind}/{number}"))


def _a_loop_s() -> float:
    """Processor time of a loop here and now."""
    began = time.process_time()
    total = 0
    for number in range(1_000_000):
        total += number
    return time.process_time() - began


@contextmanager
def keeping(data: bytes, path: Path) -> Iterator[None]:
    """Write an input down where something fails on it."""
    try:
        yield
    except BaseException:
        path.write_bytes(data)
        raise


def search(test: Callable[..., None], examples: int, seed: int, **strategies: SearchStrategy[Any]) -> None:
    """Have Hypothesis look for an input that fails, and make it small."""
    chosen = settings(deadline=None, max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    hypothesis.seed(seed)(chosen(given(**strategies)(test)))()
