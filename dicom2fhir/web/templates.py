"""Rendering of pages. Everything that is put into a page is escaped; nothing is marked as safe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from dicom2fhir import __version__
from dicom2fhir.ops.status import moment
from dicom2fhir.system.text import counted, printable

_FOLDER = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def static_files() -> Mapping[str, tuple[bytes, str]]:
    """Name -> content and media type of the files that pages load."""
    return {
        path.name: (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted((_FOLDER / "static").iterdir())
        if path.suffix in _TYPES
    }


class Templates:
    """The templates."""

    def __init__(self) -> None:
        self._pages = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_printable,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._pages.filters |= {
            "moment": moment,
            "iso": _iso,
            "size": _size,
            "json": _json,
            "number": _number,
            "duration": _duration,
        }
        self._pages.globals |= {"version": __version__, "counted": counted}

    def page(self, name: str, status: int = 200, **facts: Any) -> HTMLResponse:
        """A page, made from its template."""
        return HTMLResponse(self._pages.get_template(f"{name}.html").render(facts), status)


def _printable(value: object) -> object:
    """Peers and servers may have sent the text, with control characters or bytes that are not UTF-8."""
    return printable(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _json(value: object) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _number(value: int) -> str:
    return f"{value:,}"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _size(value: float) -> str:
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if value >= 100 or unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit takes every value")
