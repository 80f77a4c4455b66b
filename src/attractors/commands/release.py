"""Write the folder of results that others pull: a DVC remote, the report as its page, and a list of what it holds."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click

from attractors.cli.checkout import LOCKS, check_checkout, locked
from attractors.cli.settings import ROOT
from attractors.cli.stage import Stage
from attractors.files import file_hash

OBJECTS = Path("files") / "md5"


def objects_of(folder: Path, name: str) -> list[Path]:
    """Return the files in which a DVC remote holds the output whose md5 is `name`; of a folder, its listing and files.

    Paths are relative to `folder`. Raises ValueError where one is missing.
    """
    names = [name]
    if name.endswith(".dir") and (listing := folder / OBJECTS / name[:2] / name[2:]).is_file():
        names += [part["md5"] for part in json.loads(listing.read_text("utf-8"))]
    paths = {part: OBJECTS / part[:2] / part[2:] for part in names}
    if missing := [part for part, path in paths.items() if not (folder / path).is_file()]:
        raise ValueError(f"{missing[0]}: not in DVC's cache; make repro remakes it")
    return list(paths.values())


def filled(root: Path, folder: Path, without: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Send the outputs of all stages to the empty `folder`, and return them: stage, path, md5, files and bytes.

    Outputs that DVC does not cache, which git holds, those with `push: false`, and those whose path fits a pattern of
    `without` are left out. Raises ValueError where a stage is not up to date: a clone that pulls would have to run it.
    """
    from dvc.repo import Repo

    with Repo(str(root), config={"remote": {"release": {"url": str(folder)}}}) as repo:
        if stale := sorted(repo.status()):
            some = ", ".join(stale[:5]) + ", ..." * (len(stale) > 5)
            raise ValueError(f"{len(stale)} stages are not up to date: {some}; first make repro, then commit the locks")
        repo.push(remote="release")
        outputs = [
            (out.stage.addressing, Path(out.fs_path).relative_to(root).as_posix(), out.hash_info.value)
            for out in repo.index.outs
            if out.use_cache and out.can_push and out.hash_info
        ]
    listed, unlisted = [], set((folder / OBJECTS).glob("*/*"))
    for stage, path, name in sorted(outputs):
        if not any(fnmatch(path, pattern) for pattern in without):
            files = [folder / file for file in objects_of(folder, name)]
            unlisted -= set(files)
            size = sum(file.stat().st_size for file in files)
            listed.append({"stage": stage, "path": path, "md5": name, "files": len(files), "bytes": size})
    for file in unlisted:
        file.unlink()
    return listed


def kept(
    root: Path, old: Path, new: Path, present: set[str], without: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Copy to `new` what the release `old` holds of other scales, and return its entries of the manifest.

    These are outputs of stages that are not among the `present` ones, and that the lock files still name; those that
    fit a pattern of `without` are left out. Raises ValueError where `old` lacks an object.
    """
    if not (old / "manifest.json").is_file():
        return []
    named = {
        (stage, out["path"]): out["md5"] for lock in LOCKS if (root / lock).is_file()
        for stage, entry in locked((root / lock).read_text("utf-8"), lock).items() for out in entry.get("outs", [])
    }
    entries = [
        entry for entry in json.loads((old / "manifest.json").read_text("utf-8"))["outputs"]
        if entry["stage"] not in present and not any(fnmatch(entry["path"], pattern) for pattern in without)
        and named.get((entry["stage"].rpartition(":")[2], entry["path"])) == entry["md5"]
    ]
    for file in {file for entry in entries for file in objects_of(old, entry["md5"])}:
        (new / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old / file, new / file)
    return entries


@click.command(cls=Stage, context_settings={"show_default": True, "max_content_width": 100})
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "results",
    show_default="results, which a clone pulls from", help="The folder to write; what it held is replaced.",
)
@click.option("--without", multiple=True, metavar="PATTERN", help="Leave out outputs whose path fits: 'models/*' are "
              "read by new measurements alone; 'data/synthetic/*' may be copies of images that are not yours to give.")
def main(folder: Path, without: tuple[str, ...]) -> None:
    """Write the results of the committed lock files as a folder that DVC pulls from, here or on any static host.

    They are those of the scale of runs.yaml and, of other scales, those that the folder held and that the lock files
    still name.

    It holds the objects of these in the layout of a DVC remote, the report as index.html, and manifest.json: every
    output with its stage, md5 and size, and the sha256 of the lock files.
    """
    check_checkout(ROOT)
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise click.BadParameter(f"{folder} holds other files (no manifest.json)", param_hint="--to")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=folder.parent) as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        outputs = filled(ROOT, new, without)
        others = kept(ROOT, folder, new, {output["stage"] for output in outputs}, without)
        outputs = sorted(outputs + others, key=lambda output: (output["stage"], output["path"]))
        objects = [path for path in (new / OBJECTS).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in objects)
        if (report := ROOT / "plots" / "report.html").is_file():
            shutil.copyfile(report, new / "index.html")
        locks = {lock: file_hash(ROOT / lock) for lock in LOCKS if (ROOT / lock).is_file()}
        manifest = locks | {"objects": len(objects), "bytes": size, "outputs": outputs}
        (new / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8", newline="\n")
        new.chmod(0o755)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    click.echo(f"{folder}: {len(objects)} objects of {len(outputs)} outputs, {size / 1e6:.1f} MB")
