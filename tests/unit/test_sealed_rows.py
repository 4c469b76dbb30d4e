"""Rows of instances become blocks and the same rows again."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql import sealed_rows
from dicom2fhir.store.sql.sealed_rows import blocks_of, rows_of
from tests.examples import examples

numbers = st.integers(-1, 3)
uids = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
rows = st.lists(
    st.tuples(uids, numbers, numbers, numbers, numbers, numbers, st.binary(), st.none() | st.binary()), max_size=20
)


@examples(1_000)
@given(rows=rows, most=st.integers(1, 40))
def test_every_row_comes_back(rows: list[tuple[object, ...]], most: int) -> None:
    """Whatever bytes it has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_rows, "BLOCK_BYTES", most)
        blocks = blocks_of(rows)
    found = [row for *shared, _, block in blocks for row in rows_of((*shared, block))]
    assert sorted(map(repr, found)) == sorted(map(repr, rows))
    assert sum(number for *_, number, _ in blocks) == len(rows)


def test_instances_that_share_their_attributes_are_one_block() -> None:
    instances = [(f"1.2.840.99.{n}", 1, 2, 3, 4, 5, b'{"InstanceNumber":"%d"}' % n, None) for n in range(1_000)]
    ((*shared, number, block),) = blocks_of(instances)
    assert (shared, number) == ([1, 2, 3, 4, 5], 1_000)
    assert len(block) < 40 * 1_000 / 4
    assert rows_of((*shared, block)) == instances


def test_a_block_of_limited_size() -> None:
    bodies = [bytes(3 << 20)] * 7
    blocks = blocks_of((str(number), 1, 1, 1, 1, 1, body, None) for number, body in enumerate(bodies))
    assert [number for *_, number, _ in blocks] == [3, 3, 1]


@pytest.mark.parametrize(
    "damaged",
    [b"", b"no zlib", zlib.compress(b""), zlib.compress(b"[[1],[1]]\nab"), zlib.compress(b"[[1],[1,1],[1]]\nabcd"),
     zlib.compress(b"7\n"), zlib.compress(b"[[null],[1],[1]]\nab"), zlib.compress(b"[[1],[1],[1]]\n\xffab")],
)  # fmt: skip
def test_a_damaged_block_says_so(damaged: bytes) -> None:
    with pytest.raises(StoreDamaged):
        rows_of((1, 1, 1, 1, 1, damaged))


def test_a_block_that_lost_its_end_or_a_bit_is_damaged() -> None:
    ((*shared, _, block),) = blocks_of([("1.2", 1, 1, 1, 1, 1, b"{}" * 100, b"[]")])
    for damaged in (block[:-1], block[:-2] + bytes([block[-2] ^ 1]) + block[-1:]):
        with pytest.raises(StoreDamaged):
            rows_of((*shared, damaged))
