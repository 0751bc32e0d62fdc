"""Values that hold secrets do not show them."""

from __future__ import annotations

import ast
from pathlib import Path

from resources.clients.auth import Auth
from resources.model import UserInfo

ROOT = Path(__file__).parents[2]
SECRETS = {"password", "secret", "hash", "shared_secret", "internal_shared_secret"}


def test_repr_leaves_out_what_is_secret_and_shows_the_rest() -> None:
    assert repr(UserInfo("root", "$2a$10$abc", admin=True)) == (
        "UserInfo(name='root', admin=True, privileges=())"
    )
    assert "hunter2" not in repr(Auth(user="root", password="hunter2", secret="hunter2"))


def _secrets_shown(node: ast.AST) -> bool:
    if not isinstance(node, ast.ClassDef) or _names(node.bases).isdisjoint({"Struct", "Command"}):
        return False
    fields = [n.target for n in node.body if isinstance(n, ast.AnnAssign)]
    assigned = [target for n in node.body if isinstance(n, ast.Assign) for target in n.targets]
    return not SECRETS.isdisjoint(_names(fields)) and "__repr__" not in _names(assigned)


def _names(targets: list[ast.Name | ast.Attribute | ast.Subscript] | list[ast.expr]) -> set[str]:
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_every_value_with_a_secret_has_such_a_repr() -> None:
    shown = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "resources").rglob("*.py"))
        if "password" in (text := path.read_text()) or "secret" in text or "hash:" in text
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and _secrets_shown(node)
    ]
    assert shown == []
