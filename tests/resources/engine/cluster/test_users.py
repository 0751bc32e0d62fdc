"""What becomes of a backup's users in a cluster is said before it is done."""

from __future__ import annotations

from resources.engine.cluster.users import note_users
from resources.model import UserInfo, UserPrivilege

SECRET = "$2a$10$secret"


def user(name: str, *grants: tuple[str, int], admin: bool = False) -> UserInfo:
    return UserInfo(name, SECRET, admin, tuple(UserPrivilege(db, n) for db, n in grants))


def test_grants_are_named_and_those_that_say_nothing_are_not() -> None:
    [note] = note_users([user("ann", ("a", 1), ("b", 2), ("c", 3), ("d", 0), ("e", 9))], [])
    assert note.endswith("READ on 'a', WRITE on 'b', ALL on 'c'")


def test_an_admin_may_do_everything_and_a_user_without_grants_nothing() -> None:
    admin, bare = note_users([user("ann", admin=True), user("bob")], [])
    assert admin.endswith("may do everything")
    assert bare.endswith("no grants")


def test_a_user_that_is_there_stays_as_it_is() -> None:
    [note] = note_users([user("ann", ("a", 1))], [user("ann")])
    assert note == "user 'ann' is there already and stays as it is"


def test_no_note_has_a_hash_or_a_line_break_of_a_name() -> None:
    notes = note_users([user("ann\nroot", ("a\nb", 1))], [])
    assert "\n" not in notes[0]
    assert SECRET not in notes[0]
