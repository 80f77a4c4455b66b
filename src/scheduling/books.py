"""Do the bookkeeping of DVC in one process: what a stage needs, whether its result is known, and what it produced.

`dvc repro` opens the repository and rewrites a dvc.lock for every stage, which takes tens of seconds at thousands of
stages. Here the repository stays open, and only the entry of the stage that ended is written as YAML again.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import make_lock
from dvc.repo import Repo
from dvc.rwlock import rwlock
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.loader import StageLoader
from dvc.stage.run import prepare_kwargs
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, loads_yaml
from dvc_objects.fs.local import LocalFileSystem
from dvc_objects.fs.utils import as_atomic

STAGES = "stages:\n"


def name_of(address: str) -> str:
    """Return the name of a stage that DVC addresses as NAME or FILE:NAME."""
    return address.rpartition(":")[2]


def write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with as_atomic(LocalFileSystem(), str(path)) as partial:
        Path(partial).write_bytes(content)


class WholeFiles(LocalFileSystem):
    """Local files that are written completely or not at all. DVC writes its rwlock in place: a kill can cut it off."""

    @contextlib.contextmanager
    def open(self, path: str, mode: Any = "r", **options: Any) -> Iterator[Any]:  # type: ignore[override]
        """Open a file as LocalFileSystem does; what was written takes its place when the block has ended."""
        whole = as_atomic(self, path) if "w" in mode else contextlib.nullcontext(path)
        with whole as place, super().open(place, mode, **options) as file:
            yield file


class LockFile:
    """A dvc.lock, kept as the text of each entry.

    DVC's YAML takes about 6 ms to write an entry, 0.8 s for the 131 of the default run; joining texts takes no time.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.entries, self.texts, self.rest = path, {}, {}, {"schema": "2.0"}
        self.seen: tuple[int, int, int] | None = None  # the file as it was when it was read

    def _stamp(self) -> tuple[int, int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            return status.st_mtime_ns, status.st_size, status.st_ino
        return None

    def read(self) -> dict[str, dict]:
        """Return {stage: its entry}, read again where another process has written the file since."""
        if (stamp := self._stamp()) != self.seen:
            content = loads_yaml(self.path.read_text("utf-8")) or {} if stamp else {}
            entries = content.pop("stages", None) or {}
            self.rest = {"schema": "2.0"} | content
            self.texts = {n: text for n, text in self.texts.items() if entries.get(n) == self.entries[n]}
            self.entries, self.seen = entries, stamp
        return self.entries

    def text(self, name: str) -> str:
        """Return the entry of a stage as DVC writes it."""
        if name not in self.texts:
            self.texts[name] = dumps_yaml({"stages": {name: self.entries[name]}}).removeprefix(STAGES)
        return self.texts[name]

    def enter(self, new: dict[str, dict]) -> None:
        """Replace the entries of stages, or add them at the end, and write the file."""
        entries = self.read()
        if changed := {name: entry for name, entry in new.items() if entries.get(name) != entry}:
            for name in changed:
                self.texts.pop(name, None)
            entries |= changed
            schema, rest = dumps_yaml({"schema": self.rest["schema"]}), {**self.rest}
            del rest["schema"]
            whole = schema + STAGES + "".join(map(self.text, entries)) + (dumps_yaml(rest) if rest else "")
            write(self.path, whole.encode())
            self.seen = self._stamp()


class Books:
    """A repository of DVC held open, whose folder must be the current one.

    Its stages may be reproduced from several threads; the bookkeeping takes turns.
    """

    def __init__(self, folder: str | Path) -> None:
        self.repo = Repo(str(folder))
        hardlink = self.repo.config["core"].get("hardlink_lock", False)
        self.repo.lock = make_lock(  # as DVC's own, but it waits, and without a progress bar
            os.path.join(self.repo.tmp_dir, "lock"), tmp_dir=self.repo.tmp_dir, hardlink_lock=hardlink, wait=True
        )
        self.hardlink, self.turn = hardlink, threading.Lock()
        stages = self.repo.index.stages
        self.stages = {name_of(stage.addressing): stage for stage in stages}
        if len(self.stages) < len(stages):
            twice = [s.addressing for s in stages if self.stages[name_of(s.addressing)] is not s]
            raise ValueError(f"{twice[0]}: another stage has this name; logs and messages need one for each")
        self.locks: dict[str, LockFile] = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other threads and other DVC processes from changing the repository while the block lasts."""
        with self.turn, self.repo.lock:
            yield

    def close(self) -> None:
        """Close the repository."""
        self.repo.close()

    def reproduce(self, name: str, run: Callable[[str, str, dict[str, str]], int], log: Path) -> int:
        """Bring a stage up to date as `dvc repro --single-item` does; return its exit code.

        The exit code is 1 where DVC refuses. run executes a command in a folder and an environment and returns its exit
        code. log is where refusals are written.
        """
        stage = self.stages[name]
        try:
            with self.held(), contextlib.ExitStack() as undo:
                if not stage.changed():
                    return 0
                stage.remove_outs()
                with contextlib.suppress(RunCacheNotFoundError):
                    self.repo.stage_cache.restore(stage)
                    self._save(stage)
                    return 0
                stage.save_deps()
                undo.enter_context(self._paths(stage))
                paths = undo.pop_all()
            try:
                options = prepare_kwargs(stage)
                for command in stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines():
                    if code := run(command, options["cwd"], options["env"]):
                        return code
            finally:
                with self.held():
                    paths.close()
            with self.held():
                self._save(stage)
        except (DvcException, OSError) as error:
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{error}\n")
            return 1
        return 0

    def _paths(self, stage: Any) -> contextlib.AbstractContextManager:
        """Take DVC's lock of a stage's files against other DVC processes, for as long as its command runs."""
        read, written = ([item.fs_path for item in items] for items in (stage.deps, stage.outs))
        return rwlock(self.repo.tmp_dir, WholeFiles(), " ".join(sys.argv), read, written, self.hardlink)

    def _save(self, stage: Any) -> None:
        uncached = any(not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs)
        stage.save(run_cache=not uncached)
        stage.commit()
        self._write(to_lockfile(stage))

    def by_file(self, entries: dict[str, dict]) -> dict[str, dict[str, dict]]:
        """Return entries of stages by the lock file that they belong in, whose path is relative to the checkout."""
        files: dict[str, dict[str, dict]] = {}
        for name, entry in entries.items():
            lock = Path(self.stages[name].path).with_suffix(".lock").relative_to(self.repo.root_dir)
            files.setdefault(lock.as_posix(), {})[name] = entry
        return files

    def _lock(self, path: str) -> LockFile:
        return self.locks.setdefault(path, LockFile(Path(self.repo.root_dir) / path))

    def _write(self, entries: dict[str, dict]) -> None:
        for path, part in self.by_file(entries).items():
            self._lock(path).enter(part)

    def entries(self, names: Iterable[str]) -> dict[str, dict]:
        """Return the entries of lock files for those of `names` that have one."""
        with self.held():
            known: dict[str, dict] = {}
            for path, part in self.by_file({name: {} for name in names}).items():
                known |= {name: entry for name, entry in self._lock(path).read().items() if name in part}
            return {name: known[name] for name in names if name in known}

    def enter(self, entries: dict[str, dict]) -> None:
        """Store the entries of stages that another machine's books contain."""
        with self.held():
            self._write(entries)
            for name, entry in entries.items():
                StageLoader.fill_from_lock(self.stages[name], entry)

    def _objects(self, names: Iterable[str], remote: str) -> set:
        """Return the hashes of all outputs of stages. `remote` is asked for lists of files of folders."""
        objects: set = set()
        for name in names:
            objects.update(*self.stages[name].get_used_objs(remote=remote).values())
        return objects

    def checkout(self, names: Iterable[str], remote: str | None = None) -> None:
        """Put outputs of stages into the workspace, from the cache or first from a remote. Raises DvcException."""
        with self.held():
            if remote and (objects := self._objects(names, remote)):
                self.repo.cloud.pull(objects, remote=remote)
            for name in names:
                if failed := self.stages[name].checkout().get("failed"):
                    raise DvcException(f"{name}: {', '.join(map(str, failed))}: not in the cache")

    def push(self, names: Iterable[str], remote: str) -> None:
        """Send outputs of stages to a remote. Raises DvcException where some did not arrive."""
        objects = self._objects(names, remote)
        if objects and (failed := self.repo.cloud.push(objects, remote=remote).failed):
            raise DvcException(f"{len(failed)} files of {', '.join(names)} could not be sent to {remote}")
