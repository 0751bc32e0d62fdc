"""One bad line costs its own cluster, and no other: what is left is read as if it stood alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.config.reading import parse_sound, read_sound
from resources.errors import UsageError

FILE = """\
# our clusters
repositories:
  eu: {path: /srv/eu}
  us: {path: /srv/us}
  ap:
    path: /srv/ap
clusters:
  eu:
    host: eu.example:8088
    repository: eu
    target: drill
    objectives: {recovery_point: 1h}
    schedules: {full: "0 2 * * *", timezone: Europe/Berlin}
  us:
    bind: us.example:8091
    repository: us
  ap: {host: "ap.example:8088", repository: ap}
  drill:
    host: drill.example:8088
notify:
  - url: {env: HOOK}
    clusters: [us]
  - {url: {env: OTHER}}
url: https://dagster.example
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        # what YAML takes, and we do not
        ("host: eu.example:8088", "hots: eu.example:8088", 9, "there is no setting hots"),
        ("recovery_point: 1h", "recovery_point: 1", 12, "a duration has a unit"),
        ("recovery_point: 1h", "recovery_point: 10s", 12, "write at least a minute"),
        ("0 2 * * *", "61 2 * * *", 13, "'61' is not a valid minute (0 to 59)"),
        ("0 2 * * *", "0 2 31-1 * *", 13, "is not a valid day of the month"),
        ("0 2 * * *", "0 2 * *", 13, "write five fields as in crontab"),
        ("0 2 * * *", "@often", 13, "'@often' is none of @hourly"),
        ("Europe/Berlin", "Europe/Berln", 13, "there is no time zone 'Europe/Berln'"),
        ("repository: eu", "repository: ue", 10, "repository 'ue' is not among"),
        ("repository: eu", "repository: us", 16, "share a repository"),
        ("target: drill", "target: dril", 11, "target 'dril' is not among the clusters"),
        ("    host: eu.example:8088\n", "", 8, "name one address"),
        ("    repository: eu\n", "    repository: eu\n    password: hunter2\n", 11, "secrets are"),
        (
            "    repository: eu\n",
            "    repository: eu\n    repository: eu\n",
            11,
            "is repeated here",
        ),
        ("eu: {path: /srv/eu}", "eu: {pth: /srv/eu}", 3, "there is no setting pth"),
        ("  eu: {path: /srv/eu}\n", "  eu:\n", 3, "each as key: value"),
        ("  eu:\n    host", "  eu: moon\n  e-u:\n    host", 8, "each as key: value"),
        # what YAML does not take
        ("    host: eu.example:8088", "\thost: eu.example:8088", 9, "cannot start any token"),
        ("host: eu.example:8088", 'host: "eu.example:8088', 0, ""),
        ("objectives: {recovery", "objectives: {{recovery", 0, ""),
        ("objectives: {recovery_point: 1h}", "objectives: [recovery_point: 1h", 0, ""),
        ("host: eu.example:8088", "host: @eu.example", 9, "cannot start any token"),
        ("host: eu.example:8088", "host: *eu", 9, "undefined alias"),
        ("host: eu.example:8088", "host eu.example:8088", 10, "mapping values are not"),
        ("host: eu.example:8088", "host: eu: example", 9, "mapping values are not allowed"),
        ("    target: drill", "  target drill", 0, ""),
        ("    repository: eu", "repository: eu", 0, ""),
        ("    host: eu", "     host: eu", 10, ""),
        ("host: eu.example:8088", "host: \u00fc\ufffe", 9, "this line is not text"),
    ],
)
def test_one_bad_line_leaves_the_other_clusters_as_they_are(
    old: str, new: str, line: int, message: str
) -> None:
    assert FILE.count(old) >= 1
    whole = parse_sound(FILE.encode(), "f.yaml")
    assert whole.problems == ()
    found = parse_sound(FILE.replace(old, new, 1).encode(), "f.yaml")
    for name in ("ap", "drill") if "repository: us" in new else ("us", "ap", "drill"):
        assert found.configuration.clusters[name] == whole.configuration.clusters[name], name
    assert found.problems
    events = [problem.error.what for problem in found.problems]
    assert message in " ".join(events)
    assert "hunter2" not in " ".join(events)
    if line:
        assert any(one.startswith(f"f.yaml:{line}: ") for one in events), events
    assert all(problem.error.hint for problem in found.problems)
    left_out = found.broken.keys() - {"moon", "e-u"}
    assert len(left_out) == 1
    [name] = left_out
    with pytest.raises(UsageError) as caught:
        found.cluster(name)
    assert caught.value.what in events


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("clusters: [us]", "clusters: [su]", 22, "'su' is not among the clusters"),
        ("{url: {env: OTHER}}", "{url: https://hooks.example/T0}", 23, "secrets are not written"),
        ("url: https://", "url: dagster://", 24, "write the address of Dagster's UI"),
        ("url: https://dagster.example", "ulr: https://dagster.example", 24, "no setting ulr"),
        ("url: https://dagster.example", "executor: [", 24, ""),
        ("- {url: {env: OTHER}}", "- {url: {env: OTHER}", 23, ""),
    ],
)
def test_what_belongs_to_no_cluster_costs_none(old: str, new: str, line: int, message: str) -> None:
    found = parse_sound(FILE.replace(old, new, 1).encode(), "f.yaml")
    assert list(found.configuration.backed_up) == ["eu", "us", "ap"]
    [problem] = found.problems
    assert problem.cluster == ""
    assert problem.error.what.startswith(f"f.yaml:{line}: ")
    assert message in problem.error.what
    assert "hooks.example" not in problem.error.what
    assert len(found.configuration.notify) == (1 if "OTHER" in old or "[us]" in old else 2)


def test_several_mistakes_are_all_reported_and_what_is_left_runs() -> None:
    bad = FILE.replace("    host: eu", "\thost: eu").replace("bind: us", "bindd: us")
    found = parse_sound(bad.encode(), "f.yaml")
    assert list(found.configuration.backed_up) == ["ap"]
    assert set(found.broken) == {"eu", "us"}
    with pytest.raises(UsageError, match=r"^f\.yaml:9: "):
        parse_sound(bad.replace("  ap: {host:", "  ap: {hast:").encode(), "f.yaml")


@pytest.mark.parametrize(
    ("old", "new", "left_out"),
    [
        ("  ap: {host", "\tap: {host", {"ap"}),
        ("  ap: {host", "   ap: {host", {"ap"}),
        ("  ap: {host", " ap: {host", {"ap"}),
        ("  us:\n    bind", "\tus:\n    bind", {"us"}),
        ("  us:\n    bind", " us:\n    bind", {"us"}),
        ("    repository: us", "\trepository: us", {"us"}),
        ("    repository: us", "   repository: us", {"us"}),
        ("    objectives: {rec", "\tobjectives: {rec", {"eu"}),
    ],
)
def test_a_line_that_has_lost_its_indentation_costs_the_cluster_it_belongs_to(
    old: str, new: str, left_out: set[str]
) -> None:
    assert FILE.count(old) == 1
    found = parse_sound(FILE.replace(old, new).encode(), "f.yaml")
    assert set(found.broken) == left_out
    assert set(found.configuration.clusters) == {"eu", "us", "ap", "drill"} - left_out


def test_a_target_that_cannot_be_stops_no_backups_of_who_restores_there(tmp_path: Path) -> None:
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(FILE.replace("host: drill.example:8088", "hots: drill.example:8088"))
    found = read_sound(path)
    assert list(found.configuration.backed_up) == ["eu", "us", "ap"]
    assert set(found.broken) == {"drill"}
    with pytest.raises(UsageError, match="there is no setting hots"):
        found.cluster("drill")


def test_of_two_clusters_in_one_directory_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "shardkeeper.yaml"
    for other in ("/srv/eu", "/srv/x/../eu", "/srv//eu/"):
        path.write_text(FILE.replace("/srv/us", other))
        found = read_sound(path)
        assert list(found.configuration.backed_up) == ["eu", "ap"]
        assert "share a repository" in found.broken["us"][0].what


def test_anchors_of_other_places_still_mean_what_they_meant() -> None:
    text = FILE.replace("objectives: {rec", "objectives: &hour {rec").replace(
        "    repository: us\n", "    repository: us\n    objectives: *hour\n"
    )
    found = parse_sound(text.replace('"ap.example:8088"', '"ap.example:8088').encode(), "f.yaml")
    assert found.configuration.clusters["us"].objectives.recovery_point == 3600.0
    assert set(found.broken) == {"ap"}
