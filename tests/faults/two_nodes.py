"""Two machines without a common file system, one of which dies half way: is anything lost, is anything different?

Stands in for them on this machine: a Ray head that runs nothing, and two nodes with folders of their own that share
only a DVC remote.

python tests/faults/two_nodes.py             the scale of runs.yaml, from a fresh clone, against the committed locks
python tests/faults/two_nodes.py --small     11 stages of seconds each, against a serial run: three minutes
--through ssh (sshd of Debian's openssh-server) and --through s3 (moto_server of the package moto) put results there;
DVC needs dvc-ssh and dvc-s3 for them.

Prints seconds, stages, what was killed, what the closing `dvc repro` ran, and which hashes in the locks differ. The
exit code is 0 only if nothing ran and nothing differs.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import click
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from dvc.utils.serialize import loads_yaml  # noqa: E402
from small_scale import environment, git, small_scale  # noqa: E402

SMALL = ("classify@digits", "models/dvc.yaml:basin@digits-16")  # and what they need


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive(process):
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Node:
    """A Ray node with a folder of its own for its workers, as a child process."""

    def __init__(self, folder, address, cpus, *arguments):
        folder.mkdir(parents=True)
        self.folder = folder
        command = [Path(sys.executable).parent / "ray", "start", *arguments, f"--num-cpus={cpus}", "--num-gpus=0",
                   "--block", f"--node-ip-address={address}", "--min-worker-port=0", "--max-worker-port=0",
                   "--disable-usage-stats", f"--object-store-memory={200 * 2**20}",
                   f"--dashboard-agent-listen-port={free_port()}"]
        settings = environment() | {"SCHEDULING_WORKERS": str(folder), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        with open(folder / "ray.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, env=settings, stdout=log, stderr=subprocess.STDOUT,
                                            start_new_session=True)

    def wait(self, seconds=120):
        """Until it has joined: two that start at once in one session of Ray take each other's sockets."""
        deadline = time.monotonic() + seconds
        while "Ray runtime started" not in (log := (self.folder / "ray.log").read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise click.ClickException(f"{self.folder.name} did not start: {log[-2000:]}")
            time.sleep(0.1)

    def at_work(self):
        """The stages that run: processes in the node's folder other than Ray's own and their keepers."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, IndexError):  # a kernel's thread has no command
                own = process.cmdline()[0].startswith("ray::") or "keeper.py" in " ".join(process.cmdline())
                if process.cwd().startswith(str(self.folder)) and alive(process) and not own:
                    found.append(process)
        return found

    def kill(self):
        """SIGKILL to all of Ray at once; its stages are left behind, as orphans. Returns what they were."""
        stages = self.at_work()
        commands = [" ".join(process.cmdline()[1:]) for process in stages]
        family = psutil.Process(self.process.pid).children(recursive=True)
        for process in [psutil.Process(self.process.pid), *family]:
            with contextlib.suppress(psutil.Error):  # some have ended by now
                if process not in stages and "keeper.py" not in " ".join(process.cmdline()):
                    process.kill()
        self.process.wait()
        return [command for command in commands if command.startswith("src/")]

    def stop(self):
        """End it and all that came of it."""
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
            psutil.wait_procs(family, timeout=15)
            for process in [*family, psutil.Process(self.process.pid)]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self.process.wait()


@contextlib.contextmanager
def cluster(folder, nodes=2):
    """(address, nodes) of a Ray cluster on free ports: a head without a core to give, and nodes with one each."""
    port, short = free_port(), Path(tempfile.mkdtemp(prefix="r"))  # sockets have names of 107 characters at most
    started = [
        Node(folder / "ray_head", "127.0.0.1", 0, "--head", f"--port={port}", f"--temp-dir={short}",
             "--include-dashboard=false")
    ]
    try:
        started[0].wait()
        for number in range(nodes):
            started.append(
                Node(folder / f"node_{number + 1}", f"127.0.0.{number + 2}", 1, f"--address=127.0.0.1:{port}")
            )
            started[-1].wait()
        yield f"127.0.0.1:{port}", started[1:]
    finally:
        for node in reversed(started):
            node.stop()
        for process in psutil.process_iter():  # daemons of a node whose own process was killed
            with contextlib.suppress(psutil.Error):
                if str(short) in " ".join(process.cmdline()):
                    process.kill()
        shutil.rmtree(short, ignore_errors=True)


def kill_at_work(nodes, killed, left):
    """SIGKILL the first node that is seen at a stage, and the others unless one is `left`; `killed`: what it was at."""
    while not killed:
        for node in nodes:
            orphans = node.at_work()
            if any("src/main.py" in " ".join(p.cmdline()) for p in orphans if alive(p)):
                killed += node.kill() or ["DVC"]
                for other in nodes[: 0 if left else None]:
                    if other is not node:
                        killed += other.kill()
                click.echo(f"  kill -9 of {node.folder.name}, at work: {killed}")
                psutil.wait_procs(orphans, timeout=20)
                click.echo(f"  stages that outlived it by 20 s: {len([p for p in orphans if alive(p)])}")
                return
        time.sleep(0.2)


def fan_out(head, address, stages, nodes, share, left):
    """Run it, killing one of `nodes` when `share` of the stages is done, all if none is `left`, for which it then waits
    a few seconds only. (exit code, output, killed at work)."""
    command = [sys.executable, "-u", "src/main.py", "fan_out", *stages, "--address", address, "--remote", "nodes"]
    command += [] if left else ["--patience", "0.2"]
    process = subprocess.Popen(command, cwd=head, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True)
    output, done, total, killed = "", 0, None, []
    for line in process.stdout:
        click.echo(f"  {line.rstrip()}")
        output, done = output + line, done + (": done after" in line)
        if match := re.match(r"(\d+) stages to bring", line):
            total = int(match.group(1))
        if nodes and total and done >= share * total:
            threading.Thread(target=kill_at_work, args=(nodes, killed, left), daemon=True).start()
            nodes = None
    return process.wait(), output, killed


def dvc(folder, *arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, text=True).stdout


def until_answered(port, process, seconds=60):
    """Wait for a server of this machine. Raises click.ClickException where it does not answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.2)
    raise click.ClickException(f"{process.args[0]} did not start")


@contextlib.contextmanager
def storage(through, folder):
    """The settings of a DVC remote in `folder`: a folder, or one behind a server that lasts for the block."""
    place, port = folder / "remote", free_port()
    place.mkdir()
    if through == "folder":
        yield {"url": str(place)}
        return
    if through == "s3":
        command = ["moto_server", "-H", "127.0.0.1", "-p", str(port)]
        found = {"url": "s3://bucket/results", "endpointurl": f"http://127.0.0.1:{port}", "access_key_id": "key",
                 "secret_access_key": "secret", "region": "us-east-1"}
    else:
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with contextlib.suppress(PermissionError):
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root does not start without it
        options = {"HostKey": folder / "host", "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no",
                   "PidFile": "none", "ListenAddress": f"127.0.0.1:{port}", "Subsystem": "sftp internal-sftp"}
        command = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", os.devnull]
        command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        user = pwd.getpwuid(os.getuid()).pw_name
        found = {"url": f"ssh://{user}@127.0.0.1:{port}{place}", "keyfile": str(folder / "user")}
    with open(folder / f"{through}.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
    try:
        until_answered(port, server)
        if through == "s3":
            request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
            urllib.request.urlopen(request).close()
        yield found
    finally:
        server.terminate()
        server.wait()


def locked(folder):
    """The entries of all stages in DVC's lock files."""
    entries = {}
    for path in (folder / "dvc.lock", folder / "models/dvc.lock"):
        entries |= loads_yaml(path.read_text())["stages"] if path.exists() else {}
    return entries


def terminated(*_):
    """End with all that was started; a second signal does not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("stages", nargs=-1)
@click.option("--small", is_flag=True, help="A scale of seconds.")
@click.option("--against", type=click.Path(path_type=Path), help="A checkout where this has run: its locks count.")
@click.option("--through", type=click.Choice(["folder", "s3", "ssh"]), default="folder", help="What keeps results.")
@click.option("--kill/--no-kill", default=True, help="Kill a node.")
@click.option("--left", type=click.IntRange(0, 1), default=1, show_default=True, help="Nodes that remain of the two.")
@click.option("--share", default=0.5, show_default=True, help="The part of the stages after which it dies.")
@click.option("--keep", is_flag=True, help="Leave the folders for a look.")
def main(stages, small, against, through, kill, left, share, keep):
    signal.signal(signal.SIGTERM, terminated)
    folder = Path(tempfile.mkdtemp(prefix="two_nodes_"))
    head = folder / "head"
    try:
        stages = stages or (SMALL if small else ())
        serial = against or (small_scale(folder / "serial", replicates=1) if small else ROOT)
        git(folder, "clone", "-q", serial, head)
        if small and not against:
            started = time.monotonic()
            dvc(serial, "repro", *stages)
            click.echo(f"serial dvc repro: {time.monotonic() - started:.0f} s")
        expected = locked(serial)
        with storage(through, folder) as remote, cluster(folder) as (address, nodes):
            dvc(head, "remote", "add", "--local", "nodes", remote.pop("url"))
            for name, value in remote.items():
                dvc(head, "remote", "modify", "--local", "nodes", name, value)
            started = time.monotonic()
            code, output, killed = fan_out(head, address, stages, nodes if kill else None, share, left)
            seconds = time.monotonic() - started
        found = locked(head)
        compared = expected | found if left else found  # without a machine it gives up, and keeps what is done
        differ = sorted(name for name in compared if expected.get(name) != found.get(name))
        status = dvc(head, "status", *stages).strip()
        partial = [str(path) for path in head.rglob(".*.tmp*") if path.is_file()]
        killings = f", {2 - left} killed" if killed else ""
        click.echo(
            f"fan-out over two nodes{killings}, results through {through}: {seconds:.0f} s, "
            f"exit code {code}, {output.count(': done after')} stages done, {len(found)} in the locks, "
            f"of which differ: {', '.join(differ) or 'none'}; half-written: {partial or 'none'}; status: {status}"
        )
        said = "then ran none" if left else "(--patience)"
        sys.exit(
            bool(code != 1 - left or differ or partial or (kill and not killed) or said not in output.splitlines()[-1])
        )
    finally:
        if keep:
            click.echo(f"left: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    main()
