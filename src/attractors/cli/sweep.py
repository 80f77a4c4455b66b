"""Everything that a sweep's file, params.yaml and a case study can hold, and what a stage reads of them.

Only commands that look at whole files import this module, so that a new section makes no other stage stale.
"""

from pathlib import Path
from typing import Any

from attractors.data.subsets import replicates, sizes
from attractors.measurements.registry import quantities
from attractors.settings.acceleration import Computation
from attractors.settings.classify import Classification
from attractors.settings.common import Common
from attractors.settings.join import Joining
from attractors.settings.neighbours import Neighbours
from attractors.settings.network import diffusion_settings, network_settings
from attractors.settings.quality import Quality
from attractors.settings.sample import Sampling
from attractors.settings.section import Section, check
from attractors.settings.states import Census, Phase, StatesTable
from attractors.settings.study import Generation, LatentCurvature
from attractors.settings.toy import Circle, Minima, ScoreMLP, ToyEvaluation, ToyOptimisation
from attractors.settings.train import Release, Training
from attractors.settings.yardsticks import Drawing, Snapshots, Yardsticks
from attractors.words import suggestion

Sections = dict[str, tuple[type[Section], ...]]
SWEEP: Sections = {
    "train": (Training, Release, Computation), "sample": (Sampling, Computation), "neighbours": (Neighbours,),
    "classify": (Classification,), "census": (Census,),
    **{name: tuple(quantity.settings.values()) for name, quantity in quantities().items()}, "yardsticks": (Yardsticks,),
    "quality": (Quality,),
}
# of sweeps with the first of them
ALONG: Sections = {"train_snapshots": (Snapshots,), "training_time": (Drawing,), "phase": (Phase,)}
STUDY: Sections = {"sd_generate": (Generation,), "sd_stability": (), "sd_curvature": (LatentCurvature,)}
ALONE: Sections = {
    "join": (Joining,), "states_table": (StatesTable,), "toy_train": (Circle, ScoreMLP, ToyOptimisation),
    "toy_evaluate": (ToyEvaluation,), "toy_minima": (Circle, Minima),
}


def refuse_unknown(content: dict[str, Any], known: list[str], path: Path | str) -> None:
    """Raise ValueError, naming the file, for a top-level entry of `content` that is not known."""
    for name in content:
        if name not in known:
            hint = suggestion(name, known, "there are")
            raise ValueError(f"{path}: no section or setting {str(name)[:80]!r}{hint}")


def params_settings(content: dict[str, Any], path: Path | str) -> None:
    """Raise ValueError, naming the file and the setting, for what params.yaml must not hold."""
    sections = SWEEP | ALONG | STUDY | ALONE
    plain = [*Common.model_fields, "delta_m", "delta_s"]
    refuse_unknown(content, [*plain, *sections], path)
    check({key: content[key] for key in plain if key in content}, str(path), Common, Classification, partial=True)
    for name, kinds in sections.items():
        check(content.get(name) or {}, f"{path}: {name}", *kinds, Common, partial=True)


def stage_settings(name: str, kinds: tuple[type[Section], ...], *files: dict[str, Any]) -> dict[str, Any]:
    """Every setting that the stage `name` reads, defaults included.

    files: the content of params.yaml, then of the sweep's or study's file, the later one taking precedence; plain
    settings are read from the first alone. Raises ValueError for a setting that is invalid or missing.
    """
    sections: tuple[type[Section], ...] = (*kinds, Common)
    known = {field for section in sections for field in section.model_fields}
    values = {key: value for key, value in files[0].items() if key in known}
    for content in files:
        values |= content.get(name) or {}
    resolved: dict[str, Any] = {}
    for section in check(values, name, *sections):
        resolved |= section.model_dump(mode="json")
    return resolved


def _of_stages(stages: Sections, params: dict[str, Any], content: dict[str, Any], path: Path | str) -> dict[str, Any]:
    resolved = {}
    for name, kinds in stages.items():
        check(content.get(name) or {}, f"{path}: {name}", *kinds, Common, partial=True)
        try:
            resolved[name] = stage_settings(name, kinds, params, content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return resolved


def sweep_settings(content: dict[str, Any], params: dict[str, Any], path: Path | str) -> dict[str, dict[str, Any]]:
    """Return {stage: every setting that it reads} of a sweep's file, which is checked as a whole.

    content, params: what the file at `path` and params.yaml hold. Raises ValueError, in one line that names the file,
    for an unknown section and for a setting that is unknown, invalid or missing. A sweep with a section train_snapshots
    has the stages ALONG and no others.
    """
    stages = ALONG if "train_snapshots" in content else SWEEP
    refuse_unknown(content, ["dataset", "sizes", "replicates", "new_subsets", "network", "diffusion", *stages], path)
    try:
        grid = sizes(content.get("sizes"))
        models = replicates(content.get("replicates"), grid)
        if type(content.get("new_subsets", False)) is not bool:
            raise ValueError(f"new_subsets is {str(content['new_subsets'])[:80]}; it must be true or false")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    network = network_settings(content.get("network"), f"{path}: network").model_dump(mode="json")
    diffusion = diffusion_settings(content.get("diffusion") or {}, f"{path}: diffusion").model_dump(mode="json")
    resolved = _of_stages(stages, params, content, path)
    if stages is ALONG:
        resolved["train_snapshots"] |= {"network": network, "diffusion": diffusion, "sizes": grid}
    else:
        resolved["train"] |= {"network": network, "diffusion": diffusion}
        resolved["classify"] |= {"dataset": content.get("dataset"), "sizes": grid, "replicates": list(models.values())}
    return resolved


def study_settings(content: dict[str, Any], params: dict[str, Any], path: Path | str) -> dict[str, dict[str, Any]]:
    """Return {stage: every setting that it reads} of a case study's file, apart from its model and prompts.

    Raises ValueError, in one line that names the file, for what is unknown or invalid.
    """
    refuse_unknown(content, ["model", "prompts", *STUDY], path)
    return _of_stages(STUDY, params, content, path)
