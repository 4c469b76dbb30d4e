"""What hostile headers cost, compared with a loop over as many elements in the same process, and how much memory."""

from __future__ import annotations

import struct
import time

import pytest

from bench.hostile import MIB, headers, peak_bytes, processor_s, reports
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets

BUDGETS = Budgets(elements=30_000, inflated_bytes=DEFAULT_BUDGETS.inflated_bytes // 10)
"""A tenth of what is allowed, so that the tests are soon done."""
LONGEST = 8.0
"""Loops over as many elements; the slowest header takes about 4."""
RUNS = 5
"""The most of so many count; another load of the machine disturbs single ones."""
LARGEST = 8 * MIB
"""The largest takes what is read of a file at once, and a value of 1 MiB a few times."""
CASES = {what: (syntax, data) for what, syntax, data in (*headers(BUDGETS.elements), *reports(BUDGETS.elements))}


def loop_s() -> float:
    """Processor time of a loop over as many elements as are allowed, that does no more than read where the next is."""
    data = struct.pack("<HH2sH", 9, 0x1010, b"LO", 0) * BUDGETS.elements
    unpack = struct.Struct("<HH2sH").unpack_from
    started = time.thread_time()
    pos = 0
    while pos < len(data):
        group, element, _, length = unpack(data, pos)
        if group << 16 | element:
            pos += 8 + length
    return time.thread_time() - started


@pytest.mark.parametrize("what", CASES)
def test_no_header_takes_long(what: str) -> None:
    syntax, data = CASES[what]
    quick = slow = 0
    while max(quick, slow) <= RUNS // 2:
        is_quick = processor_s(syntax, data, BUDGETS) < LONGEST * loop_s()
        quick, slow = quick + is_quick, slow + (not is_quick)
    assert quick > slow


@pytest.mark.parametrize("what", CASES)
def test_no_header_takes_much_memory(what: str) -> None:
    syntax, data = CASES[what]
    assert peak_bytes(syntax, data, BUDGETS) < LARGEST


def test_what_is_deflated_takes_no_more_memory_when_it_is_larger() -> None:
    small, large = (CASES[what] for what in ("zeros", "1 GiB of deflated zeros"))
    assert peak_bytes(*large, BUDGETS) < peak_bytes(*small, BUDGETS) + MIB
