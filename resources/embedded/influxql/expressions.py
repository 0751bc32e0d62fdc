"""Parses expressions, conditions and sources; every function may raise QueryUnparsable.

Source: influxql parser.go, ParseExpr, parseUnaryExpr, parseSource.
"""

from __future__ import annotations

from resources.embedded.influxql.statements import (
    Binary,
    Call,
    Constant,
    Duration,
    Expression,
    Now,
    Pattern,
    Reference,
    Source,
    Wildcard,
)
from resources.embedded.influxql.tokens import Kind, Tokens, nanoseconds
from resources.embedded.server_errors import QueryUnparsable

_PRECEDENCE = {
    "OR": 1,
    "AND": 2,
    **dict.fromkeys(("=", "!=", "<", "<=", ">", ">=", "=~", "!~"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/"), 5),
}
OPERAND = ("identifier", "string", "number", "bool")
MAX_DEPTH = 50
MAX_OPERATORS = 250
_CASTS = frozenset(("field", "tag", "float", "integer", "string", "boolean", "unsigned"))


def expression(tokens: Tokens, *, least: int = 1, depth: int = 0) -> Expression:
    """Parse an expression; stops at an operator with a precedence below `least`.

    Raises:
        QueryUnparsable: there is no expression, or its nesting is too deep.
    """
    left = _operand(tokens, depth)
    for _ in range(MAX_OPERATORS):
        token = tokens.peek()
        precedence = _PRECEDENCE.get(token.text, 0)
        if token.kind not in (Kind.SIGN, Kind.KEYWORD) or not least <= precedence:
            return left
        operator = tokens.take().text
        if operator in ("=~", "!~"):
            regex = tokens.regex()
            if regex is None:
                raise tokens.unexpected("regex")
            right: Expression = Pattern(regex)
        else:
            right = expression(tokens, least=precedence + 1, depth=depth + 1)
        left = Binary(operator, left, right)
    raise QueryUnparsable(f"error parsing query: over {MAX_OPERATORS} operators in a row")


def _operand(tokens: Tokens, depth: int) -> Expression:
    if depth > MAX_DEPTH:
        raise QueryUnparsable("error parsing query: expression is nested too deeply")
    if tokens.take_if("("):
        inner = expression(tokens, depth=depth + 1)
        tokens.expect(")")
        return inner
    if tokens.take_if("-"):
        match _operand(tokens, depth + 1):
            case Constant(int() | float() as value):
                return Constant(-value)
            case Duration(ns):
                return Duration(-ns)
            case other:
                return Binary("-", Constant(0), other)
    if tokens.take_if("*"):
        return _wildcard(tokens)
    token = tokens.peek()
    match token.kind:
        case Kind.IDENTIFIER:
            tokens.take()
            if tokens.text[token.at] != '"' and tokens.take_if("("):
                return _call(tokens, token.text.lower())
            if tokens.take_if("::"):
                _cast(tokens)
            return Reference(token.text)
        case Kind.STRING:
            return Constant(tokens.take().text)
        case Kind.INTEGER:
            text = tokens.take().text
            return Constant(int(text) if len(text) < 20 else float(text))
        case Kind.NUMBER:
            return Constant(float(tokens.take().text))
        case Kind.DURATION:
            return Duration(nanoseconds(tokens.take().text))
        case Kind.KEYWORD if token.text in ("TRUE", "FALSE"):
            return Constant(tokens.take().text == "TRUE")
        case _:
            raise tokens.unexpected(*OPERAND)


def _call(tokens: Tokens, function: str) -> Expression:
    if function == "now":
        tokens.expect(")")
        return Now()
    if tokens.take_if("*"):
        argument: Reference | Wildcard = _wildcard(tokens)
    else:
        argument = Reference(tokens.identifier(expected=", ".join(OPERAND)))
        if tokens.take_if("::"):
            _cast(tokens)
    tokens.expect(")")
    return Call(function, argument)


def _wildcard(tokens: Tokens) -> Wildcard:
    if not tokens.take_if("::"):
        return Wildcard()
    if tokens.take_if("FIELD"):
        return Wildcard("field")
    if tokens.take_if("TAG"):
        return Wildcard("tag")
    raise tokens.unexpected("FIELD", "TAG")


def _cast(tokens: Tokens) -> None:
    if tokens.peek().text.lower() not in _CASTS:
        raise tokens.unexpected("float", "integer", "unsigned", "string", "boolean", "field", "tag")
    tokens.take()


def sources(tokens: Tokens) -> tuple[Source, ...]:
    """Parse measurements separated by commas."""
    found = [source(tokens)]
    while tokens.take_if(","):
        found.append(source(tokens))
    return tuple(found)


def source(tokens: Tokens, *, patterns: bool = True) -> Source:
    """Parse `[[database.]policy.]measurement`; the policy may be empty."""
    regex = tokens.regex() if patterns else None
    if regex is not None:
        return Source(regex)
    parts: list[str] = [tokens.identifier()]
    while tokens.take_if("."):
        if len(parts) == 3:
            raise tokens.unexpected("WHERE")
        regex = tokens.regex() if patterns else None
        if regex is not None:
            database, policy = ("", *parts)[-2:] if len(parts) < 3 else parts[:2]
            return Source(regex, database, policy)
        if len(parts) == 1 and tokens.next_is("."):
            parts.append("")
        elif tokens.take_if(":"):
            tokens.expect("MEASUREMENT")
            parts.append("")
            break
        else:
            parts.append(tokens.identifier())
    database, policy, measurement = ("", "", *parts)[-3:]
    return Source(measurement, database, policy)


def condition(tokens: Tokens) -> Expression | None:
    """Parse an optional `WHERE ...`."""
    return expression(tokens) if tokens.take_if("WHERE") else None
