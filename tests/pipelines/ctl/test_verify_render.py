"""What `verify` prints of what was read, for people and for machines."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from pipelines.ctl.verify_render import Asked, render_verify, verify_json
from resources.engine.verify.inventory import Problem
from resources.engine.verify.repair_record import LostArchive
from resources.engine.verify.restore_points import DatabaseState, RestorePoint, UnrestorableShard
from resources.engine.verify.verify import VerifyReport
from resources.model import ShardID

ALL = Asked(None, "", 0)
S = 10**9
GAP = UnrestorableShard("db", "rp", ShardID(7), 0, 3600 * S, "T1.s7.tar.gz", "T0")
NEVER = UnrestorableShard("db", "rp", ShardID(8), None, None, "", "")
CLEAN = VerifyReport(
    manifests=3, receipts=1, archives=5, listed=5, size_bytes=100, problems=(), known=(),
    points=tuple(RestorePoint(f"T{i}") for i in range(3)), databases=(DatabaseState("db", 2, 0),),
    bad={}, damaged={}, damaged_now=(), blocked=False,
)  # fmt: skip
LOSSY = replace(
    CLEAN,
    problems=(Problem("T1.s7.tar.gz", "it is cut"),),
    points=(RestorePoint("T0"), *(RestorePoint(name, gaps=(GAP, NEVER)) for name in ("T1", "T2"))),
    databases=(DatabaseState("db", 9, 2), DatabaseState("ok", 1, 0)),
)  # fmt: skip


def document(report: VerifyReport, repaired: list[tuple[str, str]] | None = None) -> dict[str, Any]:
    return json.loads(verify_json(report, ALL, "/backups", repaired))


def test_a_clean_directory_takes_one_line() -> None:
    assert render_verify(CLEAN, ALL) == "3 backups, 5 archives, 100 bytes read: 0 problems"


def test_each_problem_has_a_line_and_states_that_are_alike_share_one() -> None:
    lines = render_verify(LOSSY, ALL).splitlines()
    assert lines[0] == "problem: T1.s7.tar.gz: it is cut"
    assert lines[1] == "restorable: T0: everything"
    assert lines[2] == (
        "restorable: T1 to T2 (2 backups): everything but shard 7 of 'db'.'rp', shard 8 of "
        "'db'.'rp'"
    )
    assert lines[3].endswith(
        "(1970-01-01T00:00:00Z to 1970-01-01T01:00:00Z): restorable as it was in T0 (-as-of T0)"
    )
    assert lines[4] == "shard 8 of 'db'.'rp': no earlier archive of it is whole"
    assert lines[5] == "databases in T2: 'db' without 2 of its 9 shards; 'ok' is complete"
    assert lines[6].endswith("1 problem")


def test_many_shards_are_counted_and_the_first_five_named() -> None:
    gaps = tuple(replace(GAP, shard_id=ShardID(i)) for i in range(1, 8))
    text = render_verify(replace(LOSSY, points=(RestorePoint("T0", gaps=gaps),)), ALL)
    assert "shard 5 of 'db'.'rp' and 2 more" in text
    assert text.count("restorable as it was") == 5


def test_a_state_that_cannot_be_read_says_why() -> None:
    broken = replace(CLEAN, points=(RestorePoint("T0", trouble="no JSON"), RestorePoint("T1")))
    assert "not restorable: T0: no JSON" in render_verify(broken, ALL)


def test_what_a_repair_gave_up_is_known_and_no_problem() -> None:
    lost = (LostArchive("T1.s7.tar.gz", "T1.manifest", "it was cut", "T1.s7.tar.gz.damaged"),)
    text = render_verify(replace(CLEAN, known=lost), ALL)
    assert "known: T1.s7.tar.gz: it was cut; it is T1.s7.tar.gz.damaged now" in text
    missing = (replace(lost[0], set_aside=""),)
    assert "it was cut\n" in render_verify(replace(CLEAN, known=missing), ALL)


def test_names_from_a_metastore_cannot_forge_a_line() -> None:
    hostile = replace(GAP, database="x\nrestorable: T9: everything")
    text = render_verify(replace(LOSSY, points=(RestorePoint("T0", gaps=(hostile,)),)), ALL)
    assert "\nrestorable: T9" not in text


def test_the_document_for_machines_says_the_same() -> None:
    clean, lossy = document(CLEAN), document(LOSSY)
    assert (clean["clean"], lossy["clean"]) == (True, False)
    assert (clean["newest_whole"], lossy["newest_whole"]) == ("T2", "T0")
    assert clean["repaired"] is None
    assert document(CLEAN, [])["repaired"] == []
    assert document(CLEAN, [("a", "moved")])["repaired"] == [{"file": "a", "what": "moved"}]
    [gap, never] = lossy["backups"][1]["lacks"]
    assert gap == {
        "database": "db",
        "policy": "rp",
        "shard": 7,
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T01:00:00Z",
        "file": "T1.s7.tar.gz",
        "instead": "T0",
    }
    assert [never[key] for key in ("start", "end", "file", "instead")] == [None] * 4
    assert [db["complete"] for db in lossy["databases"]] == [False, True]
