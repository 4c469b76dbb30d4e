"""What MkDocs does beside rendering: the README is the first page, and links to files that are no pages become text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_ROOT = Path(__file__).parents[1]
_HOME = "readme.md"
_LINK = re.compile(r"\[(?P<text>(?:[^\]`]|`[^`]*`)*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the README as a page."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, _HOME, content=(_ROOT / "README.md").read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page with the links that it has in the site."""
    source = page.file.src_uri
    place = _ROOT if source == _HOME else (_ROOT / "docs" / source).parent
    return site_links(markdown, place, source)


def site_links(markdown: str, place: Path, source: str) -> str:
    """Text in ``place`` with its links as they are in the site, for the page ``source``."""

    def linked(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if not target or ":" in target:
            return found[0]
        path = (place / target).resolve()
        docs = _ROOT / "docs"
        up = "../" * source.count("/")
        hash_ = f"#{anchor}" if anchor else ""
        if path == _ROOT / "README.md":
            return f"[{found['text']}]({up}{_HOME}{hash_})"
        if path.suffix in (".md", ".png") and path.is_relative_to(docs):
            return f"[{found['text']}]({up}{path.relative_to(docs)}{hash_})"
        return found["text"]

    return _LINK.sub(linked, markdown)
