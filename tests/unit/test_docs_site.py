"""The documentation as a site: every page is in its navigation, and no link is dead. ``make docs-site`` builds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.site_hooks import site_links

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def listed(part: object) -> list[str]:
    if isinstance(part, str):
        return [part]
    several = part.values() if isinstance(part, dict) else part
    assert isinstance(several, list) or hasattr(several, "__iter__")
    return [page for one in several for page in listed(one)]


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(listed(SITE["nav"])) == sorted(["readme.md", *map(str, PAGES)])


@pytest.mark.parametrize("page", [Path("../README.md"), *PAGES], ids=str)
def test_no_link_is_dead(page: Path) -> None:
    file = ROOT / "docs" / page
    text = re.sub(r"^( {4}|```).*", "", file.read_text("utf-8"), flags=re.MULTILINE)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    paths = [target.partition("#")[0] for target in targets if not target.startswith("#")]
    assert [path for path in paths if not (file.parent / path).exists()] == []


def test_links_of_the_site() -> None:
    text = (
        "[a](architecture.md#x) [b `c`](../systemd/dicom2fhir.service) [d](../README.md) [e](https://x.example) [f](#y)"
    )
    said = "[a](architecture.md#x) b `c` [d](readme.md) [e](https://x.example) [f](#y)"
    assert site_links(text, ROOT / "docs", "cli.md") == said
    assert site_links("![a](docs/images/overview.png)", ROOT, "readme.md") == "![a](images/overview.png)"
    assert site_links("[a](docs/web.md)", ROOT, "readme.md") == "[a](web.md)"
    assert site_links("[a](../web.md)", ROOT / "docs" / "mapping", "mapping/R4.md") == "[a](../web.md)"
