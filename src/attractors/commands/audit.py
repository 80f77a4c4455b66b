"""Does a model copy its training data? A page, tables and an exit code for anyone's samples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from attractors.cli.devices import device_option, find_device
from attractors.cli.images import range_option
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import stage
from attractors.distances.detection import DISTANCES


class Limit(click.ParamType):
    """A threshold: a distance, or auto."""

    name = "auto|NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return the number or the word, or fail with one line."""
        if value == "auto":
            return value
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            self.fail(f"{value!r}: it must be auto or a number at least 0", param, ctx)
        return number


FILE = click.Path(dir_okay=False)


@stage("audit")
@click.argument("samples", type=click.Path())
@click.argument("training", type=click.Path())
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
@click.option("--size", type=click.IntRange(2), help="K: the training set is the first K images of TRAINING.  "
              "[default: all]")
@click.option("--held-out", type=click.Path(), help="Real images that the model was not trained on.")
@click.option("--against", type=click.Path(), help="Other samples, of another model or checkpoint.")
@click.option("--distance", type=click.Choice([*DISTANCES, "cosine"]), show_default="l2; cosine of features",
              help="L2 or LPIPS of pixels; cosine or l2 of features.")
@click.option("--features", type=FILE, nargs=2, help="Features [n, D] of SAMPLES and of TRAINING, as .npy.")
@click.option("--held-out-features", type=FILE, help="Those of --held-out.")
@click.option("--against-features", type=FILE, help="Those of --against.")
@click.option("--encoder", type=FILE, help="A network that makes features: TorchScript (.pt) or torch.export (.pt2). "
              "Its code is run.")
@click.option("--resize", type=click.IntRange(1), help="Side of the encoder's images in pixels.")
@click.option("--normalise/--no-normalise", "normalised", default=True,
              help="Give the encoder pixels normalised as for ImageNet.")
@click.option("--lpips", type=FILE, help="LPIPS weights.  [default: models/lpips/BACKBONE.safetensors]")
@click.option("--delta-m", type=Limit(), default="auto", help="Memorized at or below this distance to TRAINING.")
@click.option("--delta-s", type=Limit(), default="auto", help="Spurious at or below this distance to other samples.")
@click.option("--fail-above", type=click.FloatRange(0, 1), help="Exit with 3 where the lower end of the interval of "
              "the memorized share is above this.")
@range_option
@device_option
def main(
    samples: str, training: str, out: Path, held_out: str | None, against: str | None, distance: str | None,
    features: tuple[str, str] | None, held_out_features: str | None, against_features: str | None,
    lpips: str | None, fail_above: float | None, values: str | None, device: str, **options: Any,
) -> None:
    """Tell which images of SAMPLES are copies of images of TRAINING, and write a page that shows it.

    Both are .npz, .npy, .pt, .zip or a folder of pictures. OUT gets index.html, pairs.csv, duplicates.csv and
    summary.json.
    """
    from attractors.auditing.audit import audit

    def bar(blocks: Any, count: int, label: str) -> Iterator:
        return iter(progress(blocks, label, "block", total=count))

    for option, images, rows in (("--held-out", held_out, held_out_features), ("--against", against, against_features)):
        if rows and not (images and features):
            raise click.BadParameter(f"needs {option} and --features", param_hint=f"{option}-features")
        if images and features and not rows:
            raise click.BadParameter(f"with --features needs {option}-features", param_hint=option)
    tables = [*(features or ()), *(part for part in (held_out_features, against_features) if part)]
    opened = find_device(device)
    result = audit(
        samples, training, held_out=held_out, against=against, distance=distance, features=tables, values=values,
        lpips=lpips or ROOT / "models" / "lpips" / f"{DISTANCES.get(distance or 'l2')}.safetensors", device=opened,
        folder=out, progress=bar, **options,
    )
    result.write(out)
    for path, words in result.settings["sets"]:
        click.echo(f"{path}: {words}")
    click.echo(f"{result.sentence()}\n{out / 'index.html'}")
    if fail_above is not None and result.memorized.low > fail_above:
        click.echo(f"The memorized share is above {fail_above:g}.", err=True)
        raise SystemExit(3)
