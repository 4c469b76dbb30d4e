"""``dicom2fhir conformance``: what it states is compared with what the receiver accepts and the client asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext, build_context

from dicom2fhir.conformance.dicom_statement import statement, storage_sop_classes, transfer_syntaxes
from dicom2fhir.conformance.document import Section, StatementDocument, Table, markdown, to_html
from dicom2fhir.conformance.fhir_client import capability_statement, written_types
from dicom2fhir.dicom.character_sets import defined_terms, encodings
from dicom2fhir.errors import BridgeError
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.queries import Question
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Resource
from dicom2fhir.outcomes import Delivered
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.scp import StorageSCP
from testdata.make_cases import CASES, mapped, study_and_options, variants, version_of
from tests.command_line import run_here
from tests.daemon_process import ROOT
from tests.memory_server import Manner, memory_server
from tests.pki import Pki, pki
from tests.scu_sockets import client_sockets_are_closed
from tests.servers.validator.validator import Question as Validation
from tests.servers.validator.validator import Validator
from tests.two_bridges import fhir_destination

__all__ = ["client_sockets_are_closed", "pki"]

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
CURRENT = [name for name, dialect in DIALECTS.items() if dialect.fhir_version >= "4"]


def ignore(*_: object) -> None:
    """No request is sent."""


def accepted(listen: Listen, contexts: Sequence[PresentationContext]) -> set[tuple[str, str]]:
    """The SOP class and transfer syntax of each context that a running receiver accepts."""
    scp = StorageSCP(
        listen, on_received=ignore, on_created=ignore, on_set=ignore, on_rejected=ignore, on_association_ended=ignore
    )
    scp.start()
    found = set()
    try:
        for start in range(0, len(contexts), 128):
            association = AE("SENDER").associate(*scp.address, list(contexts[start : start + 128]), listen.ae_title)
            assert not association.is_rejected
            for context in association.accepted_contexts:
                found.add((str(context.abstract_syntax), str(context.transfer_syntax[0])))
            association.release() if association.is_established else association.abort()
    finally:
        scp.stop(5.0)
    return found


def tables(document: StatementDocument, number: str) -> list[Table]:
    (section,) = (one for one in document.sections if one.number == number)
    return [one for one in section.content if isinstance(one, Table)]


@pytest.mark.parametrize("listen", [Listen(), Listen(ae_title="BRIDGE", ian=False, mpps=True)])
def test_the_headings_are_those_of_the_template(listen: Listen) -> None:
    """All of its first two levels, in its order; what does not apply says so in its heading and its text."""
    template = (ROOT / "tests" / "data" / "conformance_template.txt").read_text("utf-8")
    expected = re.findall(r"^([\dA-E.]+ .+)$", template.replace("<AE>", listen.ae_title), re.MULTILINE)
    document = statement(listen, "2026-01-31")
    stated = [f"{one.number} {one.title.removesuffix(' - N/A')}" for one in document.sections]
    assert [heading for heading in expected if heading in stated] == stated
    left_out = {heading.split()[0] for heading in expected} - {heading.split()[0] for heading in stated}
    assert left_out <= {"5.2.2.2", "5.2.4.2"}, "of a service that is not offered"
    for one in document.sections:
        assert one.title.endswith(" - N/A") == (str(one.content[:1]).startswith("('N/A")), one.number


@pytest.mark.parametrize(("ian", "mpps"), [(True, False), (False, True)])
def test_the_sop_classes_are_those_that_the_receiver_accepts(ian: bool, mpps: bool) -> None:
    listen = Listen(port=0, ian=ian, mpps=mpps)
    every = [uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and name]
    taken = {sop_class for sop_class, _ in accepted(listen, [build_context(uid, EXPLICIT_LE) for uid in every])}
    document = statement(listen, "2026-01-31")
    stated = {row[1] for number in ("1.1", "1.2.1", "1.2.3") for row in tables(document, number)[0].rows}
    assert stated == taken
    assert CT in stated and len(stated) > 150


def test_the_transfer_syntaxes_are_those_that_the_receiver_accepts() -> None:
    every = [uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"]
    taken = {syntax for _, syntax in accepted(Listen(port=0), [build_context(CT, uid) for uid in every])}
    stated = {uid for _, uid in tables(statement(Listen(), "2026-01-31"), "1.1")[1].rows}
    assert stated == taken == set(transfer_syntaxes())


def test_the_names_are_those_of_the_standard() -> None:
    assert storage_sop_classes()[CT] == "CT Image Storage"
    (parameters,) = tables(statement(Listen(ae_title="SOMEWHERE", port=104), "2026-01-31"), "6.1")
    assert parameters.rows == (("AE title", "SOMEWHERE"), ("Port", "104"))


def test_every_character_set_of_the_standard_is_stated_and_read() -> None:
    not_terms = {"", "ISO 2022 GBK", "ISO 2022 58"}  # pydicom's own
    assert set(python_encoding) - not_terms <= set(defined_terms())
    assert [term for term in defined_terms() if encodings([term])[1]] == []


def test_tls_is_stated_with_its_cipher_suites(pki: Pki, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    assert "receiver.tls\\_certificate is not set" in run_here("conformance", "--config", config).stdout.decode()
    config.write_text(f'[receiver]\ntls_certificate = "{pki.server}"\ntls_client_ca = "{pki.ca}"\n')
    said = run_here("conformance", "--config", config).stdout.decode()
    assert "Certificates of senders: required" in said
    assert "TLS\\_AES\\_256\\_GCM\\_SHA384" in said
    assert "CBC" not in said and "TLSv1.0" not in said


def test_the_statement_is_that_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[receiver]\nae_title = "BRIDGE|A"\nport = 104\ncalling_ae_titles = ["PACS"]\nmpps = true\n')
    said = run_here("conformance", "--config", config).stdout.decode()
    assert "| AE title | BRIDGE\\|A |" in said
    assert "| Calling AE titles | PACS |" in said
    assert "Modality Performed Procedure Step SOP Class | 1.2.840.10008.3.1.2.3.3 | N | Y |" in said
    config.write_text("[receiver]\nenabled = false\n")
    refused = run_here("conformance", "--config", config)
    assert refused.status == 2 and "receiver.enabled is false" in refused.stderr


class Headings(HTMLParser):
    """Anchors of headings, targets of links, and elements that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: list[str] = []
        self.targets: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors += filter(None, [found.get("id")])
        self.targets += filter(None, [found.get("href")])
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_its_links_lead_somewhere() -> None:
    page = run_here("conformance", "--format", "html").stdout.decode()
    headings = Headings()
    headings.feed(page)
    assert headings.open == []
    assert headings.targets == [f"#{anchor}" for anchor in headings.anchors]
    text = run_here("conformance").stdout.decode()
    assert re.findall(r"\(#([^)]+)\)", text) == re.findall(r'<a id="([^"]+)">', text) == headings.anchors


def test_text_is_never_markup() -> None:
    hostile = "<b>|*x*_y_`z`[a](b)\\"
    made = StatementDocument(hostile, (Section("1", hostile, (hostile, Table((hostile,), ((hostile,),)))),))
    assert "<b>" not in to_html(made)
    assert markdown(made).splitlines()[-1] == "| \\<b\\>\\|\\*x\\*\\_y\\_\\`z\\`\\[a\\](b)\\\\ |"


# FHIR


def cases(version: str) -> Iterator[tuple[str, str]]:
    for case in CASES:
        yield from ((case, variant) for variant in (*variants(case), "R4B") if version_of(variant) == version)


@pytest.mark.parametrize("version", CURRENT)
def test_the_types_are_those_that_studies_become(version: str) -> None:
    """Of every golden case, with the options of that case."""
    seen: dict[str, Write] = {}
    stated: dict[str, Write] = {}
    for case, variant in cases(version):
        try:
            entries = mapped(case, variant).everything
        except BridgeError:
            continue
        said = written_types(DIALECTS[version], study_and_options(case)[1])
        stated |= said
        for entry in entries:
            type_ = entry.resource["resourceType"]
            seen[type_] = entry.write
            assert type_ in said, case
            assert said[type_] == entry.write or (type_, entry.write) == ("ImagingStudy", Write.LINK), case
    assert stated.keys() - seen.keys() <= {"Location", "Organization"}, "stated, and never written"


class Recording(FhirClient):
    """A client that keeps which interactions it was asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.seen: set[tuple[str, str, str]] = set()

    def _note(self, question: Question) -> None:
        parameter = question.query.partition("=")[0]
        self.seen.add((question.resource_type, "search-type" if parameter else "read", parameter))

    def ask(self, question: Question) -> list[Resource]:
        self._note(question)
        return super().ask(question)

    def ask_all(self, questions: Sequence[Question]) -> list[list[Resource] | None]:
        for question in questions:
            self._note(question)
        return super().ask_all(questions)

    def history(self, resource_type: str, resource_id: str) -> tuple[list[Resource], bool]:
        self.seen.add((resource_type, "history-instance", ""))
        return super().history(resource_type, resource_id)

    def transaction(self, bundle: Resource) -> list[Resource]:
        for entry in bundle["entry"]:
            code = "update" if entry["request"]["method"] == "PUT" else "create"
            self.seen.add((entry["resource"]["resourceType"], code, ""))
        return super().transaction(bundle)


@pytest.mark.parametrize("takes_ids", [True, False])
@pytest.mark.parametrize("patient", [Write.LINK, Write.ENSURE, Write.UPSERT])
def test_the_interactions_are_those_that_the_client_asks_for(patient: Write, takes_ids: bool) -> None:
    options = MappingOptions(
        patient=patient, dicomweb_url="https://pacs.example/dicom-web", linked=frozenset({"order"})
    )
    stated = set()
    for one in capability_statement(DIALECTS["R4"], options, "2026-01-31")["rest"][0]["resource"]:
        parameters = [parameter["name"] for parameter in one["searchParam"]]
        for code in (interaction["code"] for interaction in one["interaction"]):
            stated |= {(one["type"], code, name) for name in (parameters if code == "search-type" else [""])}
    with memory_server(Manner(takes_ids=takes_ids)) as server:
        client = Recording(server.url)
        destination = fhir_destination(client, options, "R4")
        for case in ("ct", "documents", "ko", "sr-dose"):
            study, _ = study_and_options(case)
            first = destination.deliver(study, b"")
            assert isinstance(first, Delivered), case
            destination.deliver(study, first.base, again=True)
    assert client.seen <= stated
    assert {code for _, code, _ in client.seen} >= {"search-type", "update" if takes_ids else "create"}


def test_the_options_of_a_destination_count(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[destinations.main]\nurl = "https://fhir.example/fhir"\npatient = "upsert"\n')
    plain, main = (
        run_here("conformance", "--config", config, "--format", "fhir", *flags).json["rest"][0]["resource"]
        for flags in ([], ["--destination", "main"])
    )
    writes = [
        {code["code"] for code in one["interaction"]}
        for found in (plain, main)
        for one in found
        if one["type"] == "Patient"
    ]
    assert writes == [{"read", "search-type"}, {"read", "search-type", "create", "update", "history-instance"}]
    refused = run_here("conformance", "--config", config, "--format", "fhir", "--destination", "other")
    assert refused.status == 2 and "known: main" in refused.stderr


def test_older_versions_are_refused_with_the_next_step() -> None:
    refused = run_here("conformance", "--format", "fhir", "--fhir", "STU3")
    assert refused.status == 78 and "choose one with --fhir" in refused.stderr


@pytest.mark.parametrize("version", ["R4", "R4B", "R5"])
def test_the_capability_statement_is_valid(validator: Validator, version: str) -> None:
    made = run_here("conformance", "--format", "fhir", "--fhir", version).json
    (found,) = validator.check_all([Validation(version, made)])
    assert found.errors == ()
