"""The settings of `shardkeeper.yaml` as values; of a secret, only its place."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from resources.clients.address import AddressMap, split_host_port
from resources.clients.connect import TCP_PORT
from resources.clients.meta_nodes import named_addresses
from resources.clients.source_address import MIN_BYTES_PER_S, AuthType
from resources.config.cron import check_cron
from resources.errors import UsageError, shown
from resources.protocol.durations import parse_duration
from resources.repository.storage.places import is_bucket, local_path, normal

NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,60}")
"""The form of a cluster's name, which becomes part of the names of assets, jobs and partitions."""
MAX_SECRET_BYTES = 64 * 1024
EMBEDDED = "embedded"
"""The default target of restores."""


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration has a unit, such as 30s, 15m, 12h or 7d")
    try:
        return parse_duration(value) / 1e9
    except UsageError as error:
        raise ValueError(f"{error.what}; {error.hint}") from None


Seconds = Annotated[float, BeforeValidator(_seconds)]
Positive = Annotated[Seconds, Field(gt=0)]
MINUTE_S = 60.0


def _a_minute(seconds: float) -> float:
    if seconds < MINUTE_S:
        raise ValueError("write at least a minute, 1m")
    return seconds


AMinute = Annotated[Seconds, AfterValidator(_a_minute)]
"""At least one minute, the least that Dagster's freshness policies accept."""


class _Settings(BaseModel):
    # A refused value may be a password in the wrong place.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Secret(_Settings):
    """The place of a secret: an environment variable or a file."""

    env: str = ""
    file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _never_the_secret_itself(cls, value: object) -> object:
        if isinstance(value, dict):
            return value  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(
            "secrets are not written into this file: name an environment variable, {env: NAME}, "
            "or a file, {file: PATH}"
        )

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if bool(self.env) == (self.file is not None):
            raise ValueError("name one place: {env: NAME} or {file: PATH}")
        return self

    def read(self) -> str:
        """Read the secret, without the newline at a file's end.

        Raises:
            UsageError: the secret is missing; the message names only its place.
        """
        if self.file is None:
            found = os.environ.get(self.env, "")
            if not found:
                raise UsageError(
                    f"the environment variable {self.env} is not set",
                    hint="set it where Dagster's processes start; shardkeeper.yaml names it",
                )
            return found
        try:
            with self.file.open("rb") as file:
                raw = file.read(MAX_SECRET_BYTES + 1)
            if len(raw) > MAX_SECRET_BYTES:
                raise UsageError(f"{self.file} is too long for a secret")
            return raw.decode().rstrip("\r\n")
        except OSError as error:
            raise UsageError(f"{self.file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{self.file} is not text in UTF-8") from None


class Objectives(_Settings):
    """How old the newest restore point may be, and what happens beyond that."""

    recovery_point: AMinute = 24 * 3600.0
    """The newest restore point should not be older than this."""
    warn_after: AMinute | None = None
    """The age at which the UI shows a warning; None: three quarters of `recovery_point`."""
    missed: Literal["request", "warn"] = "request"
    """The action for shards without a backup that young: request a run, or only report them."""

    @model_validator(mode="after")
    def _warn_before(self) -> Objectives:
        if self.warn_after is not None and self.warn_after >= self.recovery_point:
            raise ValueError("warn_after must be shorter than recovery_point")
        return self

    @property
    def warn_after_s(self) -> float | None:
        """The age of the warning in seconds; None: there is no time for one."""
        if self.warn_after is not None:
            return self.warn_after
        early = 0.75 * self.recovery_point
        return early if early >= MINUTE_S else None


class ClusterLimits(_Settings):
    """Limits of the load on a cluster."""

    parallel: int = Field(default=2, ge=1, le=64)
    """Shards that are copied at the same time."""
    per_node: int = Field(default=2, ge=1, le=64)
    """Shards that are copied from one data node at the same time."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that copy or restore them, in one run."""
    attempts: int = Field(default=6, ge=1, le=100)
    """Attempts for a shard before it counts as failed."""


Starter = Literal["watch", "missed", "adopt", "incremental", "full", "verify"]


class Schedules(_Settings):
    """Cron schedules of runs, in `timezone`."""

    incremental: str = "*/15 * * * *"
    full: str = "0 2 * * *"
    verify: str = "0 4 * * 0"
    timezone: str = "UTC"

    @field_validator("incremental", "full", "verify")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        check_cron(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"there is no time zone {shown(value)}: write UTC, or a name such as Europe/Berlin"
            ) from None
        return value


EXECUTORS = {
    "in_process": "dagster:in_process_executor",
    "multiprocess": "dagster:multiprocess_executor",
    "celery": "dagster_celery:celery_executor",
    "docker": "dagster_docker:docker_executor",
    "k8s": "dagster_k8s:k8s_job_executor",
}
"""The executors that have a name of their own, and where they are."""
MIB = 1 << 20


class Executor(_Settings):
    """Where the steps of runs are done: by one of Dagster's executors."""

    kind: str = "in_process"
    """One of Dagster's, or `module:attribute`."""
    config: dict[str, Any] = {}
    """Its configuration, as Dagster documents it."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """How many data nodes are told apart; each has a pool of its own."""
    batch_bytes: Annotated[int, Field(ge=1, le=2**50)] | None = None
    """What a batch must have to be a step of its own; None: by the kind."""

    @field_validator("kind")
    @classmethod
    def _is_kind(cls, value: str) -> str:
        if value not in EXECUTORS and not re.fullmatch(r"[\w.]+:\w+", value, re.ASCII):
            raise ValueError(
                f"{shown(value)} is no executor: write one of {', '.join(EXECUTORS)}, or "
                "module:attribute of another one"
            )
        return value

    @property
    def step_bytes(self) -> int:
        """What a batch must have to be a step of its own; 0: none is one."""
        if self.batch_bytes is not None:
            return self.batch_bytes
        if self.kind in ("in_process", "dagster:in_process_executor"):
            return 0
        return 1024 * MIB if "docker" in self.kind or "k8s" in self.kind else 256 * MIB


def _executor(value: object) -> object:
    return {"kind": value} if isinstance(value, str) and value else value


AnExecutor = Annotated[Executor, BeforeValidator(_executor)]
"""Settings of an executor; a text is its kind."""


class Cluster(_Settings):
    """A cluster or a single server: address, credentials, repository, schedules and limits."""

    bind: str = ""
    host: str = ""
    embedded: Path | None = None
    http: str = ""
    auth_type: AuthType | None = None
    user: str = ""
    password: Secret | None = None
    secret: Secret | None = None
    tls: bool = False
    data_tls: bool = False
    verify_tls: bool = True
    ca: Path | None = None
    """Certificate authorities to trust, instead of the system's."""
    cert: Path | None = None
    """Our own certificate, for servers that require one; its key is `key`."""
    key: Path | None = None
    map: dict[str, str] = {}
    """Reachable addresses for the ones that nodes advertise."""
    timeout: Positive = 60.0
    min_rate: Annotated[int, Field(ge=0, le=2**30)] = MIN_BYTES_PER_S
    """The minimum rate of a server over that time, once it answers; 0: none."""

    repository: str = ""
    """The repository of its backups; a cluster without one is only a target for restores."""
    target: str = EMBEDDED
    """The cluster for its restores, unless the launch names another."""
    internal: bool = False
    """Whether to back up `_internal`, the server's own monitoring, which changes all the time."""
    require_complete: bool = False
    """Whether a shard fails if no server reports that its archive has all acknowledged points."""
    damaged: Literal["keep", "refuse"] = "keep"
    """Whether a shard with damaged blocks or lost files is saved as it is and marked, or fails."""
    objectives: Objectives = Objectives()
    limits: ClusterLimits = ClusterLimits()
    executor: AnExecutor | None = None
    """Where the steps of its runs are done; None: as for all clusters."""
    schedules: Schedules = Schedules()
    watch_every: Annotated[Seconds, Field(ge=5)] = 30.0
    """The interval of the sensors."""
    running: tuple[Starter, ...] = ("adopt",)
    """Sensors and schedules that run from the start; users switch on the others in the UI."""

    @property
    def route(self) -> AddressMap:
        return AddressMap.parse(f"{left}={right}" for left, right in self.map.items())

    @model_validator(mode="after")
    def _sound_connection(self) -> Cluster:
        try:
            _ = self.route
        except UsageError as error:
            raise ValueError(error.what.replace("-map", "map:", 1)) from None
        if self.ca is not None and not self.verify_tls:
            raise ValueError("ca goes with verify_tls: true")
        if self.key is not None and self.cert is None:
            raise ValueError("key goes with cert")
        return self

    @model_validator(mode="after")
    def _one_address(self) -> Cluster:
        given = [bool(self.bind), bool(self.host), self.embedded is not None]
        if sum(given) != 1:
            raise ValueError(
                "name one address: bind, a meta node of a cluster, or host, a single server"
            )
        try:
            if self.bind:
                named_addresses(self.bind)
            if self.host:
                split_host_port(self.host, TCP_PORT)
        except UsageError as error:
            raise ValueError(f"{'bind' if self.bind else 'host'}: {error.what}") from None
        if self.password is not None and not self.user:
            raise ValueError("password goes with user")
        if self.auth_type == "basic" and not self.user:
            raise ValueError("auth_type basic needs user")
        if self.auth_type == "jwt" and self.secret is None:
            raise ValueError("auth_type jwt needs secret, the meta nodes' internal-shared-secret")
        return self


class Repository(_Settings):
    """A directory or a bucket with backups; one for each cluster."""

    path: Path | str
    """A path, or the URL of a bucket: `s3://bucket/prefix`, `gs://…`, `az://…`."""
    lock_wait: Seconds = 3600.0
    """How long to wait while another run holds the lock."""
    run_lease: Annotated[Seconds, Field(ge=1)] = 900.0
    """How long a run in several steps keeps the lock while none of its steps is at work."""

    @field_validator("path", mode="before")
    @classmethod
    def _is_place(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return normal(value) if is_bucket(value) else local_path(value)
        except UsageError as error:
            raise ValueError(error.what) from None

    @property
    def resolved(self) -> str:
        """One spelling of the path; links are not followed, since the disk may hang."""
        return str(self.path) if is_bucket(self.path) else os.path.normpath(self.path)


class Notify(_Settings):
    """A receiver of messages about failed runs and missed backups."""

    url: Secret
    """A webhook; its URL is a secret, since it allows any client to post."""
    format: Literal["slack", "json"] = "slack"
    clusters: tuple[str, ...] = ()
    """The clusters to report about; empty: all."""


class Configuration(_Settings):
    """The whole file."""

    repositories: dict[str, Repository] = {}
    clusters: dict[str, Cluster]
    notify: tuple[Notify, ...] = ()
    executor: AnExecutor = Executor()
    """Where the steps of runs are done; by default in the run's own process."""

    url: str = ""
    """The address of Dagster's UI for its users; messages link to runs there."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", value):
            raise ValueError("write the address of Dagster's UI, such as https://dagster.example")
        return value.rstrip("/")

    def dangling(
        self, clusters: Collection[str], repositories: Collection[str]
    ) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the invalid names and references: their path, and the fault.

        Args:
            clusters: all clusters in the file, invalid ones included.
            repositories: all repositories in the file, invalid ones included.
        """
        for name, cluster in self.clusters.items():
            here = "clusters", name
            if not NAME.fullmatch(name):
                yield (
                    here,
                    f"{shown(name)} cannot name a cluster: use letters, digits and underscores",
                )
            elif cluster.repository and cluster.repository not in self.repositories:
                yield (
                    (*here, "repository"),
                    f"its repository {cluster.repository} has invalid settings"
                    if cluster.repository in repositories
                    else f"repository {shown(cluster.repository)} is not among the repositories "
                    f"({_listed(repositories)})",
                )
            elif cluster.target != EMBEDDED and cluster.target not in clusters:
                yield (
                    (*here, "target"),
                    f"target {shown(cluster.target)} is not among the clusters "
                    f"({_listed(clusters)})",
                )
        for at, one in enumerate(self.notify):
            for place, name in enumerate(one.clusters):
                if name not in clusters:
                    yield (
                        ("notify", at, "clusters", place),
                        f"notify: {shown(name)} is not among the clusters ({_listed(clusters)})",
                    )

    def executor_of(self, cluster: str) -> Executor:
        """Where the steps of a cluster's runs are done."""
        return self.clusters[cluster].executor or self.executor

    @property
    def backed_up(self) -> dict[str, Cluster]:
        """The clusters that have a repository."""
        return {name: cluster for name, cluster in self.clusters.items() if cluster.repository}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "there are none"
