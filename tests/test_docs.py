"""The site that `make docs` builds: whole, and with nothing from elsewhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "_build" / "html"
PARTS = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="needs the site: make docs"
)


class _Page(HTMLParser):
    """What a page links to, what it loads, and which places in it can be linked to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(values["id"] or "")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"] or "")
        if values.get("src"):
            self.loaded.append(values["src"] or "")


@pytest.fixture(scope="module")
def pages() -> dict[Path, _Page]:
    return {file: _Page(file) for file in SITE.rglob("*.html")}


def test_every_link_leads_somewhere(pages: dict[Path, _Page]) -> None:
    astray = []
    for file, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = target in pages and parts.fragment
            if not target.exists() or (known and parts.fragment not in pages[target].anchors):
                astray.append(f"{file.name}: {link}")
    assert not astray


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, _Page]) -> None:
    for file, page in pages.items():
        assert not [link for link in page.loaded if urlsplit(link).scheme not in ("", "data")], file
    for style in SITE.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", style.read_text()), style


def test_pages_do_not_tell_where_they_were_built(pages: dict[Path, _Page]) -> None:
    for file in pages:
        assert str(ROOT) not in file.read_text(encoding="utf-8"), file


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.stem)
def test_each_part_was_run_and_is_a_notebook_too(part: Path) -> None:
    notebook = json.loads((SITE / "tutorial" / f"{part.stem}.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    text = (SITE / "tutorial" / f"{part.stem}.html").read_text()
    assert len(cells) == part.read_text().count("```{code-cell}")
    assert text.count('class="cell_output') >= 0.4 * len(cells)
    assert "Traceback" not in text
    assert "&lt;Figure size" not in text  # a figure that was not drawn


def test_a_reader_can_open_the_site_and_an_answer(page: Any) -> None:
    page.goto((SITE / "index.html").as_uri())
    page.get_by_role("link", name="tutorial", exact=True).click()
    page.get_by_role("link", name="Data", exact=True).first.click()
    answer = page.locator("details", has=page.get_by_text("Answer")).first
    assert not answer.get_by_text("(28, 28, 1)").is_visible()
    answer.locator("summary").click()
    assert answer.get_by_text("(28, 28, 1)").is_visible()
    for part in PARTS:
        page.goto((SITE / "tutorial" / f"{part.stem}.html").as_uri())
        sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert all(sizes)
