"""The map of the house holds: which package may import which, and what is at the top."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

from pipelines.services import LOCATION
from resources.version import VERSION

ROOT = Path(__file__).parent.parent
PACKAGES = ("assets", "pipelines", "resources")
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
PROTOS = ("commands", "coordinator", "meta")

# From each package, what it may import from, itself included. The longest prefix wins.
ARROWS = {
    "resources.errors": (),
    "resources.version": (),
    "resources.values": (),
    "resources.model": ("resources.errors", "resources.values"),
    "resources.runtime.failpoints": ("resources.errors",),
    "resources.runtime.gc_pause": (),
    "resources.runtime.workers": (),
    "resources.runtime.clocks": (),
    "resources.runtime.interrupts": (),
    "resources.runtime.run": ("resources.errors",),
    "resources.protocol": (
        "resources.errors",
        "resources.values",
        "resources.model",
        "resources.protocol",
    ),
    "resources.tsm": ("resources.errors", "resources.model", "resources.tsm"),
    "resources.clients": (
        "resources.errors",
        "resources.values",
        "resources.model",
        "resources.protocol",
        "resources.clients",
    ),
    "resources.repository": (
        "resources.errors",
        "resources.runtime.gc_pause",
        "resources.runtime.workers",
        "resources.runtime.clocks",
        "resources.runtime.failpoints",
        "resources.runtime.interrupts",
        "resources.model",
        "resources.protocol",
        "resources.tsm",
        "resources.repository",
    ),
    "resources.points": (
        "resources.errors",
        "resources.model",
        "resources.tsm",
        "resources.repository",
        "resources.points",
    ),
    "resources.engine": (
        "resources.errors",
        "resources.points",
        "resources.values",
        "resources.runtime.workers",
        "resources.runtime.clocks",
        "resources.version",
        "resources.runtime.failpoints",
        "resources.runtime.interrupts",
        "resources.runtime.run",
        "resources.model",
        "resources.protocol",
        "resources.tsm",
        "resources.clients",
        "resources.repository",
        "resources.engine",
    ),
    "resources.api": (
        "resources.errors",
        "resources.model",
        "resources.protocol",
        "resources.points",
        "resources.repository",
        "resources.engine",
        "resources.api",
    ),
    "resources.import_name": (
        "resources.errors",
        "resources.version",
        "resources.points",
        "resources.api",
    ),
    "resources.embedded": (
        "resources.errors",
        "resources.values",
        "resources.model",
        "resources.protocol",
        "resources.tsm",
        "resources.embedded",
    ),
    "resources.config": (
        "resources.errors",
        "resources.model",
        "resources.protocol",
        "resources.clients",
        "resources.repository",
        "resources.embedded",
        "resources.config",
    ),
    "resources.cluster": ("resources",),
    "resources.backup_repository": ("resources",),
    "assets": ("resources", "assets"),
    "pipelines.ctl": ("resources", "pipelines.ctl"),
    "pipelines": ("resources", "assets", "pipelines"),
}
MAY_IMPORT_DAGSTER = re.compile(
    r"assets/.*|pipelines/sensors/.*"
    r"|pipelines/(definitions|executors|jobs|launch_checks|merge_op|restore_op|schedules)\.py"
    r"|resources/(cluster|backup_repository)\.py"
)


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Modules named by `path`'s import statements; `from a import b` gives both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == space or name.startswith(f"{space}.") for space in packages)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    space = max((space for space in ARROWS if within(module, (space,))), key=len, default=None)
    if space is None:
        assert path.name == "__init__.py", f"{module} is in no package"
        return
    # `from resources.protocol import meta` names both; the shorter one alone says nothing.
    named = {name for name in imports(path) if within(name, PACKAGES)}
    named = {n for n in named if not any(o != n and o.startswith(f"{n}.") for o in named)}
    strays = {name for name in named if not within(name, ARROWS[space])}
    assert not strays, f"{module} is in {space} and must not import {sorted(strays)}"


def packages() -> list[Path]:
    return sorted({path.parent for path in modules()})


@pytest.mark.parametrize("space", packages(), ids=lambda space: str(space.relative_to(ROOT)))
def test_nothing_goes_round_in_a_circle(space: Path) -> None:
    """Between the modules and packages right inside a package, imports lead one way."""
    here = ".".join(space.relative_to(ROOT).parts)
    needs: dict[str, set[str]] = {}
    for path in space.rglob("*.py"):
        member = path.relative_to(space).parts[0].removesuffix(".py")
        needs.setdefault(member, set()).update(
            name.removeprefix(f"{here}.").split(".")[0]
            for name in imports(path)
            if name.startswith(f"{here}.")
        )
        needs[member].discard(member)
    try:
        list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_dagster_stays_at_the_edge(path: Path) -> None:
    if MAY_IMPORT_DAGSTER.fullmatch(str(path.relative_to(ROOT))):
        return
    assert not {name for name in imports(path) if name.split(".")[0].startswith("dagster")}


def test_what_dagster_does_not_document_stays_in_two_files_that_can_do_without() -> None:
    """So no version of Dagster is too new: tests/assets/history/test_other_dagster.py."""
    private = {
        str(path.relative_to(ROOT))
        for path in modules()
        for name in imports(path)
        if name.startswith(("dagster._", "dagster_shared"))
    }
    assert private == {"assets/history/storage_calls.py", "assets/definition_errors.py"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    assert not [one for one in wanted if one.startswith("dagster") and "<" in one]


def test_dg_and_the_workspace_load_the_same_location() -> None:
    """`dg list defs`, `dg check defs` and `dg dev` read pyproject.toml, not workspace.yaml."""
    [location] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]
    project, module = settings["project"], location["python_module"]
    assert settings["directory_type"] == "project"
    assert project["code_location_target_module"] == module["module_name"]
    assert project["code_location_name"] == module["location_name"] == LOCATION
    assert module["module_name"].startswith(f"{project['root_module']}.")
    assert (ROOT / module["working_directory"] / project["root_module"]).is_dir()


@pytest.mark.parametrize("command", ["influxd_ctl", "shardkeeper"])
def test_the_commands_start_without_dagster(command: str) -> None:
    code = (
        "import sys\n"
        f"from pipelines.ctl.main import {command}\n"
        "sys.exit(any(name.split('.')[0] == 'dagster' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_backup_of_a_server_loads_only_what_it_needs_before_it_asks() -> None:
    """Half of a backup that finds nothing changed would be imports."""
    code = (
        "import sys\n"
        "import pipelines.ctl.main, pipelines.ctl.backup\n"
        "idle = ('numpy', 'pandas', 'asyncio', 'resources.clients.cluster', "
        "'resources.engine.restore.run', 'resources.protocol.commands')\n"
        "sys.exit(' '.join(name for name in idle if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_code_location_loads_without_what_only_runs_need() -> None:
    code = (
        "import sys\n"
        "from pipelines.definitions import defs\n"
        "defs()\n"
        "sys.exit('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_only_four_packages_stand_at_the_top() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    tops = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert tops == {"assets", "pipelines", "resources", "tests"}


def test_the_architecture_names_every_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = {part for name in re.findall(r"`([\w/]+)`", page) for part in name.split("/")}
    inside = [
        path
        for space in ("resources", "resources/engine", "resources/embedded", "tests")
        for path in (ROOT / space).iterdir()
        if path.is_dir() and any(path.rglob("*.py"))
    ]
    assert {path.name for path in inside} | set(PACKAGES) <= named


def test_the_version_is_reported_once_and_repeated_right() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_says_what_it_saves_us() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.partition("dependencies = [")[2].partition("\n]")[0]
    lines = [line for line in block.splitlines() if line.strip()]
    assert lines
    bare = [line for line in lines if "#" not in line]
    assert not bare


PIN = re.compile(
    r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==([^\s:/@;]+)(?: ; [^\\\n:/@]+)?"
    r"((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


EXECUTORS = ("celery", "docker", "k8s")
"""Extras that `make install` leaves out."""


def pins(file: str) -> dict[str, tuple[str, str]]:
    """Version and hashes of each package in a file; nothing else may stand there."""
    text = (ROOT / file).read_text()
    assert PIN.sub("", text) == "", f"{file} has lines that pin nothing"
    return {name: (version, hashes) for name, version, hashes in PIN.findall(text)}


def extras_of_the_project() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=]", one)[0] for one in requirements}


def test_the_constraints_pin_everything_by_hash_and_name_no_index() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = {name: one for name, one in extras_of_the_project().items() if name not in EXECUTORS}
    wanted = [
        *project["project"]["dependencies"],
        *(requirement for extra in extras.values() for requirement in extra),
        *project["build-system"]["requires"],
    ]
    everything = pins("constraints.txt")
    assert names(wanted) <= set(everything)


def test_the_image_installs_what_is_tested() -> None:
    image, everything = pins("deploy/constraints.txt"), pins("constraints.txt")
    assert image.items() <= everything.items()
    assert {"dagster", "dagster-postgres", "setuptools"} <= set(image)
    assert not {"pytest", "pyright", "ruff"} & set(image)


@pytest.mark.parametrize("extra", EXECUTORS)
def test_an_image_with_an_executor_gets_what_the_image_lacks(extra: str) -> None:
    more, image = pins(f"deploy/constraints-{extra}.txt"), pins("deploy/constraints.txt")
    assert names(extras_of_the_project()[extra]) <= set(more)
    assert not set(more) & set(image)
    # Dagster's libraries of one release belong together.
    assert more[f"dagster-{extra}"][0] == image["dagster-postgres"][0]


def test_generated_code_fits_its_source(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "--proto_path=.",
            f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}",
            *(f"resources/protocol/{name}.proto" for name in PROTOS),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in PROTOS:
        for generated in (f"{name}_pb2.py", f"{name}_pb2.pyi"):
            made = (tmp_path / "resources" / "protocol" / generated).read_text()
            assert made == (ROOT / "resources" / "protocol" / generated).read_text()


def test_a_deployment_on_postgres_differs_in_storage_alone() -> None:
    ours, deployed = (
        yaml.safe_load((ROOT / path).read_text())
        for path in ("dagster.yaml", "deploy/dagster.yaml")
    )
    for kept_where in ("storage", "compute_logs", "local_artifact_storage"):
        ours.pop(kept_where)
        deployed.pop(kept_where, None)
    assert ours == deployed


def test_every_test_that_is_named_as_a_proof_is_there() -> None:
    written = [path for space in PACKAGES for path in (ROOT / space).rglob("*.py")]
    written += [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for path in written:
        for name in re.findall(r"tests/[a-z0-9_/]+\.py", path.read_text()):
            assert (ROOT / name).is_file(), f"{path.relative_to(ROOT)} names {name}"


def test_no_module_outside_the_storage_asks_which_kind_a_store_is() -> None:
    """Another kind of store is a class there, and nothing else has to change."""
    asking = [
        str(path.relative_to(ROOT))
        for path in modules()
        if re.search(r"isinstance\([^)]*DirectoryStore", path.read_text())
        or re.search(r"\.store\.path\b", path.read_text())
    ]
    assert asking == []


def test_restores_and_merges_ask_in_one_place_which_kind_a_target_is() -> None:
    """Another kind of target is a class behind the protocols, and nothing else has to change."""
    asking = [
        str(path.relative_to(ROOT))
        for path in modules()
        if "resources/engine" in str(path)
        if re.search(r"isinstance\([^)]*\b(Cluster|Server)\b", path.read_text())
    ]
    assert asking == [
        "resources/engine/doctor/examine.py",
        "resources/engine/doctor/tls.py",
        "resources/engine/restore_target.py",
    ]


def test_a_backup_asks_in_three_places_which_kind_its_source_is() -> None:
    """What differs besides is told by the values that the source reports."""
    asking = {
        str(path.relative_to(ROOT)): found
        for path in modules()
        if "resources/engine" in str(path)
        if (found := len(re.findall(r"[Ss]ource\.kind [!=]=", path.read_text())))
    }
    assert asking == {
        "resources/engine/backup/copy_shard.py": 1,
        "resources/engine/backup/plan.py": 1,
        "resources/engine/backup/poll.py": 1,
    }


def test_no_function_is_longer_than_sixty_lines() -> None:
    """A longer one usually has two ideas."""
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in [*modules(), *(ROOT / "tests").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Its parameters besides `self`."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_what_belongs_together_is_handed_over_as_one_value() -> None:
    """A function with more than six parameters takes values apart that mean something as one."""
    wide = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in modules()
        if str(path.relative_to(ROOT)).startswith(("assets/", "pipelines/", "resources/engine/"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and len(parameters(node)) > MAX_PARAMETERS
    ]
    assert wide == []
