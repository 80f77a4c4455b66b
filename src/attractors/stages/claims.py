"""The paper's statements on a sweep: an effect, its interval over replicates, and a verdict for each."""

from pathlib import Path

import click

from attractors.cli.stage import data_option, metrics_option, seed_option, stage
from attractors.measurements.registry import quantities
from attractors.randomness import REPLICATES, generator
from attractors.results.claims import FAILS, FEW, HOLDS, OPEN, markdown
from attractors.results.run import Run
from attractors.results.statements import claims
from attractors.tables import write_csv, write_json


@stage("claims")
@click.argument("name")
@seed_option
@data_option
@metrics_option
def main(name: str, seed: int, data: Path, metrics: Path) -> None:
    """Test the paper's statements on the tables of the sweep NAME, and print them as a table in Markdown."""
    table = claims(Run(metrics, data=data), name, generator(seed, REPLICATES, 1),
                   [quantity.claims for quantity in quantities().values()])
    write_csv(metrics / "claims" / f"{name}.csv", table)
    counts = table.verdict.value_counts()
    write_json(metrics / "claims" / f"{name}.json", {key: int(counts.get(key, 0)) for key in (HOLDS, FAILS, OPEN, FEW)})
    click.echo(markdown(table))
    click.echo(f"{metrics}/claims/{name}.csv: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
