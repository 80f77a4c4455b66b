"""The paper's statements on a sweep: an effect, its interval over replicates, and a verdict for each."""

from pathlib import Path

import click

from attractors.cli.stage import seed_option, stage
from attractors.randomness import REPLICATES, generator
from attractors.results.claims import FAILS, HOLDS, ONE_SEED, OPEN, claims
from attractors.results.run import Run
from attractors.tables import read_json, write_csv, write_json


@stage("claims")
@click.argument("name")
@seed_option
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data",
              help="Folder of neighbours and types.")
@click.option("--metrics", type=click.Path(file_okay=False, path_type=Path), default="metrics",
              help="Folder of tables, to which claims/NAME.csv and claims/NAME.json are added.")
def main(name: str, seed: int, data: Path, metrics: Path) -> None:
    """Test the paper's statements on the tables of the sweep NAME."""
    run, path = Run(metrics, data=data), metrics / "clusters" / f"{name}.json"
    table = claims(run, name, read_json(path) if path.is_file() else None, generator(seed, REPLICATES, 1))
    write_csv(metrics / "claims" / f"{name}.csv", table)
    counts = table.verdict.value_counts()
    words = [f"{word}{seed}" for word in (HOLDS, FAILS) for seed in ("", ONE_SEED)] + [OPEN]
    write_json(metrics / "claims" / f"{name}.json", {word: int(counts[word]) for word in words if word in counts})
    shown = table[["claim", "effect", "low", "high", "p_corrected", "verdict"]]
    click.echo(shown.to_string(index=False, float_format="%.3g", max_colwidth=80))
    click.echo(f"{metrics}/claims/{name}.csv: " + ", ".join(f"{n} {word}" for word, n in counts.items()))


if __name__ == "__main__":
    main()
