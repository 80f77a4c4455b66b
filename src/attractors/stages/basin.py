"""The basins of attraction of one run: critical times (Alg. 1) and log-volumes (Eqs. 12, 34) of each type of sample."""

import math

import click
import pandas as pd
import torch

from attractors.arrays import write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import out_option, seed_option, stage
from attractors.distances.lpips_embedding import read_embedding
from attractors.files import file_hash
from attractors.landscape.basin import critical_times, euclidean, evaluations, log_volume, search_times
from attractors.landscape.patterns import inputs, left_out, moments, read_inputs
from attractors.tables import write_csv

LPIPS = ROOT / "models" / "lpips" / "vgg.safetensors"


@stage("basin", sweep=True)
@inputs
@click.option("--limit", type=click.IntRange(1), default=512, help="Patterns of each type, and training images.")
@click.option("--trials", type=click.IntRange(1), default=20, help="M, perturbations of each pattern at each time.")
@click.option("--steps", type=click.IntRange(1), default=10, help="N', DDIM steps of each recovery.")
@click.option("--stride", type=click.IntRange(1), default=10, help="s, between the times that are tried.")
@click.option("--delta-p", type=click.FloatRange(0, 1), default=0.8, help="Stop where a smaller share is recovered.")
@click.option("--delta-d", type=click.FloatRange(0), required=True, help="Recovered at or below this distance.")
@click.option(
    "--distance", type=click.Choice(["l2", "lpips_vgg"]), default="lpips_vgg", help="L2 of pixels in [-1, 1], or LPIPS."
)
@click.option(
    "--lpips",
    type=click.Path(dir_okay=False),
    default=LPIPS,
    help="LPIPS weights.",
    show_default="models/lpips/vgg.safetensors",
)
@click.option("--batch", type=click.IntRange(1), default=1000, help="Network evaluations at a time.")
@seed_option
@device_option
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The table to write.")
@out_option
def main(
    sweep, model, selection, synthetic, subset, limit, distance, lpips, seed, device, metrics, out, **search
):  # fmt: skip
    """Find the critical times of the samples in SELECTION and of the first LIMIT training images.

    --out holds t_c and radius of every trial and the log-volume of every pattern; --metrics a row for each type.
    """
    path, device = model, find_device(device)
    model, patterns, size = read_inputs(path, selection, synthetic, subset, limit, limit, device)
    dimensions, measure = math.prod(patterns["training"][0].shape[1:]), euclidean
    if distance == "lpips_vgg":
        embedding = read_embedding(lpips, device)
        if embedding.backbone != "vgg":
            raise ValueError(f"{lpips}: weights of {embedding.backbone}; --distance {distance} needs those of vgg")
        measure = embedding.distance
    arrays, rows = {}, []
    for name, (x, numbers) in patterns.items():
        label = f"basin {sweep['name'] if sweep else ''} K={size} {name}"
        found = critical_times(
            model, x, numbers, seed, distance=measure, **search,
            progress=lambda patterns, label=label: progress(patterns, label, "pattern"),
        )  # fmt: skip
        logs = log_volume(found.radius, dimensions).cpu()
        logs[found.t_c.cpu() == 0] = math.nan  # no ball
        arrays |= {
            f"{name}_numbers": numbers, f"{name}_t_c": found.t_c.cpu().numpy(),
            f"{name}_radius": found.radius.cpu().numpy(), f"{name}_log_volume": logs.nanmean(1).numpy(),
        }  # fmt: skip
        times = len(search_times(model.steps, search["stride"]))
        counted = evaluations(found.searched, search["trials"], search["steps"], times)
        rows.append({
            "K": size, "type": name, "n": len(x), **moments(found.t_c.cpu(), "t_c"), **moments(logs, "log_volume"),
            "unrecovered": (found.t_c == 0).double().mean().item(),
            **dict(zip(("evaluations", "evaluations_together", "evaluations_full"), counted, strict=True)),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    if distance == "l2":  # the ball that comes back within delta_d when nothing is done to it
        table["log_volume_floor"] = log_volume(torch.tensor(search["delta_d"]), dimensions).item()
    write_arrays(out, arrays, model_sha256=file_hash(path), seed=seed, size=size, distance=distance, **search)
    write_csv(metrics, table)
    click.echo(table[["type", "n", "t_c", "log_volume", "unrecovered"]].to_string(index=False, float_format="%.2f"))
    used, (together, full) = table.evaluations.sum(), table[["evaluations_together", "evaluations_full"]].sum()
    click.echo(
        f"{out}, {metrics}: {table.n.sum()} basins at K={size}; {used:,} network evaluations, "
        f"{1 - used / together:.0%} fewer than if patterns of a type stopped together, {1 - used / full:.0%} than never"
        f"{left_out(patterns)}"
    )


if __name__ == "__main__":
    main()
