"""Reads and checks `shardkeeper.yaml`; every problem is reported with its line.

A mistake affects its own place only: a cluster with invalid settings is left out, and the others
are backed up as before. So runs use `read_sound`, which returns the sound settings with the
problems; `read_configuration` raises at the first problem. Held by
tests/resources/config/test_sound.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from resources.config.document import Document, Place, load_document
from resources.config.embedded import embedded_configuration, embedded_target
from resources.config.values import EMBEDDED, Cluster, Configuration, Repository, Secret
from resources.errors import UsageError, counted, shown
from resources.repository.storage.places import is_bucket

FILE = "shardkeeper.yaml"
VARIABLE = "SHARDKEEPER_CONFIG"
MAX_FILE_BYTES = 1 << 20
HINT = "docs/configuration.md has all settings and an example"

MISSPELT = "there is no setting"
"""Reported first: a missing setting is often a misspelt one."""


class Problem(Struct, frozen=True):
    """One invalid place of the file."""

    cluster: str
    """The cluster that is left out because of it; empty: no single one."""
    error: UsageError


class NothingUsable(UsageError):
    """A file without a cluster that can be backed up; `problems` are all that is wrong with it."""

    def __init__(self, problems: Sequence[UsageError]) -> None:
        first, more = problems[0], len(problems) - 1
        others = f" ({counted(more, 'more problem')}: shardkeeper config check lists all)"
        super().__init__(first.what + (others if more else ""), hint=first.hint)
        self.problems = tuple(problems)


class Reading(Struct, frozen=True):
    """The sound settings of a file, and its problems."""

    configuration: Configuration
    problems: tuple[Problem, ...] = ()
    path: Path | None = None
    """The file, or the directory of embedded clusters; None: the configuration came from bytes."""

    def cluster(self, name: str) -> Cluster:
        """The cluster of a name.

        Raises:
            UsageError: there is no such cluster, or its settings are invalid.
        """
        found = self.configuration.clusters.get(name)
        if found is not None:
            return found
        for problem in self.problems:
            if problem.cluster == name:
                raise problem.error
        raise UsageError(
            f"{shown(name)} is not a configured cluster",
            hint=f"there are {', '.join(sorted(self.configuration.clusters))}",
        )

    def repository(self, name: str) -> Repository:
        """The repository of a cluster.

        Raises:
            UsageError: there is no such cluster, its settings are invalid, or it has no repository.
        """
        cluster = self.cluster(name)
        if not cluster.repository:
            raise UsageError(
                f"cluster {name} has no repository", hint="name one under its repository: setting"
            )
        return self.configuration.repositories[cluster.repository]

    @property
    def broken(self) -> dict[str, list[UsageError]]:
        """The problems of the clusters that are left out, by name."""
        found: dict[str, list[UsageError]] = {}
        for problem in self.problems:
            if problem.cluster:
                found.setdefault(problem.cluster, []).append(problem.error)
        return found


def configuration_path(environment: Mapping[str, str], directory: Path) -> Path:
    """The file that the environment names, else the one in `directory`, else the directory."""
    named = environment.get(VARIABLE, "")
    if named:
        return directory / named
    usual = directory / FILE
    return usual if usual.exists() else directory


def read_sound(path: Path) -> Reading:
    """Read the sound settings of a file; its paths are relative to its directory.

    Args:
        path: the file; a directory means the embedded clusters below it.

    Raises:
        UsageError: the file is missing or not YAML, or has no cluster that can be backed up.
    """
    if path.is_dir():
        return Reading(embedded_configuration(path.resolve()), path=path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            hint=f"{VARIABLE} names the configuration file; without it, {FILE} is read in the "
            "working directory. docs/configuration.md has an example to start from",
        ) from None
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: more than {MAX_FILE_BYTES} bytes, too long for a configuration")
    found = parse_sound(raw, str(path))
    base = path.resolve().parent
    configuration = _absolute(found.configuration, base)
    shared: list[Problem] = []
    for place, message in _shared(configuration):
        name = str(place[1])
        shared.append(Problem(name, UsageError(f"{path}: clusters.{name}: {message}", hint=HINT)))
        configuration = _without(configuration, name)
    return Reading(configuration, (*found.problems, *shared), path)


def read_configuration(path: Path) -> Configuration:
    """Read a file without problems.

    Raises:
        UsageError: as `read_sound`, or for the first problem.
    """
    return _all_sound(read_sound(path))


def parse_configuration(raw: bytes, name: str) -> Configuration:
    """Read a configuration without problems from bytes.

    Args:
        name: the file's name in messages.

    Raises:
        UsageError: as `parse_sound`, or for the first problem.
    """
    return _all_sound(parse_sound(raw, name))


def _all_sound(found: Reading) -> Configuration:
    if found.problems:
        raise found.problems[0].error
    return found.configuration


def parse_sound(raw: bytes, name: str) -> Reading:
    """Read the sound settings from bytes.

    Raises:
        UsageError: the text is not YAML, or has no cluster that can be backed up.
    """
    document = load_document(raw, name, hint=HINT)
    problems = [Problem(_cluster_at(place), error) for place, error in document.problems]
    while True:
        wrong = list(_wrong(document, name))
        if not wrong:
            break
        problems += [Problem(_cluster_at(place), error) for place, error in wrong]
        dropped = [document.drop(place) for place in dict(wrong)]
        if not all(dropped):
            raise NothingUsable([problem.error for problem in problems])
    configuration = Configuration.model_validate(document.content)
    if not configuration.backed_up:
        if problems:
            raise NothingUsable([problem.error for problem in problems])
        raise UsageError(
            f"{name}:1: no cluster has a repository, so there is nothing to back up", hint=HINT
        )
    return Reading(configuration, tuple(problems))


def _wrong(document: Document, name: str) -> Iterator[tuple[Place, UsageError]]:
    """Yield the errors of invalid settings, each with its piece of the document."""
    try:
        configuration = Configuration.model_validate(document.content)
    except ValidationError as error:
        pieces: dict[Place, list[tuple[Place, str]]] = {}
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            where = document.place(one["loc"])
            pieces.setdefault(document.piece(where), []).append((where, _described(one)))
        for piece, found in pieces.items():
            found.sort(key=lambda one: not one[1].startswith(MISSPELT))
            yield from ((piece, _explained(document, name, *one)) for one in found)
        return
    problem: set[Place] = set()
    for where, message in (
        *configuration.dangling(document.names("clusters"), document.names("repositories")),
        *_shared(configuration),
    ):
        place = document.place(where)
        if document.piece(place) not in problem:
            problem.add(document.piece(place))
            yield document.piece(place), _explained(document, name, place, message)


def _described(error: ErrorDetails) -> str:
    last = error["loc"][-1] if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"{MISSPELT} {last}"
    if error["type"] == "missing":
        return f"{last} is missing"
    if error["type"] in {"model_type", "dict_type"}:
        return "expected settings here, each as key: value"
    return error["msg"].removeprefix("Value error, ")


def _explained(document: Document, name: str, where: Place, message: str) -> UsageError:
    place = ".".join(str(part) for part in where)
    return UsageError(
        f"{name}:{document.line(where)}: " + (f"{place}: " if place else "") + message,
        hint=HINT,
    )


def _cluster_at(place: Place) -> str:
    return str(place[1]) if len(place) > 1 and place[0] == "clusters" else ""


def _shared(found: Configuration) -> Iterator[tuple[Place, str]]:
    """Yield the clusters whose repository is another cluster's, too."""
    owner: dict[str, str] = {}
    for name, cluster in found.backed_up.items():
        if cluster.repository not in found.repositories:
            continue
        path = found.repositories[cluster.repository].resolved
        other = owner.setdefault(path, name)
        if other != name:
            yield (
                ("clusters", name, "repository"),
                f"clusters {other} and {name} share a repository: shard ids mean nothing between "
                "clusters, so each needs a directory of its own",
            )


def _without(found: Configuration, name: str) -> Configuration:
    left = {key: value for key, value in found.clusters.items() if key != name}
    return found.model_copy(update={"clusters": left})


def _absolute(found: Configuration, base: Path) -> Configuration:
    """Make relative paths absolute, from the file's directory."""

    def secret(one: Secret | None) -> Secret | None:
        if one is None or one.file is None:
            return one
        return one.model_copy(update={"file": base / one.file})

    def cluster(one: Cluster) -> Cluster:
        embedded = None if one.embedded is None else base / one.embedded
        places = {
            "password": secret(one.password),
            "secret": secret(one.secret),
            "embedded": embedded,
            **{
                name: base / path
                for name, path in (("ca", one.ca), ("cert", one.cert), ("key", one.key))
                if path is not None
            },
        }
        return one.model_copy(update=places)

    def repository(one: Repository) -> Repository:
        path = one.path if is_bucket(one.path) else base / one.path
        return one.model_copy(update={"path": path})

    return found.model_copy(
        update={
            "repositories": {name: repository(one) for name, one in found.repositories.items()},
            "clusters": {
                EMBEDDED: embedded_target(base),
                **{name: cluster(one) for name, one in found.clusters.items()},
            },
            "notify": tuple(
                one.model_copy(update={"url": secret(one.url)}) for one in found.notify
            ),
        }
    )
