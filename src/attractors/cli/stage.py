"""The command line of a stage: options from its settings, defaults from files, mistakes in one line."""

import functools
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from threadpoolctl import threadpool_limits

from attractors.cli.settings import CHECKOUT, read_yaml

# What torch says in a RuntimeError where memory or the range of an index does not suffice, on CPU and on CUDA.
TOO_LARGE = re.compile(
    "out of memory|can't allocate|_STATUS_ALLOC_FAILED|calculation overflowed|multiplication overflow|without overflow"
)


def check_out(params: dict[str, Any]) -> None:
    """Raise click.BadParameter where the file to write, `out`, is one that another of a command's parameters reads."""
    out = params.get("out")
    if not isinstance(out, str | Path) or not os.path.isfile(out):
        return
    for name, value in params.items():
        for part in value if isinstance(value, tuple | list) else [value]:
            paths = (str(part), str(part).rpartition(":")[0]) if isinstance(part, str | Path) else ()  # FILE:NAME
            if name != "out" and any(os.path.isfile(path) and os.path.samefile(path, out) for path in paths):
                raise click.BadParameter(f"{out}: it is read too, and would be overwritten", param_hint="--out")


def one_line(error: Exception) -> str | None:
    """Return the line that a user reads of a mistake, a bad file or too little memory; None for a fault of the code."""
    if isinstance(error, ValueError | FloatingPointError):
        return str(error)
    if isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError) and TOO_LARGE.search(str(error))
    ):
        return f"too large ({' '.join(str(error).split())[:200]})"
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # click ends in silence at a closed pipe
        return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    return None


class Stage(click.Command):
    """A command whose mistakes are one line: bad settings exit with 2, bad files and failed runs with 1.

    With ATTRACTORS_DEBUG=1 in the environment the traceback comes before that line. The products of NumPy and SciPy
    take one thread: each number of threads rounds sums in its own way, and theirs would otherwise be that of the
    machine's cores, or of OMP_NUM_THREADS.
    """

    sections: tuple[type, ...] = ()  # classes of settings, whose fields are options

    def invoke(self, context: click.Context) -> Any:
        """Run the command with one thread for NumPy and SciPy, and turn mistakes into one line.

        Raises click.BadParameter for a number that is not finite or beyond 64 bits, and click.ClickException for a bad
        file, a failed run, or too little memory or disk.
        """
        for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # where they are yet to be loaded
        threadpool_limits(1, user_api="blas")
        for name, value in context.params.items():
            for number in value if isinstance(value, tuple) else [value]:
                if isinstance(number, int | float) and not -(2**63) < number < 2**63:
                    raise click.BadParameter(f"{name} is {str(number)[:20]}; it must be finite and fit into 64 bits")
        check_out(context.params)
        try:
            return super().invoke(context)
        except Exception as error:
            message = one_line(error)
            if message is None:
                raise
            if os.environ.get("ATTRACTORS_DEBUG"):
                traceback.print_exc()
            raise click.ClickException(message) from None


def _section(context: click.Context, path: Path | str, content: dict[str, Any], top: bool) -> dict[str, Any]:
    """Checked settings in `content`, which was read from `path`, for this command.

    They are the section with the command's name and, with `top`, those settings at the top level that the command has.
    """
    from attractors.settings.common import Common
    from attractors.settings.section import check

    command: Any = context.command
    sections = (*command.sections, Common)
    known = {field for section in sections for field in section.model_fields}
    plain = {key: value for key, value in content.items() if top and key in known}
    section = content.get(command.name) or {}
    try:
        check(plain, str(path), *sections, partial=True)
        check(section, f"{path}: {command.name}", *sections, partial=True)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return {**plain, **section}


def _params(context: click.Context, _: click.Parameter, path: str | None) -> None:
    settings = _section(context, path, read_yaml(path), top=True) if path else {}
    # What is given is read before what is not, so --sweep may have been read by now; it takes precedence.
    context.default_map = {**settings, **(context.default_map or {})}


def _sweep(context: click.Context, _: click.Parameter, path: str | None) -> dict[str, Any] | None:
    if not path:
        return None
    content = read_yaml(path)
    context.default_map = {**(context.default_map or {}), **_section(context, path, content, top=False)}
    return {**content, "name": Path(path).stem}


def add_options(function: Any, *options: click.Option) -> Any:
    """Return `function` with more options, which --help shows before those that it has."""
    function.__click_params__ = [*getattr(function, "__click_params__", []), *reversed(options)]
    return function


def stage(
    name: str, *, sweep: bool | str = False, study: bool | str = False, **sections: Any
) -> Callable[[Callable], Stage]:
    """A click command called `name`, whose settings are described by classes.

    sections: {argument of the function: a subclass of Section}. The fields are options of the command, and the
    function is called with one instance of each class. Defaults come from the classes, the section `name` of
    params.yaml, and the section `name` of the file given as --sweep (or --study, for prompts), the later ones taking
    precedence. The file's content reaches the function as the dict `sweep` or `study`; "required" makes it obligatory.
    """

    def decorate(function: Any) -> Stage:
        called: Any = function
        if sections:
            from attractors.cli.options import options_of
            from attractors.settings.section import check

            @functools.wraps(function)
            def called(**values: Any) -> Any:
                settings = {key: values.pop(key) for section in sections.values() for key in section.model_fields}
                return function(**values, **dict(zip(sections, check(settings, name, *sections.values()), strict=True)))

            # after the options of files, in the text of --help
            called.__click_params__ = [
                *reversed([*options_of(*sections.values())]), *getattr(function, "__click_params__", []),
            ]
        file: Any = {"type": click.Path(dir_okay=False), "is_eager": True}
        if sweep or study:
            option, folder = ("--sweep", "sweeps") if sweep else ("--study", "prompts")
            about = f"A file as in {folder}/, whose section {name} holds defaults of the options below."
            needed = "required" in (sweep, study)
            called = click.option(option, callback=_sweep, required=needed, help=about, **file)(called)
        called = click.option(
            "--params", default=CHECKOUT and CHECKOUT / "params.yaml", show_default="params.yaml of the checkout",
            callback=_params, expose_value=False, help="The file with the defaults of the options below.", **file,
        )(called)
        context = {"show_default": True, "max_content_width": 100}
        command = click.command(name, cls=Stage, context_settings=context)(called)
        command.sections = tuple(sections.values())
        return command

    return decorate


out_option = click.option("--out", type=click.Path(dir_okay=False), required=True, help="The file to write.")
replicate_option = click.option(
    "--replicate", type=click.IntRange(0), default=0, help="Number of the replicate; the first is 0."
)
metrics_option = click.option(
    "--metrics", type=click.Path(file_okay=False, path_type=Path), default="metrics", help="Folder of tables."
)
data_option = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default="data",
    help="Folder of subsets, synthetic sets, neighbours, types and measurements.",
)


def seed_option(function: Callable) -> Callable:
    """Add the option --seed to a stage."""
    from attractors.cli.options import option_of
    from attractors.settings.common import Common

    return add_options(function, option_of(Common, "seed"))


def seed_of_replicate(function: Callable) -> Callable:
    """Add the options --seed and --replicate to a stage, which is called with the seed of that replicate.

    Replicate R of seed 3407 is what seed 3407 + R gives.
    """

    @functools.wraps(function)
    def called(seed: int, replicate: int, **values: Any) -> Any:
        return function(seed=seed + replicate, **values)

    return replicate_option(seed_option(called))
