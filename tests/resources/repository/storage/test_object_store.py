"""A bucket that answers badly: what was stored is known; what fails is said without secrets."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator
from datetime import timedelta

import pytest

from resources.errors import (
    LockLost,
    NameMissing,
    NameTaken,
    RepositoryMissing,
    ShardkeeperError,
    StoreFailed,
    UsageError,
)
from resources.repository.formats.revoked import REVOKED
from resources.repository.storage import bucket as requests
from resources.repository.storage import object_store
from resources.repository.storage.opening import open_store
from resources.repository.storage.store import Store
from tests.resources.repository.objects import NAME, get, put
from tests.s3_server import KEY, SECRET, Fault, S3Server

BACKUP = "20261122T095100Z"
MANIFEST = f"{BACKUP}.manifest"
URL = "s3://bucket/prefix"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[S3Server]:
    monkeypatch.setenv(requests.TIMEOUT_VARIABLE, "10")
    monkeypatch.setattr(requests, "PAUSE_S", 0.001)
    with S3Server() as server, server.environment():
        yield server


@pytest.fixture
def store(server: S3Server) -> Store:
    store = open_store(URL)
    store.check_writable()
    return store


def once(server: S3Server, fault: Fault, method: str, key: str) -> None:
    """Have one request fail, the next one that asks for this."""

    def answer(asked: str, of: str) -> Fault:
        if asked == method and of.endswith(key):
            server.fault = lambda _method, _key: ""
            return fault
        return ""

    server.fault = answer


def always(server: S3Server, fault: Fault, method: str, key: str = "") -> None:
    server.fault = lambda asked, of: fault if asked == method and of.endswith(key) else ""


@pytest.mark.parametrize("fault", ["500", "503", "cut", "lost", "stall"])
def test_a_put_whose_answer_fails_once_is_stored_once(
    server: S3Server, store: Store, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    if fault == "stall":
        monkeypatch.setenv(requests.TIMEOUT_VARIABLE, "0.3")
        store = open_store(URL)
    once(server, fault, "PUT", NAME)
    put(store, NAME, b"whole")
    assert get(store, NAME) == b"whole"
    once(server, fault, "PUT", "record")
    put(store, "record", b"1")
    once(server, fault, "PUT", "record")
    assert store.swap("record", b"1", b"2")
    assert get(store, "record") == b"2"
    once(server, fault, "PUT", "record")
    with pytest.raises(NameTaken):
        put(store, "record", b"3")


@pytest.mark.parametrize("fault", ["500", "503", "cut", "half"])
def test_a_read_whose_answer_fails_once_is_repeated(
    server: S3Server, store: Store, fault: Fault
) -> None:
    put(store, NAME, b"whole")
    once(server, fault, "GET", NAME)
    assert get(store, NAME) == b"whole"
    once(server, fault, "GET", "")
    assert list(store.names("2")) == [NAME]


@pytest.mark.parametrize("fault", ["500", "cut", "lost"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_part_whose_answer_fails_once_is_sent_again(
    server: S3Server, store: Store, fault: Fault, method: str
) -> None:
    once(server, fault, method, NAME)
    content = b"0123456789abcdef" * (5 << 18)
    put(store, NAME, content)
    assert get(store, NAME) == content


def test_an_upload_that_fails_leaves_no_parts(server: S3Server, store: Store) -> None:
    def interrupted() -> None:
        with store.create(NAME) as sink:
            sink.write(bytes(40 << 20))
            assert server.uploads
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not server.uploads
    assert store.names("2") == {}


def test_listings_have_pages(server: S3Server, store: Store) -> None:
    put(store, f"{BACKUP}.s0.tar.gz", b"1")
    names = [f"{BACKUP}.s{number}.tar.gz" for number in range(1000)]
    for name in names:
        server.objects[f"prefix/{name}"] = server.objects[f"prefix/{names[0]}"]
    server.page = 50
    server.requests.clear()
    assert list(store.names("2")) == sorted(names)
    assert len(server.requests) == 20
    server.requests.clear()
    assert list(store.names(f"{BACKUP}.s10")) == sorted(n for n in names if ".s10" in n)
    assert len(server.requests) <= 2


def test_what_a_reader_does_not_want_is_not_sent(server: S3Server, store: Store) -> None:
    put(store, NAME, bytes(range(256)) * (20 << 12))
    server.requests.clear()
    with store.open(NAME) as source:
        assert source.size_bytes == 20 << 20
        assert source.read(3) == b"\0\1\2"
    assert len(server.requests) == 2


def test_a_store_that_keeps_no_conditions_is_refused(server: S3Server) -> None:
    server.conditions = False
    with pytest.raises(StoreFailed, match="does not keep the conditions of a put") as refused:
        open_store(URL).stage("ab")
    assert "docs/object-stores.md" in refused.value.hint
    assert [key for key in server.objects if "probe" not in key] == []


@pytest.mark.parametrize(
    ("fault", "match", "hint"),
    [
        ("deny", "AccessDenied, status 403", "docs/object-stores.md"),
        ("skew", "RequestTimeTooSkewed", "clock"),
        ("503", "SlowDown, status 503", "overloaded"),
        ("cut", "the connection was cut|could not be sent|no connection", "network"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_what_the_store_refuses_is_explained(
    server: S3Server, store: Store, fault: Fault, match: str, hint: str, method: str
) -> None:
    always(server, fault, method)
    with pytest.raises(StoreFailed, match=match) as failed:
        store.names() if method == "GET" else put(store, NAME, b"x")
    assert failed.value.what.startswith(f"{URL}: ")
    assert hint in failed.value.hint


def test_a_bucket_that_is_not_there_is_reported_as_such(server: S3Server) -> None:
    for deed in (lambda s: s.names(), lambda s: s.stage("ab")):
        with pytest.raises(RepositoryMissing, match="there is no such bucket") as missing:
            deed(open_store("s3://nobody/prefix"))
        assert "create the bucket" in missing.value.hint


def test_no_error_shows_a_secret(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    shown = list[str]()

    def fails(deed: Callable[[], object]) -> None:
        try:
            deed()
        except ShardkeeperError as error:
            text = "".join(traceback.format_exception(error)) + error.what + error.hint
            shown.append(text)

    for fault in ("deny", "500", "cut"):
        always(server, fault, "PUT")
        fails(lambda: put(store, NAME, b"x"))
    server.fault = lambda _method, _key: ""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY-ELSE")
    fails(lambda: open_store(URL).names())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:1")
    fails(lambda: open_store(URL).names())
    for url in ("s3://key:hunter2@bucket/x", "s3://bucket/x?secret=hunter2", "az://b/x#hunter2"):
        fails(lambda url=url: open_store(url))
    assert len(shown) == 8
    for text in shown:
        assert not [word for word in (SECRET, KEY, "hunter2", "SOMEBODY") if word in text]


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "gs://b b/x", "s3://b/../x", "az://b/a//b"])
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        open_store(url)


# --- the fence ------------------------------------------------------------------------------


def commit(stage: object, raw: bytes = b'{"meta": 1}') -> None:
    with stage.create(MANIFEST) as sink:  # type: ignore[attr-defined]
        sink.write(raw)


def test_of_a_manifest_and_its_revocation_one_is_stored(server: S3Server, store: Store) -> None:
    """The sleeper stands still in the middle of its last put."""
    sleeper = store.stage("ab")
    sleeper.note(BACKUP)
    heir = open_store(URL)
    mine = heir.stage("cd")

    def takes_over(method: str, key: str) -> Fault:
        if (method, key) == ("PUT", f"prefix/{MANIFEST}"):
            server.fault = lambda _method, _key: ""
            assert [one.backup for one in heir.revoke_stages(mine.name)] == [BACKUP]
        return ""

    server.fault = takes_over
    with pytest.raises(LockLost):
        commit(sleeper)
    assert heir.names("2") == {}
    assert server.objects[f"prefix/{MANIFEST}"].content == REVOKED
    with pytest.raises(NameMissing):
        get(heir, MANIFEST)
    assert not heir.has(MANIFEST)


def test_a_backup_that_was_committed_before_is_not_swept(store: Store) -> None:
    sleeper = store.stage("ab")
    sleeper.note(BACKUP)
    with sleeper.create(NAME) as sink:
        sink.write(b"x")
    commit(sleeper)
    heir = open_store(URL)
    mine = heir.stage("cd")
    [revoked] = heir.revoke_stages(mine.name)
    with pytest.raises(StoreFailed, match="no backup that this run may sweep"):
        mine.delete(NAME)
    assert revoked.forget()
    assert sorted(heir.names("2")) == [MANIFEST, NAME]


def test_what_comes_in_late_is_swept_and_its_name_is_never_used_again(
    server: S3Server, store: Store
) -> None:
    sleeper = store.stage("ab")
    sleeper.note(BACKUP)
    batch = sleeper.batch()
    heir = open_store(URL)
    mine = heir.stage("cd")

    def stands_still() -> None:
        with batch.create(NAME) as sink:
            sink.write(bytes(20 << 20))
            [revoked] = heir.revoke_stages(mine.name)
            assert revoked.forget()

    stands_still()
    assert heir.sweep_pending() == {NAME: 20 << 20}
    assert heir.names("2") == {}
    assert BACKUP in open_store(URL).unfinished()


def test_a_commit_without_an_answer_is_settled_before_anything_is_deleted(
    server: S3Server, store: Store
) -> None:
    stage = store.stage("ab")
    stage.note(BACKUP)
    with stage.create(NAME) as sink:
        sink.write(b"x")
    always(server, "cut", "PUT", MANIFEST)
    with pytest.raises(StoreFailed):
        commit(stage)
    with pytest.raises(StoreFailed):  # the name cannot be taken either
        stage.delete(NAME)
    assert list(store.names("2")) == [NAME]
    server.fault = lambda _method, _key: ""
    stage.delete(NAME)
    stage.delete(MANIFEST)
    assert server.objects[f"prefix/{MANIFEST}"].content == REVOKED
    assert store.names("2") == {}


def test_a_manifest_that_was_stored_all_the_same_keeps_its_archives(
    server: S3Server, store: Store
) -> None:
    stage = store.stage("ab")
    stage.note(BACKUP)
    with stage.create(NAME) as sink:
        sink.write(b"x")
    late = {f"prefix/{MANIFEST}"}

    def deaf(method: str, key: str) -> Fault:
        """The manifest is stored, and no question about it is answered for a while."""
        if key not in late:
            return ""
        return "lost" if method == "PUT" and not server.objects.get(key) else "cut"

    server.fault = deaf
    with pytest.raises(StoreFailed):
        commit(stage)
    server.fault = lambda _method, _key: ""
    with pytest.raises(StoreFailed, match="is complete"):
        stage.delete(NAME)
    assert sorted(store.names("2")) == [MANIFEST, NAME]


def test_a_name_is_given_up_after_a_month(
    server: S3Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, heir = store.stage("ab"), open_store(URL)
    stage.note(BACKUP)
    mine = heir.stage("cd")
    heir.revoke_stages(mine.name)[0].forget()
    heir.sweep_pending()
    assert heir.unfinished() == {BACKUP}
    monkeypatch.setattr(object_store, "REVOKED_FOR", timedelta(seconds=-60))
    heir.sweep_pending()
    assert heir.unfinished() == set()


def test_credentials_that_may_not_delete_end_a_run_all_the_same(
    server: S3Server, store: Store
) -> None:
    server.may_delete = False
    stage = store.stage("ab")
    stage.note(BACKUP)
    commit(stage)
    stage.close()
    assert not open_store(URL).has_stages()
    assert open_store(URL).unfinished() == set()
    assert list(store.names("2")) == [MANIFEST]
