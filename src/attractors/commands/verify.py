"""Check that the bytes on disk are those that DVC's lock files name.

DVC trusts its cache and the times of files, even after a disk has failed.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import click

from attractors.cli.checkout import LOCKS, cache_of, locked
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import Stage


def md5(path: Path) -> str:
    """Return the md5 of a file's bytes, by which DVC names it, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def expected(root: Path, cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield (path, md5) of every object of the cache, and of every output of a stage that is in the workspace."""
    objects = cache / "files" / "md5"
    for path in sorted(objects.glob("??/*")):
        yield path, path.parent.name + path.name.removesuffix(".dir")
    locks = [root / path for path in LOCKS if (root / path).is_file()]
    entries = [locked(lock.read_text("utf-8", errors="replace"), lock) for lock in locks]
    for stage in (stage for stages in entries for stage in stages.values()):
        for out in stage.get("outs", []):
            path, name = root / out["path"], out["md5"]
            listing = objects / name[:2] / name[2:]
            if path.is_file():
                yield path, name
            elif path.is_dir() and listing.is_file() and md5(listing) == name.removesuffix(".dir"):
                for part in json.loads(listing.read_text("utf-8")):
                    if (path / part["relpath"]).is_file():
                        yield path / part["relpath"], part["md5"]


@click.command(cls=Stage)
@click.option("--remove", is_flag=True, help="Remove what is damaged: the next dvc repro restores or remakes it.")
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), help="The cache.  [default: where dvc cache dir says]"
)
def main(remove: bool, cache: Path | None) -> None:
    """Hash every object of the cache and every output in the workspace. The exit code is 1 if any is damaged."""
    cache = cache or cache_of(ROOT)
    if not any((cache / "files" / "md5").glob("??/*")):
        raise ValueError(f"{cache}: an empty cache, so there is nothing to hold files against; dvc pull or dvc repro")
    files = list(expected(ROOT, cache))
    damaged = [path for path, name in progress(files, "verify", "file") if md5(path) != name]
    for path in damaged:
        if remove:
            path.unlink()
        click.echo(f"{path}: not the bytes that its hash says{', removed' if remove else ''}")
    click.echo(f"{cache}: {len(files)} files, {len(damaged)} damaged{'; next: dvc repro' * (remove and bool(damaged))}")
    raise SystemExit(bool(damaged))
