"""A document of sections with tables, and how it is written as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass

_STYLE = (
    "body{font:1em/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{border:1px solid #8888;padding:.2rem .5rem;text-align:left;"
    "vertical-align:top}"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table; every row has a cell for each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A numbered heading such as ``4.2``, paragraphs and tables. The number of its parts is its level."""

    number: str
    title: str
    content: tuple[str | Table, ...] = ()

    @property
    def level(self) -> int:
        """1 for a chapter."""
        return self.number.count(".") + 1

    @property
    def anchor(self) -> str:
        """The name of the heading within the document."""
        return f"section-{self.number}"


@dataclass(frozen=True, slots=True)
class StatementDocument:
    """A title and all sections in their order."""

    title: str
    sections: tuple[Section, ...]


def markdown(document: StatementDocument) -> str:
    """The document as CommonMark with tables."""
    parts = [f"# {document.title}", "\n".join(_markdown_contents(document))]
    for section in document.sections:
        heading = "#" * min(section.level + 1, 6)
        parts.append(f'{heading} <a id="{section.anchor}"></a>{section.number} {section.title}')
        parts += [_markdown_table(one) if isinstance(one, Table) else _markdown_text(one) for one in section.content]
    return "\n\n".join(parts) + "\n"


def _markdown_contents(document: StatementDocument) -> Iterator[str]:
    for section in document.sections:
        yield f"{'  ' * (section.level - 1)}* [{section.number} {section.title}](#{section.anchor})"


def _markdown_table(table: Table) -> str:
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(_markdown_text, row)) + " |" for row in rows)


def _markdown_text(text: str) -> str:
    """Text in which nothing is markup."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text


def to_html(document: StatementDocument) -> str:
    """The document as a page that needs no other file."""
    title = html.escape(document.title)
    contents = "".join(
        f'<li><a href="#{section.anchor}">{section.number} {html.escape(section.title)}</a></li>'
        for section in document.sections
    )
    body = "".join(map(_html_section, document.sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><nav><ul>{contents}</ul></nav>{body}</body></html>\n"
    )


def _html_section(section: Section) -> str:
    tag = f"h{min(section.level + 1, 6)}"
    heading = f'<{tag} id="{section.anchor}">{section.number} {html.escape(section.title)}</{tag}>'
    return heading + "".join(
        _html_table(one) if isinstance(one, Table) else f"<p>{html.escape(one)}</p>" for one in section.content
    )


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
