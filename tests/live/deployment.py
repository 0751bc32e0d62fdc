"""Dagster as a team runs it: code server, web server and daemon, asked over GraphQL.

    with Deployment(home, environment) as dagster:
        run_id = dagster.launch("back_up_dev")
        assert dagster.outcome(run_id) == "SUCCESS"

Nothing of ours runs in the test's process: what is asserted is what the UI is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import requests

from pipelines.services import LOCATION, ROOT, Services

POLL_S = 0.3
READY_WITHIN_S = 180.0
RUN_WITHIN_S = 180.0
"""A run of seconds takes a minute where the machine has other things to do."""
REPOSITORY = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}

T = TypeVar("T")


class DagsterFailed(AssertionError):
    """Dagster did not do what was asked of it."""


def wait_for(what: str, scan: Callable[[], T | None], within_s: float = RUN_WITHIN_S) -> T:
    """Poll until `scan` returns something true, and return that.

    Raises:
        DagsterFailed: it did not in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = scan()
        if found:
            return found
        if time.monotonic() > deadline:
            raise DagsterFailed(f"waited {within_s:g} s for {what}")
        time.sleep(POLL_S)


class Running(Protocol):
    """Dagster's services, wherever they run."""

    @property
    def url(self) -> str: ...
    def __enter__(self) -> object: ...
    def check(self) -> None: ...
    def until(self, what: str, there: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...


class Dagster:
    """Dagster's services, and what the UI asks of them.

    Args:
        services: started by `with`, and stopped at its end.
    """

    def __init__(self, services: Running) -> None:
        self.services = services
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        self.services.__enter__()
        try:
            self.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.services.stop()
        self._session.close()

    def ready(self) -> None:
        """Wait for the code location and for the daemon."""
        self.services.until("the code location", self._loaded)
        self.services.until("the daemon", self._daemon_healthy)

    @property
    def url(self) -> str:
        return self.services.url

    def _loaded(self) -> bool:
        for entry in self.graphql(LOCATIONS)["workspaceOrError"].get("locationEntries", []):
            found = entry["locationOrLoadError"]
            if found and found["__typename"] == "PythonError":
                raise DagsterFailed(found["message"])
            if entry["loadStatus"] == "LOADED":
                return True
        return False

    def _daemon_healthy(self) -> bool:
        health = self.graphql(HEALTH)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(status["healthy"] for status in health if status["required"])

    # --- asking ------------------------------------------------------------------------------

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask what the UI asks.

        Raises:
            DagsterFailed: the query was not answered in full.
        """
        reply = self._session.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        if reply.get("errors"):
            raise DagsterFailed(f"{query.split('{')[0]}: {reply['errors'][0]['message']}")
        return reply["data"]

    def asset(self, key: str, fields: str, **variables: Any) -> dict[str, Any]:
        """Fields of one asset, `key` written with slashes; `variables` may use $shards."""
        query = (
            "query ($key: AssetKeyInput!, $shards: [String!]) { assetNodeOrError(assetKey: $key) "
        )
        query += "{ __typename ... on AssetNode { assetKey { path } %s } ... on AssetNotFoundError "
        query += "{ message } } }"
        used = "$shards" in fields
        text = (query % fields) if used else (query % fields).replace(", $shards: [String!]", "")
        node = self.graphql(text, key=path(key), **variables)["assetNodeOrError"]
        if node["__typename"] != "AssetNode":
            raise DagsterFailed(node["message"])
        return node

    def partitions(self, key: str) -> list[str]:
        return self.asset(key, "partitionKeys")["partitionKeys"]

    def filled(self, key: str) -> dict[str, list[str]]:
        """By state, such as `failed`, the partitions that the Partitions tab shows so."""
        fields = (
            "assetPartitionStatuses { ... on DefaultPartitionStatuses { materialized: "
            "materializedPartitions failed: failedPartitions missing: unmaterializedPartitions } }"
        )
        return self.asset(key, fields)["assetPartitionStatuses"]

    def stale(self, key: str, shards: Sequence[str] | None = None) -> dict[str, str]:
        """FRESH, STALE or MISSING by partition; of an asset without any, under ""."""
        if shards is None:
            return {"": self.asset(key, "staleStatus")["staleStatus"]}
        fields = "staleStatusByPartition(partitions: $shards)"
        node = self.asset(key, fields, shards=list(shards))
        return dict(zip(shards, node["staleStatusByPartition"], strict=True))

    def check(self, key: str, name: str) -> dict[str, Any] | None:
        """The latest evaluation of a check: `success`, `severity`, `metadata` by label."""
        fields = (
            'assetCheckOrError(checkName: "%s") { ... on AssetCheck { '
            "executionForLatestMaterialization { status evaluation { success severity %s } } } }"
        )
        node = self.asset(key, fields % (name, METADATA))
        execution = node["assetCheckOrError"]["executionForLatestMaterialization"]
        if execution is None or execution["evaluation"] is None:
            return None
        found = execution["evaluation"]
        return {**found, "metadata": _by_label(found.pop("metadataEntries"))}

    def latest(self, key: str, partition: str | None = None) -> dict[str, Any] | None:
        """The newest materialization: `runId`, `timestamp`, `tags` and `metadata` by name."""
        fields = "assetMaterializations(limit: 1%s) { runId timestamp tags { key value } %s }"
        only = "" if partition is None else ", partitions: $shards"
        variables = {} if partition is None else {"shards": [partition]}
        found = self.asset(key, fields % (only, METADATA), **variables)["assetMaterializations"]
        if not found:
            return None
        tags = {tag["key"]: tag["value"] for tag in found[0].pop("tags")}
        return {**found[0], "tags": tags, "metadata": _by_label(found[0].pop("metadataEntries"))}

    # --- doing -------------------------------------------------------------------------------

    def launch(
        self,
        job: str,
        config: Mapping[str, Any] | None = None,
        *,
        assets: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Launch a run as the Launchpad does; its id."""
        selector: dict[str, Any] = {**REPOSITORY, "jobName": job}
        if assets:
            selector["assetSelection"] = [path(key) for key in assets]
        parameters = {
            "selector": selector,
            "runConfigData": dict(config or {}),
            "mode": "default",
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]
            },
        }
        return _made(self.graphql(LAUNCH, parameters=parameters)["launchRun"], "run")["runId"]

    def backfill(self, key: str, shards: Sequence[str]) -> str:
        """Launch a backfill of partitions of an asset; its id."""
        parameters = {"assetSelection": [path(key)], "partitionNames": list(shards)}
        data = self.graphql(BACKFILL, parameters=parameters)["launchPartitionBackfill"]
        return _made(data, "backfillId")

    def terminate(self, run_id: str) -> None:
        """Cancel a run as the UI does, so that it can tidy up."""
        self.graphql(
            "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id
        )

    def reload(self) -> None:
        """Load the code location anew, as the button of that name does."""
        query = (
            "mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) "
            "{ __typename ... on PythonError { message } } }"
        )
        reply = self.graphql(query, name=LOCATION)["reloadRepositoryLocation"]
        if "message" in reply:
            raise DagsterFailed(reply["message"])
        self.services.until("the code location", self._loaded)

    def turn(self, kind: str, name: str, on: bool) -> None:
        """Flip the switch of a "Sensor" or "Schedule"."""
        low = kind.lower()
        reply = "{ __typename ... on PythonError { message } }"
        if on:
            call, variables = f"start{kind}", {"it": {**REPOSITORY, f"{low}Name": name}}
            query = f"mutation ($it: {kind}Selector!) {{ {call}({low}Selector: $it) {reply} }}"
        else:
            call = "stopSensor" if kind == "Sensor" else "stopRunningSchedule"
            variables = {"it": self._instigation(kind, name)["id"]}
            query = f"mutation ($it: String!) {{ {call}(id: $it) {reply} }}"
        data = self.graphql(query, **variables)[call]
        if "message" in data:
            raise DagsterFailed(data["message"])

    def _instigation(self, kind: str, name: str) -> dict[str, Any]:
        low = kind.lower()
        state = "id status ticks(limit: 5) { status runIds skipReason error { message } }"
        query = (
            f"query ($s: {kind}Selector!) {{ {low}OrError({low}Selector: $s) {{ __typename "
            f"... on {kind} {{ {low}State {{ {state} }} }} ... on PythonError {{ message }} }} }}"
        )
        data = self.graphql(query, s={**REPOSITORY, f"{low}Name": name})[f"{low}OrError"]
        if data["__typename"] != kind:
            raise DagsterFailed(f"{kind} {name}: {data}")
        return data[f"{low}State"]

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The latest ticks of a sensor, newest first: `status`, `runIds`, `skipReason`, `error`."""
        return self._instigation("Sensor", sensor)["ticks"]

    def switches(self) -> dict[str, str]:
        """RUNNING or STOPPED, for each sensor and schedule."""
        repository = self.graphql(SWITCHES, selector=REPOSITORY)["repositoryOrError"]
        return {
            **{one["name"]: one["sensorState"]["status"] for one in repository["sensors"]},
            **{one["name"]: one["scheduleState"]["status"] for one in repository["schedules"]},
        }

    # --- waiting -----------------------------------------------------------------------------

    def outcome(self, run_id: str, within_s: float = RUN_WITHIN_S) -> str:
        """Wait for a run to end: SUCCESS, FAILURE or CANCELED."""

        def ended() -> str | None:
            self.services.check()
            run = self.run(run_id)
            return run["status"] if run["status"] in ENDED else None

        return wait_for(f"run {run_id} to end", ended, within_s)

    def run(self, run_id: str) -> dict[str, Any]:
        query = (
            "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status jobName startTime "
            "endTime tags { key value } } } }"
        )
        return self.graphql(query, id=run_id)["runOrError"]

    def runs(self, job: str) -> list[dict[str, Any]]:
        """The runs of a job, newest first: `runId` and `status`."""
        query = (
            "query ($job: String!) { runsOrError(filter: {pipelineName: $job}) { "
            "... on Runs { results { runId status } } } }"
        )
        return self.graphql(query, job=job)["runsOrError"]["results"]

    def process(self, run_id: str) -> int:
        """The number of a run's process, where it runs."""
        query = (
            "query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { "
            "... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } } "
            "} } } }"
        )
        events = self.graphql(query, id=run_id)["logsForRun"]["events"]
        entries = [entry for event in events for entry in event.get("metadataEntries", ())]
        return int(next(entry["text"] for entry in entries if entry["label"] == "pid"))

    def why(self, run_id: str) -> str:
        """Every error that a run's log shows, causes included."""
        error = "error { message errorChain { error { message } } }"
        query = (
            "query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { "
            f"... on ExecutionStepFailureEvent {{ {error} }} "
            f"... on RunFailureEvent {{ message {error} }} }} }} }} }}"
        )
        events = self.graphql(query, id=run_id)["logsForRun"]["events"]
        found = [event["error"] for event in events if event.get("error")]
        if not found:  # what ended the run from outside of it
            return "\n".join(event["message"] for event in events if event.get("message"))
        return "\n".join(
            part["message"]
            for one in found
            for part in (one, *(cause["error"] for cause in one["errorChain"]))
        )


class Deployment(Dagster):
    """Dagster's processes and a folder for their records.

    Args:
        home: DAGSTER_HOME, and where the processes are started; created where missing.
        environment: what the code location is told, besides.
        instance: the text of `dagster.yaml`; without one, the repository's own.
    """

    def __init__(
        self, home: Path, environment: Mapping[str, str], *, instance: str | None = None
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        # dagster.yaml names its folders relative to where Dagster is started.
        text = (ROOT / "dagster.yaml").read_text() if instance is None else instance
        (home / "dagster.yaml").write_text(text)
        self.home = home
        super().__init__(Services(home, home, port=0, environment=environment))


ENDED = ("SUCCESS", "FAILURE", "CANCELED")
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
SWITCHES = """query ($selector: RepositorySelector!) { repositoryOrError(
    repositorySelector: $selector) { ... on Repository { sensors { name sensorState { status } }
    schedules { name scheduleState { status } } } } }"""
METADATA = """metadataEntries { label ... on IntMetadataEntry { intValue intRepr }
    ... on FloatMetadataEntry { floatValue } ... on TextMetadataEntry { text }
    ... on PathMetadataEntry { path } ... on BoolMetadataEntry { boolValue }
    ... on TimestampMetadataEntry { timestamp } ... on MarkdownMetadataEntry { mdStr }
    ... on TableMetadataEntry { table { records } } ... on UrlMetadataEntry { url } }"""
HEALTH = "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"
LAUNCH = """mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message } ... on InvalidSubsetError { message } } }"""
BACKFILL = """mutation ($parameters: LaunchBackfillParams!) {
    launchPartitionBackfill(backfillParams: $parameters) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


def path(key: str) -> dict[str, list[str]]:
    """An asset key as GraphQL takes it."""
    return {"path": key.split("/")}


def _made(reply: dict[str, Any], what: str) -> Any:
    if what not in reply:
        raise DagsterFailed(str(reply))
    return reply[what]


def _by_label(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Metadata as plain values."""
    values: dict[str, Any] = {}
    for entry in entries:
        shown = {k: v for k, v in entry.items() if k not in ("label", "intRepr")}
        value = next((v for v in shown.values() if v is not None), None)
        values[entry["label"]] = int(entry["intRepr"]) if "intRepr" in entry else value
    return values
