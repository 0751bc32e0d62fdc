"""`shardkeeper.yaml`, read and checked; what is wrong is told with its line.

What is wrong in one place costs that place alone: a cluster whose block cannot be is left out, and
the others are backed up as before. So whoever runs something reads with `read_sound`, which keeps
what is sound beside the problems; `read_configuration` is for who wants a file without any.
Held by tests/resources/config/test_sound.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from resources.config.document import Document, Place, load_document
from resources.config.embedded import embedded_configuration, embedded_target
from resources.config.values import EMBEDDED, Cluster, Configuration, Repository, Secret
from resources.errors import UsageError, shown

FILE = "shardkeeper.yaml"
VARIABLE = "SHARDKEEPER_CONFIG"
MAX_FILE_BYTES = 1 << 20
HINT = "docs/configuration.md has all settings and an example"

MISSPELT = "there is no setting"
"""Told first: what is missing is often what is misspelt."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One place of the file that cannot be."""

    cluster: str
    """Which is left out because of it; empty: no single one."""
    error: UsageError


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a file is sound, and what is not."""

    configuration: Configuration
    problems: tuple[Problem, ...] = ()
    path: Path | None = None
    """The file, or the directory of embedded clusters; None: read from bytes."""

    def cluster(self, name: str) -> Cluster:
        """Look a cluster up.

        Raises:
            UsageError: there is none of that name, or its settings cannot be.
        """
        found = self.configuration.clusters.get(name)
        if found is not None:
            return found
        for problem in self.problems:
            if problem.cluster == name:
                raise problem.error
        raise UsageError(
            f"{shown(name)} is no configured cluster",
            hint=f"there are {', '.join(sorted(self.configuration.clusters))}",
        )

    def repository(self, name: str) -> Repository:
        """The directory that a cluster's backups rest in.

        Raises:
            UsageError: no such cluster, its settings cannot be, or it has no repository.
        """
        cluster = self.cluster(name)
        if not cluster.repository:
            raise UsageError(
                f"cluster {name} has no repository", hint="name one under its repository: setting"
            )
        return self.configuration.repositories[cluster.repository]

    @property
    def broken(self) -> dict[str, list[UsageError]]:
        """By name, the clusters that are left out."""
        found: dict[str, list[UsageError]] = {}
        for problem in self.problems:
            if problem.cluster:
                found.setdefault(problem.cluster, []).append(problem.error)
        return found


def configuration_path(environment: Mapping[str, str], directory: Path) -> Path:
    """The file that the environment names, else the one in `directory`, else `directory` itself."""
    named = environment.get(VARIABLE, "")
    if named:
        return directory / named
    usual = directory / FILE
    return usual if usual.exists() else directory


def read_sound(path: Path) -> Reading:
    """Read a file as far as it can be; paths in it are relative to its directory.

    Args:
        path: the file; of a directory, the embedded clusters below it are meant.

    Raises:
        UsageError: it is not there, is no YAML, or nothing in it can be backed up.
    """
    if path.is_dir():
        return Reading(embedded_configuration(path.resolve()), path=path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            hint=f"{VARIABLE} names the configuration file; without it, {FILE} is read where it is",
        ) from None
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: more than {MAX_FILE_BYTES} bytes, which is no configuration")
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
    """Read a file in which nothing is wrong.

    Raises:
        UsageError: as `read_sound`, or for the first problem.
    """
    return _all_sound(read_sound(path))


def parse_configuration(raw: bytes, name: str) -> Configuration:
    """The configuration in these bytes, in which nothing is wrong.

    Args:
        name: what to call the file in messages.

    Raises:
        UsageError
    """
    return _all_sound(parse_sound(raw, name))


def _all_sound(found: Reading) -> Configuration:
    if found.problems:
        raise found.problems[0].error
    return found.configuration


def parse_sound(raw: bytes, name: str) -> Reading:
    """The configuration in these bytes as far as it can be.

    Raises:
        UsageError: it is no YAML, or nothing in it can be backed up.
    """
    document = load_document(raw, name, hint=HINT)
    problems = [Problem(_cluster_at(place), error) for place, error in document.problems]
    while True:
        wrong = list(_wrong(document, name))
        if not wrong:
            break
        for place, error in wrong:
            problems.append(Problem(_cluster_at(place), error))
            if not document.drop(place):
                raise problems[0].error
    configuration = Configuration.model_validate(document.content)
    if not configuration.backed_up:
        if problems:
            raise problems[0].error
        raise UsageError(
            f"{name}:1: no cluster has a repository, so there is nothing to back up", hint=HINT
        )
    return Reading(configuration, tuple(problems))


def _wrong(document: Document, name: str) -> Iterator[tuple[Place, UsageError]]:
    """What cannot be, one error for each piece of the document."""
    try:
        configuration = Configuration.model_validate(document.content)
    except ValidationError as error:
        pieces: dict[Place, list[tuple[Place, str]]] = {}
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            where = document.place(one["loc"])
            pieces.setdefault(document.piece(where), []).append((where, _described(dict(one))))
        for piece, found in pieces.items():
            found.sort(key=lambda one: not one[1].startswith(MISSPELT))
            yield piece, _explained(document, name, *found[0], more=len(found) - 1)
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


def _described(error: Mapping[str, object]) -> str:
    last = error["loc"][-1] if error["loc"] else ""  # type: ignore[index]
    if error["type"] == "extra_forbidden":
        return f"{MISSPELT} {last}"
    if error["type"] == "missing":
        return f"{last} is missing"
    if error["type"] in {"model_type", "dict_type"}:
        return "settings must stand here, each as key: value"
    return str(error["msg"]).removeprefix("Value error, ")


def _explained(
    document: Document, name: str, where: Place, message: str, *, more: int = 0
) -> UsageError:
    place = ".".join(str(part) for part in where)
    return UsageError(
        f"{name}:{document.line(where)}: "
        + (f"{place}: " if place else "")
        + message
        + (f" (and {more} more)" if more else ""),
        hint=HINT,
    )


def _cluster_at(place: Place) -> str:
    return str(place[1]) if len(place) > 1 and place[0] == "clusters" else ""


def _shared(found: Configuration) -> Iterator[tuple[Place, str]]:
    """Clusters that would write into the directory of another."""
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
    """Relative paths start where the file is, whatever directory a process starts in."""

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
        return one.model_copy(update={"path": base / one.path})

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
