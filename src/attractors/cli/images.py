"""The option of commands that read images from elsewhere: which values are black and white."""

import click

from attractors.data.images import RANGES

range_option = click.option(
    "--range", "values", type=click.Choice(list(RANGES)),
    help="Black and white in sets whose values leave it open: -1 and 1, 0 and 1, or 0 and 255.",
)
