"""Write resources as FHIR XML (https://hl7.org/fhir/R4/xml.html).

XML needs the order and the types of elements, which JSON does not have. They are in ``data/element_order.json``, taken
from the schema of each FHIR version. An element that is not in the table is refused: its place is not known.
"""

from __future__ import annotations

import html.entities
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import zip_longest
from xml.parsers import expat

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.version.elements import types_of
from dicom2fhir.model import Json, JsonObject, Resource

_FHIR = "http://hl7.org/fhir"
_XHTML = "http://www.w3.org/1999/xhtml"
_XML = "http://www.w3.org/XML/1998/namespace"
_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}
)
"""White space too: parsers replace it with blanks in attributes, and a document without ``indent`` must be one line."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that are not a ``Char`` of XML 1.0 (section 2.2); references to them are forbidden as well."""
_NAMED_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)(\w+;)")


def dump_xml(resource: Resource, version: str, indent: bool = False) -> bytes:
    """A resource as a document in UTF-8, without XML declaration and without line end.

    Parameters
    ----------
    version
        Name of the FHIR version, such as ``R4``.
    indent
        Each element on a line of its own; otherwise there are no line ends.

    Raises
    ------
    NotExpressible
        An element or a type is not in the table of this version, a narrative is not XHTML, or a character is not
        allowed in XML.
    """
    document = _Document(version, indent)
    document.put_resource(resource, 0)
    text = "".join(document.parts).removeprefix("\n")
    if _NOT_XML.search(text):
        raise NotExpressible("A value contains a character that XML does not allow.")
    return text.encode()


class _Document:
    """The document so far."""

    def __init__(self, version: str, indent: bool) -> None:
        self.parts: list[str] = []
        self._types = types_of(version)
        self._version = version
        self._indent = indent

    def put_resource(self, resource: Json, depth: int) -> None:
        """``<Patient>...</Patient>``, with the namespace at the root."""
        content = dict(resource) if isinstance(resource, dict) else {}
        type_ = content.pop("resourceType", None)
        elements = self._types.get(type_) if isinstance(type_, str) else None
        if elements is None or "." in str(type_) or elements["id"].is_attribute:
            name = f"{type_}" if isinstance(type_, str) and type_.isalnum() else "a resource without type"
            raise NotExpressible(f"XML of {name[:40]} in FHIR {self._version} is not supported: send JSON.")
        self._put(str(type_), str(type_), content, depth, "" if depth else f' xmlns="{_FHIR}"')

    def _put(self, tag: str, type_: str, content: Json, depth: int, attributes: str = "") -> None:
        """An element and its content."""
        if not isinstance(content, dict):
            raise NotExpressible(f"{type_} of FHIR {self._version} must be an object.")
        elements = self._types[type_]
        names = self._names(type_, content)
        children = [name for name in names if not elements[name].is_attribute]
        for name in names:
            if elements[name].is_attribute:
                if f"_{name}" in content:
                    raise self._unknown(type_, f"_{name}")
                attributes += f' {name}="{self._text(content[name], type_, name)}"'
        self._begin_line(depth)
        self.parts.append(f"<{tag}{attributes}{'' if children else '/'}>")
        for name in children:
            self._put_values(name, type_, content.get(name), content.get(f"_{name}"), depth + 1)
        if children:
            self._begin_line(depth)
            self.parts.append(f"</{tag}>")

    def _names(self, type_: str, content: JsonObject) -> list[str]:
        """The elements of an object in the order of the schema; ``name`` and ``_name`` are one element."""
        elements = self._types[type_]
        names = set()
        for key in content:
            name = key.removeprefix("_")
            element = elements.get(name)
            if element is None or (name != key and not element.is_primitive):
                raise self._unknown(type_, key)
            names.add(name)
        return sorted(names, key=lambda name: elements[name].position)

    def _put_values(self, name: str, parent: str, values: Json, besides: Json, depth: int) -> None:
        """All elements of one name; ``besides`` holds the ids and extensions of primitives."""
        element = self._types[parent][name]
        for value, beside in zip_longest(_listed(values), _listed(besides)):
            if value is None and beside is None:
                continue
            if element.type == "xhtml":
                self._begin_line(depth)
                self.parts.append(_narrative(value))
            elif element.type == "Resource":
                self._begin_line(depth)
                self.parts.append(f"<{name}>")
                self.put_resource(value, depth + 1)
                self._begin_line(depth)
                self.parts.append(f"</{name}>")
            elif element.is_primitive:
                text = "" if value is None else f' value="{self._text(value, parent, name)}"'
                self._put(name, "Element", beside or {}, depth, text)
            else:
                self._put(name, element.type, value, depth)

    def _text(self, value: Json, type_: str, name: str) -> str:
        """A primitive as the value of an attribute."""
        match value:
            case str():
                return value.translate(_ESCAPED)
            case bool():
                return "true" if value else "false"
            case int():
                return str(value)
            case float() if math.isfinite(value):
                return format(Decimal(repr(value)), "f")
            case _:
                raise NotExpressible(f"{type_}.{name} of FHIR {self._version} must be a single value.")

    def _begin_line(self, depth: int) -> None:
        if self._indent:
            self.parts.append("\n" + "  " * depth)

    def _unknown(self, type_: str, name: str) -> NotExpressible:
        shown = name[:40] if name.removeprefix("_").isalnum() else "an element"
        return NotExpressible(f"{type_} of FHIR {self._version} has no {shown}: it cannot be written in XML.")


def _listed(values: Json) -> list[Json]:
    return values if isinstance(values, list) else [values]


def _narrative(div: Json) -> str:
    """``Narrative.div`` serialized again: in its namespace, without line ends, comments and named entities."""
    if not isinstance(div, str):
        raise NotExpressible("Narrative.div must be text.")
    parts: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = lambda name, attributes: parts.append(_start_tag(name, attributes, not parts))
    parser.EndElementHandler = lambda name: parts.append(f"</{name.rpartition(' ')[2]}>")
    parser.CharacterDataHandler = lambda text: parts.append(text.translate(_ESCAPED))
    try:
        parser.Parse(_NAMED_ENTITY.sub(_character, div), True)
    except (expat.ExpatError, UnicodeEncodeError):
        raise NotExpressible("Narrative.div is not well-formed XHTML.") from None
    return "".join(parts)


def _start_tag(name: str, attributes: Mapping[str, str], is_root: bool) -> str:
    namespace, _, tag = name.rpartition(" ")
    if namespace not in (_XHTML, "") or (is_root and tag != "div"):
        raise NotExpressible("Narrative.div is not an XHTML div.")
    written = f' xmlns="{_XHTML}"' if is_root else ""
    for attribute, value in attributes.items():
        space, _, local = attribute.rpartition(" ")
        if space not in (_XML, ""):
            raise NotExpressible("Narrative.div has attributes that XHTML does not allow.")
        written += f' {"xml:" if space else ""}{local}="{value.translate(_ESCAPED)}"'
    return f"<{tag}{written}>"


def _character(entity: re.Match[str]) -> str:
    return html.entities.html5.get(entity[1], entity[0])


def _refuse_doctype(*_: object) -> None:
    raise NotExpressible("Narrative.div must not have a document type.")
