"""What DVC and fan_out cost by themselves: the pipeline of a scale with stand-ins for its stages.

python benchmarks/bookkeeping.py                  the paper's scale: about 15 minutes of one core
python benchmarks/bookkeeping.py --scale laptop   the default run's, in two minutes

A stand-in writes a line for each output, which depends on what the stage reads. `inputs`, whose files others read, runs
as it is. Seconds are of the processor, which other work on the machine lengthens little, and of the
clock.
"""

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from small_scale import checkout, commit, environment, git  # noqa: E402

from scheduling.books import Books  # noqa: E402
from scheduling.graph import whole_graph  # noqa: E402

REAL = ("inputs",)
STAGES = Path(".stages.json")  # {name: its inputs and outputs}: DVC would take seconds to tell a stand-in
STAND_IN = """\
import os, sys
if __name__ == "__main__":
    name = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if name and name not in {real}:
        sys.path.insert(0, {benchmarks!r})
        from bookkeeping import stand_in
        stand_in(name)
    else:
        from attractors.cli.group import main
        main(prog_name="python src/main.py")
"""


def stand_in(name):
    """Write the outputs of a stage, in the checkout that is the current folder."""
    stage = json.loads(STAGES.read_text("utf-8"))[name]
    read = hashlib.md5(b"".join(Path(path).read_bytes() for path in stage["deps"] if os.path.isfile(path)))
    for path in map(Path, stage["outs"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path} {read.hexdigest()}\n")


def with_stand_ins(folder, scale):
    """Make a checkout at `scale`, committed, of which nothing has run. Returns the number of its stages."""
    from dvc.repo import Repo

    checkout(folder)
    subprocess.run([sys.executable, "src/main.py", "scale", scale], cwd=folder, check=True, env=environment())
    for lock in ("dvc.lock", "models/dvc.lock"):
        (folder / lock).unlink()
    with Repo(str(folder)) as repo:
        paths = lambda items: [os.path.relpath(item.fs_path, folder) for item in items]  # noqa: E731
        stages = {stage.name: {"deps": paths(stage.deps), "outs": paths(stage.outs)} for stage in repo.index.stages}
    for name in set(stages) - set(REAL):
        for out in stages[name]["outs"]:
            (folder / out).unlink(missing_ok=True)
    (folder / STAGES).write_text(json.dumps(stages))
    (folder / "src/main.py").write_text(STAND_IN.format(real=REAL, benchmarks=str(ROOT / "benchmarks")))
    commit(folder)
    return len(stages)


def keep_books(folder):
    """Bring all stages up to date as fan_out does, but in this process, so that the processor's time is that of books.

    Prints it for every 250 stages.
    """
    with contextlib.chdir(folder):
        started, clock = time.process_time(), time.monotonic()
        books = Books(folder)
        graph = whole_graph(books.repo)
        books.repo.status()
        click.echo(f"  opened, graph and status: {time.process_time() - started:.1f} s of the processor")

        def run(command, where, given):
            name = given["DVC_STAGE"].rpartition(":")[2]
            if name in REAL:
                return subprocess.run(["/bin/sh", "-c", command], cwd=where, env=environment(), check=False).returncode
            stand_in(name)
            return 0

        for number, name in enumerate(nx.topological_sort(graph), 1):
            if books.reproduce(name, run, folder / ".dvc/tmp/log"):
                raise click.ClickException((folder / ".dvc/tmp/log").read_text())
            if number % 250 == 0 or number == len(graph):
                seconds = time.process_time() - started, time.monotonic() - clock
                click.echo(f"  {number} stages: {seconds[0]:.1f} s of the processor, {seconds[1]:.0f} s")
        books.close()


def timed(folder, *command):
    """(seconds of the processor, of the clock, what was printed) of a Python command in `folder`."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    if ended.returncode:
        raise click.ClickException(f"{' '.join(command)}:\n{(ended.stdout + ended.stderr)[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds, ended.stdout


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--scale", default="paper", show_default=True, help="As src/main.py scale takes it.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder for the checkout, which then remains.")
def main(scale, keep):
    with tempfile.TemporaryDirectory() as temporary:
        folder = (keep or Path(temporary) / "checkout").resolve()
        folder.mkdir(parents=True)
        click.echo(f"{with_stand_ins(folder, scale)} stages at scale {scale}")
        keep_books(folder)
        commands = [
            ["-m", "dvc", "status"], ["-m", "dvc", "repro"], ["-m", "dvc", "repro", "--all-pipelines"],
            ["src/main.py", "fan_out"], ["-m", "dvc", "exp", "run", "-S", "delta_m=0.83"],
        ]
        for command in commands:
            if "exp" in command:
                commit(folder)
            busy, seconds, said = timed(folder, *command)
            ran = said.count("Running stage")
            click.echo(f"{' '.join(command)}: {busy:.1f} s of the processor, {seconds:.0f} s; {ran} stages ran")
        click.echo(f"files that the last one changed: {len(git(folder, 'status', '--porcelain').splitlines())}")


if __name__ == "__main__":
    main()
