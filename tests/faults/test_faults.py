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

from attractors.files import file_hash

SIZE = 16
MEASURED = ["basin", "curvature", "energy"]
TARGETS = [f"models/dvc.yaml:{stage}@digits-{SIZE}" for stage in MEASURED]
OUTPUTS = {
    "subset": ["data/subsets/digits.safetensors"],
    "train": [f"models/digits/{SIZE}.safetensors"],
    "sample": [f"data/synthetic/digits/{SIZE}.safetensors"],
    "neighbours": [f"data/neighbours/digits/{SIZE}.safetensors"],
    **{stage: [f"data/{stage}/digits/{SIZE}.safetensors"] for stage in MEASURED},
}
LONG = ["train", "sample", "neighbours", *MEASURED]
KILLS = 5  # of each stage


def dvc(folder, *arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False,
                          timeout=900)


def start(folder, *arguments, **options):
    """A DVC process, which leads a process group: its stage dies with it."""
    command, quiet = [sys.executable, "-m", "dvc", *arguments], subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=quiet, stderr=quiet, start_new_session=True,
                            **options)


def hashes(folder):
    """The hash of everything that stages wrote, and of DVC's lock files."""
    files = [path for part in ("data", "models", "metrics") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): file_hash(path) for path in [*files, folder / "dvc.lock"]}


def leftovers(folder):
    """Files that only a process that died could have left."""
    parts = [path for part in ("data", "figures", "models", "metrics", "plots") for path in (folder / part).rglob("*")]
    found = [path for path in parts if path.is_file() and (".tmp" in path.name or ".resume" in path.parts)]
    cache = folder / ".dvc" / "cache" / "files" / "md5"
    found += [p for p in cache.rglob("*") if p.is_file() and not re.fullmatch(r"[0-9a-f]{30}(\.dir)?", p.name)]
    return [str(path.relative_to(folder)) for path in found]


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """(a checkout where the pipeline up to TARGETS has run, its hashes)."""
    folder = small_scale(tmp_path_factory.mktemp("whole") / "checkout", sizes=(SIZE,), iterations=1500)
    result = dvc(folder, "repro", *TARGETS)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, hashes(folder)


@pytest.fixture
def copy(whole, tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(whole[0], folder, symlinks=True)
    return folder


def cached(folder, path):
    """The cache object of an output, by models/dvc.lock."""
    for stage in YAML(typ="safe").load(folder / "models/dvc.lock")["stages"].values():
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
    result = dvc(folder, "repro", *TARGETS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert hashes(folder) == whole[1]
    assert leftovers(folder) == []
    return result


def command(folder, stage):
    """The command line by which DVC ran a stage."""
    name = "subset@digits" if stage == "subset" else f"{stage}@digits-{SIZE}"
    return YAML(typ="safe").load(folder / "models/dvc.lock")["stages"][name]["cmd"].split()


def run(folder, stage, **options):
    """A stage by itself, as a process that keeps its state as often as it can."""
    own, quiet = environment() | {"ATTRACTORS_CHECKPOINT_SECONDS": "0"}, subprocess.DEVNULL
    return subprocess.Popen(command(folder, stage), cwd=folder, env=own, stdout=quiet, stderr=subprocess.PIPE,
                            text=True, **options)


def remade(folder, stage, whole):
    """The stage runs again, to the same bytes, and leaves nothing else. Returns what it said."""
    process = run(folder, stage)
    said = process.communicate(timeout=900)[1]
    assert process.returncode == 0, said
    assert {path: file_hash(folder / path) for path in OUTPUTS[stage]} == {p: whole[1][p] for p in OUTPUTS[stage]}
    assert leftovers(folder) == []
    return said


@pytest.fixture(scope="session")
def seconds(whole, tmp_path_factory):
    """How long each stage takes by itself."""
    folder, found = tmp_path_factory.mktemp("timed") / "checkout", {}
    shutil.copytree(whole[0], folder, symlinks=True)
    for stage in OUTPUTS:
        started = time.monotonic()
        remade(folder, stage, whole)
        found[stage] = time.monotonic() - started
    shutil.rmtree(folder)
    return found


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("stage", LONG)
def test_a_stage_is_killed_at_a_random_moment(stage, number, whole, copy, seconds, came_of_it):
    forget(copy, stage)
    process = run(copy, stage)
    # stratified, so that few kills fall on every part of the run
    time.sleep((number + random.Random(f"{stage} {number}").random()) / KILLS * seconds[stage])
    finished = process.poll() is not None
    process.kill()
    process.communicate()
    remade(copy, stage, whole)
    came_of_it(f"SIGKILL of {stage}", "had ended before" if finished else "run again: same hashes")


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("stage", LONG)
def test_dvc_and_its_stage_are_killed_at_a_random_moment(stage, number, whole, copy, seconds, came_of_it):
    forget(copy, stage)
    process = start(copy, "repro", *TARGETS)
    output, deadline = copy / OUTPUTS[stage][0], time.monotonic() + 120
    while not output.exists() and b"src/main.py\0%s\0" % stage.encode() not in children(process.pid) \
            and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(random.Random(f"dvc {stage} {number}").random() * 0.8 * seconds[stage])
    finished = process.poll() is not None
    if not finished:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    recovers(copy, whole)
    came_of_it(f"SIGKILL of dvc repro in {stage}", "had ended before" if finished else "next repro: same hashes")


def refusal(said, reason):
    """How a stage ended for want of room: in one line."""
    assert "Traceback" not in said
    errors = [line.split(": ")[-1] for line in said.splitlines() if "Error" in line]
    assert errors in ([reason], ["could not be written; is the disk full?"])
    return "one line, nothing left"


def children(group):
    """The command lines of a process group."""
    found = b""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group:
                found += (path / "cmdline").read_bytes() + b"\n"
        except OSError:
            continue
    return found


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
    with mounted(place, "-t", "tmpfs", "-o", "size=4k", "tmpfs"):
        process = run(copy, stage)
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 1
        left = [path for path in place.rglob("*") if path.is_file()]
        assert [p for p in left if p.parent.name != ".resume" or ".tmp" in p.name] == []  # a whole state may stay
    remade(copy, stage, whole)
    came_of_it(f"disk full under {stage}", f"{refusal(said, 'No space left on device')}; run again: same hashes")


def test_the_disk_of_the_cache_is_full(whole, copy, came_of_it):
    forget(copy, "train")
    shutil.move(copy / ".dvc" / "cache", copy / "kept")
    with mounted(copy / ".dvc" / "cache", "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        assert dvc(copy, "repro", *TARGETS).returncode != 0
    (copy / ".dvc" / "cache").rmdir()
    shutil.move(copy / "kept", copy / ".dvc" / "cache")
    recovers(copy, whole)
    came_of_it("disk full under the cache", "dvc failed; recovered, same hashes")


def test_the_cache_is_read_only(whole, copy, came_of_it):
    forget(copy, "train")
    cache = copy / ".dvc" / "cache"
    with mounted(cache, "--bind", cache):
        subprocess.run(["mount", "-o", "remount,ro,bind", cache], check=True)
        failed = dvc(copy, "repro", *TARGETS)
        assert failed.returncode != 0
        assert "Read-only file system" in failed.stderr + failed.stdout
    recovers(copy, whole)
    came_of_it("read-only cache", "dvc failed; recovered, same hashes")


DAMAGES = [
    ("subset", "cut short"), ("subset", "one bit flipped"), ("train", "one bit flipped"), ("train", "emptied"),
    ("neighbours", "cut short"),
]


@pytest.mark.parametrize(("stage", "damage"), DAMAGES)
def test_an_output_is_damaged_in_the_workspace(stage, damage, whole, copy, came_of_it):
    hurt(copy / OUTPUTS[stage][0], damage, 0)
    recovers(copy, whole)
    came_of_it(f"output of {stage} {damage}", "noticed; same hashes")


@pytest.mark.parametrize(("stage", "damage"), DAMAGES)
def test_an_object_of_the_cache_is_damaged(stage, damage, whole, copy, came_of_it):
    """With the workspace's copy gone too. DVC trusts its cache, so `verify` looks first."""
    (copy / OUTPUTS[stage][0]).unlink()
    hurt(cached(copy, OUTPUTS[stage][0]), damage, 1)
    command = [sys.executable, "src/main.py", "verify", "--remove"]
    result = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    recovers(copy, whole)
    assert subprocess.run(command, cwd=copy, env=environment(), check=False, capture_output=True).returncode == 0
    came_of_it(f"cache object of {stage} {damage}", "verify removes it; remade, same hashes")


@pytest.mark.parametrize("stage", ["subset", "train"])
def test_a_bit_rots_in_the_workspace_without_a_trace_in_time_or_size(stage, whole, copy, came_of_it):
    path = copy / OUTPUTS[stage][0]
    before = path.stat()
    dvc(copy, "status")
    hurt(path, "one bit flipped", 2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    command = [sys.executable, "src/main.py", "verify", "--remove"]
    assert subprocess.run(command, cwd=copy, env=environment(), check=False, capture_output=True).returncode == 1
    recovers(copy, whole)
    came_of_it(f"bit rot in the output of {stage}", "verify removes it; restored, same hashes")


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
        forget(copy, *LONG)
        first, second = start(copy, "repro", *TARGETS), start(copy, "repro", *TARGETS)
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
    process = run(copy, "train")
    time.sleep(seconds["train"] * 0.7)
    process.kill()
    process.communicate()
    command = [faketime, "-f", shift, sys.executable, "-m", "dvc", "repro", *TARGETS]
    result = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    recovers(copy, whole)
    came_of_it(f"clock {shift} after a kill", "recovered, same hashes")


# ---- the state that a killed training goes on from


@pytest.mark.parametrize("damage", ["cut short", "one bit flipped", "emptied"])
@pytest.mark.parametrize("number", range(4))
def test_the_resume_state_of_a_killed_training_is_damaged(damage, number, whole, copy, came_of_it):
    forget(copy, "train")
    process, deadline = run(copy, "train"), time.monotonic() + 120
    while not (found := list((copy / "models/digits/.resume").glob("[!.]*.pt"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    hurt(found[0], damage, number)
    said = remade(copy, "train", whole)
    came_of_it(f"resume state {damage}", "started anew, same hash" if "starting anew" in said else "same hash")


@pytest.mark.parametrize("stage", ["train", "sample", "neighbours"])
def test_a_file_may_not_grow_beyond_a_limit(stage, whole, copy, came_of_it):
    forget(copy, stage)
    cap = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # noqa: E731
    process = run(copy, stage, preexec_fn=cap)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert not (copy / OUTPUTS[stage][0]).exists()
    remade(copy, stage, whole)
    came_of_it(f"quota exceeded by {stage}", f"{refusal(said, 'File too large')}; run again: same hashes")
