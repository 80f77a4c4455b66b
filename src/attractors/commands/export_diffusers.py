"""Write a model of this pipeline for diffusers, as a folder that DDPMPipeline.from_pretrained reads."""

from pathlib import Path

import click
from safetensors.torch import save_file

from attractors.cli.stage import stage
from attractors.denoisers.models import read_model
from attractors.denoisers.unet import UNet
from attractors.denoisers.unet_diffusers import config_of, to_diffusers
from attractors.tables import write_json

WEIGHTS = "diffusion_pytorch_model.safetensors"
PREDICTIONS = {"noise": "epsilon", "velocity": "v_prediction", "image": "sample"}


@stage("export_diffusers")
@click.argument("path", type=click.Path(dir_okay=False))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
def main(path: str, out: Path) -> None:
    """Write the U-Net in PATH and its noise schedule to the folder OUT in the layout of diffusers' DDPMPipeline."""
    model, record = read_model(path)
    if record["network"]["name"] != "unet":
        raise ValueError(f"{path}: a network of kind {record['network']['name']}; diffusers has a counterpart of unet")
    assert isinstance(model.network, UNet)
    settings = model.network.settings
    if model.network.patch > 1:
        raise ValueError(f"{path}: a U-Net on patches of {model.network.patch} pixels; diffusers has no counterpart")
    weights = to_diffusers(model.network.state_dict(), settings)
    (out / "unet").mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, out / "unet" / WEIGHTS, {"format": "pt"})
    write_json(
        out / "unet" / "config.json", {"_class_name": "UNet2DModel", **config_of(settings, record["image_shape"])}
    )
    write_json(out / "scheduler" / "scheduler_config.json", {
        "_class_name": "DDPMScheduler", "beta_schedule": "linear", "beta_start": model.betas[0].item(),
        "beta_end": model.betas[-1].item(), "clip_sample": True, "num_train_timesteps": model.steps,
        "prediction_type": PREDICTIONS[model.prediction], "variance_type": "fixed_small",
    })
    write_json(out / "model_index.json", {
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"],
    })
    click.echo(f"{out}: {len(weights)} tensors for diffusers' DDPMPipeline")
