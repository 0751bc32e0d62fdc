"""The documents are short where they must be, name what exists, and use plain terms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MAX_README_LINES = 150
MAX_TERMS, MAX_TERMS_OF_OURS = 30, 10


def pages() -> list[Path]:
    """Every document but the changes, which quote what was."""
    found = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    return sorted(page for page in found if page.name != "CHANGELOG.md")


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


def names_code(dotted: str) -> bool:
    """Whether `resources.a.b` is a module or a package, or b is a name in the module a."""
    path = ROOT / dotted.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent.with_suffix(".py")
    return module.is_file() and re.search(rf"\b{path.name}\b", module.read_text()) is not None


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_that_a_document_names_exists(page: Path) -> None:
    text = page.read_text()
    files = re.findall(r"`((?:assets|pipelines|resources|tests)/[\w/]+(?:\.py)?)`", text)
    dotted = re.findall(r"`((?:assets|pipelines|resources)\.[\w.]+)`", text)
    missing = {name for name in files if not (ROOT / name).exists()}
    assert missing | {name for name in dotted if not names_code(name)} == set()


RETIRED = re.compile(
    r"""\b(?:
    doors? | crews? | ledgers? | judg(?:es?|ed|ing|ements?) | verdicts? | famil(?:y|ies)
    | evidence | looks? | looked | looking | glances? | sightings? | pacing | pullers?
    | tells? | telling | told | said | talks? | wish(?:es)? | holdings? | twins?
    | seal(?:s|ed)? | lacks? | lacking | casualties | handovers? | scrubb(?:ed|ing) | goodbye
    | tilings? | rooms? | nurser(?:y|ies) | racks? | oracles? | witness(?:es)? | insists?
    | worlds? | standing | (?-i:Who) | whoever | nobody | somebody | in\ vain | alike
    | stands?\ in | held\ against
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words of the project's own that plain terms have replaced; docs/glossary.md has the terms."""
MEANT = ("looks like", "looked newest", "Room for")
"""Where such a word has its ordinary meaning."""


def prose(page: Path) -> str:
    """A page without what it quotes: code, links' targets, and rows that a program writes."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    if page.name == "faults.md":
        text = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"``?[^`]*``?|\]\([^)]*\)|<[^>]*>", " ", text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_document_uses_a_retired_word(page: Path) -> None:
    text = re.sub("|".join(MEANT), "", prose(page))
    found = {
        " ".join(text[max(m.start() - 40, 0) : m.end() + 20].split())
        for m in RETIRED.finditer(text)
    }
    assert found == set(), "docs/glossary.md and CONTRIBUTING.md have the words to use"
