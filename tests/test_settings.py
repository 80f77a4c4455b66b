"""Settings are described once: the command line, the files and what DVC tracks say the same."""

import importlib
import json
from typing import Annotated, Literal

import click
import pytest
from conftest import ROOT
from pydantic import Field

from attractors.cli.options import options_of
from attractors.cli.settings import read_yaml
from attractors.cli.sweep import ALONE, ALONG, STUDY, SWEEP, params_settings, study_settings, sweep_settings
from attractors.settings.common import Common
from attractors.settings.network import NETWORKS, network_settings
from attractors.settings.section import Section, check

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
GOOD = {"dataset": "digits", "sizes": [2], "network": {"name": "mlp"}, "basin": {"delta_d": 1}}


class Example(Section):
    """Every kind of field."""

    steps: int = Field(10, ge=1, le=1000, description="Steps.")
    rate: float = Field(0.5, gt=0, description="Rate.")
    shift: float = Field(-1.0, description="Shift.")
    fast: bool = Field(False, description="Fast.")
    layout: bool | None = Field(None, description="Layout.")
    kind: Literal["a", "b"] = Field("a", description="Kind.")
    bound: Literal["auto"] | Annotated[float, Field(ge=0)] = Field("auto", description="Bound.")
    times: tuple[Annotated[float, Field(gt=0)], ...] = Field((0.1, 0.2), description="Times.")
    memory: int | None = Field(None, ge=1, description="Memory.")
    needed: float = Field(ge=0, description="Needed.")


def parsed(*arguments):
    command = click.Command("example", params=list(options_of(Example)))
    return command.make_context("example", list(arguments)).params


def test_options_have_the_names_types_and_defaults_of_the_fields():
    found = parsed("--needed", "1")
    assert found == Example(needed=1.0).model_dump()
    found = parsed("--steps", "3", "--rate", "1e-3", "--shift", "-2", "--fast", "--no-layout", "--kind", "b", "--bound",
                   "0.25", "--time", "1", "--time", "2", "--memory", "7", "--needed", "0")
    expected = {"steps": 3, "rate": 1e-3, "shift": -2.0, "fast": True, "layout": False, "kind": "b", "bound": 0.25}
    assert found == expected | {"times": (1.0, 2.0), "memory": 7, "needed": 0.0}
    assert Example(**found).bound == 0.25


@pytest.mark.parametrize(
    "arguments",
    [("--steps", "0"), ("--steps", "1001"), ("--rate", "0"), ("--kind", "c"), ("--bound", "-1"), ("--bound", "wide"),
     ("--time", "0"), ("--memory", "0"), ("--needed", "-1")],
)
def test_options_refuse_what_the_fields_refuse(arguments):
    with pytest.raises(click.BadParameter):
        parsed("--needed", "1", *arguments)


def test_an_option_without_a_default_is_required():
    with pytest.raises(click.MissingParameter, match="needed"):
        parsed()


@pytest.mark.parametrize(("values", "words"), [
    ({"step": 1}, "no setting 'step'; did you mean steps?"),
    ({"zzz": 1}, "no setting 'zzz'; it has steps, rate"),
    ({"steps": 0}, "steps is 0; it must be a whole number at least 1 and at most 1,000"),
    ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
    ({"steps": True}, "steps is True; it must be a whole number"),
    ({"steps": "3"}, "steps is 3; it must be a whole number"),
    ({"steps": 10**30}, "64 bits"),
    ({"rate": 0}, "rate is 0; it must be a number above 0"),
    ({"rate": float("nan")}, "rate is nan"),
    ({"rate": float("inf")}, "rate is inf"),
    ({"fast": 1}, "fast is 1; it must be true or false"),
    ({"kind": "c"}, "kind is c; it must be one of a, b"),
    ({"bound": -1}, "bound is -1; it must be auto or a number at least 0"),
    ({"bound": float("inf")}, "bound is inf"),
    ({"times": [1, "x"]}, "times is"),
    ({"times": 1}, "times is 1; it must be a list of numbers above 0"),
    ({}, "needed is missing; it must be a number at least 0"),
    ([1], "must be a mapping"),
])
def test_a_wrong_value_is_named_in_one_line_with_what_would_be_right(values, words):
    with pytest.raises(ValueError) as failure:
        check(values if isinstance(values, list) or not values else {"needed": 1} | values, "file: example", Example)
    message = str(failure.value)
    assert message.startswith("file: example") and words in message and "\n" not in message, message


def test_whole_numbers_may_be_written_as_floats_and_tuples_as_lists():
    (found,) = check({"needed": 1, "steps": 1e2, "times": [1, 2.5]}, "", Example)
    assert (found.steps, found.times) == (100, (1.0, 2.5))
    assert type(found.steps) is int
    with pytest.raises(ValueError):
        found.steps = 3


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_holds_only_what_differs_from_the_defaults(path):
    params, content = read_yaml(ROOT / "params.yaml"), read_yaml(path)
    full = sweep_settings(content, params, path.name)
    assert content.get("new_subsets", True) is True
    for name in set(content) - {"dataset", "sizes", "replicates", "new_subsets"}:
        for key in content[name]:
            if (name, key) == ("network", "name"):
                continue
            without = {**content, name: {k: v for k, v in content[name].items() if k != key}}
            try:
                changed = sweep_settings(without, params, path.name) != full
            except ValueError:  # it has no default
                changed = True
            assert changed, f"{path.name}: {name}.{key} is the default"


@pytest.mark.parametrize(("change", "words"), [
    ({"trian": {}}, "no section or setting 'trian'; did you mean train?"),
    ({"seed": 3}, "no section or setting 'seed'"),
    ({"train": {"iteration": 1}}, "train has no setting 'iteration'; did you mean iterations?"),
    ({"sample": {"floor": 0}}, "sample: floor is 0; it must be a whole number at least 1"),
    ({"basin": {}}, "delta_d is missing"),
    ({"diffusion": {"beta_min": 0.5}}, "beta_min is 0.5; it must be at most beta_max, 0.02"),
    ({"network": {"name": "mlp", "wdith": 3}}, "did you mean width?"),
    ({"sizes": [2, 1]}, "sizes is"),
    ({"replicates": 0}, "replicates is 0 for default; it must be a whole number from 1 to 999"),
    ({"replicates": {2: True}}, "replicates is True for 2; it must be a whole number from 1 to 999"),
    ({"replicates": {4: 3}}, "replicates names '4'; sizes are 2, and default"),
    ({"new_subsets": 1}, "new_subsets is 1; it must be true or false"),
])
def test_a_sweep_is_checked_as_a_whole(change, words):
    sweep_settings(GOOD, {}, "x.yaml")
    with pytest.raises(ValueError) as failure:
        sweep_settings(GOOD | change, {}, "x.yaml")
    assert words in str(failure.value) and str(failure.value).startswith("x.yaml"), failure.value


def test_params_yaml_and_the_case_studies_are_described():
    params = read_yaml(ROOT / "params.yaml")
    params_settings(params, "params.yaml")
    for path in (ROOT / "prompts").glob("*.yaml"):
        study_settings(read_yaml(path), params, path.name)
    with pytest.raises(ValueError, match=r"p: basin: trials is x; it must be a whole number"):
        params_settings({"basin": {"trials": "x"}}, "p")
    with pytest.raises(ValueError, match="p: no section or setting 'basim'; did you mean basin"):
        params_settings({"basim": {}}, "p")


@pytest.mark.parametrize("name", SWEEP | ALONG | STUDY | ALONE)
def test_what_is_tracked_of_a_stage_is_what_its_command_reads(name):
    command = importlib.import_module(f"attractors.stages.{name}").main
    assert command.sections == (SWEEP | ALONG | STUDY | ALONE)[name]
    options = {parameter.name for parameter in command.params}
    fields = {field for section in command.sections for field in section.model_fields}
    files = {"data", "values", "params", "sweep", "study", "device",
              "out", "metrics", "spectra", "model", "selection", "synthetic",
             "subset", "training", "size", "lpips", "neighbours", "selections", "name", "latents", "types",
             "folder", "replicate", "dataset", "first", "second", "skip",
             "models", "trainings"}
    assert options - files - set(Common.model_fields) == fields


def test_a_command_reads_what_is_tracked_from_the_same_files(tmp_path):
    """The resolved settings of the default sweep, by the command line and by the stage settings."""
    sweep, params = ROOT / "sweeps" / "digits.yaml", ROOT / "params.yaml"
    settings = sweep_settings(read_yaml(sweep), read_yaml(params), "x")
    given = {"classify": ["x", "--out", "x"], "census": [str(ROOT / "sweeps"), "--out", "x"]}
    for name, kinds in SWEEP.items():
        command = importlib.import_module(f"attractors.stages.{name}").main
        required = [p for p in command.params
                    if isinstance(p, click.Option) and p.required and p.name not in ("sweep", "delta_d")]
        files = [part for p in required for part in (p.opts[0], "2" if p.name == "size" else "x")]
        arguments = ["--sweep", str(sweep), "--params", str(params), *(given.get(name) or files)]
        found = command.make_context(name, arguments).params
        fields = [key for kind in kinds for key in kind.model_fields]
        shown = json.loads(json.dumps({key: found[key] for key in fields}))
        assert shown == {key: settings[name][key] for key in fields}, name


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "diffusers"])
def test_defaults_of_a_network_are_those_of_its_class(name):
    import inspect

    from attractors.denoisers import networks

    described = network_settings({"name": name}).model_dump(exclude={"name"})
    parameters = list(inspect.signature(networks.NETWORKS[name]).parameters.values())[2:]
    assert {p.name: p.default for p in parameters if p.name != "memories"} == described
    assert set(networks.NETWORKS) == set(NETWORKS)
