"""Write the generated documents: the configuration example, the mapping tables, the references of commands and events.

``make docs`` runs it; ``tests/unit/test_docs.py`` fails when a document is not what it would write.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from inspect import getdoc
from pathlib import Path
from typing import Any, TypeGuard

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydicom._uid_dict import UID_dictionary

from dicom2fhir import config
from dicom2fhir.cli import cli
from dicom2fhir.dicom.attributes import Attribute, taken
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS, HOLDERS
from dicom2fhir.dicom.normalized import all_attributes
from dicom2fhir.fhir.mapping.rule import Rule
from dicom2fhir.fhir.mapping.rules import RULES
from dicom2fhir.fhir.profile.description import elements_of, other_codes, parts_of, unverified
from dicom2fhir.fhir.profile.model import (
    AddedResource,
    CodeTable,
    ElementRule,
    IdentifierRules,
    Include,
    OrderRules,
    Profile,
    ProfileCode,
    RelatedRules,
)
from dicom2fhir.fhir.profile.template import (
    Extension,
    ExtensionPart,
    FirstValue,
    ReferenceTo,
    ValueSource,
    is_attribute,
)
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.ops.metric_table import everything
from dicom2fhir.wiring import options

ROOT = Path(__file__).parents[1]

_TAGS: Mapping[str, int] = {
    attribute.keyword: attribute.tag
    for attribute in (*all_attributes(), *taken(), *(one for attributes in CONTENT.values() for one in attributes))
}


def documents() -> dict[Path, str]:
    """Every generated document with its text."""
    readme = ROOT / "README.md"
    profile_format = ROOT / "docs" / "profile-format.md"
    return {
        ROOT / "config.example.toml": config.example(),
        ROOT / "docs" / "mapping" / "README.md": mapping_index(),
        **{ROOT / "docs" / "mapping" / f"{name}.md": mapping(dialect) for name, dialect in DIALECTS.items()},
        **{ROOT / "docs" / "mapping" / f"{name}.md": profile_page(name) for name in options.profile_names()},
        ROOT / "docs" / "cli.md": commands(),
        ROOT / "docs" / "events.md": events(),
        ROOT / "docs" / "metrics.md": metrics(),
        profile_format: between(profile_format.read_text("utf-8"), "keys", profile_keys()),
        readme: between(between(readme.read_text("utf-8"), "profiles", profiles()), "mapping", summary()),
    }


def between(text: str, name: str, content: str) -> str:
    """The text with what stands between the markers ``<!-- name -->`` and ``<!-- /name -->`` replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    replaced, count = pattern.subn(lambda match: f"{match[1]}{content}{match[2]}", text)
    if count != 1:
        raise ValueError(f"there must be one pair of markers <!-- {name} -->, not {count}")
    return replaced


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(columns)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _tag(keyword: str) -> str:
    return _number(_TAGS[keyword])


def _number(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _element(dialect: Dialect, path: str, rule: Rule) -> str:
    element = dialect.elements.get(rule.concept)
    if element is None:
        return ""
    _, _, inner = f"{path}.".partition(".")
    return f"`{inner}{element.name}`"


def profiles() -> str:
    """The table of the README: the profiles, their FHIR versions, and whether a published definition confirms them."""
    found = map(options.profile, options.profile_names())
    rows = (
        (f"[`{one.name}`](docs/mapping/{one.name}.md)", ", ".join(one.versions), one.title, unverified(one))
        for one in found
    )
    return _table(("`fhir.profile`", "FHIR", "Guide", "Remark"), rows)


def summary() -> str:
    """The table of the README: the elements of the newest and the most used version, and their attributes."""
    rows = (
        (
            _element(DIALECTS["R4"], path, rule) or "-",
            _element(DIALECTS["R5"], path, rule) or "-",
            ", ".join(f"{keyword} {_tag(keyword)}" for keyword in rule.attributes[:3])
            + (", ..." if len(rule.attributes) > 3 else "")
            or f"*{rule.how}*",
        )
        for path, rules in _rules_of("ImagingStudy")
        for rule in rules
        if any(_element(DIALECTS[version], path, rule) for version in ("R4", "R5"))
    )
    return _table(("ImagingStudy in R4, R4B", "in R5", "from DICOM"), rows)


def _rules_of(type_: str) -> list[tuple[str, tuple[Rule, ...]]]:
    """The rule tables of a resource type: its own, and those of its elements with elements of their own."""
    return [(path, rules) for path, rules in RULES.items() if path.partition(".")[0] == type_]


def mapping_index() -> str:
    """``docs/mapping/README.md``: the versions, and the attributes that are read."""
    found = map(options.profile, options.profile_names())
    parts = [
        "# From DICOM to FHIR\n\nGenerated from the rule table by `make docs`. One page for each FHIR version:\n\n",
        *(f"* [{dialect.name}]({name}.md) ({dialect.fhir_version})\n" for name, dialect in DIALECTS.items()),
        "\nand one for each profile, with what it changes:\n\n",
        *(f"* [{one.name}]({one.name}.md): {'; '.join(filter(None, (one.title, unverified(one))))}\n" for one in found),
        "\n## Attributes that are read\n\nThe receiver passes on only these attributes.\n\n",
        _table(("Attribute", "Tag", "VR", "Of each item", "If it is missing"), map(_attribute_row, taken())),
        "\nAttributes of series and instances that are missing at the top level are read from these sequences, in "
        f"this order: {_listed(HOLDERS)}. Only the first frame is read. The following sequences within them "
        f"are read too: {_listed(FUNCTIONAL_GROUPS)}.\n",
        "\n## Content that is read\n\nOf these SOP classes, the following sequences are read as well, with everything "
        "that is listed in them. All of them together take up to two thirds of `receiver.max_elements`; items after "
        "that are left out, with a note.\n",
        *(
            f"\n### {UID_dictionary[sop_class][0]}\n\n"
            + _table(("Sequence", "Tag", "Of each item"), (_content_row(attribute) for attribute in attributes))
            for sop_class, attributes in CONTENT.items()
        ),
        _DOCUMENTS,
    ]
    return "".join(parts)


_DOCUMENTS = """
## What encapsulated documents do not say

EncapsulatedDocument is read only up to `fhir.embed_documents` bytes. The Encapsulated Document Module (PS3.3 C.24.2)
has no author, no Verifying Observer and no Completion Flag: the author is the equipment, and `docStatus` follows
Verification Flag alone. Source Instance Sequence (0042,0013) names what a document was made from; the document that it
replaces is in Predecessor Documents Sequence (0040,A360). A document is a diagnostic imaging report if its title is a
code of PS3.16 CID 7000.
"""

_REMARKS: Mapping[str, str] = {
    **dict.fromkeys(
        ("R4", "R4B"),
        "An ImagingSelection is written as a Basic that claims HL7's cross-version profile "
        "`http://hl7.org/fhir/5.0/StructureDefinition/profile-ImagingSelection` if `resources.key_objects` is "
        "`always`: `identifier` and `subject` are those of the Basic, `status` is a modifier extension, and each other "
        "element an extension `http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection.ELEMENT`.\n\n",
    ),
    "3.2.0": "Only the ImagingStudy of this ballot is known; all other resources are those of STU3.\n\n",
    "R6": "R6 is not published yet. The output follows its third ballot, 6.0.0-ballot3: "
    "`series.instance.numberOfFrames`, which was added later (FHIR-55483), is not written. The definitions of later "
    "ballots are not in a package registry that the project builds from. Its DocumentReference and Procedure were not "
    "seen and are written as in R5.\n\n",
}


def mapping(dialect: Dialect) -> str:
    """``docs/mapping/<version>.md``: every element that a rule writes, and where it comes from."""
    types = dict.fromkeys(path.partition(".")[0] for path in RULES)
    tables = {type_: _rows(dialect, type_) for type_ in types}
    return (
        f"# The mapping in FHIR {dialect.name} ({dialect.fhir_version})\n\nGenerated from the rules by `make docs`. "
        "The attributes of a rule are listed in order of preference; * marks elements that repeat.\n\n"
        + _REMARKS.get(dialect.name, "")
        + "\n".join(
            f"## {_heading(dialect, type_)}\n\n" + _table(("Element", "Datatype", "DICOM attributes", "Rule"), rows)
            for type_, rows in tables.items()
            if rows
        )
    )


def _heading(dialect: Dialect, type_: str) -> str:
    return f"{type_}, as a Basic" if type_ == "ImagingSelection" and dialect.key_objects == "Basic" else type_


def _rows(dialect: Dialect, type_: str) -> list[tuple[str, str, str, str]]:
    return [
        (element, _shape(dialect, rule), "<br>".join(f"{k} {_tag(k)}" for k in rule.attributes), rule.how)
        for path, rules in _rules_of(type_)
        for rule in rules
        if (element := _element(dialect, path, rule))
    ]


def _value(part: ExtensionPart) -> str:
    if part.resource:
        return f"reference ({', '.join(part.resource)})"
    return f"{part.type} {part.unit}".strip() + (f", codes of {part.codes}" if part.codes else "")


def profile_page(name: str) -> str:
    """``docs/mapping/<profile>.md``: what a profile says of itself, its elements, and its extensions."""
    profile = options.profile(name)
    claims = "".join(f"* FHIR {version}: `{url}`\n" for version, url in profile.versions.items())
    elements = ((f"`{path}`", _sources(sources), "; ".join(asked)) for path, sources, asked in elements_of(profile))
    extensions = (
        (
            f"`{extension.at}`",
            f"`{path}`",
            _value(part),
            _sources(part.from_),
            ", ".join((*part.modalities, *(["required"] if part.required else []))),
        )
        for extension in profile.extension
        for path, part in parts_of(extension)
    )
    return "".join(
        (
            f"# {profile.title}\n\nGenerated from `dicom2fhir/fhir/profile/profiles/{name}.toml` by `make docs`. A "
            f"required value that is missing: `{profile.missing}`, unless `fhir.profile_missing` says otherwise.\n\n"
            f"{claims}\n",
            f"**{words[0].upper()}{words[1:]}.**\n\n" if (words := unverified(profile)) else "",
            f"{profile.doc.strip()}\n\n## Elements\n\n",
            _table(("Element", "DICOM attributes", "Requirement"), elements),
            "\n## Extensions\n\n" if profile.extension else "",
            _table(("Of", "Extension", "Datatype", "DICOM attributes", "For"), extensions) if profile.extension else "",
            "\n## Codes\n\n" if profile.codes else "",
            _table(("Table", "System", "Codes", "Other codes"), _codes(profile)) if profile.codes else "",
        )
    )


_LISTED = 60
"""So many codes of a table are listed; more are counted."""


def _codes(profile: Profile) -> Iterator[tuple[str, str, str, str]]:
    for name, table in profile.codes.items():
        for include in table.include:
            codes = ", ".join(include.codes) if len(include.codes) <= _LISTED else f"{len(include.codes)} codes"
            which = codes or "all"
            if include.modalities:
                which += f" (of {', '.join(include.modalities)})"
            yield f"`{name}`", f"`{include.system}`", which, other_codes(table)


_PROFILE_TABLES: Mapping[str, type[BaseModel]] = {
    "The file": Profile,
    "`[identifiers]`": IdentifierRules,
    "`[orders]`": OrderRules,
    "`[[element]]` and `[[related.TYPE.element]]`": ElementRule,
    "`[[extension]]`, `[[related.TYPE.extension]]` and `[[extension.part]]`": Extension,
    "`[related.TYPE]`": RelatedRules,
    "`[resource.NAME]`": AddedResource,
    "A value": ValueSource,
    "The first of several values": FirstValue,
    "A reference": ReferenceTo,
    "`[codes.NAME]`": CodeTable,
    "`[[codes.NAME.include]]`": Include,
    "A code": ProfileCode,
}
"""Title -> the model of a table of a profile file."""


def profile_keys() -> str:
    """The keys of every table of a profile file."""
    return "\n".join(
        f"### {title}\n\n{(getdoc(model) or '').replace('``', '`')}\n\n"
        + _table(("Key", "Default", "Meaning"), _keys(model))
        for title, model in _PROFILE_TABLES.items()
    )


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Key, default and description of what a table has; the keys of a value stand in their own section."""
    apart = ValueSource.model_fields if model is not ValueSource and issubclass(model, ValueSource) else ()
    for name, field in model.model_fields.items():
        if name not in apart:
            yield f"`{field.alias or name}`", _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    is_table = isinstance(field.default, BaseModel)
    return "" if is_table or field.default in ("", None, (), {}) else f"`{json.dumps(field.default)}`"


def _sources(sources: Iterable[str]) -> str:
    def named(keyword: str) -> str:
        sequence, _, item = keyword.partition("/")
        return f"{sequence} {_tag(sequence)}" + (f" > {item}" if item else "")

    return "<br>".join(
        source if not is_attribute(source) else " + ".join(map(named, source.split("+"))) for source in sources
    )


def _shape(dialect: Dialect, rule: Rule) -> str:
    element = dialect.elements[rule.concept]
    shape = "" if element.shape == "as is" else element.shape
    return f"{shape} *".strip() if element.many else shape


def _attribute_row(attribute: Attribute) -> tuple[str, str, str, str, str]:
    items = ", ".join(item.keyword for item in attribute.items)
    instead = ", ".join(
        f"{_listed({other.keyword: other.tag})}{f' x {other.factor}' if other.factor else ''}"
        for other in attribute.instead
    )
    return attribute.keyword, _tag(attribute.keyword), attribute.vr, items, instead


def _content_row(attribute: Attribute) -> tuple[str, str, str]:
    return attribute.keyword, _number(attribute.tag), ", ".join(map(_with_items, attribute.items))


def _with_items(attribute: Attribute) -> str:
    """An attribute with those of its items in parentheses; of codes, only the sequence."""
    if not attribute.items or not attribute.is_content:
        return attribute.keyword
    return f"{attribute.keyword} ({', '.join(map(_with_items, attribute.items))})"


def _listed(tags: Mapping[str, int]) -> str:
    return ", ".join(f"{keyword} {_number(tag)}" for keyword, tag in tags.items())


def commands() -> str:
    """``docs/cli.md``: the help of every command."""
    parts = [
        "# Commands\n\nGenerated by `make docs`. Exit statuses: 0 success, 1 some work failed, 2 wrong usage, 69 a "
        "FHIR server is unavailable, 74 input or output failed, or something is not available yet, 78 the "
        "configuration is not usable, 130 interrupted, 141 the output was closed by its reader.\n"
    ]
    for name, command in _with_inner("dicom2fhir", cli):
        context = click.Context(command, info_name=name, terminal_width=100, **cli.context_settings)
        parts.append(f"\n## {context.info_name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def _with_inner(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and, if it is a group, those in it."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner_name in command.list_commands(context):
            inner = command.get_command(context, inner_name)
            assert inner is not None
            yield from _with_inner(f"{name} {inner_name}", inner)


LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
OTHER_FIELDS = "**"
"""Fields of a dict, which ``docs/events.toml`` has to name."""


@cache
def modules() -> dict[Path, ast.Module]:
    """The syntax tree of each module of the package."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted((ROOT / "dicom2fhir").rglob("*.py"))}


@cache
def log_calls() -> dict[str, tuple[set[str], set[str]]]:
    """Event -> the levels and the fields that the code logs it with."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for tree in modules().values():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and (methods := log_methods(call.func)):
                event = ast.literal_eval(call.args[0])
                levels, fields = found.setdefault(event, (set(), set()))
                levels |= {method.attr for method in methods}
                fields.update(*(_fields(keyword) for keyword in call.keywords))
                fields |= {"frames"} if "BridgeFault" in ast.unparse(call) else set()
    return found


def _fields(keyword: ast.keyword) -> set[str]:
    if keyword.arg:
        return {keyword.arg}
    return {"kind", "reason"} if ast.unparse(keyword.value).startswith("log_fields(") else {OTHER_FIELDS}


def log_methods(function: ast.expr) -> list[ast.Attribute]:
    """The methods of ``log.error`` or ``(log.error if ... else log.warning)``; none where something else is called."""
    parts = [function.body, function.orelse] if isinstance(function, ast.IfExp) else [function]
    return [part for part in parts if is_log_method(part)]


def is_log_method(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether it is a logger's method that logs."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr in (*LOG_LEVELS, "exception")
        and ast.unparse(node.value) in ("log", "structlog.get_logger(__name__)")
    )


def event_texts() -> dict[str, Any]:
    """``docs/events.toml``: what each event means and what to do, and what each field holds."""
    return tomllib.loads((ROOT / "docs" / "events.toml").read_text("utf-8"))


def metrics() -> str:
    """``docs/metrics.md``: every metric."""
    rows = (
        (
            f"`{metric.name}`",
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels) or "-",
            metric.text,
        )
        for metric in everything()
    )
    return (
        "# Metrics\n\nGenerated from the code by `make docs`. `/metrics` of the [web page](web.md) (by default "
        "`http://127.0.0.1:8112/metrics`) answers in the text format of Prometheus. From another machine it needs the "
        "token of `[web] token_file`, as `Authorization: Bearer TOKEN`.\n\n"
        "No label identifies a patient, a study or a sender. Counters start at 0 with the daemon. Beside these there "
        "are the `process_*` metrics of the Prometheus client: memory, processor time, open files.\n\n"
        "[monitoring](../monitoring) has a configuration of Prometheus, alerts with what to do for each, and a "
        "dashboard of Grafana (Dashboards, New, Import).\n\n" + _table(("Metric", "Type", "Labels", "Meaning"), rows)
    )


def events() -> str:
    """``docs/events.md``: every log event."""
    texts, calls = event_texts(), log_calls()
    rows = (
        (
            f"`{name}`",
            " or ".join(sorted(calls[name][0], key=LOG_LEVELS.index)),
            row["meaning"],
            row["action"] or "-",
            ", ".join(f"`{field}`" for field in sorted({*calls[name][1], *row.get("fields", ())} - {OTHER_FIELDS})),
        )
        for name, row in texts["event"].items()
    )
    return (
        "# Log events\n\nGenerated from the code and `docs/events.toml` by `make docs`. Each line of the log is one "
        "event. As JSON it has `event`, `level`, `logger` and `timestamp`, and the fields below.\n\n"
        "A line about a failure has `kind` and `reason`. If the bridge itself failed it also has `frames`, which are "
        "places in the code. No field has patient data. A line with another `event` comes from a library.\n\n"
        "For alerts, `critical` and `error` need a person soon; `warning` needs one if it repeats. "
        "`dicom2fhir status --check` is the better monitor: it knows what still needs a person.\n\n## Events\n\n"
        + _table(("Event", "Level", "Meaning", "What to do", "Fields"), rows)
        + "\n## Fields\n\n"
        + _table(("Field", "Content"), ((f"`{name}`", text) for name, text in texts["field"].items()))
    )


if __name__ == "__main__":
    for path, text in documents().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
