"""Images of one prompt of a case study, from several noises (D.2): DDIM on the latents of Stable Diffusion."""

import click
import torch

from attractors.arrays import write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.prompts import prompt_of
from attractors.denoisers.latent import generate, read_pipeline, start_noise
from attractors.settings.study import Generation


@stage("sd_generate", study="required", settings=Generation)
@click.option("--prompt", "name", required=True, help="Name of the prompt in the study's file.")
@click.option("--model", help="An id (owner/name), a folder, or a model of this repository.  [default: the study's]")
@seed_option
@device_option
@out_option
def main(study: dict, name: str, model: str | None, seed: int, device: str, out: str, settings: Generation) -> None:
    """Generate images of a prompt in --study, a file as in prompts/. Noise number i is the same for every prompt."""
    noises, steps, guidance = settings.noises, settings.steps, settings.guidance
    entry, device = prompt_of(study, name, study["name"]), find_device(device)
    source = model or study["model"]
    pipeline = read_pipeline(source, device)
    kind = "guided" if entry["prompt"] else "unconditional"
    diffusion = pipeline.diffusion(kind, entry["prompt"], guidance)
    x_T = start_noise(seed, range(noises), pipeline.shape, device)
    latents, images = [], []
    for i in progress(range(noises), f"sd_generate {study['name']} {name}", "image"):
        # One image at a time, so that none depends on the others
        latents.append(generate(diffusion, x_T[i : i + 1], steps, pipeline.offset))
        images.append(pipeline.decode(latents[-1]))
    pixels = ((torch.cat(images) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    record = {"model": source, "kind": kind, "guidance": guidance, "steps": steps, "seed": seed, **entry}
    arrays = {"latents": torch.cat(latents).cpu().numpy(), "images": pixels.cpu().numpy()}
    write_arrays(out, arrays, name=name, maximum=255, **record)
    click.echo(f"{out}: {noises} images of {name} in {steps} steps, {kind}")
