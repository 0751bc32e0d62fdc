from __future__ import annotations

import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import UnsafeName
from resources.protocol.influxql import check_name, quote_identifier
from tests.influxd import Influxd, InfluxdFailed

ODD_BUT_FINE = [
    "telegraf",
    "sp ace",
    " lead and trail ",
    "a.b",
    "...",
    ".hidden",
    "-rf",
    "_leading",
    "_internal",
    'quo"te',
    '"',
    "apos'trophe",
    ";",
    '"; DROP DATABASE telegraf; --',
    "$(x)",
    "`id`",
    "a|b",
    "%s%00",
    "bäse",
    "e\N{COMBINING ACUTE ACCENT}",
    "数据库",
    "😀",
    "C:",
    "<b>&amp;",
    "l" * 255,
    "é" * 127,
]
REFUSED = {
    "": "is empty",
    ".": "is a special directory",
    "..": "is a special directory",
    "/": "holds a path separator",
    "../x": "holds a path separator",
    "a/b": "holds a path separator",
    "a\\b": "holds a path separator",
    "a\nb": "holds a character that is not printable",
    "a\x00b": "holds a character that is not printable",
    "\x1b[31m": "holds a character that is not printable",
    "a\N{NO-BREAK SPACE}b": "holds a character that is not printable",
    "a\N{RIGHT-TO-LEFT OVERRIDE}b": "holds a character that is not printable",
    "a\N{ZERO WIDTH SPACE}b": "holds a character that is not printable",
    "\ue000": "holds a character that is not printable",
    "\uffff": "holds a character that is not printable",
    "\ud800": "holds a character that is not printable",
}
TOO_LONG = ["l" * 256, "é" * 128]


@pytest.mark.fault(96)
@pytest.mark.parametrize("name", ODD_BUT_FINE)
def test_odd_names_are_names(name: str) -> None:
    check_name("database", name)


@pytest.mark.fault(96)
@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=[ascii(name) for name in REFUSED])
def test_names_that_no_server_takes_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UnsafeName) as caught:
        check_name("database", name)
    assert str(caught.value) == f"database name {name!a} {reason}"


@pytest.mark.parametrize("name", TOO_LONG)
def test_names_beyond_255_bytes_are_refused(name: str) -> None:
    with pytest.raises(UnsafeName, match="longer than 255 bytes"):
        check_name("retention policy", name)


@given(st.text(st.characters(), max_size=300))
def test_a_refusal_can_be_printed_anywhere(name: str) -> None:
    try:
        check_name("database", name)
    except UnsafeName as error:
        shown = str(error)
    else:
        return
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < 2000


def unquoted(text: str, quote: str) -> tuple[str, str]:
    """Read a quoted text the way InfluxQL's scanner does; return it and what follows it."""
    assert text[0] == quote
    found, at = "", 1
    while text[at] != quote:
        if text[at] == "\\":
            at += 1
            found += {"n": "\n", "\\": "\\", '"': '"', "'": "'"}[text[at]]
        else:
            assert text[at] != "\n"
            found += text[at]
        at += 1
    return found, text[at + 1 :]


@pytest.mark.fault(97)
@given(st.text())
def test_quoting_leaves_nothing_special(name: str) -> None:
    assert unquoted(quote_identifier(name) + ";", '"') == (name, ";")


def shown_databases(influxd: Influxd) -> set[str]:
    [result] = influxd.query("SHOW DATABASES")
    return {row[0] for series in result["series"] for row in series.get("values", [])}


@pytest.mark.fault(96, 97)
@pytest.mark.wire
@pytest.mark.parametrize("name", ODD_BUT_FINE, ids=ascii)
def test_a_server_takes_every_name_that_we_take(influxd: Influxd, name: str) -> None:
    if name == "_internal":
        name += uuid.uuid4().hex
    check_name("database", name)
    influxd.query(f"CREATE DATABASE {quote_identifier(name)}")
    assert name in shown_databases(influxd)
    policy = name[::-1]
    influxd.query(
        f"CREATE RETENTION POLICY {quote_identifier(policy)} ON {quote_identifier(name)}"
        " DURATION 1h REPLICATION 1"
    )
    policies = influxd.rows(f"SHOW RETENTION POLICIES ON {quote_identifier(name)}")
    assert policy in {row[0] for row in policies}
    influxd.query(f"DROP DATABASE {quote_identifier(name)}")
    assert name not in shown_databases(influxd)


@pytest.mark.fault(96)
@pytest.mark.wire
@pytest.mark.parametrize(
    "name", [name for name in [*REFUSED, *TOO_LONG] if name not in ("a\x00b", "\ud800")], ids=ascii
)
def test_a_server_refuses_what_we_refuse(influxd: Influxd, name: str) -> None:
    before = shown_databases(influxd)
    with pytest.raises(InfluxdFailed):
        influxd.query(f"CREATE DATABASE {quote_identifier(name)}")
    assert shown_databases(influxd) == before


@pytest.mark.wire
def test_a_server_and_we_agree_on_every_character_of_the_first_plane(influxd: Influxd) -> None:
    ours = [chr(code) for code in range(0x20, 0xD800) if is_taken(chr(code))]
    assert len(ours) > 40_000
    names = ["".join(ours[start : start + 80]) for start in range(0, len(ours), 80)]
    create = "; ".join(f"CREATE DATABASE {quote_identifier(name)}" for name in names)
    influxd.query(create)
    assert shown_databases(influxd) >= set(names)
    influxd.query(create.replace("CREATE DATABASE", "DROP DATABASE"))


def is_taken(char: str) -> bool:
    """Whether we take it, and it is older than the Unicode 10 of the servers to be tested."""
    try:
        check_name("database", f"x{char}")
    except UnsafeName:
        return False
    return unicodedata.category(char) != "Cn" and unicodedata.ucd_3_2_0.category(char) != "Cn"
