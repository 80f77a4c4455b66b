"""Draw the synthetic set S' of one trained model."""

from collections.abc import Iterator
from typing import Any

import click

from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.denoisers import acceleration
from attractors.denoisers.checkpoints import Rows
from attractors.denoisers.models import read_model
from attractors.denoisers.samplers import ancestral, sample_noise
from attractors.files import file_hash
from attractors.settings.acceleration import Computation
from attractors.settings.sample import Sampling


@stage("sample", sweep=True, settings=Sampling, computation=Computation)
@click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained model.")
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict | None, model: str, seed: int, device: str, out: str, settings: Sampling, computation: Computation
) -> None:
    """Draw max(RATIO x K, FLOOR) samples by 1,000-step ancestral DDPM (B.4).

    Sample number i has its own random stream, whatever the batch size and the number of samples. Samples are written
    a batch at a time; a killed run goes on after its last batch, to the same bytes.
    """
    device = find_device(device)
    path, (model, trained) = model, read_model(model, device)
    faster = acceleration.chosen(device, **computation.model_dump(), network=trained["network"]["name"])
    acceleration.accelerate(model.network, faster)
    ratio, floor, batch = settings.ratio, settings.floor, settings.batch
    count, shape = max(int(ratio * trained["size"]), floor), tuple(trained["image_shape"])
    record = {"model_sha256": file_hash(path), "seed": seed, "ratio": ratio, "floor": floor, **faster.record()}
    rows = Rows(out, __file__, device, "images", (count, *shape), record, batch)
    label = f"sample {sweep['name'] if sweep else ''} K={trained['size']}"
    done, total = rows.done * model.steps, count * model.steps
    with progress(None, label, "evaluation", unit_scale=True, initial=done, total=total) as bar:
        for start in range(rows.done, count, batch):
            indices = range(start, min(start + batch, count))
            drawn = len(indices)

            def ticking(steps: range, drawn: Any = drawn) -> Iterator[int]:
                for step in steps:
                    yield step
                    bar.update(drawn)

            noise = sample_noise(seed, indices, shape, model.steps, device)
            rows.append(ancestral(model, noise, ticking).cpu().numpy())
    rows.finish()
    click.echo(f"{out}: {count:,} samples of {path}")


if __name__ == "__main__":
    main()
