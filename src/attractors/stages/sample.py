"""Draw the synthetic set S' of one trained model."""

import click
import torch

from attractors.arrays import write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.denoisers import acceleration
from attractors.denoisers.models import read_model
from attractors.denoisers.samplers import ancestral, sample_noise
from attractors.files import file_hash


@stage("sample", sweep=True)
@click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained model.")
@click.option("--ratio", type=click.FloatRange(0, min_open=True), default=4, help="|S'| / K; the paper uses 4 and 8.")
@click.option("--floor", type=click.IntRange(1), default=1, help="Draw at least this many samples, whatever K.")
@click.option("--batch", type=click.IntRange(1), default=1024, help="Samples drawn at a time.")
@acceleration.options
@seed_option
@device_option
@out_option
def main(sweep, model, ratio, floor, batch, seed, device, out, precision, channels_last, compile):
    """Draw max(RATIO x K, FLOOR) samples by 1,000-step ancestral DDPM (B.4).

    Sample number i has its own random stream, whatever the batch size and the number of samples.
    """
    device = find_device(device)
    path, (model, record) = model, read_model(model, device)
    faster = acceleration.chosen(device, precision, channels_last, compile)
    acceleration.accelerate(model.network, faster)
    count, shape = max(int(ratio * record["size"]), floor), tuple(record["image_shape"])
    samples = []
    label = f"sample {sweep['name'] if sweep else ''} K={record['size']}"
    with progress(range(count * model.steps), label, unit="evaluation", unit_scale=True) as bar:
        for start in range(0, count, batch):
            indices = range(start, min(start + batch, count))
            drawn = len(indices)

            def ticking(steps, drawn=drawn):
                for step in steps:
                    yield step
                    bar.update(drawn)

            samples.append(ancestral(model, sample_noise(seed, indices, shape, model.steps, device), ticking).cpu())
    images = torch.cat(samples).numpy()
    write_arrays(
        out, {"images": images}, model_sha256=file_hash(path), seed=seed, ratio=ratio, floor=floor, **faster.record()
    )
    click.echo(f"{out}: {count:,} samples of {path}")


if __name__ == "__main__":
    main()
