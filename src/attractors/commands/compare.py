"""Show what changed between two revisions or experiments, and whether the change is more than noise."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from attractors.cli.checkout import below_git, check_checkout, locked
from attractors.cli.settings import ROOT
from attractors.cli.stage import seed_option, stage
from attractors.randomness import BOOTSTRAP, generator
from attractors.results.comparison import compare_fractions, compare_means, compare_quantities
from attractors.results.replicates import counts_of, dispersion
from attractors.results.run import Run


class Revision:
    """The files of a repository at a git revision, in an experiment, or as they are on disk (`workspace`).

    Raises ValueError for a name that is none of these.
    """

    def __init__(self, name: str, folder: str | Path) -> None:
        self.name, self.folder = name, Path(folder)
        self.files: Any = None
        self.prefix = below_git(self.folder)
        if name != "workspace":
            from dvc.api import DVCFileSystem
            from dvc.exceptions import DvcException
            from pygit2 import GitError
            from scmrepo.exceptions import SCMError

            try:
                self.files = DVCFileSystem(str(folder), rev=name, subrepos=bool(self.prefix))
                self.files.ls("")
            except (SCMError, DvcException) as error:
                raise ValueError(f"{name}: neither a revision nor an experiment here ({error})") from None
            except GitError as error:  # most often that the repository belongs to another user
                root = str(self.folder.resolve()).removesuffix(f"/{self.prefix}".rstrip("/"))
                raise ValueError(f"{error}; git config --global --add safe.directory {root}") from None

    def text(self, path: str) -> str | None:
        """Return a file's text, or None where the file does not exist."""
        if self.files is None:
            return (self.folder / path).read_text("utf-8") if (self.folder / path).is_file() else None
        path = self.prefix + path
        return self.files.read_text(path, encoding="utf-8") if self.files.isfile(path) else None

    @property
    def run(self) -> Run:
        """The tables in metrics/."""
        return Run(Path("metrics"), reader=lambda path: (self.text(f"metrics/{path}") or "").encode() or None)

    def sweeps(self) -> list[str]:
        """Return the names of the sweeps that were classified: learned ones first, then controls."""
        folder = f"{self.prefix}metrics/fractions"
        if self.files is None:
            files = [str(path) for path in (self.folder / "metrics/fractions").glob("*")]
        else:
            files = self.files.find(folder) if self.files.isdir(folder) else []
        names = [Path(path).stem for path in files if path.endswith(".csv")]
        learned = YAML(typ="safe").load(self.text("runs.yaml") or "{}").get("learned", {})
        return sorted(names, key=lambda name: (name not in learned, name))

    def samples(self, name: str) -> str | None:
        """Return the hash of the neighbours from which a sweep's types were found, or None where dvc.lock has none."""
        stage = locked(self.text("dvc.lock") or "", f"{self.name}: dvc.lock").get(f"classify@{name}", {})
        return next((dep.get("md5") for dep in stage.get("deps", []) if dep["path"] == f"data/neighbours/{name}"), None)


def written(value: float) -> str:
    """Return a number with at most four significant digits, or a dash where it is not finite."""
    return f"{value:.4g}" if np.isfinite(value) else "-"


def shown(table: pd.DataFrame) -> str:
    """Return a table as lines of text."""
    numbers = {column: written for column in table.select_dtypes("number") if column != "K"}
    return table.to_string(index=False, formatters=numbers)


def quantities(table: pd.DataFrame) -> str:
    """Return the table of `compare_quantities` as lines of text."""
    def ends(columns: tuple[str, str, str]) -> list[str]:
        return ["{} ({} to {})".format(*map(written, part)) for part in table[list(columns)].to_numpy()]

    verdicts = table.noise.map({True: "no more than noise", False: "more than noise", None: "no interval"})
    sides = {side: ends((side, f"{side}_low", f"{side}_high")) for side in "AB"}
    rows = {"": table.quantity, **sides, "B - A": ends(("change", "low", "high")), "verdict": verdicts}
    return pd.DataFrame(rows).to_string(index=False)


def report(name: str, first: Revision, second: Revision, seed: int) -> Iterator[str]:
    """Yield the paragraphs of the comparison of one sweep in two revisions: the verdict, then the tables behind it."""
    tables = [side.run.replicates("fractions", name) for side in (first, second)]
    same = first.samples(name) is not None and first.samples(name) == second.samples(name)
    yield f"== {name} =="
    if same and tables[0].equals(tables[1]):
        yield "Nothing changed: the same samples in the same classes."
    else:
        compared = compare_quantities(tables[0], tables[1], generator(seed, BOOTSTRAP))
        fractions = compare_fractions(*tables)
        more = [words for words, noise in zip(compared.quantity, compared.noise, strict=True) if noise is False]
        if sizes := [*fractions.K[fractions.p < 0.05]]:
            more.append(f"fractions at K = {', '.join(map(str, sizes))}")
        yield f"More than noise: {'; '.join(more)}." if more else "No difference in types is more than noise."
        if same:
            yield "The same samples under other thresholds: differences are exact; intervals and p are of new samples."
        yield quantities(compared)
        phi = dispersion([part for table in tables for part in counts_of(table)])
        test = (
            f"an F test; replicates differ {phi.value:.3g} times as much as samples, {phi.degrees} degrees of freedom"
            if phi.degrees
            else "a chi-squared test of samples alone, for there are no replicates"
        )
        yield f"Fractions; p of {test}; corrected for {len(fractions)} sizes\n{shown(fractions)}"
    limits = [side.run.table("thresholds", name) for side in (first, second)]
    if all(table is not None for table in limits):
        columns = [f"{delta}{part}" for delta in ("delta_m", "delta_s") for part in ("", "_source")]
        both = limits[0][["K", *columns]].merge(limits[1][["K", *columns]], on="K", suffixes=("_A", "_B"))
        moved = both[(both.delta_m_A != both.delta_m_B) | (both.delta_s_A != both.delta_s_B)]
        order = ["K", *(f"{column}_{side}" for column in columns for side in "AB")]
        yield f"Thresholds that moved\n{shown(moved[order])}" if len(moved) else "No threshold moved."
    basins = [side.run.table("basin", name) for side in (first, second)]
    if all(table is not None for table in basins):
        if basins[0].equals(basins[1]):
            yield "No log-volume changed."
        else:
            means = compare_means(basins[0], basins[1], "log_volume")
            yield f"Mean log-volumes; p of a t test, corrected for {means.p.notna().sum()}\n{shown(means)}"


@stage("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B", default="workspace")
@click.option("--sweep", "names", multiple=True, help="Sweeps to compare.  [default: those in both]")
@click.option("--folder", type=click.Path(exists=True, file_okay=False), default=ROOT, show_default="here",
              help="The repository.")
@seed_option
def main(a: str, b: str, names: tuple[str, ...], folder: str, seed: int) -> None:
    """Compare A with B: git revisions, experiments of DVC, or `workspace`, the files as they are.

    For each sweep in both, controls last: what differs by more than noise, then the peak of the spurious fraction and
    the K of the transition with bootstrap intervals, fractions at each K, thresholds, log-volumes.
    """
    check_checkout(Path(folder))
    first, second = Revision(a, folder), Revision(b, folder)
    both = [name for name in first.sweeps() if name in second.sweeps()]
    if missing := [name for name in names if name not in both]:
        raise click.BadParameter(
            f"{missing[0]}: not in both; those are {', '.join(both) or 'none'}", param_hint="--sweep"
        )
    if not both:
        raise ValueError(f"{a}, {b}: no sweep was classified in both (metrics/fractions)")
    for name in names or both:
        click.echo("\n\n".join(report(name, first, second, seed)) + "\n")
    click.echo(f"A = {a}, B = {b}: {len(names or both)} sweeps compared")
