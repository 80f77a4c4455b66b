"""What every stage's command line shares: defaults from params.yaml and the sweep's file, one-line errors."""

import difflib
import os
import re
import sys
from pathlib import Path

import click
from ruamel.yaml import YAML
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from attractors.data.subsets import sizes

ROOT = Path(__file__).resolve().parents[3]


NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of what becomes a path and a word of a shell's command line
LARGEST, DEEPEST = 2**20, 32  # bytes of a YAML file, and levels of its nesting


def read_yaml(path):
    """A YAML mapping without aliases. Raises click.BadParameter naming the file for anything else."""
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1).decode()
        if len(text) > LARGEST:
            raise ValueError(f"of more than {LARGEST} bytes")
        depth = 0
        for event in YAML(typ="safe", pure=False).parse(text):
            kind = type(event).__name__
            depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
            if kind == "AliasEvent":
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


def check_names(names, path):
    """Raise click.BadParameter naming the file for a name that a shell or a path could take for something else."""
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise click.BadParameter(f"{path}: {str(name)[:80]!r} is no name; letters, digits, _, - and . make one")


def read_runs(path):
    """What runs.yaml holds, all of whose words reach a shell. Raises click.BadParameter naming the file."""
    content = read_yaml(path)

    def words(value):
        if isinstance(value, dict):
            return [word for pair in value.items() for part in pair for word in words(part)]
        return [word for part in value for word in words(part)] if isinstance(value, list) else [value]

    studies = content.get("studies") or {}
    models = [entry.get("model") for entry in studies.values() if isinstance(entry, dict)]  # reach no shell
    check_names([word for word in words(content) if type(word) is not int and word not in models], path)
    for name, kind in (("datasets", list), ("sweeps", dict), ("learned", dict), ("runs", dict)):
        if not isinstance(content.get(name), kind):
            raise click.BadParameter(f"{path}: no {name}; python src/main.py scale writes such a file")
    for name, entry in content["sweeps"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("dataset"), str):
            raise click.BadParameter(f"{path}: sweep {name} has no dataset")
    return content


def _fits(option, value):
    """Whether a value of a file is of the kind that an option of the command line takes."""
    if option.multiple and isinstance(value, list):
        return all(_fits(option, part) for part in value) and not any(isinstance(part, list) for part in value)
    if option.is_flag or isinstance(value, bool):
        return option.is_flag and isinstance(value, bool)
    if isinstance(option.type, click.types.IntParamType) and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int | float | str)


def _settings(context, path, top):
    """(settings in `path` for this command, the file's content); refuse a misspelt one.

    Read are the section with the command's name and, where `top`, the plain values at the top level.
    """
    options = {parameter.name: parameter for parameter in context.command.params}
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
    for name, value in {**plain, **section}.items():
        if name in options and not _fits(options[name], value):
            raise click.BadParameter(f"{path}: {name} is {str(value)[:80]!r}; it must be {expected(options[name])}")
    return {**plain, **section}, content


def _params(context, _, path):  # click reads what is given before what is not, so --sweep may have been read by now
    settings, _ = _settings(context, path, ("seed", "threads", "delta_m", "delta_s"))
    context.default_map = {**settings, **(context.default_map or {})}


def _sweep(context, _, path):
    if not path:
        return None
    settings, content = _settings(context, path, ())
    context.default_map = {**(context.default_map or {}), **settings}
    return {**content, "name": Path(path).stem}


def expected(option):
    """What an option takes, in words."""
    return "true or false" if option.is_flag else f"{'a list of ' * option.multiple}{option.type.name}"


class Stage(click.Command):
    """A command whose mistakes are one line: bad settings exit with 2, bad files and failed runs with 1.

    The products of NumPy and SciPy take one thread: each number of threads rounds sums in its own way, and theirs
    would otherwise be that of the machine's cores, or of OMP_NUM_THREADS.
    """

    def invoke(self, context):
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # where they are yet to be loaded
        threadpool_limits(1, user_api="blas")
        for name, value in context.params.items():
            for number in value if isinstance(value, tuple) else [value]:
                if isinstance(number, int | float) and not -(2**63) < number < 2**63:
                    raise click.BadParameter(f"{name} is {str(number)[:20]}; it must be finite and fit into 64 bits")
        try:
            return super().invoke(context)
        except (ValueError, FloatingPointError) as error:
            raise click.ClickException(str(error)) from None
        except (MemoryError, OverflowError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not re.search("out of memory|allocate|overflow", str(error)):
                raise
            raise click.ClickException(f"too large ({' '.join(str(error).split())[:200]})") from None
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
