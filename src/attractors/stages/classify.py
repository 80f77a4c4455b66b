"""The type of every synthetic sample of a sweep (Eqs. 9-11), and tables of fractions, thresholds and histograms."""

from pathlib import Path

import click

from attractors.arrays import write_arrays
from attractors.cli.settings import ROOT, check_names
from attractors.cli.stage import seed_option, stage
from attractors.distances.detection import TYPES
from attractors.distances.thresholds import given_thresholds
from attractors.randomness import REPLICATES, generator
from attractors.results.classification import classified, out_of_scale, thresholds
from attractors.results.neighbours import find_runs
from attractors.settings.classify import Classification
from attractors.tables import write_csv, write_json


@stage("classify", sweep=True, settings=Classification)
@click.argument("neighbours", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the tables.  [default: the sweep's, or samples]")
@seed_option
@click.option("--types", type=click.Path(file_okay=False, path_type=Path), help="Folder of K.safetensors, the types.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the tables.")
def main(
    sweep: dict | None, neighbours: tuple[Path, ...], name: str | None, seed: int, types: Path | None, out: Path,
    settings: Classification,
) -> None:
    """Classify all samples of NEIGHBOURS: files written by neighbours.py, or a folder of them, one for each K.

    Replicates of a K are classified together, by one pair of thresholds. Writes the type of every sample,
    TYPES/K.safetensors, and tables: OUT/{fractions,thresholds,histograms,replicates/fractions}/NAME.csv,
    OUT/counts/NAME.safetensors, OUT/summary/NAME.json.
    """
    name = name or (sweep["name"] if sweep else "samples")
    check_names([name], "--name")
    runs = find_runs(neighbours, sweep)
    sweeps = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))  # none outside a checkout
    try:
        given = [
            given_thresholds(setting, option, name, [run[0] for run in runs], sweeps)
            for option, setting in (("delta_m", settings.delta_m), ("delta_s", settings.delta_s))
        ]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    chosen_m = thresholds(given[0], [run.to_training for run in runs], runs, seed, 0)
    chosen_s = thresholds(given[1], [run.within for run in runs], runs, seed, 1)
    for option, chosen, distances in (("delta_m", chosen_m, [run.to_training for run in runs]),
                                      ("delta_s", chosen_s, [run.within for run in runs])):
        if line := out_of_scale(option, chosen, distances, name):
            click.echo(line, err=True)
    result = classified(runs, chosen_m, chosen_s, name, (sweep or {}).get("dataset"), generator(seed, REPLICATES))
    for run, codes, m, s in zip(runs, result.codes, chosen_m, chosen_s, strict=True):
        record = {"size": run.size, "count": len(codes), "delta_m": m.value, "delta_s": s.value}
        if types:
            write_arrays(types / f"{run.size}.safetensors", {"codes": codes, "replicate": run.replicate}, **record)
    for kind, table in result.tables.items():
        write_csv(out / kind / f"{name}.csv", table)
    write_arrays(out / "counts" / f"{name}.safetensors", result.arrays)
    write_json(out / "summary" / f"{name}.json", result.summary)
    limits = result.tables["thresholds"]
    shown = result.tables["fractions"][["K", "replicates", "count", *TYPES]]
    shown = shown.assign(delta_m=limits.delta_m, delta_s=limits.delta_s)
    click.echo(shown.to_string(index=False, float_format="%.3f"))
    click.echo(f"{out}: fractions, thresholds, histograms and counts of {name}, {len(runs)} sizes")
