"""What a checkout must have before DVC is asked: a git repository, files without marks of a merge, a cache."""

import contextlib
import getpass
import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

MARK = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
LOCKS = ("dvc.lock", "models/dvc.lock")
MERGED = (*LOCKS, "dvc.yaml", "models/dvc.yaml", "params.yaml", "runs.yaml")


def check_user() -> None:
    """Raise ValueError where the user has no name or no home, as a number without an entry in /etc/passwd has none."""
    for name, look_up in (("USER", getpass.getuser), ("HOME", Path.home)):
        try:
            look_up()
        except (KeyError, OSError, RuntimeError):  # by the version of Python
            raise ValueError(
                f"user {os.getuid()} has no entry in /etc/passwd and no ${name}, which DVC needs: export {name}=..."
            ) from None


def check_checkout(root: Path) -> None:
    """Raise ValueError, in one line that says what to do, where DVC cannot work in `root`.

    That is so outside a git repository, in the middle of a merge, for a user without a name, and where the letters of
    the path cannot be read in a locale without UTF-8. `root` may be a folder of a repository, and a folder with DVC's
    setting core.no_scm needs none.
    """
    from dulwich.errors import NotGitRepository
    from dulwich.repo import Repo as Git
    from dulwich.repo import UnsupportedExtension
    from dvc.config import Config

    check_user()
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(root)!a}: letters that Python cannot read in this locale; set PYTHONUTF8=1") from None
    for name in MERGED:
        path = root / name
        if path.is_file() and MARK.search(path.read_text("utf-8", errors="replace")):
            raise ValueError(
                f"{path}: holds the marks of a merge conflict; take a side (git checkout --ours {name}, or --theirs), "
                "then dvc repro remakes what that side has not"
            )
    if git := next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None):
        try:
            with contextlib.suppress(NotGitRepository):
                Git(str(git)).close()
        except UnsupportedExtension as error:
            raise ValueError(f"{git}: git's extensions.{error.extension}, which DVC cannot read: take a full clone, or "
                             f"git config --unset extensions.{error.extension}") from None
        return
    if not (root / ".dvc").is_dir() or not Config(str(root / ".dvc"))["core"].get("no_scm"):
        raise ValueError(
            f"{root}: not a git repository, which DVC needs: git init && git add -A && git commit -m start, "
            "or dvc config --local core.no_scm true"
        )


def locked(text: str, name: object) -> dict[str, Any]:
    """Return the entries of a lock file by stage. text: its content. Raises ValueError, naming `name`, for another."""
    try:
        stages = (YAML(typ="safe").load(text) or {}).get("stages") or {}
        return {stage: dict(entry) for stage, entry in stages.items()}
    except (YAMLError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        advice = f"git checkout {' '.join(LOCKS)} restores it"
        raise ValueError(f"{name}: not as DVC writes it ({reason}); {advice}") from None


def below_git(folder: Path) -> str:
    """Return the path of `folder` relative to the root of its git repository, ending in /; empty at the root itself."""
    folder = folder.resolve()
    root = next((path for path in (folder, *folder.parents) if (path / ".git").exists()), folder)
    return "".join(f"{part}/" for part in folder.relative_to(root).parts)


def cache_of(root: Path) -> Path:
    """Return the folder of DVC's cache, which `dvc cache dir` may have moved.

    Raises ValueError where DVC cannot name it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    check_checkout(root)
    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local_cache_dir)
    except DvcException as error:
        raise ValueError(f"{root}: {error}") from None
