"""Stages one after another in one process of DVC, whose start costs seconds, on a leash: it never outlives its parent.

`run` starts this file in a checkout and is told, on its standard output, what happens.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LOGS = Path(".dvc/tmp/fan_out")
GRACE = 10  # seconds between SIGTERM and SIGKILL
LEASH = f'read _; kill -s TERM -- "-$0"; sleep {GRACE}; kill -s KILL -- "-$0"'  # `read` ends when the parent does


def log_of(name):
    return LOGS / f"{name}.log"


class Batch:
    """Stages in a checkout as a process group of its own."""

    def __init__(self, folder, inside, commands, environment, keep=()):
        """inside: {stage: which of the others it needs}, in order; commands: {stage: what DVC is asked, in order}."""
        self.job = {"inside": inside, "commands": commands}
        self.process = subprocess.Popen(
            [sys.executable, "src/scheduling/batch.py"], cwd=folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True, pass_fds=keep,
        )  # fmt: skip
        self.leash = subprocess.Popen(
            ["/bin/sh", "-c", LEASH, str(self.process.pid)], stdin=subprocess.PIPE, start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, tell=lambda name: None):
        """{name: (exit code, seconds)}; without those that a failed or killed one kept from running."""
        results, current = {}, None
        try:
            json.dump(self.job, self.process.stdin)
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        for line in self.process.stdout:
            event = json.loads(line)
            current = event["stage"]
            if "code" in event:
                results[current], current = (event["code"], event["seconds"]), None
            else:
                tell(current)
        code = self.process.wait()
        self.release()
        if code and len(results) < len(self.job["inside"]):  # killed, perhaps for its memory
            lost = current or next(name for name in self.job["inside"] if name not in results)
            results[lost] = (code, 0.0)
        return results

    def release(self):
        self.leash.kill()
        self.leash.wait()
        self.leash.stdin.close()

    def stop(self):
        """End the stage and DVC, politely first, so that DVC takes its locks along."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(GRACE)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def main():
    """The child: a job on stdin, a line of JSON on stdout where a stage begins and where it ends, the rest to logs."""
    job = json.load(sys.stdin)
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    stopped, ended = [], set()
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))  # the stage, in the same group, ends by it
    LOGS.mkdir(parents=True, exist_ok=True)
    from dvc.cli import main as dvc

    for name, needs in job["inside"].items():
        if stopped or set(needs) - ended:
            continue
        print(json.dumps({"stage": name}), file=report)
        log = os.open(log_of(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1), os.dup2(log, 2), os.close(log)
        started, code = time.monotonic(), 0
        for command in job["commands"][name]:
            code = code or dvc(command)
        sys.stdout.flush()
        if stopped and code:
            break
        if not code:
            ended.add(name)
        print(json.dumps({"stage": name, "code": code, "seconds": time.monotonic() - started}), file=report)
    sys.exit(bool(stopped))


if __name__ == "__main__":
    main()
