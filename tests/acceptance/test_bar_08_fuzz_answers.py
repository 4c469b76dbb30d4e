"""Bar 8: any bytes in answer to the bridge's requests end in an outcome that is recorded, never in an exception."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from dicom2fhir.dicom.study import assemble
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Refused, Retry
from testdata.make_cases import record_of
from testdata.make_dicom import encoded
from tests.acceptance.fuzzing import corpus, fuzz, mutated
from tests.socket_server import SocketServer, read_request

pytestmark = pytest.mark.bar(8)

SUCCESS = re.compile(rb"HTTP/1\.\S*\s+2\d\d")
"""As in ``http.client``, for which each ``HTTP/1.`` is HTTP/1.1."""
SEPARATOR = b"\n-----\n"
"""Between the answers of an input: to ``/metadata``, to searches and reads, to a transaction."""
TIMEOUT_S = 1.0


class Answers(SocketServer):
    """Plays the answers of an input and closes each connection after one.

    It says so in its answer: a client that is not told would use the connection again, and would see the next
    answer or a cut connection as chance decides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers = [b""]
        self.url = f"http://127.0.0.1:{self.port}/fhir"

    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        is_write = b'"transaction"' in request or b"PUT" in request[:4]
        kind = 0 if b"/metadata" in request[:200] else 2 if is_write else 1
        answer = self.answers[min(kind, len(self.answers) - 1)]
        connection.sendall(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))


@contextmanager
def answers() -> Iterator[Answers]:
    server = Answers()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def study() -> Study:
    record = record_of(encoded("ct")[0])
    return assemble(record.study_uid, 1, [record])


def destination(server: Answers) -> FhirDestination:
    client = FhirClient(server.url, timeout_s=TIMEOUT_S)
    return FhirDestination("main", client, StudyMapper(MappingOptions()), DialectChoice())


def deliver(server: Answers, study: Study, data: bytes) -> None:
    server.answers = data.split(SEPARATOR)
    outcome = destination(server).deliver(study, b"")
    match outcome:
        case Delivered(base, written):
            assert base
            assert not written or SUCCESS.match(server.answers[-1]), "what no server took is not delivered"
        case Refused(issues):
            assert issues and all(isinstance(issue, str) and issue for issue in issues)
        case Retry(reason, after_s):
            assert reason
            assert after_s >= 0


def damaged(random: Random) -> bytes:
    """An input of the corpus with damage to its heads, its bodies, or both; lengths are made right again most times."""
    parts = random.choice(corpus("answers")).split(SEPARATOR)
    at = random.randrange(len(parts))
    head, _, body = parts[at].partition(b"\r\n\r\n")
    if random.random() < 0.8:
        body = mutated(body, random)
        if random.random() < 0.8:
            head = re.sub(rb"(?i)(content-length: )\d+", rb"\g<1>%d" % len(body), head)
    if random.random() < 0.4:
        head = mutated(head, random)
    parts[at] = head + b"\r\n\r\n" + body
    return SEPARATOR.join(parts)


def test_any_answer_ends_in_an_outcome(
    study: Study, seed: int, scale: Callable[[float, float], float], history: Path
) -> None:
    with answers() as server:
        fuzz(
            lambda data: deliver(server, study, data),
            damaged,
            "answers",
            seed=seed,
            seconds=scale(8.0, 60.0),
            history=history,
        )


def test_the_corpus_holds_what_is_delivered(study: Study) -> None:
    """Damage to answers that nobody takes would search in front of the door."""
    with answers() as server:
        outcomes = []
        for data in corpus("answers"):
            server.answers = data.split(SEPARATOR)
            outcomes.append(destination(server).deliver(study, b""))
    assert {type(outcome) for outcome in outcomes} == {Delivered, Refused, Retry}
