"""The command line of a stage that measures chosen samples and training images of a trained model."""

import functools
from collections.abc import Callable
from typing import Any

import click

from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import Stage, out_option, seed_of_replicate, stage
from attractors.landscape.patterns import check_time, measure_patterns, read_patterns, summary
from attractors.measurements.registry import quantity

FILES = (
    click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained model."),
    click.option("--neighbours", type=click.Path(dir_okay=False), required=True, help="As neighbours writes them."),
    click.option("--synthetic", type=click.Path(), required=True, help="The synthetic set S'."),
    click.option("--subset", type=click.Path(), required=True, help="Images in subset order: S is the first K."),
)


def measurement(name: str) -> Callable[[Callable], Stage]:
    """Make the stage called `name` of a function (patterns, settings, ...) -> `patterns.Measurement`.

    The function gets the `ModelPatterns` to measure, an instance of each section of settings of
    attractors.measurements.NAME, and the values of the options that it has besides. The model must have the time t0 of
    the settings, where they have one.
    """

    def decorate(function: Any) -> Stage:
        @functools.wraps(function)
        def main(
            sweep: dict | None, model: str, neighbours: str, synthetic: str, subset: str, seed: int, device: str,
            out: str, settings: Any, **others: Any,
        ) -> None:
            patterns = read_patterns(model, neighbours, synthetic, subset, settings, seed, find_device(device))
            if hasattr(settings, "t0"):
                check_time(settings.t0, patterns.model, model)
            how = function(patterns, settings, **others)
            label = f"{name} {sweep['name'] if sweep else ''} K={patterns.size}"
            with progress(None, label, "pattern", total=len(patterns.numbers)) as bar:
                measured = measure_patterns(
                    out, function.__code__.co_filename, patterns, how, settings.standard_error, bar.update
                )
            click.echo(f"{out}: {how.sentence(summary(patterns, measured), measured.results)}")

        called: Any = seed_of_replicate(device_option(out_option(main)))
        for option in reversed(FILES):
            called = option(called)
        sections: dict[str, Any] = quantity(name).settings
        return stage(name, sweep=True, **sections)(called)

    return decorate
