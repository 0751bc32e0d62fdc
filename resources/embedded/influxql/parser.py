"""Parses queries into statements.

Source: influxql parser.go; the messages are the server's.
"""

from __future__ import annotations

from collections.abc import Callable

from resources.embedded.influxql import changes, questions
from resources.embedded.influxql.select import select
from resources.embedded.influxql.statements import Delete, Statement
from resources.embedded.influxql.tokens import Kind, Tokens
from resources.embedded.server_errors import QueryUnparsable

MAX_QUERY_CHARS = 10 << 20

_FIRST: dict[str, Callable[[Tokens], Statement]] = {
    "SELECT": select,
    "DELETE": lambda tokens: Delete(*changes.what_and_where(tokens)),
    "SHOW": questions.show,
    "CREATE": changes.create,
    "DROP": changes.drop,
    "GRANT": changes.grant,
    "REVOKE": changes.revoke,
    "ALTER": changes.alter,
    "SET": changes.set_password,
}
_EXPECTED = "SELECT, DELETE, SHOW, CREATE, DROP, EXPLAIN, GRANT, REVOKE, ALTER, SET, KILL"


def parse(text: str) -> tuple[Statement, ...]:
    """Parse statements separated by semicolons; the text may be empty.

    Raises:
        QueryUnparsable: the text is not in the subset; the message has line and character.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise QueryUnparsable(f"error parsing query: over {MAX_QUERY_CHARS} characters")
    tokens = Tokens(text)
    found: list[Statement] = []
    while True:
        while tokens.take_if(";"):
            pass
        if tokens.peek().kind is Kind.END:
            return tuple(found)
        word = next((word for word in _FIRST if tokens.next_is(word)), None)
        if word is None:
            raise tokens.unexpected(_EXPECTED)
        tokens.take()
        found.append(_FIRST[word](tokens))
        if tokens.peek().kind is not Kind.END and not tokens.next_is(";"):
            raise tokens.unexpected(";")
