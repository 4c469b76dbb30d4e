"""Texts that occur nowhere else, one for each place where patient data may stand, and messages full of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any
from urllib.parse import unquote

import orjson
from pydicom import config
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.scripted_peer import CT, associate_rq, command, item, p_data, pdv
from tests.scripted_server import Resource

_WORD = re.compile(r"qzx\d{5,}", re.IGNORECASE)
_FIRST_DAY = date(1801, 1, 1)
_IN_ITEMS = "PatientName PatientID AccessionNumber CodeValue CodeMeaning CodingSchemeDesignator TextValue PersonName"
_TEXT_VRS = re.compile("AE|AS|CS|D[AST]|IS|L[OT]|PN|S[HT]|TM|U[CIRT]")
_FIRST, _AFTER_PATIENT, _PIXELS = 0x00080000, 0x00110000, 0x7FE00000
"""Tags."""
_PIECE = 16_000
_VERSION_NAME, _USER_IDENTITY = 0x55, 0x58
"""Items of the user information (PS3.7 annex D.3.3)."""
_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "SpecificCharacterSet")


class Canaries:
    """Makes such texts and finds them again."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def word(self, place: str) -> str:
        """Ten characters that every VR of words takes."""
        return self._add(f"QZX{len(self._places):05d}", place)

    def value(self, vr: str, place: str) -> str:
        """A value of a VR that holds text."""
        number = len(self._places)
        match vr:
            case "DA":
                return self._add(f"{_FIRST_DAY + timedelta(number):%Y%m%d}", place)
            case "TM":
                return self._add(f"235959.{_scattered(number, 6)}", place)
            case "DT":
                return self._add(f"{_FIRST_DAY + timedelta(number):%Y%m%d}235959", place)
            case "IS":
                return self._add(f"19{_scattered(number, 8)}", place)
            case "DS":
                return self._add(f"0.{_scattered(number, 12)}", place)
            case "AS":
                return "099Y"  # too short to occur nowhere else
            case "PN":
                return f"{self.word(place)}^{self.word(place)}={self.word(place)}"
            case "UR":
                return f"urn:{self.word(place)}"
        return self.word(place)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._places)

    def _add(self, text: str, place: str) -> str:
        self._places[text.lower()] = place
        return text

    def found(self, text: str) -> dict[str, str]:
        """The texts of ours in another text, each with its place; dates also as FHIR writes them."""
        lowered = text.lower()
        words = {word.lower() for word in _WORD.findall(text)}
        numbers = {one for one in self._places if one[0].isdigit() and (one in lowered or _as_fhir(one) in lowered)}
        return {one: self._places[one] for one in words & self._places.keys() | numbers}


def _scattered(number: int, digits: int) -> str:
    """Digits that do not look like a counter."""
    return f"{(number * 7_919 + 104_729) * 15_485_863 % 10**digits:0{digits}d}"


def _as_fhir(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) in (8, 14) else text


def data_set(
    canaries: Canaries, study: str, sop_instance: str, values: Mapping[str, str], everything: bool = False
) -> Dataset:
    """Elements of the standard that hold text, each with a text of its own, in sequences and private elements too.

    Parameters
    ----------
    study, sop_instance
        The UIDs, which logs may show where they are UIDs.
    values
        Others, by keyword.
    everything
        Whether all elements are there; else those of the groups 0008 to 0010.
    """
    made = Dataset()
    with config.disable_value_validation():
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
            if _FIRST <= tag < (_PIXELS if everything else _AFTER_PATIENT) and keyword and keyword not in _KEYS:
                if vr == "SQ":
                    made.add_new(tag, vr, [_item(canaries, keyword)])
                elif _TEXT_VRS.fullmatch(vr):
                    made.add_new(tag, vr, canaries.value(vr, keyword))
        private = made.private_block(0x0009, canaries.word("private creator"), create=True)
        private.add_new(1, "LO", canaries.word("private LO"))
        private.add_new(2, "UN", canaries.word("private UN").encode())
        private.add_new(3, "SQ", [_item(canaries, "private SQ")])
        uids = {"SOPClassUID": CT, "SOPInstanceUID": sop_instance, "StudyInstanceUID": study}
        for keyword, value in {**uids, "SeriesInstanceUID": f"{study}.1", **values}.items():
            setattr(made, keyword, value)
    return made


def _item(canaries: Canaries, place: str) -> Dataset:
    inner = Dataset()
    for keyword in _IN_ITEMS.split():
        setattr(inner, keyword, canaries.word(f"{place}.{keyword}"))
    return inner


def encoded(made: Dataset) -> bytes:
    """As it is sent."""
    buffer = BytesIO()
    with config.disable_value_validation():
        dcmwrite(buffer, made, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def as_file(canaries: Canaries, made: Dataset) -> bytes:
    """As a file, whose file meta information holds texts, too."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, UID(CT)
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    for keyword in ("ImplementationVersionName", "SourceApplicationEntityTitle", "SendingApplicationEntityTitle"):
        setattr(meta, keyword, canaries.word(keyword))
    meta.ImplementationClassUID = UID("1.2.3")
    buffer = BytesIO()
    with config.disable_value_validation():
        dcmwrite(buffer, FileDataset("", made, file_meta=meta, preamble=bytes(128)), enforce_file_format=True)
    return buffer.getvalue()


@config.disable_value_validation()
def content_items(canaries: Canaries, depth: int = 3) -> list[Dataset]:
    """Content items of a structured report (PS3.3 C.17.3), each with texts of its own, and whole in one another."""
    values: dict[str, dict[str, Any]] = {
        "TEXT": {"TextValue": canaries.word("TEXT")},
        "PNAME": {"PersonName": canaries.value("PN", "PNAME")},
        "UIDREF": {"UID": canaries.word("UIDREF")},
        "DATETIME": {"DateTime": canaries.value("DT", "DATETIME")},
        "CODE": {"ConceptCodeSequence": [_item(canaries, "CODE")]},
        "NUM": {"MeasuredValueSequence": [_item(canaries, "NUM")]},
        "IMAGE": {"ReferencedSOPSequence": [_item(canaries, "IMAGE")]},
        "CONTAINER": {"ContentSequence": content_items(canaries, depth - 1) if depth else []},
    }
    items = []
    for value_type, value in values.items():
        made = _item(canaries, f"content item {value_type}")
        made.ConceptNameCodeSequence = [_item(canaries, f"concept name of {value_type}")]
        for keyword, each in {"ValueType": value_type, "RelationshipType": "CONTAINS", **value}.items():
            setattr(made, keyword, each)
        items.append(made)
    return items


def association_rq(canaries: Canaries, called: str = "DICOM2FHIR", contexts: bytes = b"") -> bytes:
    """A request whose names are texts of ours: the calling AE title, the implementation and the user."""
    identity = b"\x02\x00" + b"".join(
        struct.pack(">H", len(text)) + text.encode() for text in (canaries.word("user"), canaries.word("passcode"))
    )
    return associate_rq(
        item(_VERSION_NAME, canaries.word("implementation version name").encode()),
        item(_USER_IDENTITY, identity),
        contexts=contexts,
        calling=f"{canaries.word('calling AE title')} X",
        called=called,
    )


def c_store(sop_instance: str, content: bytes, is_whole: bool = True, sop_class: str = CT) -> bytes:
    """The command and the data set as PDUs; where it is not whole, more of it is to come."""
    pieces = [content[at : at + _PIECE] for at in range(0, len(content), _PIECE)]
    last = len(pieces) - 1
    return p_data(pdv(1, 3, command(sop_instance, sop=sop_class))) + b"".join(
        p_data(pdv(1, 2 if is_whole and number == last else 0, piece)) for number, piece in enumerate(pieces)
    )


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the bridge is killed while it asks."""


class HostileServer:
    """A FHIR server that says texts of ours in every place of its answers, in a manner that the path names.

    Attributes
    ----------
    asked
        ``(manner, method)`` of each request.
    received
        What the manner ``good`` was sent.
    """

    def __init__(self, canaries: Canaries) -> None:
        self.asked: list[tuple[str, str]] = []
        self.received: list[bytes] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._handle(b"")

            def do_POST(self) -> None:
                self._handle(self.rfile.read(int(self.headers["Content-Length"])))

            def _handle(self, body: bytes) -> None:
                manner, _, path = self.path.removeprefix("/").partition("/")
                server.asked.append((manner, self.command))
                if manner == "silent" and self.command == "POST":
                    self.close_connection = True
                    return
                if manner == "nonsense":
                    self.wfile.write(f"{canaries.word('what is not HTTP')}\r\n\r\n".encode())
                    self.close_connection = True
                    return
                status, kind, content = server.answer(manner, self.command, path, body)
                data = content if isinstance(content, bytes) else orjson.dumps(content)
                self.send_response(status, canaries.word("reason phrase"))
                for name in ("Location", "WWW-Authenticate", "Warning", "Server-Timing", "X-Patient"):
                    self.send_header(name, f"https://elsewhere.test/{canaries.word(name)}")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def version_string(self) -> str:
                return canaries.word("Server")

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._canaries = canaries
        self._http = _Http(("127.0.0.1", 0), Handler)
        self.port = self._http.server_address[1]
        Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, manner: str, method: str, path: str, body: bytes) -> tuple[int, str, Resource | bytes]:
        """Status, media type and body."""
        word = self._canaries.word
        if manner.isdecimal():
            return int(manner), f"text/{word('Content-Type')}", word("body").encode()
        if path == "fhir/metadata":
            return 200, "application/fhir+json", self._statement(manner)
        if method == "GET":
            return self._found(manner, path)
        if manner == "good":
            self.received.append(body)
        if manner in ("422", "refusing"):
            return 422, "application/fhir+json", self._outcome(body)
        if manner == "failing":
            return 500, "application/fhir+json", self._outcome(body)
        if manner == "garbage":
            return 200, f"text/{word('Content-Type')}", word("garbage").encode()
        entry: Resource = {"response": {"status": f"201 {word('entry status')}", "etag": word("etag")}}
        if manner == "entries":
            entry["response"] |= {"status": f"422 {word('entry status')}", "outcome": self._outcome(body)}
        count = len(orjson.loads(body)["entry"])
        bundle = {"resourceType": "Bundle", "type": "transaction-response", "entry": [entry] * count}
        return 200, "application/fhir+json", bundle

    def _statement(self, manner: str) -> Resource:
        word = self._canaries.word
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": word("fhirVersion") if manner == "version" else "4.0.1",
            "software": {"name": word("software name"), "version": word("software version")},
            "publisher": word("publisher"),
            "rest": [{"mode": "server", "interaction": [{"code": "transaction"}]}],
        }

    def _found(self, manner: str, path: str) -> tuple[int, str, Resource | bytes]:
        word = self._canaries.word
        kind = path.removeprefix("fhir/").partition("?")[0].partition("/")[0]
        identifier = re.search(r"identifier=([^&]*)", path)
        if identifier is None:
            return 404, "application/fhir+json", self._outcome(path.encode())
        tokens = [unquote(token).split("|") for token in identifier[1].split(",")]
        found = {"resourceType": kind, "identifier": [{"system": one[0], "value": one[1]} for one in tokens]}
        several = manner == "several" and kind == "Patient"
        entries = [{"resource": {**found, "id": word("id")}, "fullUrl": word("fullUrl")} for _ in range(2 * several)]
        if manner == "odd" and kind == "ImagingStudy":
            entries = [{"resource": {**found, "id": f"{word('id')} {word('id')}"}}]
        return 200, "application/fhir+json", {"resourceType": "Bundle", "type": "searchset", "entry": entries}

    def _outcome(self, body: bytes) -> Resource:
        """An OperationOutcome that says texts of its own, and repeats what it was sent."""
        word = self._canaries.word
        echo = body[:2_000].decode(errors="replace")
        issue = {"severity": "error", "code": "invalid", "diagnostics": f"{word('diagnostics')} {echo}"}
        words = {"severity": "error", "code": word("issue code"), "details": {"text": word("details")}}
        return {"resourceType": "OperationOutcome", "issue": [issue, words | {"expression": [word("expression")]}]}

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
