"""A FHIR client: the interactions that we need; every failure is raised as one of our errors.

Source: https://hl7.org/fhir/R4/http.html. The media type is ``application/fhir+json``, in UTF-8; up to 1.4.0 it was
``application/json+fhir``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import quote

import orjson

from dicom2fhir.errors import (
    Ambiguous,
    BridgeError,
    EditConflict,
    Misshapen,
    NotAuthorised,
    ServerRefused,
    ServerUnavailable,
)
from dicom2fhir.fhir.send.answer_shape import entries_of, require_sound
from dicom2fhir.fhir.send.auth import Credentials
from dicom2fhir.fhir.send.capabilities import Capabilities, read_capabilities
from dicom2fhir.fhir.send.deadlines import DEFAULT_TIMEOUT_S
from dicom2fhir.fhir.send.http import Answer, Http, retry_after_s
from dicom2fhir.fhir.send.lenient import as_object, as_objects
from dicom2fhir.fhir.send.operation_outcome import issues_of, said_in, status_in
from dicom2fhir.fhir.send.queries import NOT_THERE, Question, found_in, is_of_another, matches
from dicom2fhir.fhir.send.tls_and_proxy import TlsFiles, origin_of
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.fhir.version.formats import Format, media_type
from dicom2fhir.model import Json, JsonObject, Resource
from dicom2fhir.outcomes import Exchange
from dicom2fhir.system.text import counted

MEDIA_TYPE = "application/fhir+json"
_ANY_MEDIA_TYPE = f"{MEDIA_TYPE}, application/json+fhir;q=0.9"
_FRESH = {"Cache-Control": "no-cache, no-store"}
"""RFC 9111 section 5.2.1. Without it, HAPI may return the result of the same search of a minute ago, and it stores
results, which doubles its work."""
_STRICT = {**_FRESH, "Prefer": "handling=strict"}
"""A server that ignores an unknown parameter would return all resources."""
_PATIENCE = frozenset({407, 408, 425, 429})
_NO_FHIR_HERE = frozenset({404, 405, 406, 421, 426, 451, 511})
"""Statuses of a web server or proxy if there is no FHIR server; a FHIR server also sends an OperationOutcome."""
_NO_HISTORY = frozenset({400, 403, 404, 405, 410, 422, 501})
"""Statuses of a server that has no history of a resource or does not return it."""
_CONFLICTS = frozenset({304, 409, 412})
"""LinuxForHealth sends 304 for an entry that exists, against RFC 9110 section 13.1.2; HAPI sends 409 instead of 412."""
_LENGTHS = frozenset({"content-length", "transfer-encoding"})
_REMARKS = ("warning", "information", "success")
"""``OperationOutcome.issue.severity`` if the interaction succeeded."""
_WORDS = {
    401: "the credentials are not accepted; check auth and its options: username and password, token, or the scope and"
    " audience of the access token",
    403: "access is forbidden; ask the server's administrator for permission to read, search, create and update",
    407: "the proxy requires credentials; put them into its URL, http://user:password@host:port",
    408: "the server timed out waiting for the request; the delivery is retried",
    429: "too many requests; the delivery is retried",
    500: "the server failed; see its log",
    502: "its proxy cannot reach the server; check that the server is running",
    503: "the server is unavailable; check that it is running",
    504: "its proxy got no response in time; check that the server is running",
}
"""The meaning of a status for the operator."""
_KINDS = frozenset(
    {"no Content-Type", "text/html", "text/plain", "text/xml", "application/json", "application/xml"}
    | {"application/fhir+json", "application/json+fhir", "application/fhir+xml", "application/xml+fhir"}
    | {"application/octet-stream", "application/problem+json", "application/xhtml+xml"}
)
_MAX_PARSED_BYTES = 256 * 1024 * 1024
"""A study of 100,000 instances takes at most 250 MiB, by :func:`_parsed_bytes`."""
_VALUE_BYTES, _OBJECT_BYTES, _MEMBER_BYTES = 64, 160, 110
"""Size of a text, number or array; of an object; of a member's name and its slot."""
_OF_ALL = frozenset({401, 407, 429})
"""Statuses that concern all requests, not the resource that was sent."""
_MAX_DEPTH = 64


class FhirClient:
    """Client of one FHIR server; thread-safe.

    Parameters
    ----------
    base_url
        Service base URL, with or without a trailing slash.
    timeout_s
        Total time limit of one exchange.
    max_retry_after_s
        Upper limit for the server's ``Retry-After``.
    observe
        Called after each exchange, in its thread.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: Credentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsFiles = TlsFiles(),  # noqa: B008 (frozen)
        max_response_bytes: int = 48 * 1024 * 1024,
        max_retry_after_s: float = 3600.0,
        observe: Callable[[Exchange], None] = lambda exchange: None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._max_retry_after_s = max_retry_after_s
        self._sent, self._accepted = MEDIA_TYPE, _ANY_MEDIA_TYPE
        self._version = ""
        self._format: Format = "json"
        self._http = Http(
            auth=auth, timeout_s=timeout_s, tls=tls, max_response_bytes=max_response_bytes, observe=observe
        )

    def speak(self, dialect: Dialect, format_: Format) -> None:
        """Send this version in this format from now on, and request its JSON; before, any version is requested."""
        self._accepted = dialect.media_type
        self._sent = media_type(dialect.media_type, format_)
        self._version, self._format = dialect.name, format_

    def capabilities(self) -> Capabilities:
        """The capabilities; a refusal of this request means that the address is wrong, so it is a ServerUnavailable."""
        try:
            return read_capabilities(self._resource("GET", "/metadata", ("CapabilityStatement", "Conformance")))
        except ServerRefused as error:
            raise ServerUnavailable(f"/metadata: {error}", issues=error.issues) from error
        except ServerUnavailable as error:
            error.unclear = False  # no study was sent
            raise

    def check_access(self) -> None:
        """Send a request that needs authorisation, unlike ``/metadata``; only 401, 403 and failures are errors."""
        with suppress(ServerRefused):  # we are authorised, but the server may not support the parameter
            self._resource("GET", "/ImagingStudy?_summary=count", ("Bundle",))

    def read(self, resource_type: str, resource_id: str) -> Resource | None:
        """The resource, or None if it does not exist or was deleted."""
        answer = self._exchange("GET", f"/{Question(resource_type, resource_id).url}", _FRESH)
        if answer.status in NOT_THERE:  # if there is no FHIR server, the write that follows fails
            return None
        found = self._expect(answer, (resource_type,))
        if found.get("id") != resource_id:
            raise Misshapen(f"the server returned another {resource_type} than the one requested")
        return found

    def search(self, resource_type: str, query: str) -> list[Resource]:
        """The first matches of a percent-encoded query; further pages are not read."""
        question = Question(resource_type, query=query)
        answer = self._exchange("GET", f"/{question.url}", _STRICT)
        return matches(self._expect(answer, ("Bundle",)), question)

    def ask(self, question: Question) -> list[Resource]:
        """The resources found by :meth:`read` or :meth:`search`."""
        if question.query:
            return self.search(question.resource_type, question.query)
        found = self.read(question.resource_type, question.resource_id)
        return [] if found is None else [found]

    def ask_all(self, questions: Sequence[Question]) -> list[list[Resource] | None]:
        """Send the questions in one batch (https://hl7.org/fhir/R4/http.html#transaction).

        Returns
        -------
        list[list[Resource] | None]
            The result of :meth:`ask` for each question; None if the batch response does not answer it.
        """
        asked = [{"request": {"method": "GET", "url": question.url}} for question in questions]
        headers = {"Content-Type": f"{self._sent}; charset=utf-8", **_STRICT}
        body = self._serialised({"resourceType": "Bundle", "type": "batch", "entry": asked})
        entries = as_objects(self._expect(self._exchange("POST", "", headers, body), ("Bundle",)).get("entry"))
        if len(entries) != len(asked):
            raise ServerRefused(f"the response to a batch of {counted(len(asked), 'entry')} has {len(entries)}")
        if any(is_of_another(question, entry) for question, entry in zip(questions, entries, strict=True)):
            raise ServerRefused("the response to a batch is in another order")
        return [found_in(question, entry) for question, entry in zip(questions, entries, strict=True)]

    def history(self, resource_type: str, resource_id: str) -> tuple[list[Resource], bool]:
        """The latest versions of a resource, the newest first, and whether these are all; none if there is no history.

        A deletion is an empty resource.
        """
        answer = self._exchange("GET", f"/{resource_type}/{quote(resource_id, safe='')}/_history?_count=20")
        if answer.status in _NO_HISTORY:
            return [], False
        bundle = self._expect(answer, ("Bundle",))
        versions = [as_object(entry.get("resource")) for entry in entries_of(bundle)]
        for version in filter(None, versions):
            require_sound(version, {})
        is_more = any(link.get("relation") == "next" for link in as_objects(bundle.get("link")))
        return versions, not is_more

    def transaction(self, bundle: Resource) -> list[Resource]:
        """Send a transaction Bundle; return the ``response`` of each entry in their order. None of them is a failure.

        A response that the server leaves out is empty. A transaction succeeds or fails as a whole, so its success is
        that of each entry.

        Raises
        ------
        EditConflict
            Another client wrote at the same time (409; 412 if a version was given).
        Ambiguous
            A conditional write of the Bundle matches several resources (412).
        """
        conditional = _is_conditional(bundle)
        # With return=minimal, Medplum returns neither the ids that it assigned nor the reasons of a refusal.
        headers = {"Content-Type": f"{self._sent}; charset=utf-8", "Prefer": "return=OperationOutcome"}
        answer = self._exchange("POST", "", headers, self._serialised(bundle))
        is_success = 200 <= answer.status < 300
        resource = _parse(answer.body)
        if is_success and _says_nothing(answer, resource):
            return [{} for _ in bundle["entry"]]
        try:
            result = self._expected(answer, resource, ("Bundle",), conditional)
        except ServerUnavailable as error:
            error.alive = is_success
            raise
        responses = [as_object(entry.get("response")) for entry in as_objects(result.get("entry"))]
        if len(responses) != len(bundle["entry"]):
            asked, answered = counted(len(bundle["entry"]), "entry"), counted(len(responses), "entry")
            raise ServerUnavailable(f"the response to a transaction of {asked} has {answered}", alive=True)
        return [self._succeeded(response, conditional) for response in responses]

    def _succeeded(self, response: Resource, conditional: bool) -> Resource:
        """The response of one entry, with only the code as its status; a failure is raised."""
        try:
            status = status_in(response)
        except ValueError:
            said = "an entry in the response to a transaction has no three-digit status"
            issues = issues_of(response.get("outcome"))
            raise ServerUnavailable(f"{self.base_url}: {said}", alive=True, issues=issues) from None
        if status is None:
            return response
        if not 200 <= status < 300:
            raise self._failure(status, issues_of(response.get("outcome")), conditional)
        return {**response, "status": str(status)}

    def _serialised(self, resource: Resource) -> bytes:
        if self._format == "xml":
            from dicom2fhir.fhir.version.xml import dump_xml  # here, because XML is rarely used

            return dump_xml(resource, self._version)
        return orjson.dumps(resource)

    def _resource(self, method: str, path: str, expected: tuple[str, ...]) -> Resource:
        return self._expect(self._exchange(method, path), expected)

    def _exchange(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        return self._http.exchange(
            method, f"{self.base_url}{path}", {"Accept": self._accepted, **(headers or {})}, body
        )

    def _expect(self, answer: Answer, types: tuple[str, ...]) -> Resource:
        """The resource in a successful answer; otherwise an error is raised."""
        return self._expected(answer, _parse(answer.body), types)

    def _expected(
        self, answer: Answer, resource: Resource | None, types: tuple[str, ...], conditional: bool = False
    ) -> Resource:
        """The resource that was parsed from an answer, if the answer is successful; otherwise an error is raised."""
        status = answer.status
        is_success = 200 <= status < 300
        if is_success and resource is not None and resource["resourceType"] in types:
            return resource
        issues = said_in(answer, resource)
        if is_success:
            if resource is None:
                raise self._unavailable(
                    f"HTTP {status} without a FHIR resource in JSON ({_kind(answer)}); check that url is the"
                    " base URL of a FHIR server, and that no proxy asks for a login",
                    issues,
                )
            if resource["resourceType"] == "OperationOutcome":
                raise ServerRefused(f"HTTP {status} with an OperationOutcome", issues)
            raise self._unavailable(f"HTTP {status} with a resource other than {' or '.join(types)}")
        if 300 <= status < 400:
            target = origin_of(answer.headers.get("Location", ""), self.base_url)
            raise self._unavailable(
                f"HTTP {status}, a redirect to {target}, which is not followed; if the server is there, set"
                " url to its base URL",
                issues,
            )
        if status in _NO_FHIR_HERE and (resource is None or resource["resourceType"] != "OperationOutcome"):
            raise self._unavailable(
                f"HTTP {status}, not from a FHIR server ({_kind(answer)}); check that url is its base URL", issues
            )
        raise self._failure(status, issues, conditional, retry_after_s(answer.headers))

    def _unavailable(self, what: str, issues: tuple[str, ...] = ()) -> ServerUnavailable:
        return ServerUnavailable(f"{self.base_url}: {what}", unclear=True, issues=issues)

    def _failure(self, status: int, issues: tuple[str, ...], conditional: bool, asked_s: float = 0.0) -> BridgeError:
        """The error for a failure status of a response or of one entry in it."""
        if status == 412 and conditional:
            said = "HTTP 412: several resources on the server match, but only one may"
            return Ambiguous(said, issues=issues)
        if status in _CONFLICTS:
            said = f"HTTP {status}: another client is writing the same resources"
            return EditConflict(said, issues=issues)
        if status not in (401, 403) and status not in _PATIENCE and 200 <= status < 500:
            return ServerRefused(f"HTTP {status}", tuple(f"HTTP {status}: {issue}" for issue in issues))
        error = NotAuthorised if status in (401, 403) else ServerUnavailable
        said = f"HTTP {status}: {_WORDS[status]}" if status in _WORDS else f"HTTP {status}"
        after_s = min(asked_s, self._max_retry_after_s)
        return error(
            f"{self.base_url}: {said}{_pause_message(asked_s, after_s)}",
            after_s,
            unclear=status not in _OF_ALL,
            issues=issues,
        )


def _pause_message(asked_s: float, after_s: float) -> str:
    if not asked_s:
        return ""
    kept = f", limited to {after_s:,.0f} s" if after_s < asked_s else ""
    return f"; the server requests a pause of {asked_s:,.0f} s (Retry-After){kept}; `dicom2fhir retry` ends it"


def _is_conditional(bundle: Resource) -> bool:
    """Whether a 412 must mean several matches; if a version is also given, another read decides."""
    requests = [as_object(entry.get("request")) for entry in as_objects(bundle.get("entry"))]
    if any("ifMatch" in request or "ifNoneMatch" in request for request in requests):
        return False
    return any("ifNoneExist" in request or "?" in str(request.get("url")) for request in requests)


def _parse(body: bytes | bytearray) -> Resource | None:
    if _parsed_bytes(body) > _MAX_PARSED_BYTES:
        raise ServerUnavailable(f"the response would take more than {_MAX_PARSED_BYTES} bytes of memory", unclear=True)
    try:
        resource = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str) or _too_deep(resource):
        return None
    return resource


def _parsed_bytes(body: bytes | bytearray) -> int:
    """Upper limit of the memory for parsed JSON: two bytes (``{}``) may become a hundred."""
    is_narrow = body.isascii() and b"\\u" not in body  # one wide character makes all of its text wide
    characters = len(body) if is_narrow else 4 * len(body)
    values = _VALUE_BYTES * (body.count(b",") + body.count(b"["))
    return characters + values + _OBJECT_BYTES * body.count(b"{") + _MEMBER_BYTES * body.count(b":")


def _says_nothing(answer: Answer, resource: Resource | None) -> bool:
    """Whether a successful answer has no information: no content, a Bundle without entries, or only remarks."""
    if not answer.body or answer.body.isspace():
        # An answer that ends with the connection may be incomplete (RFC 9112 section 6.3).
        return answer.status == 204 or not _LENGTHS.isdisjoint(name.lower() for name in answer.headers)
    if resource is None:
        return False
    if resource["resourceType"] == "OperationOutcome":
        return all(issue.get("severity") in _REMARKS for issue in as_objects(resource.get("issue")))
    return resource["resourceType"] == "Bundle" and not resource.get("entry")


def _too_deep(value: JsonObject) -> bool:
    """Whether JSON is nested deeper than any FHIR resource; checked level by level, to avoid recursion."""
    level: list[JsonObject | list[Json]] = [value]
    for _ in range(_MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _kind(answer: Answer) -> str:
    """The media type of an answer, if it is a common one: a server may send any text, and this is logged."""
    kind = answer.headers.get("Content-Type", "no Content-Type").partition(";")[0].strip().lower()
    return kind if kind in _KINDS else "another Content-Type"
