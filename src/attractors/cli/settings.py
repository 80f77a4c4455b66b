"""Files of settings: where they are, safe reading of YAML, and names that are safe in a shell."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML


def checkout_around(folder: Path) -> Path | None:
    """Return the checkout of this project that holds `folder`, or None."""
    for root in (folder, *folder.parents):
        if (root / "dvc.yaml").is_file() and (root / "src" / "attractors").is_dir():
            return root
    return None


OF_CODE = checkout_around(Path(__file__).resolve())  # None where the package is installed without its checkout
CHECKOUT = checkout_around(Path.cwd()) or OF_CODE  # the one that commands act on
ROOT = CHECKOUT or Path.cwd()  # what paths such as models/lpips are relative to
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of what becomes a path and a word of a shell's command line
ANCHORED = re.compile(r"&\w+ \{[^{}&*\n]{0,300}\}")
LARGEST, DEEPEST = 2**20, 32  # bytes of a YAML file, and levels of its nesting


def read_yaml(path: str | Path, anchors: bool = False) -> dict[str, Any]:
    """Return the mapping in a YAML file without aliases or, with `anchors`, with aliases of short flat mappings alone.

    Raises click.BadParameter naming the file for anything else.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1).decode()
        if len(text) > LARGEST:
            raise ValueError(f"of more than {LARGEST} bytes")
        depth, plain = 0, anchors and len(ANCHORED.findall(text)) == text.count("&")
        for event in YAML(typ="safe", pure=False).parse(text):
            kind = type(event).__name__
            depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
            if kind == "AliasEvent" and not plain:
                raise ValueError("with an alias, which can stand for any amount of text; write it out")
            if depth > DEEPEST:
                raise ValueError(f"of more than {DEEPEST} levels")
        value = YAML(typ="safe", pure=False).load(text)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise click.BadParameter(f"{path}: {reason}") from None
    except Exception as error:  # a YAMLError, or what a constructor of values raises
        raise click.BadParameter(f"{path}: not YAML that is read here ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{path}: expected a mapping of settings, found {type(value).__name__}")
    return value


def check_names(names: Iterable[Any], path: str | Path) -> None:
    """Raise click.BadParameter naming the file for a name that would not be a plain name in a shell or a path."""
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise click.BadParameter(f"{path}: {str(name)[:80]!r} is no name; letters, digits, _, - and . make one")


def read_runs(path: str | Path) -> dict[str, Any]:
    """Return the content of runs.yaml, whose words all reach a shell. Raises click.BadParameter naming the file."""
    content = read_yaml(path, anchors=True)

    def words(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [word for pair in value.items() for part in pair for word in words(part)]
        return [word for part in value for word in words(part)] if isinstance(value, list) else [value]

    studies = content.get("studies") or {}
    models = [entry.get("model") for entry in studies.values() if isinstance(entry, dict)]  # reach no shell
    check_names([word for word in words(content) if type(word) is not int and word not in models], path)
    for name in ("datasets", "subsets", "sweeps", "learned", "runs"):
        if not isinstance(content.get(name), list if name == "datasets" else dict):
            raise click.BadParameter(f"{path}: no {name}; python src/main.py scale writes such a file")
    for name, entry in content["sweeps"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("dataset"), str):
            raise click.BadParameter(f"{path}: sweep {name} has no dataset")
    return content
