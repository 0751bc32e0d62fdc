"""The documents are short where they must be, and name what there is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MAX_README_LINES = 150
MAX_TERMS, MAX_TERMS_OF_OURS = 30, 10


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= MAX_README_LINES


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = {str(page.relative_to(ROOT)) for page in DOCS.glob("*.md")}
    assert {page for page in pages if f"({page})" not in readme} == set()


def test_the_glossary_has_few_terms_and_few_of_ours() -> None:
    rows = re.findall(r"^\| (.*?) \| (.*?) \| .* \|$", (DOCS / "glossary.md").read_text(), re.M)
    terms = [row for row in rows if row[0] not in ("term", "---")]
    assert 0 < len(terms) <= MAX_TERMS
    assert sum(of == "ours" for _, of in terms) <= MAX_TERMS_OF_OURS


def test_the_architecture_names_files_that_there_are() -> None:
    page = (DOCS / "architecture.md").read_text()
    named = set(re.findall(r"`((?:assets|pipelines|resources|tests)/[\w/]+(?:\.py)?)`", page))
    assert len(named) > 50
    assert {name for name in named if not (ROOT / name).exists()} == set()
