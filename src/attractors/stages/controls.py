"""Do memorized, spurious and generalized samples appear without learning? Closed forms at several sizes of S."""

import click
import numpy as np
import pandas as pd
import torch

from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.images import read_images
from attractors.distances.neighbours import nearest
from attractors.settings.network import model_settings
from attractors.settings.states import Controls
from attractors.states.controls import control_samples, described
from attractors.tables import write_csv


@stage("controls", sweep="required", settings=Controls)
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@click.option("--size", "sizes", type=click.IntRange(2), multiple=True, required=True, help="K, once for each.")
@click.option("--width", "widths", type=float, multiple=True,
              help="h of the smoothed denoiser, in units of the median spacing of S_K over sqrt(N), once for each.")
@click.option("--kernel", type=click.Choice(["input", "images"]), default="input", help="What is smoothed.")
@click.option("--side", "sides", type=click.IntRange(1), multiple=True, help="Side of the patches of a local denoiser.")
@click.option("--per-noise", type=float, default=0.0, help="Side of the patches in units of the noise level.")
@click.option("--place", type=click.Choice(["same", "any"]), default="same", help="Where patches are compared.")
@seed_option
@device_option
@out_option
def main(
    sweep: dict, subset: str, sizes: tuple[int, ...], widths: tuple[float, ...], kernel: str, sides: tuple[int, ...],
    per_noise: float, place: str, seed: int, device: str, out: str, settings: Controls,
) -> None:
    """Draw samples of denoisers in closed form, and write the shares of their types to the table --out.

    The threshold of both distances is a quarter of the median spacing of S_K.
    """
    place_of_tensors, rows = find_device(device), []
    diffusion = model_settings(sweep)["diffusion"]
    for K in sizes:
        s = np.ascontiguousarray(read_images(subset, K))
        flat = s.reshape(K, -1)
        spacing = float(np.median(nearest(flat, flat, 1, True)[0].cpu().numpy()))
        unit = spacing / flat.shape[1] ** 0.5
        networks = [{"name": "smoothed", "width": h * unit, "kernel": kernel} for h in widths]
        networks += [{"name": "local", "side": side, "per_noise": per_noise, "place": place} for side in sides]
        for network, value in zip(networks, (*widths, *sides), strict=True):
            label = f"controls K={K}, {network['name']} {value:g}"
            samples = control_samples(
                network, diffusion, torch.from_numpy(s).to(place_of_tensors), settings.samples, settings.steps, seed,
                settings.batch, lambda blocks: progress(blocks, label, "block"),  # noqa: B023
            )
            key = {"K": K, "network": network["name"], "kind": network.get("kernel") or place, "value": value}
            rows.append(key | {"spacing": spacing, "delta": spacing / 4} | described(samples, s, spacing / 4))
    if not rows:
        raise click.UsageError("give --width or --side")
    table = pd.DataFrame(rows)
    write_csv(out, table)
    click.echo(table.to_string(index=False, float_format="%.3f"))
