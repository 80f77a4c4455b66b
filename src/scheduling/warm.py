"""A `python` that has imported torch already: each stage starts as a fork of it, seconds sooner, and runs the same."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = ("click", "numpy", "pandas", "ruamel.yaml", "safetensors.numpy", "torch", "tqdm")
POLL = 0.05  # seconds between looks at whether the one who asked is still there


@contextlib.contextmanager
def python():
    """A folder to put first in PATH, whose `python SCRIPT ...` forks from a warm interpreter while the block lasts.

    Anything else, and everything once the block has ended or where there is no fork, is this interpreter started
    as usual.
    """
    with tempfile.TemporaryDirectory(prefix="attractors-") as folder:
        command = f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" "{folder}/socket" "$@"\n'
        (Path(folder) / "python").write_text(command, "utf-8")
        (Path(folder) / "python").chmod(0o755)
        server = subprocess.Popen([sys.executable, __file__, f"{folder}/socket"], stdin=subprocess.PIPE) \
            if hasattr(os, "fork") else None  # fmt: skip
        try:
            yield folder
        finally:
            if server:
                server.stdin.close()
                server.wait()


def ask(path, arguments):
    """Have `python ARGUMENTS` run by the server at `path`, with this process's streams, folder and environment."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            if not arguments or not arguments[0].endswith(".py"):
                raise OSError
            connection.connect(path)
        except OSError:
            os.execv(sys.executable, [sys.executable, *arguments])
        request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        return (connection.recv(1) or b"\x01")[0]


def serve(path):
    """Import LIBRARIES, then fork for every request, until standard input ends."""
    for library in LIBRARIES:
        __import__(library)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while listener in select.select([sys.stdin, listener], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(connection)
                os._exit(0)
            connection.close()


def answer(connection):
    """Run one request in a fork of this process; send its exit code, or kill it when the one who asked is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request, length = b"", int.from_bytes(length, "big")
    while len(request) < length:
        request += connection.recv(length - len(request))
    child = os.fork()
    if child == 0:
        connection.close()
        os._exit(run(*json.loads(request), streams))
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if select.select([connection], [], [], POLL)[0]:
            os.kill(child, signal.SIGKILL)
    connection.sendall(bytes([os.waitstatus_to_exitcode(ended[1]) % 256]))


def run(arguments, folder, environment, streams):
    """Become `python ARGUMENTS` in `folder`; returns the exit code."""
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
    code = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1]) if len(sys.argv) == 2 else ask(sys.argv[1], sys.argv[2:]))
