"""What machines do: processes die, disks fill, bytes rot, clocks jump. After each the next `dvc repro` must finish with
the files of an undisturbed run, and nothing half-written may remain."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from small_scale import environment, small_scale

from attractors.records import file_hash

SIZE = 16
TARGET = f"basin@digits-{SIZE}"
OUTPUTS = {
    "subset": ["data/subsets/digits.safetensors"],
    "train": [f"models/digits/{SIZE}.safetensors"],
    "sample": [f"data/synthetic/digits/{SIZE}.safetensors"],
    "neighbours": [f"data/neighbours/digits/{SIZE}.safetensors"],
    "basin": [f"data/basin/digits/{SIZE}.safetensors", f"metrics/basin/digits/{SIZE}.csv"],
}
KILLS = 5  # of each stage


def dvc(folder, *arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


def start(folder, *arguments, **options):
    """A DVC process, which leads a process group: its stage dies with it."""
    command, quiet = [sys.executable, "-m", "dvc", *arguments], subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=quiet, stderr=quiet, start_new_session=True, **options
    )


def hashes(folder):
    """The hash of everything that stages wrote, and of dvc.lock."""
    files = [path for part in ("data", "models", "metrics") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): file_hash(path) for path in [*files, folder / "dvc.lock"]}


def leftovers(folder):
    """Files that only a process that died could have left."""
    parts = [path for part in ("data", "models", "metrics", "plots") for path in (folder / part).rglob("*")]
    found = [path for path in parts if path.is_file() and (".tmp" in path.name or ".resume" in path.parts)]
    cache = folder / ".dvc" / "cache" / "files" / "md5"
    found += [p for p in cache.rglob("*") if p.is_file() and not re.fullmatch(r"[0-9a-f]{30}(\.dir)?", p.name)]
    return [str(path.relative_to(folder)) for path in found]


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """(a checkout where the pipeline up to TARGET has run, its hashes)."""
    folder = small_scale(tmp_path_factory.mktemp("whole") / "checkout", sizes=(SIZE,), iterations=1500)
    result = dvc(folder, "repro", TARGET)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, hashes(folder)


@pytest.fixture
def copy(whole, tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(whole[0], folder, symlinks=True)
    return folder


def cached(folder, path):
    """The cache object of an output, by dvc.lock."""
    for stage in YAML(typ="safe").load(folder / "dvc.lock")["stages"].values():
        for out in stage.get("outs", []):
            if out["path"] == path:
                return folder / ".dvc" / "cache" / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
    raise KeyError(path)


def forget(folder, *stages):
    """Make the outputs of stages unmade: neither in the workspace nor in the cache, nor known from an earlier run."""
    shutil.rmtree(folder / ".dvc" / "cache" / "runs", ignore_errors=True)
    for path in (path for stage in stages for path in OUTPUTS[stage]):
        cached(folder, path).unlink(missing_ok=True)
        (folder / path).unlink()


def recovers(folder, whole):
    """The next command finishes, with the files of an undisturbed run and no others."""
    result = dvc(folder, "repro", TARGET)
    assert result.returncode == 0, result.stdout + result.stderr
    assert hashes(folder) == whole[1]
    assert leftovers(folder) == []
    return result


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def seconds(whole, tmp_path_factory):
    """How long `dvc repro` takes where one stage is unmade."""
    found = {}
    for stage in ("train", "sample", "neighbours", "basin"):
        folder = tmp_path_factory.mktemp("timed") / "checkout"
        shutil.copytree(whole[0], folder, symlinks=True)
        forget(folder, stage)
        started = time.monotonic()
        assert dvc(folder, "repro", TARGET).returncode == 0
        found[stage] = time.monotonic() - started
        shutil.rmtree(folder)
    return found


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("stage", ["train", "sample", "neighbours", "basin"])
def test_dvc_and_its_stage_are_killed_at_a_random_moment(stage, number, whole, copy, seconds, came_of_it):
    forget(copy, stage)
    process = start(copy, "repro", TARGET)
    # stratified, so that few kills fall on every part of the run
    time.sleep((number + random.Random(f"{stage} {number}").random()) / KILLS * seconds[stage])
    finished = process.poll() is not None
    kill(process) if not finished else None
    recovers(copy, whole)
    came_of_it(f"SIGKILL of dvc and {stage}", "had ended before" if finished else "recovered, same hashes")


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("stage", ["train", "sample", "neighbours", "basin"])
def test_the_stage_alone_is_killed_and_dvc_says_so(stage, number, whole, copy, came_of_it):
    forget(copy, stage)
    process = start(copy, "repro", TARGET)
    child, deadline = None, time.monotonic() + 120
    while process.poll() is None and child is None and time.monotonic() < deadline:
        time.sleep(0.02)
        for found in Path("/proc").glob("[0-9]*"):
            try:
                words = (found / "cmdline").read_bytes().split(b"\0")
                if b"src/%s.py" % stage.encode() in words and (found / "cwd").readlink() == copy:
                    child = int(found.name)
            except OSError:
                continue
    assert child
    time.sleep(random.Random(f"{stage} {number}").uniform(0, 4))
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        child = None
    code = process.wait(120)
    assert child is None or code != 0
    recovers(copy, whole)
    came_of_it(f"SIGKILL of {stage} alone", "dvc failed; recovered, same hashes" if child else "had ended before")


@contextmanager
def mounted(folder, *options):
    """A mount at `folder`, which must be empty or missing. Skips where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"mount: {result.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("stage", ["train", "sample", "neighbours", "basin"])
def test_the_disk_of_the_output_is_full(stage, whole, copy, came_of_it):
    forget(copy, stage)
    place = (copy / OUTPUTS[stage][0]).parent
    kept = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    with mounted(place, "-t", "tmpfs", "-o", "size=8k", "tmpfs"):
        failed = dvc(copy, "repro", TARGET)
        assert failed.returncode != 0
        assert "No space left on device" in failed.stderr + failed.stdout
        assert "Traceback" not in failed.stderr
        assert [path for path in place.rglob("*") if path.is_file() and path.name != ".gitignore"] == []
    for name, content in kept.items():
        (place / name).write_bytes(content)
    recovers(copy, whole)
    came_of_it(f"disk full under {stage}", "one line; recovered, same hashes")


def test_the_disk_of_the_cache_is_full(whole, copy, came_of_it):
    forget(copy, "train")
    shutil.move(copy / ".dvc" / "cache", copy / "kept")
    with mounted(copy / ".dvc" / "cache", "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        assert dvc(copy, "repro", TARGET).returncode != 0
    (copy / ".dvc" / "cache").rmdir()
    shutil.move(copy / "kept", copy / ".dvc" / "cache")
    recovers(copy, whole)
    came_of_it("disk full under the cache", "dvc failed; recovered, same hashes")


def test_the_cache_is_read_only(whole, copy, came_of_it):
    forget(copy, "train")
    cache = copy / ".dvc" / "cache"
    with mounted(cache, "--bind", cache):
        subprocess.run(["mount", "-o", "remount,ro,bind", cache], check=True)
        failed = dvc(copy, "repro", TARGET)
        assert failed.returncode != 0
        assert "Read-only file system" in failed.stderr + failed.stdout
    recovers(copy, whole)
    came_of_it("read-only cache", "dvc failed; recovered, same hashes")


@pytest.mark.parametrize("stage", ["subset", "train", "neighbours"])
@pytest.mark.parametrize("damage", ["cut short", "one bit flipped", "emptied"])
def test_an_output_is_damaged_in_the_workspace(stage, damage, whole, copy, came_of_it):
    hurt(copy / OUTPUTS[stage][0], damage, 0)
    recovers(copy, whole)
    came_of_it(f"output of {stage} {damage}", "noticed; same hashes")


@pytest.mark.parametrize("stage", ["subset", "train", "neighbours"])
@pytest.mark.parametrize("damage", ["cut short", "one bit flipped", "emptied"])
def test_an_object_of_the_cache_is_damaged(stage, damage, whole, copy, came_of_it):
    """With the workspace's copy gone too. DVC trusts its cache, so src/verify.py looks first."""
    (copy / OUTPUTS[stage][0]).unlink()
    hurt(cached(copy, OUTPUTS[stage][0]), damage, 1)
    command = [sys.executable, "src/verify.py", "--remove"]
    result = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    recovers(copy, whole)
    assert subprocess.run(command, cwd=copy, env=environment(), check=False, capture_output=True).returncode == 0
    came_of_it(f"cache object of {stage} {damage}", "src/verify.py removes it; remade, same hashes")


@pytest.mark.parametrize("stage", ["subset", "train"])
def test_a_bit_rots_in_the_workspace_without_a_trace_in_time_or_size(stage, whole, copy, came_of_it):
    path = copy / OUTPUTS[stage][0]
    before = path.stat()
    dvc(copy, "status")
    hurt(path, "one bit flipped", 2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    command = [sys.executable, "src/verify.py", "--remove"]
    assert subprocess.run(command, cwd=copy, env=environment(), check=False, capture_output=True).returncode == 1
    recovers(copy, whole)
    came_of_it(f"bit rot in the output of {stage}", "src/verify.py removes it; restored, same hashes")


def hurt(path, damage, seed):
    """Damage a file in place, as disks do: same name, same permissions."""
    content, mode = bytearray(path.read_bytes()), path.stat().st_mode
    at = random.Random(f"{path.name} {seed}").randrange(len(content))
    if damage == "one bit flipped":
        content[at] ^= 1 << at % 8
    else:
        del content[0 if damage == "emptied" else at :]
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)
    path.chmod(mode)


def test_two_repros_at_the_same_time(whole, copy, came_of_it):
    for _ in range(2):
        forget(copy, "train", "sample", "neighbours", "basin")
        first, second = start(copy, "repro", TARGET), start(copy, "repro", TARGET)
        codes = sorted((first.wait(300), second.wait(300)))
        recovers(copy, whole)
        came_of_it("two dvc repro at once", f"exit codes {codes[0]} and {codes[1]}; same hashes")


@pytest.mark.parametrize("year", [1980, 2100])
def test_every_file_has_a_time_of_another_century(year, whole, copy, came_of_it):
    moment = time.mktime((year, 1, 1, 0, 0, 0, 0, 0, 0))
    for path in copy.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (moment, moment))
    result = recovers(copy, whole)
    assert "Running stage" not in result.stdout
    came_of_it(f"all files of {year}", "nothing ran; same hashes")


@pytest.mark.parametrize("shift", ["-3y", "+3y"])
def test_the_clock_jumps_between_a_kill_and_the_next_command(shift, whole, copy, seconds, came_of_it):
    if not (faketime := shutil.which("faketime")):
        pytest.skip("faketime is not installed")
    forget(copy, "train")
    process = start(copy, "repro", TARGET)
    time.sleep(seconds["train"] * 0.6)
    kill(process) if process.poll() is None else None
    command = [faketime, "-f", shift, sys.executable, "-m", "dvc", "repro", TARGET]
    result = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    recovers(copy, whole)
    came_of_it(f"clock {shift} after a kill", "recovered, same hashes")


# ---- the state that a killed training goes on from


def train(folder, **options):
    command = [sys.executable, "src/train.py", "--sweep", "sweeps/digits.yaml", "--subset", OUTPUTS["subset"][0],
               "--size", str(SIZE), "--out", OUTPUTS["train"][0]]  # fmt: skip
    own = environment() | {"ATTRACTORS_CHECKPOINT_SECONDS": "0"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, env=own, stdout=quiet, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("damage", ["cut short", "one bit flipped", "emptied"])
@pytest.mark.parametrize("number", range(4))
def test_the_resume_state_of_a_killed_training_is_damaged(damage, number, whole, copy, came_of_it):
    forget(copy, "train")
    process, deadline = train(copy), time.monotonic() + 120
    while not (found := list((copy / "models/digits/.resume").glob("*.pt"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    hurt(found[0], damage, number)
    process = train(copy)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert file_hash(copy / OUTPUTS["train"][0]) == whole[1][OUTPUTS["train"][0]]
    assert leftovers(copy) == []
    came_of_it(f"resume state {damage}", "started anew, same hash" if "starting anew" in said else "same hash")


@pytest.mark.parametrize("stage", ["train", "sample", "neighbours"])
def test_a_file_may_not_grow_beyond_a_limit(stage, whole, copy, came_of_it):
    forget(copy, stage)
    cap = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # noqa: E731
    command = next(
        entry["cmd"] for name, entry in YAML(typ="safe").load(copy / "dvc.lock")["stages"].items()
        if name == f"{stage}@digits-{SIZE}"
    )  # fmt: skip
    result = subprocess.run(
        command.split(), cwd=copy, env=environment(), capture_output=True, text=True, check=False, preexec_fn=cap
    )
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")] == [
        line for line in result.stderr.splitlines() if "File too large" in line
    ]
    assert "Traceback" not in result.stderr
    recovers(copy, whole)
    came_of_it(f"quota exceeded by {stage}", "one line; recovered, same hashes")
