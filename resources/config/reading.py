"""`shardkeeper.yaml`, read and checked; what is wrong is told with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from resources.config.embedded import embedded_configuration, embedded_target
from resources.config.values import EMBEDDED, Cluster, Configuration, Repository, Secret
from resources.errors import UsageError

FILE = "shardkeeper.yaml"
VARIABLE = "SHARDKEEPER_CONFIG"
MAX_FILE_BYTES = 1 << 20


def configuration_path(environment: Mapping[str, str], directory: Path) -> Path:
    """The file that the environment names, else the one in `directory`, else `directory` itself."""
    named = environment.get(VARIABLE, "")
    if named:
        return directory / named
    usual = directory / FILE
    return usual if usual.exists() else directory


def read_configuration(path: Path) -> Configuration:
    """Read a file; paths in it are relative to its directory.

    Args:
        path: the file; of a directory, the embedded clusters below it are meant.

    Raises:
        UsageError: it is not there, is no YAML, or says what cannot be; with the line.
    """
    if path.is_dir():
        return embedded_configuration(path.resolve())
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
    found = parse_configuration(raw, str(path))
    return _absolute(found, path.resolve().parent)


def parse_configuration(raw: bytes, name: str) -> Configuration:
    """The configuration in these bytes.

    Args:
        name: what to call the file in messages.

    Raises:
        UsageError
    """
    try:
        loader = yaml.SafeLoader(raw)
        node = loader.get_single_node()
        if node is None:
            raise UsageError(f"{name} is empty", hint=_HINT)
        _refuse_duplicates(node, name)
        document: object = loader.construct_document(node)  # pyright: ignore
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{name}:{line}: {error.problem}", hint=_HINT) from None
    except yaml.YAMLError:
        raise UsageError(f"{name} is not text in UTF-8", hint=_HINT) from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deeply", hint=_HINT) from None
    try:
        return Configuration.model_validate(document)
    except ValidationError as error:
        raise _explained(error, node, name) from None


_HINT = "docs/configuration.md has all settings and an example"


def _explained(error: ValidationError, node: yaml.Node, name: str) -> UsageError:
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    where = list(first["loc"])
    if first["type"] == "extra_forbidden":
        said = f"there is no setting {where[-1]}"
    elif first["type"] == "missing":
        said = f"{where[-1]} is missing"
    else:
        said = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in where)
    more = f" (and {len(others)} more)" if others else ""
    return UsageError(
        f"{name}:{_line(node, where)}: " + (f"{place}: " if place else "") + said + more,
        hint=_HINT,
    )


def _line(node: yaml.Node, where: Sequence[str | int]) -> int:
    """The line of the setting, or of the deepest one above it that is there; from 1 on."""
    line = node.start_mark.line
    for part in where:
        if isinstance(node, yaml.MappingNode):
            inner = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if inner is None:
                break
            line, node = inner[0].start_mark.line, inner[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _refuse_duplicates(node: yaml.Node, name: str) -> None:
    """YAML readers take the last of two equal keys; the first may be the one that was meant."""
    waiting, walked = [node], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in walked:  # an alias
            continue
        walked.add(id(one))
        if isinstance(one, yaml.SequenceNode):
            waiting += one.value
        elif isinstance(one, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in one.value:
                line = key.start_mark.line + 1
                text = key.value if isinstance(key.value, str) else ""
                if text in seen and text != "<<":
                    raise UsageError(
                        f"{name}:{line}: {text} stands here again, first in line {seen[text]}",
                        hint=_HINT,
                    )
                seen[text] = line
                waiting.append(value)


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
