"""`make wheel`: build the wheel and read a backup by what is in it.

python -m tests.wheel
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
READ = """
import sys
sys.path = [sys.argv[1], *(path for path in sys.path if path not in sys.argv[2:])]
import shardkeeper, pipelines
assert shardkeeper.__file__.startswith(sys.argv[1]), shardkeeper.__file__
assert sys.modules["resources"].__path__[0].startswith(sys.argv[1])
try:
    shardkeeper.open("/nowhere")
except shardkeeper.ShardkeeperError as error:
    print(shardkeeper.__version__, error)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in tracked:  # a build leaves files in its tree
            copy = Path(folder, "source", name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                copy.write_bytes((ROOT / name).read_bytes())
        build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
        subprocess.run(
            [sys.executable, "-m", "pip", *build, Path(folder, "source")], cwd=folder, check=True
        )
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(folder, "installed"))
        tops = {path.name for path in Path(folder, "installed").iterdir() if path.suffix == ""}
        assert tops == {"assets", "pipelines", "resources", "shardkeeper"}, tops
        ours = [str(ROOT), str(ROOT / "resources/import_name")]
        done = [sys.executable, "-I", "-c", READ, str(Path(folder, "installed")), *ours]
        subprocess.run(done, cwd=folder, check=True)


if __name__ == "__main__":
    main()
