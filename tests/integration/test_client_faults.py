"""The client against a server that misbehaves: a script of bytes on a real socket."""

from __future__ import annotations

import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import orjson
import pytest

from dicom2fhir.errors import Ambiguous, BridgeError, EditConflict, NotAuthorised, ServerRefused, ServerUnavailable
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.auth import Basic, Bearer
from dicom2fhir.fhir.send.bundle import conditional_update, create_as, transaction, update
from dicom2fhir.fhir.send.client import FhirClient, _parsed_bytes
from dicom2fhir.fhir.send.find import Batches, Lookup
from dicom2fhir.fhir.send.http import Http
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.send.tls_and_proxy import TlsFiles
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import Resource, Study
from dicom2fhir.outcomes import Delivered
from tests.socket_server import SocketServer, read_request

PATIENT: Resource = {"resourceType": "Patient", "id": "p"}
BUNDLE = transaction([update(PATIENT, "urn:uuid:p")])
MIB = 1024 * 1024
DSTU2 = DIALECTS["DSTU2"]
Play = Callable[[socket.socket], None]


class FaultyServer(SocketServer):
    """Plays one scene to each request, the last one for ever."""

    def __init__(self, *scenes: Play) -> None:
        self.scenes = list(scenes)
        self.requests: list[bytes] = []
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}/fhir"

    def serve(self, connection: socket.socket) -> None:
        while request := read_request(connection):
            self.requests.append(request)
            scene = self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]
            scene(connection)


def answer(status: int, body: Resource | bytes = b"", **headers: str) -> Play:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Content-Type": "application/fhir+json", "Content-Length": str(len(data)), **given}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return raw(f"HTTP/1.1 {status} Because\r\n{lines}\r\n".encode() + data)


def raw(data: bytes) -> Play:
    return lambda connection: connection.sendall(data)


def cut(data: bytes) -> Play:
    def play(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return play


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def forever(head: bytes, part: bytes, pause_s: float) -> Play:
    def play(connection: socket.socket) -> None:
        connection.sendall(head)
        pause = threading.Event()
        while True:  # until the client goes away
            connection.sendall(part)
            pause.wait(pause_s)

    return play


def outcome(*diagnostics: str) -> Resource:
    issues = [{"severity": "error", "code": "invalid", "diagnostics": text} for text in diagnostics]
    return {"resourceType": "OperationOutcome", "issue": issues}


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultyServer]]:
    servers: list[FaultyServer] = []

    def start(*scenes: Play) -> FaultyServer:
        servers.append(FaultyServer(*scenes))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def failure(client: FhirClient, bundle: Resource = BUNDLE) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        client.transaction(bundle)
    return caught.value


HTML = b"<html><body>Please log in</body></html>"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
STATEMENT: Resource = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}

UNAVAILABLE: dict[str, Play] = {
    "408": answer(408),
    "425": answer(425),
    "429": answer(429),
    "500": answer(500, outcome("oops")),
    "502 of a proxy": answer(502, HTML),
    "503": answer(503),
    "a login page": answer(200, HTML, Content_Type="text/html"),
    "a web server without FHIR": answer(404, HTML, Content_Type="text/html"),
    "JSON, but a list": answer(200, b"[]"),
    "JSON, but no resource": answer(200, b"{}"),
    "another resource": answer(200, PATIENT),
    "half of a JSON": answer(200, b'{"resourceType": "Bundle", "entry": ['),
    "not UTF-8": answer(200, b'{"resourceType": "Bundle", "id": "\xff"}'),
    "too deep": answer(200, b'{"resourceType":"Bundle","a":' + b"[" * 900 + b"]" * 900 + b"}"),
    "far too deep": answer(200, b'{"resourceType":"Bundle","a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"),
    "compressed although not asked for": answer(200, b"\x1f\x8b\x08garbage", Content_Encoding="gzip"),
    "more entries than sent": answer(200, {"resourceType": "Bundle", "entry": [{}, {}]}),
    "an empty status": answer(200, {"resourceType": "Bundle", "entry": [{"response": {"status": ""}}]}),
    "nothing, ended by the connection": cut(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a failed entry": answer(200, {"resourceType": "Bundle", "entry": [{"response": {"status": "503 no"}}]}),
    "garbage": raw(b"\x00\x01\x02 garbage \r\n\r\n"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n"),
    "a huge header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
    "too many headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"),
    "a status that is no number": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "closed at once": cut(b""),
    "closed in the head": cut(b"HTTP/1.1 200 OK\r\nContent-"),
    "closed in the body": cut(OK + b"Content-Length: 100\r\n\r\n{"),
    "closed in a chunk": cut(OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{"),
    "a chunk of nonsense": cut(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{"),
    "reset": reset,
}


@pytest.mark.parametrize("fault", UNAVAILABLE)
def test_the_destination_is_at_fault_and_works_again_afterwards(serve: Callable[..., FaultyServer], fault: str) -> None:
    server = serve(UNAVAILABLE[fault], answer(200, STATEMENT))
    client = FhirClient(server.url, timeout_s=10)
    error = failure(client)
    assert type(error) is ServerUnavailable, error
    assert len(str(error)) < 200
    assert "log in" not in str(error)
    assert client.capabilities().fhir_version == "4.0.1"


SLOW: dict[str, Play] = {
    "says nothing": forever(b"", b"", 0.01),
    "drips its head": forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.05),
    "drips one header": forever(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.05),
    "drips its body": forever(OK + b"Content-Length: 1000000\r\n\r\n", b" ", 0.05),
    "drips chunks": forever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
    "asks to go on for ever": forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fault", SLOW)
def test_no_answer_takes_longer_than_its_budget(serve: Callable[..., FaultyServer], fault: str) -> None:
    server = serve(SLOW[fault])
    assert str(failure(FhirClient(server.url, timeout_s=0.5))).endswith(
        ": no complete response within 0.5 s (timeout_s)"
    )


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Connection: close\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 9999999999\r\n\r\n",
    ],
)
def test_no_answer_is_larger_than_its_budget(serve: Callable[..., FaultyServer], head: bytes) -> None:
    part = b" " * 65536
    server = serve(forever(head, b"10000\r\n" + part + b"\r\n" if b"chunked" in head else part, 0))
    client = FhirClient(server.url, timeout_s=20, max_response_bytes=MIB)
    assert str(failure(client)) == f"the response is larger than {MIB} bytes"


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing": (b"", b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n"),
    "103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "interim responses of many long headers": (b"", b"HTTP/1.1 103 Hints\r\n" + b"X: %s\r\n" % (b"y" * 60_000) * 90),
    "long headers": (b"HTTP/1.1 200 OK\r\n", b"X: %s\r\n" % (b"y" * 60_000)),
    "chunks of one byte": (CHUNKED, b"1\r\n \r\n"),
    "chunk extensions": (CHUNKED, b"1;x=%s\r\n \r\n" % (b"y" * 60_000)),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_is_no_body_has_a_limit_too(serve: Callable[..., FaultyServer], what: str) -> None:
    """Long before the time is up, because the processor works on it until then."""
    head, part = ENDLESS[what]
    server = serve(forever(head, part * (60_000 // len(part) + 1), 0), answer(200, STATEMENT))
    client = FhirClient(server.url, timeout_s=60)
    tracemalloc.start()
    try:
        assert (
            str(failure(client))
            == "the response consists of headers, interim responses, chunk lengths or trailers only"
        )
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    assert client.capabilities().fhir_version == "4.0.1"


def test_a_proxy_s_answer_has_a_limit_too(serve: Callable[..., FaultyServer], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000, 0))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    error = failure(FhirClient("https://fhir.invalid/fhir", timeout_s=60))
    assert isinstance(error, ServerUnavailable)
    assert "60 s" not in str(error)


def test_interim_responses_are_passed_over(serve: Callable[..., FaultyServer]) -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 C\r\n\r\n"

    def play(connection: socket.socket) -> None:
        connection.sendall(interim)
        answer(200, STATEMENT)(connection)

    client = FhirClient(serve(play).url)
    assert client.capabilities().fhir_version == "4.0.1"
    assert client.capabilities().fhir_version == "4.0.1", "and the connection goes on"


@pytest.mark.parametrize("length", [b"Content-Length: 16777216\r\n\r\n", b"Connection: close\r\n\r\n"])
def test_a_body_is_in_memory_once(serve: Callable[..., FaultyServer], length: bytes) -> None:
    server = serve(cut(OK + length + b" " * (16 * MIB)))
    http = Http(auth=None, timeout_s=60, tls=TlsFiles(), max_response_bytes=16 * MIB)
    tracemalloc.start()
    try:
        assert len(http.exchange("GET", server.url, {}).body) == 16 * MIB
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


COSTLY: dict[str, Callable[[], bytes]] = {
    "arrays": lambda: b"[]," * (8 * MIB),
    "numbers": lambda: b"1," * (12 * MIB),
    "objects": lambda: b'{"":1},' * (2 * MIB),
    "names": lambda: b"{%b}," % b",".join(b'"%x":1.5' % number for number in range(2 * MIB)),
}


def costly(what: str) -> Play:
    """Made when it is played: it is large."""

    def play(connection: socket.socket) -> None:
        answer(200, b'{"resourceType":"Bundle","entry":[' + COSTLY[what]() + b"{}]}")(connection)

    return play


@pytest.mark.parametrize("what", COSTLY)
def test_json_that_would_fill_the_memory_is_not_parsed(serve: Callable[..., FaultyServer], what: str) -> None:
    server = serve(costly(what), answer(200, STATEMENT))
    client = FhirClient(server.url, timeout_s=60)
    assert "bytes of memory" in str(failure(client))
    assert client.capabilities().fhir_version == "4.0.1"


@pytest.mark.parametrize(
    "body",
    [
        b"[%b]" % (b"1.5," * 100_000 + b"2"),
        b"[%b]" % (b"[1.5]," * 100_000 + b"[]"),
        b"[%b]" % (b'{"a":1.5},' * 100_000 + b"{}"),
        b"{%b}" % b",".join(b'"%x":"%x"' % (number, number) for number in range(87_382)),
        b'["\\ud83d\\ude00%b"]' % (b"x" * MIB),
        '["\U0001f600%s"]'.encode() % (b"x" * MIB),
    ],
    ids=["numbers", "arrays", "objects", "names", "escaped", "wide"],
)
def test_json_never_takes_more_memory_than_is_counted(body: bytes) -> None:
    tracemalloc.start()
    try:
        parsed = orjson.loads(body)
        assert tracemalloc.get_traced_memory()[0] <= _parsed_bytes(body)
    finally:
        tracemalloc.stop()
    assert parsed


def test_the_largest_study_is_read(serve: Callable[..., FaultyServer]) -> None:
    instance = {"uid": "1.2.826.0.1.3680043.8.498.1234567890", "number": 1, "sopClass": {"system": "s", "code": "c"}}
    study = {"resourceType": "ImagingStudy", "id": "s", "series": [{"uid": "1.2", "instance": [instance] * 100_000}]}
    assert FhirClient(serve(answer(200, study)).url, timeout_s=60).read("ImagingStudy", "s") == study


def test_words_of_any_length_cost_little(serve: Callable[..., FaultyServer]) -> None:
    """They are cut before anything is done to each character."""
    client = FhirClient(serve(answer(422, outcome("x" * (32 * MIB)))).url, timeout_s=60)
    started = time.thread_time()
    error = failure(client)
    took_s = time.thread_time() - started
    started = time.thread_time()
    for _ in range(2_000_000):
        pass
    loop_s = time.thread_time() - started
    assert isinstance(error, ServerRefused)
    assert len(str(error)) < 1000
    assert took_s < 20 * loop_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_not_followed(serve: Callable[..., FaultyServer], status: int) -> None:
    target = serve(answer(200, STATEMENT))
    server = serve(answer(status, HTML, Location=f"{target.url}/metadata"))
    client = FhirClient(server.url, auth=Basic("user", lambda: "secret"), timeout_s=10)
    assert isinstance(failure(client), ServerUnavailable)
    with pytest.raises(ServerUnavailable, match="redirect to"):
        client.capabilities()
    assert target.connections == 0


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_not_accepted(serve: Callable[..., FaultyServer], status: int) -> None:
    assert isinstance(failure(FhirClient(serve(answer(status)).url)), NotAuthorised)


SILENT: dict[str, Play] = {
    "no body": answer(200),
    "no content": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a blank body": answer(200, b" \r\n"),
    "no chunks": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "created": answer(201, Location="http://127.0.0.1/fhir/Bundle/1"),
    "a Bundle without entries": answer(200, {"resourceType": "Bundle", "type": "transaction-response"}),
    "a Bundle with no entry": answer(200, {"resourceType": "Bundle", "entry": []}),
    "entries without a response": answer(200, {"resourceType": "Bundle", "entry": [{}]}),
    "a remark": answer(200, {"resourceType": "OperationOutcome", "issue": [{"severity": "information"}]}),
    "a success of R5": answer(200, {"resourceType": "OperationOutcome", "issue": [{"severity": "success"}]}),
}


@pytest.mark.parametrize("said", SILENT)
def test_success_need_not_say_more(serve: Callable[..., FaultyServer], said: str) -> None:
    """``Prefer: return=minimal`` allows it (https://hl7.org/fhir/R4/http.html#ops)."""
    client = FhirClient(serve(SILENT[said]).url)
    assert client.transaction(BUNDLE) == [{}]
    assert client.transaction(BUNDLE) == [{}], "and the connection goes on"


@pytest.mark.parametrize("said", SILENT)
def test_a_question_is_not_answered_by_silence(serve: Callable[..., FaultyServer], said: str) -> None:
    client = FhirClient(serve(SILENT[said]).url)
    with pytest.raises((ServerUnavailable, ServerRefused)):
        client.capabilities()
    with pytest.raises((ServerUnavailable, ServerRefused)):
        client.read("Patient", "p")


UNUSABLE = ("a login page", "JSON, but no resource", "another resource", "more entries than sent")


@pytest.mark.parametrize("fault", UNUSABLE)
def test_success_that_cannot_be_used_is_a_sign_of_life(serve: Callable[..., FaultyServer], fault: str) -> None:
    error = failure(FhirClient(serve(UNAVAILABLE[fault]).url))
    assert isinstance(error, ServerUnavailable) and error.alive


@pytest.mark.parametrize("fault", ["429", "500", "502 of a proxy", "a web server without FHIR", "reset"])
def test_other_answers_are_not(serve: Callable[..., FaultyServer], fault: str) -> None:
    error = failure(FhirClient(serve(UNAVAILABLE[fault]).url))
    assert isinstance(error, ServerUnavailable) and not error.alive


def lookup_at(url: str) -> Lookup:
    return Lookup(FhirClient(url), time.monotonic() + 60, Batches("main", offered=False))


V1, V2, V3 = ({**PATIENT, "meta": {"versionId": number}} for number in "123")


@pytest.mark.parametrize(
    ("entries", "version", "expected"),
    [
        ([{"resource": V2}, {"resource": V1}], "2", V1),
        ([{"resource": V3}, {"resource": V2}, {"resource": V1}], "2", V1),
        ([{"resource": V2}, {"resource": V1}], "", V1),
        # the request that was carried out last had begun first
        ([{"resource": V1}, {"resource": V2}], "2", V1),
        ([{"resource": V3}, {"resource": V1}, {"resource": V2}], "3", V2),
        ([{"resource": V1}], "1", None),
        ([{"resource": V3}, {"request": {"method": "DELETE"}}, {"resource": V1}], "3", None),
        ([], "1", None),
    ],
)
def test_what_a_version_replaced(
    serve: Callable[..., FaultyServer], entries: list[Resource], version: str, expected: Resource | None
) -> None:
    server = serve(answer(200, {"resourceType": "Bundle", "type": "history", "entry": entries}))
    assert lookup_at(server.url).predecessor(PATIENT, "p", version) == expected
    assert server.requests[0].startswith(b"GET /fhir/Patient/p/_history?")


@pytest.mark.parametrize("status", [403, 404, 405, 410, 501])
def test_a_server_without_history(serve: Callable[..., FaultyServer], status: int) -> None:
    url = serve(answer(status, outcome("no history"))).url
    assert lookup_at(url).predecessor(PATIENT, "p", "2") is None
    assert lookup_at(url).first({**V1, "id": "p"}) == {}


@pytest.mark.parametrize(("relation", "first"), [("self", V1), ("next", {})])
def test_the_first_version_is_known_when_all_are_shown(
    serve: Callable[..., FaultyServer], relation: str, first: Resource
) -> None:
    links = [{"relation": relation, "url": "http://fhir.test/"}]
    for versions in ([V2, V1], [V1, V2]):
        entries = [{"resource": version} for version in versions]
        url = serve(answer(200, {"resourceType": "Bundle", "type": "history", "link": links, "entry": entries})).url
        assert lookup_at(url).first({**V2, "id": "p"}) == first


@pytest.mark.parametrize("status", ["304 Not Modified", "409", "412 Precondition Failed"])
def test_an_entry_that_was_there_already_is_a_conflict(serve: Callable[..., FaultyServer], status: str) -> None:
    said = answer(200, {"resourceType": "Bundle", "entry": [{"response": {"status": status}}]})
    client = FhirClient(serve(said).url)
    assert type(failure(client, transaction([create_as(PATIENT, "urn:uuid:p")]))) is EditConflict


def test_409_and_412_are_conflicts_where_a_version_was_named(serve: Callable[..., FaultyServer]) -> None:
    versioned = transaction([update(PATIENT, "urn:uuid:p", "1")])
    conditional = transaction([conditional_update(PATIENT, "urn:uuid:p", "identifier=x")])
    for status, bundle, kind in [
        (409, versioned, EditConflict),
        (412, versioned, EditConflict),
        (409, conditional, EditConflict),
        (412, conditional, Ambiguous),
        (412, transaction([create_as(PATIENT, "urn:uuid:p")]), EditConflict),
        (412, transaction([*versioned["entry"], *conditional["entry"]]), EditConflict),
    ]:
        assert type(failure(FhirClient(serve(answer(status, outcome("x"))).url), bundle)) is kind


def test_a_refusal_comes_with_the_server_s_words(serve: Callable[..., FaultyServer]) -> None:
    words = outcome("bad\x1b[31m date", "x" * 10_000, *["more"] * 100)
    words["issue"][0]["expression"] = ["ImagingStudy.started"]
    for status in (400, 404, 413, 422, 418):
        error = failure(FhirClient(serve(answer(status, words)).url))
        assert isinstance(error, ServerRefused)
        assert error.issues[0] == f"HTTP {status}: error: bad [31m date (ImagingStudy.started)"
        assert len(error.issues) == 20
        assert max(map(len, error.issues)) < 600
        assert "bad" not in str(error)


@pytest.mark.parametrize(
    "issue", [{}, {"severity": 5, "expression": 7, "details": []}, {"diagnostics": {"a": 1}, "location": [{}]}]
)
def test_a_refusal_in_odd_shapes(serve: Callable[..., FaultyServer], issue: Resource) -> None:
    words = {"resourceType": "OperationOutcome", "issue": [issue, "text"]}
    error = failure(FhirClient(serve(answer(422, words)).url))
    assert isinstance(error, ServerRefused) and len(error.issues) == 1


def test_a_refusal_inside_a_200(serve: Callable[..., FaultyServer]) -> None:
    error = failure(FhirClient(serve(answer(200, outcome("not stored"))).url))
    assert isinstance(error, ServerRefused)
    assert error.issues == ("error: not stored",)


def test_a_failed_entry_inside_a_200(serve: Callable[..., FaultyServer]) -> None:
    entry = {"response": {"status": "422 Unprocessable", "outcome": outcome("bad")}}
    error = failure(FhirClient(serve(answer(200, {"resourceType": "Bundle", "entry": [entry]})).url))
    assert isinstance(error, ServerRefused)
    assert error.issues == ("HTTP 422: error: bad",)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 407, 409, 412, 422, 429, 500, 501, 503, 507])
@pytest.mark.parametrize("of_an_entry", [False, True])
def test_what_a_server_says_comes_with_every_status(
    serve: Callable[..., FaultyServer], status: int, of_an_entry: bool
) -> None:
    said = answer(status, outcome("no room for Doe"))
    if of_an_entry:
        response = {"status": f"{status} Because", "outcome": outcome("no room for Doe")}
        said = answer(200, {"resourceType": "Bundle", "entry": [{"response": response}]})
    error = failure(FhirClient(serve(said).url))
    assert [issue.removeprefix(f"HTTP {status}: ") for issue in error.issues] == ["error: no room for Doe"]
    assert "Doe" not in str(error), "which is logged"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (
            "text/html",
            b"<html><style>p {}</style><h1>Sorry,</h1>\n<p>too <b>large</b> &amp; late",
            "Sorry, too large & late",
        ),
        ("text/html", b"<script>alert(1)</script>" + b"<" * 60_000, "<" * 500),
        ("text/plain; charset=utf-8", b"upstream\r\n\x1b[31mtimed out", "upstream [31mtimed out"),
        ("application/problem+json", b'{"detail": "too large"}', '{"detail": "too large"}'),
        (
            "application/fhir+xml",
            b'<OperationOutcome><issue><diagnostics value="no &lt;room&gt;"/></issue></OperationOutcome>',
            "no <room>",
        ),
        ("image/png", b"\x89PNG", None),
        ("text/plain", b"\0\0\0", None),
        ("", b"", None),
    ],
)
def test_pages_are_told_as_text(serve: Callable[..., FaultyServer], kind: str, body: bytes, said: str | None) -> None:
    error = failure(FhirClient(serve(answer(502, body, Content_Type=kind)).url))
    assert error.issues == (() if said is None else (said,))


ENTRY_STATUS: list[tuple[object, str | None]] = [
    ("201", "201"),
    ("201 Created", "201"),
    (" 200 OK", "200"),
    (200, "200"),
    ("2", None),
    ("20", None),
    ("2xx", None),
    ("200abc", None),
    ("2000", None),
    ("20O OK", None),
    ("OK", None),
    (200.0, None),
    (True, None),
    (["200"], None),
    ({}, None),
]


@pytest.mark.parametrize(("status", "meant"), ENTRY_STATUS)
def test_a_status_has_three_digits(serve: Callable[..., FaultyServer], status: object, meant: str | None) -> None:
    client = FhirClient(serve(answer(200, {"resourceType": "Bundle", "entry": [{"response": {"status": status}}]})).url)
    if meant:
        assert client.transaction(BUNDLE) == [{"status": meant}]
        return
    error = failure(client)
    assert isinstance(error, ServerUnavailable) and error.alive


@pytest.mark.parametrize("fault", ["429", "500", "reset", "closed in the body", "says nothing"])
def test_what_was_sent_may_be_the_cause_of_a_failure(serve: Callable[..., FaultyServer], fault: str) -> None:
    error = failure(FhirClient(serve({**UNAVAILABLE, **SLOW}[fault]).url, timeout_s=0.5))
    assert isinstance(error, ServerUnavailable) and error.unclear == (fault != "429")


def test_what_was_not_sent_is_not_the_cause_of_a_failure(serve: Callable[..., FaultyServer], free_port: int) -> None:
    server = serve(answer(500))
    for client in (
        FhirClient(f"http://127.0.0.1:{free_port}"),
        FhirClient("http://fhir.invalid"),
        FhirClient(server.url.replace("http:", "https:"), timeout_s=2),
    ):
        error = failure(client)
        assert isinstance(error, ServerUnavailable) and not error.unclear
    with pytest.raises(ServerUnavailable) as caught:
        FhirClient(server.url).capabilities()
    assert not caught.value.unclear


@pytest.mark.parametrize(
    ("value", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("999999999999999999999", 100, 100),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("in 90 s", 0.1, 90),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 100, 100),
    ],
)
def test_retry_after(serve: Callable[..., FaultyServer], value: str, least_s: float, most_s: float) -> None:
    value = value.replace("in 90 s", formatdate(time.time() + 90, usegmt=True))
    error = failure(FhirClient(serve(answer(503, Retry_After=value)).url, max_retry_after_s=100))
    assert isinstance(error, ServerUnavailable)
    assert least_s <= error.after_s <= most_s
    assert ("of 999,999,999,999 s (Retry-After), limited to 100 s" in str(error)) == (value == "9" * 21)
    assert ("Retry-After" in str(error)) == (most_s > 0)


def test_nobody_listens(free_port: int) -> None:
    assert str(failure(FhirClient(f"http://127.0.0.1:{free_port}"))).startswith(
        f"127.0.0.1:{free_port}: connection refused"
    )


def test_a_name_that_does_not_exist() -> None:
    assert type(failure(FhirClient("http://fhir.invalid/fhir"))) is ServerUnavailable


def test_tls_with_a_server_that_has_none(serve: Callable[..., FaultyServer]) -> None:
    server = serve(answer(200, STATEMENT))
    client = FhirClient(server.url.replace("http:", "https:"), timeout_s=2)
    assert type(failure(client)) is ServerUnavailable


def test_one_connection_serves_many_requests(serve: Callable[..., FaultyServer]) -> None:
    server = serve(answer(200, STATEMENT))
    client = FhirClient(f"{server.url}/")
    for _ in range(3):
        client.capabilities()
    assert (server.connections, len(server.requests)) == (1, 3)
    assert server.requests[0].startswith(b"GET /fhir/metadata HTTP/1.1\r\n")


def test_what_is_not_there_is_none(serve: Callable[..., FaultyServer]) -> None:
    client = FhirClient(serve(answer(404, outcome("x")), answer(410, outcome("x")), answer(200, PATIENT)).url)
    assert [client.read("Patient", "p") for _ in range(3)] == [None, None, PATIENT]


def test_a_search_gives_matches_only(serve: Callable[..., FaultyServer]) -> None:
    entries = [
        {"resource": PATIENT, "search": {"mode": "match"}},
        {"resource": PATIENT, "search": {"mode": "include"}},
        {"resource": outcome("x"), "search": {"mode": "outcome"}},
        {"resource": {"resourceType": "Device"}},
        {"resource": {**PATIENT, "id": "q"}},
        {"fullUrl": "urn:uuid:r"},
    ]
    server = serve(
        answer(200, {"resourceType": "Bundle", "entry": entries, "link": [{"relation": "next", "url": "x"}]})
    )
    found = FhirClient(server.url).search("Patient", "identifier=a%7Cb")
    assert [item["id"] for item in found] == ["p", "q"]
    (request,) = server.requests
    assert request.startswith(b"GET /fhir/Patient?identifier=a%7Cb&_count=5 HTTP/1.1\r\n")


def test_the_media_type_is_that_of_the_version(serve: Callable[..., FaultyServer]) -> None:
    server = serve(answer(200, {"resourceType": "Conformance", "fhirVersion": "1.0.2"}), answer(200, PATIENT))
    client = FhirClient(server.url)
    client.capabilities()
    client.speak(DIALECTS["DSTU2"], "json")
    client.read("Patient", "p")
    with pytest.raises(ServerUnavailable):
        client.transaction(BUNDLE)
    asked, read, sent = server.requests
    assert b"Accept: application/fhir+json, application/json+fhir;q=0.9\r\n" in asked
    assert b"Accept: application/json+fhir\r\n" in read
    assert b"Content-Type: application/json+fhir; charset=utf-8\r\n" in sent


def test_what_a_transaction_looks_like(serve: Callable[..., FaultyServer], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    server = serve(answer(200, {"resourceType": "Bundle", "entry": [{"response": {"status": "201", "location": "l"}}]}))
    client = FhirClient(server.url, auth=Bearer((tmp_path / "token").read_text))
    assert client.transaction(BUNDLE) == [{"status": "201", "location": "l"}]
    (tmp_path / "token").write_text("second\n")
    client.transaction(BUNDLE)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert orjson.loads(body) == BUNDLE
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /fhir HTTP/1.1"
    assert b"Content-Type: application/fhir+json; charset=utf-8" in lines
    assert b"Prefer: return=OperationOutcome" in lines
    assert b"Authorization: Bearer first" in lines
    assert b"Authorization: Bearer second" in server.requests[1]


@pytest.mark.parametrize("content", [None, b"", b"two words", b"caf\xc3\xa9", b"line\r\nX: injected"])
def test_a_token_that_cannot_be_used(serve: Callable[..., FaultyServer], tmp_path: Path, content: bytes | None) -> None:
    server = serve(answer(200, STATEMENT))
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    assert isinstance(failure(FhirClient(server.url, auth=Bearer((tmp_path / "token").read_text))), NotAuthorised)
    assert server.requests == []


def test_credentials_do_not_come_from_the_environment(
    serve: Callable[..., FaultyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = serve(answer(200, STATEMENT, Set_Cookie="a=b"))
    client = FhirClient(server.url)
    client.capabilities()
    client.capabilities()
    assert b"Authorization" not in server.requests[0] and b"Cookie" not in server.requests[1]


@pytest.mark.parametrize(
    "statement",
    [
        {},
        {"fhirVersion": 4, "software": [], "rest": {}},
        {"rest": ["x", {"interaction": "x", "resource": [1, {"type": 2}]}]},
    ],
)
def test_a_capability_statement_in_odd_shapes(serve: Callable[..., FaultyServer], statement: Resource) -> None:
    server = serve(answer(200, {"resourceType": "CapabilityStatement", **statement}))
    found = FhirClient(server.url).capabilities()
    assert (found.fhir_version, found.transaction) == ("", False)
    assert found.of("ImagingStudy").update_create is None


def test_a_capability_statement(serve: Callable[..., FaultyServer]) -> None:
    study = {
        "type": "ImagingStudy",
        "updateCreate": True,
        "conditionalUpdate": True,
    }
    rest = [{"mode": "server", "interaction": [{"code": "transaction"}], "resource": [study]}]
    found = FhirClient(serve(answer(200, {**STATEMENT, "rest": rest})).url).capabilities()
    assert found.transaction
    offered = found.of("ImagingStudy")
    assert (offered.update_create, offered.conditional_update) == (True, True)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_order_that_cannot_be_looked_up_stands_inside_the_study(
    serve: Callable[..., FaultyServer], status: int
) -> None:
    nothing = answer(200, {"resourceType": "Bundle", "type": "searchset"})
    created = {"status": "201 Created", "location": "ImagingStudy/s/_history/1"}
    server = serve(
        answer(200, {"resourceType": "Conformance", "fhirVersion": "1.0.2"}),
        nothing,  # the study by its UID
        answer(404),  # and by our id
        nothing,  # the patient
        answer(status, outcome("no such thing")),  # the order
        answer(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": created}]}),
    )
    study = Study("1.2.1", 1, {"PatientID": "P1"}, {"AccessionNumber": "A1"}, ())
    policy = MappingOptions(linked=frozenset({"order"}))
    destination = FhirDestination("main", FhirClient(server.url), StudyMapper(policy), DialectChoice("DSTU2"))
    assert isinstance(destination.deliver(study, b""), Delivered)
    (entry,) = orjson.loads(server.requests[-1].partition(b"\r\n\r\n")[2])["entry"]
    contained = {inside["id"]: inside["resourceType"] for inside in entry["resource"]["contained"]}
    (order,) = entry["resource"]["order"]
    assert contained[order["reference"].removeprefix("#")] == "DiagnosticOrder"
