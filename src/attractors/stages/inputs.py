"""What the result of each stage depends on beside its files: its code and its settings, one file for each stage."""

from pathlib import Path

import click

from attractors.cli.group import PACKAGE, modules
from attractors.cli.settings import ROOT, read_runs, read_yaml
from attractors.cli.stage import stage
from attractors.cli.sweep import (
    ALONE,
    ALONG,
    STUDY,
    SWEEP,
    params_settings,
    stage_settings,
    study_settings,
    sweep_settings,
)
from attractors.code import code_hashes
from attractors.tables import write_json

READ_BY_NAME = {  # files that a stage reads or imports by name
    "report": ("figures/[!.]*.py", "report/[!.]*.[!p]*"), "join": ("measurements/[!.]*.py",),
    "claims": ("measurements/[!.]*.py",),
}
BY_SETTING = {"released": "denoisers/released.py"}  # code that a stage runs only where this setting is given


def settings_of_stages(root: Path) -> dict[str, dict[str, dict]]:
    """Return {SWEEP/ or STUDY/, empty for the stages that belong to none: {stage: every setting that it reads}}."""
    params, runs = read_yaml(root / "params.yaml"), read_runs(root / "runs.yaml")
    params_settings(params, "params.yaml")
    settings = {"": {name: stage_settings(name, kinds, params) for name, kinds in ALONE.items()}}
    for folder, names, read in (("sweeps", [*runs["sweeps"], *(runs.get("along") or [])], sweep_settings),
                                ("prompts", runs.get("studies") or [], study_settings)):
        for name in names:
            path = f"{folder}/{name}.yaml"
            settings[f"{name}/"] = read(read_yaml(root / path), params, path)
    return settings


@stage("inputs")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
def main(out: Path) -> None:
    """Write OUT/STAGE.json for each stage, and OUT/SWEEP/STAGE.json for those with settings of a sweep or a study.

    A file holds hashes of the code that the stage runs, without comments, docstrings and layout, and the settings that
    it reads: the defaults, params.yaml and the sweep's file together. A stage depends on its own file, so an edit of
    code or of a setting runs again only the stages whose results it can change.
    """
    code = {
        name: code_hashes([path, *(file for part in READ_BY_NAME.get(name, ()) for file in PACKAGE.glob(part))],
                          PACKAGE.parent)
        for name, (_, path) in modules().items() if path.parent.name != "commands"
    }
    settings = settings_of_stages(ROOT)
    settings[""] = {name: {} for name in code if name not in SWEEP | ALONG | STUDY} | settings[""]
    for folder, stages in settings.items():
        for name, values in stages.items():
            chosen = [PACKAGE / path for setting, path in BY_SETTING.items() if values.get(setting)]
            hashes = code[name] | code_hashes(chosen, PACKAGE.parent)
            write_json(out / f"{folder}{name}.json", {"code": hashes, "settings": values})
    click.echo(f"{out}: code and settings of {len(code)} stages")
