"""The explanation of a server's answer as text: without markup and control characters, and truncated.

It may contain patient data, so it is shown by ``status`` and never logged.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from dicom2fhir.fhir.send.http import Answer
from dicom2fhir.fhir.send.lenient import as_object, as_objects
from dicom2fhir.model import Resource

_MAX_ISSUES = 20
_MAX_CHARS = 500
_MAX_PAGE_BYTES = 64 * 1024
"""Size of the part of a page that is read; style sheets may precede its text."""
_TAG = re.compile(r"(<[^<>]*>)")
_UNSEEN = ("<script", "<style")
_XML_VALUE = re.compile(r'<(?:\w+:)?(?:diagnostics|text)\s+value="([^"<]*)"')
"""In an OperationOutcome as XML (https://hl7.org/fhir/R4/xml.html), which some servers send whatever is requested."""
_STATUS = re.compile(r"([1-9][0-9]{2})(?:\s.*)?", re.DOTALL)


def status_in(response: Resource) -> int | None:
    """The status of a Bundle entry's ``response``; None if there is none.

    It "starts with a 3 digit HTTP code and may contain the standard HTTP description"
    (https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry.response.status).

    Raises
    ------
    ValueError
        It has another form.
    """
    status = response.get("status")
    if status is None:
        return None
    found = _STATUS.fullmatch(str(status).strip()) if isinstance(status, str | int) else None
    if found is None:
        raise ValueError
    return int(found[1])


def issues_of(outcome: object) -> tuple[str, ...]:
    """The issues of an OperationOutcome; empty for any other value."""
    issues = as_objects(as_object(outcome).get("issue"))
    return tuple(cleaned(_issue(issue)) for issue in issues[:_MAX_ISSUES])


def _issue(issue: Resource) -> str:
    words = issue.get("diagnostics") or as_object(issue.get("details")).get("text") or issue.get("code") or ""
    places = issue.get("expression") or issue.get("location") or []
    place = next((item for item in places if isinstance(item, str)), "") if isinstance(places, list) else ""
    return f"{issue.get('severity', 'error')}: {words}{f' ({place})' if place else ''}"


def said_in(answer: Answer, resource: object) -> tuple[str, ...]:
    """The explanation in an answer: the issues if ``resource`` is an OperationOutcome, else its text."""
    return issues_of(resource) or tuple(filter(None, [cleaned(_text(answer))]))


def _text(answer: Answer) -> str:
    """The text of a page, of an OperationOutcome in XML, or of another text format."""
    kind = answer.headers.get("Content-Type", "text/plain").lower()
    if not re.match(r"text/|\S+[/+](json|xml|xhtml)", kind):
        return ""
    text = answer.body[:_MAX_PAGE_BYTES].decode("utf-8", "replace")
    if "\0" in text or "json" in kind:
        return "" if "\0" in text else text
    if values := _XML_VALUE.findall(text):
        return html.unescape("; ".join(values))
    return html.unescape(" ".join(_seen(text)))


def _seen(page: str) -> Iterator[str]:
    """The text of a page that a browser would show."""
    is_seen = True
    for part in _TAG.split(page):
        if _TAG.fullmatch(part):
            is_seen = not part.lower().startswith(_UNSEEN)
        elif is_seen:
            yield part


def cleaned(text: str) -> str:
    """The text in one line, without control characters and repeated blanks."""
    start = text[: 8 * _MAX_CHARS]
    return " ".join("".join(char if char.isprintable() else " " for char in start).split())[:_MAX_CHARS]
