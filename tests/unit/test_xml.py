"""FHIR XML: every value in its place, in the order of the schema, or a refusal."""

from __future__ import annotations

import importlib
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.version import formats
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.fhir.version.elements import types_of
from dicom2fhir.fhir.version.xml import dump_xml
from dicom2fhir.model import Resource
from tests.fhir_xml import FHIR, TABLE, check_order, values_of_json, values_of_xml
from tests.invariants import ELEMENTS

VERSIONS = [version for version in TABLE if version != "_source"]
EACH = pytest.mark.parametrize("version", VERSIONS)
MODELS = {"STU3": "fhir.resources.STU3", "R4B": "fhir.resources.R4B", "R5": "fhir.resources"}


def resources_of(version: str) -> list[str]:
    return [name for name, elements in TABLE[version].items() if "implicitRules" in elements]


def text(resource: Resource, version: str = "R4", indent: bool = False) -> str:
    return dump_xml(resource, version, indent).decode()


def patient(**elements: Any) -> Resource:
    return {"resourceType": "Patient", **elements}


XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
PATIENT = '<Patient xmlns="http://hl7.org/fhir">{}</Patient>'


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"gender": "female", "active": True}, '<active value="true"/><gender value="female"/>'),
        ({"id": "a", "multipleBirthInteger": 2}, '<id value="a"/><multipleBirthInteger value="2"/>'),
        (
            {"name": [{"given": ["A", "B"], "family": "C", "id": "n"}, {"text": "D"}]},
            '<name id="n"><family value="C"/><given value="A"/><given value="B"/></name><name><text value="D"/></name>',
        ),
        (
            {"extension": [{"valueDecimal": 1.5, "url": "http://e"}, {"url": "http://f", "valueInteger": -3}]},
            '<extension url="http://e"><valueDecimal value="1.5"/></extension>'
            '<extension url="http://f"><valueInteger value="-3"/></extension>',
        ),
        (
            {"_birthDate": {"extension": [{"url": "u", "valueCode": "unknown"}]}},
            '<birthDate><extension url="u"><valueCode value="unknown"/></extension></birthDate>',
        ),
        (
            {"birthDate": "2000", "_birthDate": {"id": "b", "extension": [{"url": "u", "valueCode": "c"}]}},
            '<birthDate value="2000" id="b"><extension url="u"><valueCode value="c"/></extension></birthDate>',
        ),
        (
            {"name": [{"given": [None, "B", "C"], "_given": [{"id": "x"}, None]}]},
            '<name><given id="x"/><given value="B"/><given value="C"/></name>',
        ),
        (
            {"contained": [{"resourceType": "Organization", "name": "O", "id": "o"}, {"resourceType": "Location"}]},
            '<contained><Organization><id value="o"/><name value="O"/></Organization></contained>'
            "<contained><Location/></contained>",
        ),
        (
            {"language": '<a href="x">&amp;\t\n\r'},
            '<language value="&lt;a href=&quot;x&quot;&gt;&amp;amp;&#x9;&#xA;&#xD;"/>',
        ),
        ({"language": "山田 \U0001f600\x7f\x85\u2028"}, '<language value="山田 \U0001f600\x7f\x85\u2028"/>'),
        (
            {"text": {"div": '<div xml:lang="fr">x</div>', "status": "generated"}},
            '<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml" xml:lang="fr">x</div></text>',
        ),
        (
            {"text": {"div": f'<div {XHTML}>a&nbsp;<b\n title="q&quot;">&lt;b</b>\n<br/><!-- c --></div>'}},
            f'<text><div {XHTML}>a\xa0<b title="q&quot;">&lt;b</b>&#xA;<br></br></div></text>',
        ),
    ],
)
def test_what_json_says_stands_in_xml(elements: dict[str, Any], expected: str) -> None:
    assert text(patient(**elements)) == PATIENT.format(expected)


@pytest.mark.parametrize(("number", "written"), [(1e-7, "0.0000001"), (1e22, "10000000000000000000000"), (0.1, "0.1")])
def test_a_decimal_is_written_out(number: float, written: str) -> None:
    extension = [{"url": "u", "valueDecimal": number}]
    assert f'<valueDecimal value="{written}"/>' in text(patient(extension=extension))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"surname": "x"}, "Patient of FHIR R4 has no surname"),
        ({"name": [{"nickname": "x"}]}, "HumanName of FHIR R4 has no nickname"),
        ({"animal": {}}, "Patient of FHIR R4 has no animal"),
        ({"_name": [{"id": "x"}]}, "Patient of FHIR R4 has no _name"),
        ({"extension": [{"url": "u", "_url": {"id": "x"}}]}, "Extension of FHIR R4 has no _url"),
        ({"extension": [{"url": "u", "valueHumanname": {}}]}, "has no valueHumanname"),
        ({"<x>": "x"}, "has no an element"),
        ({"contained": [{"resourceType": "Questionnaire"}]}, "XML of Questionnaire in FHIR R4 is not supported"),
        ({"contained": [{"resourceType": "HumanName"}]}, "XML of HumanName"),
        ({"contained": [{"resourceType": "Patient.contact"}]}, "a resource without type"),
        ({"contained": ["x"]}, "a resource without type"),
        ({"name": ["x"]}, "HumanName of FHIR R4 must be an object"),
        ({"gender": {"x": 1}}, "Patient.gender of FHIR R4 must be a single value"),
        ({"gender": [["x"]]}, "must be a single value"),
        ({"extension": [{"url": "u", "valueDecimal": float("nan")}]}, "must be a single value"),
        ({"language": "a\0"}, "a character that XML does not allow"),
        ({"language": "a\ufffe"}, "a character that XML does not allow"),
        ({"language": "a\ud800"}, "a character that XML does not allow"),
        ({"text": {"div": 1}}, "must be text"),
        ({"text": {"div": "<div>"}}, "not well-formed"),
        ({"text": {"div": "<div>&nothing;</div>"}}, "not well-formed"),
        ({"text": {"div": "<div>\ud800</div>"}}, "not well-formed"),
        ({"text": {"div": "<p>x</p>"}}, "not an XHTML div"),
        ({"text": {"div": '<div xmlns="http://hl7.org/fhir"/>'}}, "not an XHTML div"),
        ({"text": {"div": '<div xmlns:a="urn:a" a:b="c"/>'}}, "attributes that XHTML does not allow"),
        ({"text": {"div": '<!DOCTYPE div [<!ENTITY a "aaaaaaaa">]><div>&a;</div>'}}, "document type"),
    ],
)
def test_what_has_no_place_in_xml_is_refused(elements: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotExpressible, match=reason):
        text(patient(**elements))


def test_a_refusal_never_holds_a_value() -> None:
    for elements in (
        {"gender": {"Secret": 1}},
        {"name": ["Secret"]},
        {"text": {"div": "<div>Secret"}},
        {"x y": "Secret"},
    ):
        with pytest.raises(NotExpressible) as refusal:
            text(patient(**elements))
        assert "Secret" not in str(refusal.value)


def test_deep_narratives_cost_no_stack() -> None:
    div = "<div>" * 20_000 + "</div>" * 20_000
    assert text(patient(text={"div": div})).count("<div") == 20_000


def test_indented_each_element_has_a_line() -> None:
    resource = patient(gender="male", contained=[{"resourceType": "Location", "name": "a\nb"}])
    assert text(resource, indent=True).splitlines() == [
        '<Patient xmlns="http://hl7.org/fhir">',
        "  <contained>",
        "    <Location>",
        '      <name value="a&#xA;b"/>',
        "    </Location>",
        "  </contained>",
        '  <gender value="male"/>',
        "</Patient>",
    ]


@pytest.mark.parametrize(
    ("of_json", "of_xml"),
    [("application/fhir+json", "application/fhir+xml"), ("application/json+fhir", "application/xml+fhir")],
)
def test_the_media_type_is_the_version_s_own(of_json: str, of_xml: str) -> None:
    assert formats.media_type(of_json, "xml") == of_xml
    assert formats.media_type(of_json, "json") == of_json


@EACH
def test_a_bundle_s_entries_are_in_order(version: str) -> None:
    entry = {"request": {"url": "Patient/a", "method": "PUT"}, "resource": patient(id="a"), "fullUrl": "urn:uuid:a"}
    (written,) = ElementTree.fromstring(dump_xml(bundle.transaction([entry]), version)).findall(f"{FHIR}entry")
    assert [child.tag.removeprefix(FHIR) for child in written] == ["fullUrl", "resource", "request"]
    assert [child.tag.removeprefix(FHIR) for child in written[2]] == ["method", "url"]


@pytest.mark.parametrize("version", [version for version in ELEMENTS if version[0] != "_"])
def test_the_order_of_the_elements_is_that_of_the_definitions(version: str) -> None:
    types = {path.rpartition(".")[0] for path in ELEMENTS[version]} & TABLE[version].keys()
    assert {"ImagingStudy", "ImagingStudy.series", "ImagingStudy.series.instance", "Patient"} <= types
    left_out = {"id", "extension", "modifierExtension"}  # in every type, so the lists may have them or not
    for type_ in types:
        defined = [path.rpartition(".")[2] for path in ELEMENTS[version] if path.rpartition(".")[0] == type_]
        assert [name for name in TABLE[version][type_] if name not in left_out] == [
            name for name in defined if name not in left_out
        ], type_


primitives = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff", min_codepoint=32), min_size=1),
    st.text("\t\n\r <>&'\"]", min_size=1),
    st.integers(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)


@st.composite
def contents(draw: st.DrawFn, version: str, type_: str, depth: int) -> dict[str, Any]:
    """Anything that a type may hold, in any order."""
    elements = TABLE[version][type_]
    chosen = draw(st.lists(st.sampled_from(sorted(elements)), max_size=5 if depth else 2, unique=True))
    content: dict[str, Any] = {}
    for name in chosen:
        datatype = draw(st.sampled_from(elements[name].removeprefix("@").split("|")))
        key = name.replace("[x]", datatype[0].upper() + datatype[1:])
        if elements[name].startswith("@"):
            content[key] = draw(primitives)
        elif datatype[0].islower() and datatype != "xhtml":
            content[key] = draw(st.one_of(primitives, st.lists(primitives, min_size=1, max_size=3)))
            if draw(st.booleans()):
                beside = draw(contents(version, "Element", 0))
                content[f"_{key}"] = [beside] if isinstance(content[key], list) else beside
        elif datatype == "Resource" and depth:
            content[key] = [draw(resources(version, depth - 1))]
        elif datatype[0].isupper() and datatype != "Resource" and depth:
            content[key] = draw(st.lists(contents(version, datatype, depth - 1), min_size=1, max_size=2))
    return content


@st.composite
def resources(draw: st.DrawFn, version: str, depth: int = 3) -> Resource:
    type_ = draw(st.sampled_from(resources_of(version)))
    return {**draw(contents(version, type_, depth)), "resourceType": type_}


@given(st.data(), st.sampled_from(VERSIONS))
def test_any_resource_says_the_same_in_xml(data: st.DataObject, version: str) -> None:
    resource = data.draw(resources(version))
    root = ElementTree.fromstring(dump_xml(resource, version))
    assert values_of_xml(root) == values_of_json(resource)
    check_order(root, resource["resourceType"], version)


def test_every_dialect_has_a_table() -> None:
    assert list(DIALECTS) == VERSIONS


@EACH
def test_the_table_is_complete(version: str) -> None:
    """Whatever type it names it has, and each type that the bridge writes."""
    types = TABLE[version]
    named = {t for elements in types.values() for kind in elements.values() for t in kind.strip("@").split("|")}
    assert {name for name in named if name[0].isupper()} - {"Resource"} <= types.keys()
    assert {"Bundle", "ImagingStudy", "Patient", "Practitioner", "Organization", "Location", "Device"} <= types.keys()
    attributes = {(t, name) for t, elements in types.items() for name in elements if elements[name].startswith("@")}
    assert {(t, name) for t, name in attributes if name != "id"} == {("Extension", "url")}
    assert {t for t, name in attributes if name == "id"} == types.keys() - set(resources_of(version))


@pytest.mark.parametrize("version", MODELS)
def test_the_order_is_that_of_fhir_resources(version: str) -> None:
    """They were generated from the same schemas by somebody else."""
    compared = 0
    for type_ in TABLE[version]:
        if "." in type_:
            continue
        try:
            module = importlib.import_module(f"{MODELS[version]}.{type_.lower()}")
        except ModuleNotFoundError:
            continue
        theirs = [name for name in getattr(module, type_).elements_sequence() if name != "resource_type"]
        order = list(types_of(version)[type_])
        ours = {name: element.position for name, element in types_of(version)[type_].items()}
        positions = [ours[name] for name in theirs]
        assert positions == sorted(positions), (type_, theirs, order)
        compared += 1
    assert compared > 25
