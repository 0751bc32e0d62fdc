"""What a user writes for a place, and how it is shown: one spelling, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.errors import UsageError
from resources.repository.storage.places import (
    beside,
    is_bucket,
    is_container,
    is_object,
    normal,
    split,
)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("backups", "backups"),
        ("/srv/b", "/srv/b"),
        ("./s3:/x", "s3:/x"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b//", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
    ],
)
def test_a_place_has_one_spelling(written: str, shown: str) -> None:
    assert normal(written) == shown
    assert is_bucket(written) == ("://" in shown)
    assert split(beside(written, "T.manifest")) == (shown, "T.manifest")


@pytest.mark.parametrize(
    "written",
    ["s3://k:hunter2@b/x", "s3://b/x?sig=hunter2", "az://b/x#hunter2", "https://u:hunter2@h/x"],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(written: str) -> None:
    with pytest.raises(UsageError) as refused:
        normal(written)
    assert "hunter2" not in refused.value.what + refused.value.hint


@pytest.mark.parametrize(
    "written", ["s3://", "s3://b b", "s3://b/../x", "s3://b/a//b", "s3://b/.x"]
)
def test_a_url_that_names_no_bucket_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="is not the URL of a bucket"):
        normal(written)


def test_of_a_url_the_ending_tells_whether_it_is_one_object(tmp_path: Path) -> None:
    (tmp_path / "T.manifest").touch()
    for place in (str(tmp_path), f"file://{tmp_path}", "s3://bucket/prefix"):
        assert is_container(place)
        assert not is_object(place)
        assert is_object(f"{place}/T.manifest")
        assert not is_container(f"{place}/T.manifest")
