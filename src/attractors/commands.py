"""What every stage's command line shares: defaults from params.yaml and the sweep's file, one-line errors."""

import difflib
import sys
from pathlib import Path

import click
from ruamel.yaml import YAML, YAMLError
from tqdm import tqdm

from attractors.subsets import sizes

ROOT = Path(__file__).resolve().parents[2]


def read_yaml(path):
    """A YAML mapping. Raises click.BadParameter naming the file for anything else."""
    try:
        value = YAML(typ="safe", pure=False).load(Path(path))
    except FileNotFoundError:
        raise click.BadParameter(f"{path}: no such file") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{path}: expected a mapping of settings, found {type(value).__name__}")
    return value


def _defaults(context, path, top):
    """Make the settings in `path` the defaults of this command's options; refuse a misspelt one.

    Read are the section with the command's name and, where `top`, the plain values at the top level.
    """
    options = {parameter.name for parameter in context.command.params}
    content = read_yaml(path)
    section = content.get(context.command.name) or {}
    if not isinstance(section, dict):
        raise click.BadParameter(f"{path}: section {context.command.name} must be a mapping of settings")
    for name in section:
        if name not in options:
            close = difflib.get_close_matches(str(name), options, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(sorted(options))}"
            raise click.BadParameter(f"{path}: {context.command.name} has no setting {name!r}{hint}")
    plain = {name: content[name] for name in top if name in content}
    context.default_map = {**(context.default_map or {}), **plain, **section}
    return content


def _params(context, _, path):
    _defaults(context, path, ("seed", "threads", "delta_m", "delta_s"))


def _sweep(context, _, path):
    content = _defaults(context, path, ()) if path else {}
    return {**content, "name": Path(path).stem} if path else None


class Stage(click.Command):
    """A command whose mistakes are one line: bad settings exit with 2, bad files and failed runs with 1."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (ValueError, FloatingPointError) as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            raise click.ClickException(f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")) from None


def sizes_of(sweep):
    """The sizes K of a sweep given as --sweep. Raises click.BadParameter."""
    try:
        return sizes(sweep.get("sizes"))
    except ValueError as error:
        raise click.BadParameter(f"sweep {sweep['name']}: {error}") from None


def stage(name, sweep=False):
    """A click command called `name`: option defaults from params.yaml's section `name` and, with `sweep`,
    from the same section of the file given as --sweep, which reaches the function as a dict."""

    def decorate(function):
        if sweep:
            function = click.option(
                "--sweep",
                type=click.Path(dir_okay=False),
                callback=_sweep,
                is_eager=True,
                required=sweep == "required",
                help="The sweep's file, as in sweeps/: its sections hold the defaults of the options below.",
            )(function)
        function = click.option(
            "--params",
            type=click.Path(dir_okay=False),
            default=ROOT / "params.yaml",
            callback=_params,
            is_eager=True,
            expose_value=False,
            help="The file with the defaults of the options below.",
            show_default="params.yaml",
        )(function)
        return click.command(name, cls=Stage, context_settings={"show_default": True, "max_content_width": 100})(
            function
        )

    return decorate


out_option = click.option("--out", type=click.Path(dir_okay=False), required=True, help="The file to write.")
seed_option = click.option("--seed", type=click.IntRange(0, 2**62), default=3407, help="Seed of every random stream.")


def _threads(_, __, count):
    import torch

    torch.set_num_threads(count)


def device_option(function):
    """--device and --threads, for the stages that use torch."""
    function = click.option(
        "--threads", type=click.IntRange(1), default=1, callback=_threads, expose_value=False,
        help="CPU threads: more are rarely faster for small networks, and each number rounds sums in its own way.",
    )(function)  # fmt: skip
    return click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto: CUDA where there is one.")(
        function
    )


def device(name):
    """The torch device called `name`. Raises ValueError where it is not to be had."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def progress(iterable, description, unit="step", **options):
    """A progress bar with rate and remaining time on a terminal, a line every 30 seconds elsewhere."""
    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm(
        iterable, description, unit=unit, mininterval=interval, maxinterval=interval, dynamic_ncols=True, **options
    )
