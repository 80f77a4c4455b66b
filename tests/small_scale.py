"""A checkout with a scale of its own, for tests that run the whole pipeline: the same stages, seconds each.

python tests/small_scale.py FOLDER
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from attractors.commands.scale import SCALES  # noqa: E402

ITERATIONS = 60


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def checkout(folder):
    """A new repository in `folder` with the files of this one as they are now, committed."""
    folder = Path(folder)
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", ":!results").split("\0")
    for path in filter(None, dict.fromkeys(listed)):
        if (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
    git(folder, "init", "-q")
    commit(folder)
    return folder


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "a scale")


def edit(path, change):
    yaml = YAML()
    content = yaml.load(path)
    change(content)
    with path.open("w") as file:
        yaml.dump(content, file)


def small_scale(folder, sizes=(4, 16), iterations=ITERATIONS, replicates=2):
    """A checkout whose runs are those of `sizes`, trained for `iterations` steps; nothing is computed yet.

    All sizes but the first have as many `replicates`.
    """
    folder = checkout(folder)

    def sweep(content):
        content["sizes"], content["sample"]["floor"] = list(sizes), 64
        if "replicates" in content:
            content["replicates"] = dict.fromkeys(sizes[1:], replicates)
        if "iterations" in content.get("train", {}):
            content["train"]["iterations"] = iterations

    def params(content):
        content["toy_train"]["iterations"] = iterations
        content["toy_evaluate"].update(side=4, samples=50)
        content["basin"].update(trials=2, steps=2)

    for name in SCALES["laptop"]:
        edit(folder / "sweeps" / f"{name}.yaml", sweep)
    edit(folder / "params.yaml", params)
    subprocess.run([sys.executable, "src/main.py", "scale", "laptop"], cwd=folder, check=True, capture_output=True)
    for lock in (folder / "dvc.lock", folder / "models" / "dvc.lock"):
        lock.unlink(missing_ok=True)
    for made in git(folder, "ls-files", "metrics", "plots").splitlines():
        if made.endswith((".csv", ".png")) or (made.startswith("metrics/") and made.endswith(".json")):
            (folder / made).unlink()
    commit(folder)
    return folder


def environment():
    """The environment of a command in a checkout: this Python first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    print(small_scale(Path(sys.argv[1])))
