"""Bytes of strangers to the decoders of the receiver: understood, or refused as what cannot be understood."""

from __future__ import annotations

import struct
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.receive.dimse import command_set
from dicom2fhir.receive.dimse.negotiation import accept, decode_request
from tests.examples import examples
from tests.scripted_peer import CT, EXPLICIT_LE, associate_rq, command, context, element, item

EXAMPLES = examples(500, derandomize=True, database=None)

SPLICES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 8), st.binary(max_size=8)), max_size=4)


def spliced(data: bytes, splices: list[tuple[int, int, bytes]]) -> bytes:
    for at, count, some in splices:
        data = data[:at] + some + data[at + count :]
    return data


ELEMENTS = st.lists(
    st.builds(
        element,
        st.sampled_from([0, 0x0002, 0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x1000, 0xFFFF]),
        st.binary(max_size=4) | st.sampled_from([b"\1\0", b"\x30\0", b"\1\x80", b"\1\1"]),
    ),
    max_size=8,
)


@EXAMPLES
@given(
    st.binary(max_size=100) | st.builds(b"".join, ELEMENTS) | st.builds(spliced, st.just(command()), SPLICES),
    st.sampled_from([command_set.SUCCESS, command_set.UNEXPECTED]),
)
def test_any_command_set_is_understood_or_refused(data: bytes, answer: command_set.ResponseStatus) -> None:
    with suppress(CannotUnderstand):
        decoded = command_set.decode(data)
        assert 0 <= decoded.field <= 0xFFFF
        assert decoded.message_id is None or 0 <= decoded.message_id <= 0xFFFF
        response = command_set.decode(command_set.encode_response(decoded, answer))
        assert response.is_response
        assert not response.has_data_set
        assert (response.sop_class, response.sop_instance) == (decoded.sop_class, decoded.sop_instance)


USER_ITEMS = st.lists(
    st.builds(item, st.sampled_from([0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x99]), st.binary(max_size=20)),
    max_size=5,
)
CONTEXTS = st.lists(
    st.builds(
        context,
        st.integers(0, 255),
        st.sampled_from([CT, "1.2.3", "", "\0 1.2.3\0", "x", "1" * 65]),
        st.sampled_from([EXPLICIT_LE, "", "1.2.4 ", "y"]),
    ),
    max_size=5,
)
REQUESTS = st.builds(lambda user, contexts: associate_rq(*user, contexts=b"".join(contexts)), USER_ITEMS, CONTEXTS)


@EXAMPLES
@given(st.binary(max_size=200) | REQUESTS | st.builds(spliced, REQUESTS, SPLICES))
def test_any_association_request_is_understood_or_refused(data: bytes) -> None:
    with suppress(CannotUnderstand), warnings.catch_warnings():
        warnings.simplefilter("error")
        request = decode_request(data)
        acceptance = accept(request, 16384)
        kind, length = struct.unpack_from(">BxL", acceptance.pdu)
        assert (kind, length) == (2, len(acceptance.pdu) - 6)
        assert set(acceptance.contexts) <= set(request.contexts)
        assert all(number % 2 for number in request.contexts)


def role(sop_class: str) -> bytes:
    return item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + b"\1\1")


@pytest.mark.parametrize(
    ("request_of", "most"),
    [
        (lambda n: associate_rq(contexts=b"".join(context(2 * k + 1, CT, *syntaxes(75)) for k in range(n))), 128),
        (lambda n: associate_rq(contexts=context(1, CT, *syntaxes(n))), 5000),
        (lambda n: associate_rq(*map(role, syntaxes(n))), 2500),
        (lambda n: associate_rq(*[item(0x53, bytes(4))] * n), 8000),
    ],
    ids=["contexts", "syntaxes", "roles", "windows"],
)
def test_the_cost_of_a_request_grows_with_its_length(request_of: Callable[[int], bytes], most: int) -> None:
    def cost(request: bytes) -> int:
        started = time.thread_time_ns()
        assert len(accept(decode_request(request), 16384).pdu) < 8192
        return time.thread_time_ns() - started

    small, great = request_of(most // 8), request_of(most)
    ratios = [cost(great) / cost(small) for _ in range(9)]
    assert min(ratios) < 24, "eight times as long: what grows with the square of the length costs 64 times as much"


def syntaxes(count: int) -> list[str]:
    return [f"1.2.{number}" for number in range(count)]


@pytest.mark.parametrize("title", ["", " " * 16, "A\\B", "A\nB", "\u00c4"])
def test_ae_titles_that_are_none(title: str) -> None:
    request = associate_rq()
    with pytest.raises(CannotUnderstand, match="AE title"):
        decode_request(request[:10] + title.encode("latin-1").ljust(16) + request[26:])
