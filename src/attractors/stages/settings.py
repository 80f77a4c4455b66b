"""What each stage's settings are: the defaults, params.yaml and the sweep's file together, one file for each stage."""

from pathlib import Path

import click

from attractors.cli.settings import ROOT, read_runs, read_yaml
from attractors.cli.stage import stage
from attractors.settings.sweep import ALONE, params_settings, stage_settings, study_settings, sweep_settings
from attractors.tables import write_json


@stage("settings")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
def main(out: Path) -> None:
    """Write OUT/SWEEP/STAGE.json for each sweep and study of runs.yaml, and OUT/STAGE.json for the other stages.

    Stages depend on these files, so that what is run again after a change of a setting is what reads it, wherever
    the setting stands: in params.yaml, in the sweep's file, or among the defaults in the code.
    """
    params, runs = read_yaml(ROOT / "params.yaml"), read_runs(ROOT / "runs.yaml")
    params_settings(params, "params.yaml")
    found = {name: stage_settings(name, kinds, params) for name, kinds in ALONE.items()}
    for folder, names, settings in (("sweeps", [*runs["sweeps"], *(runs.get("along") or [])], sweep_settings),
                                    ("prompts", runs.get("studies") or {}, study_settings)):
        for name in names:
            content = read_yaml(ROOT / folder / f"{name}.yaml")
            stages = settings(content, params, f"{folder}/{name}.yaml")
            found |= {f"{name}/{stage}": values for stage, values in stages.items()}
    for name, values in found.items():
        write_json(out / f"{name}.json", values)
    click.echo(f"{out}: the settings of {len(found)} stages")


if __name__ == "__main__":
    main()
