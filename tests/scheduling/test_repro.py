"""Fan-out against serial `dvc repro`, on a pipeline of stages that take no time; what is left after kills."""

import contextlib
import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import networkx
import psutil
import pytest
from conftest import ROOT
from dvc.utils.serialize import dumps_yaml, loads_yaml
from small_scale import commit, environment, git

from scheduling import machine, remote_worker
from scheduling.books import Books, LockFile
from scheduling.graph import Agenda, lacking, stale
from scheduling.processes import log_of

HEAVY = """\
stages:
  first:
    foreach: [1, 2, 3]
    do:
      wdir: ..
      cmd: python src/write.py data/first/${item}.txt sources.txt
      deps: [sources.txt]
      params: [seed]
      outs: ["data/first/${item}.txt"]
"""
FOLDER = """\
  folder:
    wdir: ..
    cmd: python src/write.py data/folder/one.txt data/first/1.txt
    deps: [data/first/1.txt]
    outs: [data/folder]
"""
PIPELINE = """\
stages:
  sources:
    cmd: python src/write.py sources.txt
    deps: [src/write.py]
    outs: [sources.txt]
  table:
    foreach: [1, 2, 3]
    do:
      cmd: python src/write.py tables/${item}.csv data/first/${item}.txt
      meta: {gpu: true}
      deps: ["data/first/${item}.txt"]
      outs:
        - tables/${item}.csv: {cache: false}
  all:
    cmd: python src/write.py all.txt tables/1.csv tables/2.csv tables/3.csv
    deps: [tables]
    outs: [all.txt]
"""
WRITE = """\
import os, pathlib, sys, time
out, *inputs = map(pathlib.Path, sys.argv[1:])
pause = pathlib.Path(f"{os.environ.get('PAUSE', 'none')}.{out.name}")
if pause.exists():  # half an output, then a wait
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("half")
    pause.with_suffix(".waiting").touch()
    time.sleep(60)
if f"FAIL {out.name}" in pathlib.Path("params.yaml").read_text():
    sys.exit(f"no luck with {out.name}")
out.parent.mkdir(parents=True, exist_ok=True)
params = pathlib.Path("params.yaml").read_text()
out.write_text(out.name + "".join(path.read_text() for path in inputs) + params)
if gpus := os.environ.get("SEEN"):
    (pathlib.Path(gpus) / out.name).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    time.sleep(1)
"""
IDENTITY = {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def dvc(folder, *arguments):
    command, settings = [sys.executable, "-m", "dvc", *arguments], environment() | IDENTITY
    for _ in range(3):  # what a killed process held can be held for a moment longer on a busy machine
        found = subprocess.run(command, cwd=folder, env=settings, check=False, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout
        time.sleep(3)
    pytest.fail(found.stderr)


@pytest.fixture
def scratch(tmp_path):
    """A repository with PIPELINE, of a project that knows nothing of the scheduler."""
    folder = tmp_path / "scratch"
    for path, content in {"src/write.py": WRITE, "dvc.yaml": PIPELINE, "models/dvc.yaml": HEAVY,
                          "params.yaml": "seed: 1\n", "requirements.txt": "dvc>=3  # the engine\nnumpy\n",
                          ".gitignore": "/data\n/all.txt\n/sources.txt\n"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    git(folder, "init", "-q")
    dvc(folder, "init", "-q")
    commit(folder)
    return folder


@pytest.fixture
def serial(scratch, tmp_path):
    """The entries of dvc.lock and models/dvc.lock by stage after a serial run of a copy."""
    shutil.copytree(scratch, tmp_path / "serial")
    dvc(tmp_path / "serial", "repro")
    return locked(tmp_path / "serial")


def start(folder, *arguments, **settings):
    return subprocess.Popen([sys.executable, "-m", "scheduling", "--first", "sources", *arguments], cwd=folder,
                            text=True, env=environment() | {"PYTHONPATH": str(ROOT / "src")} | IDENTITY | settings,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def repro(folder, *arguments, **settings):
    return ended(start(folder, *arguments, **settings))


def done(folder, *arguments, **settings):
    """The output of a fan-out that ends well."""
    code, output = repro(folder, *arguments, **settings)
    assert code == 0, output
    return output


def ended(process):
    """(exit code, output) of a fan-out that must end by itself."""
    try:
        output, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()
        pytest.fail(process.communicate(timeout=60)[0])
    return process.returncode, output


def locked(folder):
    locks = [loads_yaml((folder / path).read_text())["stages"] for path in ("dvc.lock", "models/dvc.lock")]
    assert all(name.startswith("first@") == (lock is locks[1]) for lock in locks for name in lock)
    return locks[0] | locks[1]


def inside(folder):
    """Processes whose working folder is `folder` or below."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def await_(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


def test_fan_out_leaves_what_a_serial_run_leaves_and_nothing_to_do(scratch, serial):
    output = done(scratch, "--jobs", "2")
    assert "dvc repro then ran none" in output
    assert locked(scratch) == serial
    assert "up to date" in dvc(scratch, "status")
    assert repro(scratch) == (0, "all is up to date: nothing to do\n")


def test_a_parameter_is_set_and_the_results_are_those_of_dvc_exp_run_saved_as_an_experiment(scratch, tmp_path):
    done(scratch)
    commit(scratch)
    shutil.copytree(scratch, tmp_path / "other")
    printed = done(scratch, "-S", "seed=2")
    assert "Experiment has been saved as: " in printed
    assert (scratch / "params.yaml").read_text() == "seed: 2\n"
    dvc(tmp_path / "other", "exp", "run", "-S", "seed=2")
    assert locked(scratch) == locked(tmp_path / "other")
    assert "2" in dvc(scratch, "exp", "show", "--csv").splitlines()[-1]
    printed = done(scratch, "-S", "seed=2")
    assert printed.startswith("all is up to date: nothing to do. Experiment has been saved as: ")


def test_without_a_name_for_git_no_stage_of_an_experiment_runs(scratch, tmp_path):
    nobody = dict.fromkeys(IDENTITY, "") | {"HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": os.devnull}
    code, output = repro(scratch, "-S", "seed=2", **nobody)
    assert code == 1
    assert output.endswith("git config user.name NAME && git config user.email ADDRESS\n")
    assert (scratch / "params.yaml").read_text() == "seed: 1\n" and not (scratch / "sources.txt").exists()


def test_parameters_of_which_one_is_wrong_change_no_file(scratch):
    (scratch / "params.yaml").write_text("seed: 1  # of everything\n")
    code, printed = repro(scratch, "-S", "seed=2", "-S", "nosuch.yaml:seed=2")
    assert code == 2
    assert "nosuch.yaml" in printed
    assert (scratch / "params.yaml").read_text() == "seed: 1  # of everything\n"


def test_a_failed_stage_stops_those_that_need_it_and_no_others(scratch):
    (scratch / "params.yaml").write_text("seed: 1  # FAIL 2.txt\n")
    code, output = repro(scratch, "--jobs", "2")
    assert code == 1
    assert "failed: first@2; 2 stages that need them did not run, 4 are done" in output
    assert f"first@2, {log_of('first@2')}:" in output
    assert "no luck with 2.txt" in (scratch / log_of("first@2")).read_text()
    assert set(locked(scratch)) == {"sources", "first@1", "first@3", "table@1", "table@3"}
    (scratch / "params.yaml").write_text("seed: 1\n")
    done(scratch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_fan_out_leaves_no_process_no_lock_and_the_next_one_finishes(scratch, serial, tmp_path, number):
    pause = tmp_path / "pause"
    pause.with_suffix(".2.txt").touch()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it, and so would a child
    process = start(scratch, "--jobs", "2", PAUSE=str(pause))
    await_(pause.with_suffix(".2.waiting").exists)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), output
    await_(lambda: not inside(scratch), 20)
    pause.with_suffix(".2.txt").unlink()
    dvc(scratch, "status")
    done(scratch)
    assert locked(scratch) == serial


def test_two_fan_outs_in_one_checkout_are_refused(scratch, tmp_path):
    pause = tmp_path / "pause"
    pause.with_suffix(".2.txt").touch()
    first = start(scratch, PAUSE=str(pause))
    await_(pause.with_suffix(".2.waiting").exists)
    code, output = repro(scratch)
    first.terminate()
    first.communicate(timeout=120)
    assert code == 1
    assert output.endswith("another fan_out is at work in this checkout\n")


def test_each_stage_with_a_device_has_a_gpu_of_its_own(scratch, tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()
    done(scratch, "--jobs", "2", CUDA_VISIBLE_DEVICES="3,5", SEEN=str(seen))
    assert {(seen / f"{i}.csv").read_text() for i in (1, 2, 3)} == {"3", "5"}
    assert {(seen / f"{i}.txt").read_text() for i in (1, 2, 3)} == {""}


def test_shares_of_gpus():
    assert machine.shares(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert machine.shares(["0", "1"], 1) == ["0", "1"] and machine.shares(["0"], 0.5) == ["0", "0"]
    with pytest.raises(ValueError, match="this machine has 1"):
        machine.shares(["0"], 2)
    with pytest.raises(ValueError, match="whole number"):
        machine.shares(["0", "1"], 1.5)


@pytest.mark.parametrize(("arguments", "message"), [
    (["nosuch"], "no stage nosuch in any dvc.yaml"),
    (["-S", "seed=2", "all"], "STAGES or --set-param, not both"),
    (["-S", "seed"], "Invalid value for -S: "),
    (["-S", "nosuch.yaml:seed=2"], "Invalid value for -S: "),
    (["-S", "src:seed=2"], "Invalid value for -S: "),
    (["--remote", "x"], "--cache, --remote and --allow-versions go with --address"),
    (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray there"),
    (["--address", "nonsense"], "--address nonsense: expected auto, HOST:PORT or ray://HOST:PORT"),
    (["--gpus-per-run", "9"], "--gpus-per-run 9: this machine has"),
])
def test_mistakes_are_one_line(scratch, arguments, message):
    if "--address" in arguments:
        pytest.importorskip("ray")
    code, output = repro(scratch, *arguments, CUDA_VISIBLE_DEVICES="")
    assert code in (1, 2)
    assert message in output
    assert "Traceback" not in output


def diamond():
    return networkx.DiGraph([*((f"a@{i}", f"b@{i}") for i in (1, 2, 3)), *((f"b@{i}", "c") for i in (1, 2, 3))])


def test_stale_is_what_changed_and_what_follows_within_what_the_targets_need():
    assert set(stale(diamond(), {"b@2"})) == {"b@2", "c"}
    assert set(stale(diamond(), {"a@1", "a@2"}, ["b@1"])) == {"a@1", "b@1"}
    with pytest.raises(ValueError, match="no stage d"):
        stale(diamond(), {"a@1"}, ["d"])


def test_missing_files_are_made_only_where_a_stage_reads_them_that_runs_or_none_does():
    status = {"models/dvc.yaml:a@1": [{"changed outs": {"a": "deleted"}}],
              "b@1": [{"changed deps": {"a": "deleted"}}],
              "b@2": [{"changed deps": {"a": "modified"}}, {"changed outs": {"b": "deleted"}}],
              "b@3": [{"changed deps": {"params.yaml": {"seed": "modified"}}}], "c": ["changed command"]}
    assert lacking(status) == {"a@1": True, "b@1": False}
    missing = lacking(status)
    assert set(stale(diamond(), missing, missing=missing)) == set()
    assert set(stale(diamond(), {*missing, "c"}, missing=missing)) == {"c"}, "b@1 has its outputs, so c needs no a@1"
    assert set(stale(diamond(), {"a@1", "b@1"}, missing={"a@1": True})) == {"a@1", "b@1", "c"}
    everything = dict.fromkeys(diamond(), True)
    assert set(stale(diamond(), everything, missing=everything)) == set(everything), "a clone without results"
    assert set(stale(diamond(), {"a@3"}, ["a@3"], {"a@3": True})) == {"a@3"}


def test_unknown_stages_go_alone_short_ones_together_and_what_a_killed_batch_did_not_reach_is_ready_again():
    assert Agenda(diamond(), unknown=float("inf")).take(lambda name: True, 1) == ["a@1"]
    agenda = Agenda(diamond())
    names = agenda.take(lambda name: True, 1)
    assert names == ["a@1", "b@1"]
    agenda.settle(names, {"a@1": (0, 1.0)})
    assert "b@1" in agenda.ready
    agenda.settle(["b@1"], {"b@1": (-9, 0.0)})
    assert agenda.failed == {"b@1"} and "b@1" not in agenda.ready


def test_time_left_is_the_longest_chain_or_the_sum_by_workers():
    agenda = Agenda(diamond())
    assert agenda.left(1) is None
    agenda.settle([], {"a@1": (0, 10.0)})
    assert agenda.left(1) == 60  # two a, three b, c at 10 s each
    assert agenda.left(100) == 30


def test_lock_entries_are_put_in_as_dvc_writes_them(tmp_path):
    path = tmp_path / "dvc.lock"
    shutil.copy(ROOT / "dvc.lock", path)
    content = loads_yaml(path.read_text())
    name = list(content["stages"])[3]
    changed = copy.deepcopy(content["stages"][name])
    changed["outs"][0]["md5"] = "0" * 32
    content["stages"] |= {name: changed, "new@1": copy.deepcopy(changed)}
    held = LockFile(path)
    assert held.read() | {name: changed, "new@1": changed} == content["stages"]
    held.enter({name: changed, "new@1": changed})
    assert path.read_text() == dumps_yaml(content)
    del content["stages"][name]  # another process writes it
    path.write_text(dumps_yaml(content | {"datasets": [{"name": "x"}]}))
    held.enter({"new@2": changed})
    content["stages"]["new@2"] = copy.deepcopy(changed)
    assert loads_yaml(path.read_text()) == content | {"datasets": [{"name": "x"}]}


def test_a_folder_comes_from_the_remote_that_is_named(scratch, monkeypatch, tmp_path):
    (scratch / "models/dvc.yaml").write_text(HEAVY + FOLDER)
    dvc(scratch, "repro", "models/dvc.yaml:folder")
    dvc(scratch, "remote", "add", "elsewhere", str(tmp_path / "elsewhere"))
    dvc(scratch, "remote", "add", "--default", "empty", str(tmp_path / "empty"))
    dvc(scratch, "push", "--remote", "elsewhere", "models/dvc.yaml:folder")
    for made in (".dvc/cache", "data/folder"):
        shutil.rmtree(scratch / made)
    monkeypatch.chdir(scratch)
    books = Books(scratch)
    books.checkout(["folder"], "elsewhere")
    books.close()
    assert (scratch / "data/folder/one.txt").exists()


def test_a_worker_with_other_versions_or_without_the_cache_is_refused_in_one_line(tmp_path):
    job = {"versions": remote_worker.versions(["numpy"]) | {"numpy": "0.1"}, "allow_versions": False, "token": None}
    answer = remote_worker.perform(b"", job, None)["refused"]
    assert "numpy" in answer and "(head: 0.1); --allow-versions accepts them" in answer and "\n" not in answer
    job |= {"versions": remote_worker.versions([]), "token": str(tmp_path / "fan_out" / "x")}
    assert "does not see the shared cache" in remote_worker.perform(b"", job, None)["refused"]


@pytest.fixture
def ray_cluster(one_cluster):
    """(address, nodes) of a cluster whose machines hold no results."""
    for node in one_cluster[1]:
        shutil.rmtree(node.folder / "cache", ignore_errors=True)
    return one_cluster


@pytest.fixture(scope="module")
def one_cluster(tmp_path_factory):
    pytest.importorskip("ray")
    sys.path.insert(0, str(ROOT / "tests" / "faults"))
    from two_nodes import cluster

    with cluster(tmp_path_factory.mktemp("ray")) as found:
        yield found


@pytest.mark.parametrize("through", ["cache", "folder", "ssh", "s3"])
def test_a_ray_cluster_leaves_what_a_serial_run_leaves(scratch, serial, ray_cluster, through, tmp_path):
    from two_nodes import storage

    address, _ = ray_cluster
    with contextlib.ExitStack() as server:
        if through in ("ssh", "s3"):
            pytest.importorskip(f"dvc_{through}")
            if not shutil.which({"ssh": "sshd", "s3": "moto_server"}[through], path=environment()["PATH"]):
                pytest.skip(f"no server for {through}")
        if through != "cache":
            remote = server.enter_context(storage(through, tmp_path))
            dvc(scratch, "remote", "add", "--local", "elsewhere", remote.pop("url"))
            for name, value in remote.items():
                dvc(scratch, "remote", "modify", "--local", "elsewhere", name, value)
        output = done(scratch, "--address", address, *(["--remote", "elsewhere"] if through != "cache" else []))
    assert "dvc repro then ran none" in output
    assert locked(scratch) == serial
    assert (scratch / log_of("table@1")).read_text().startswith("on ")


def test_a_ray_cluster_runs_uncommitted_changes_and_says_so(scratch, ray_cluster):
    (scratch / "params.yaml").write_text("seed: 2\n")
    output = done(scratch, "--address", ray_cluster[0])
    assert "workers get 1 uncommitted changes too: params.yaml" in output
    assert "seed: 2" in (scratch / "tables" / "1.csv").read_text()
    assert "dvc repro then ran none" in output


def test_a_ray_worker_that_is_killed_loses_nothing(scratch, serial, ray_cluster):
    address, nodes = ray_cluster
    process = start(scratch, "--address", address)
    killed = []

    def kill():
        for node in nodes if not killed else ():
            for worker in psutil.Process(node.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error, IndexError):
                    if re.match(r"ray::(?!IDLE|Board|\w*Agent)\w", worker.cmdline()[0]):  # at a task
                        worker.kill()
                        killed.append(worker)
                        return True
        return bool(killed)

    await_(kill, 180)
    code, output = ended(process)
    assert code == 0, output
    assert locked(scratch) == serial
    assert killed
    await_(lambda: not any(node.at_work() for node in nodes), 20)
