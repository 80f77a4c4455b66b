"""Checkpoints of the authors and of diffusers, made in their form, read as ours; hostile ones do nothing."""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from attractors.arrays import read_arrays, write_arrays
from attractors.commands import export_diffusers, import_checkpoint
from attractors.data.images import read_images
from attractors.denoisers.foreign import (
    aligned,
    forward_order,
    from_authors,
    from_diffusers,
    noise_error,
    read_torch,
    unwrapped,
)
from attractors.denoisers.models import new_model, read_model, write_model
from attractors.denoisers.unet import UNet
from attractors.denoisers.unet_diffusers import config_of
from attractors.stages import neighbours

SHAPE = (1, 8, 8)
SETTINGS = {"width": 32, "multipliers": [1, 2], "blocks": 1, "attention": [4], "dropout": 0.1}


def randomised(seed=0):
    network, random = UNet(SHAPE, None, **SETTINGS), torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=random) * (0.3 if p.ndim == 1 else p[0].numel() ** -0.5)
    return network.eval()


def run(command, *arguments):
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


def layers(network):
    """(weight, bias) of every layer in the order of the forward pass, attention's query, key and value apart."""
    for _, module in network.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == 3 * module.in_features:
            yield from zip(module.weight.data.chunk(3), module.bias.data.chunk(3), strict=True)
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.GroupNorm)):
            yield module.weight.data, module.bias.data


def score_sde_names(network, forward=True):
    """The naming of the score-SDE family: all_modules.N, layers of 1 x 1 as W: [in, out] and b, a buffer beside them.

    forward: the layers of a block registered in the order of the forward pass; else like with like, as some forks do.
    """
    weights, own, number = {"sigmas": torch.linspace(1, 0.01, 1000)}, iter(layers(network)), iter(range(1000))

    def put(*parts):
        module, found = f"all_modules.{next(number)}", {}
        for part in parts:
            weight, bias = next(own)
            layer = f"{module}.{part}" if part else module
            if part.startswith("NIN"):
                found[part] = {f"{layer}.W": weight.flatten(1).T, f"{layer}.b": bias}
            else:
                found[part] = {f"{layer}.weight": weight, f"{layer}.bias": bias}
        for part in parts if forward else sorted(parts):
            weights.update(found[part])

    def block(shortcut):
        put("GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1", *(["NIN_0"] if shortcut else []))

    def attention():
        put("GroupNorm_0", "NIN_0", "NIN_1", "NIN_2", "NIN_3")

    for _ in range(3):  # of the time, and the first convolution
        put("")
    block(shortcut=False)
    put("Conv_0")  # down
    block(shortcut=True)
    attention()
    block(shortcut=False)
    attention()
    block(shortcut=False)
    for _ in range(2):
        block(shortcut=True)
        attention()
    put("Conv_0")  # up
    for _ in range(2):
        block(shortcut=True)
    for _ in range(2):
        put("")
    assert next(own, None) is None
    return weights


def score_sde_fork_names(network):
    return score_sde_names(network, forward=False)


def port_names(network):
    """The naming of the first PyTorch port: temb, down, mid, up; levels of `up` counted from the finest."""
    weights, own = {}, iter(layers(network))

    def put(name, conv=False):
        weight, bias = next(own)
        weights[f"{name}.weight"] = weight[:, :, None, None] if conv else weight
        weights[f"{name}.bias"] = bias

    def block(name, shortcut):
        for part in ("norm1", "conv1", "temb_proj", "norm2", "conv2", *(["nin_shortcut"] if shortcut else [])):
            put(f"{name}.{part}")

    def attention(name):
        put(f"{name}.norm")
        for part in ("q", "k", "v", "proj_out"):
            put(f"{name}.{part}", conv=True)

    for name in ("temb.dense.0", "temb.dense.1", "conv_in"):
        put(name)
    block("down.0.block.0", shortcut=False)
    put("down.0.downsample.conv")
    block("down.1.block.0", shortcut=True)
    attention("down.1.attn.0")
    block("mid.block_1", shortcut=False)
    attention("mid.attn_1")
    block("mid.block_2", shortcut=False)
    for i in range(2):
        block(f"up.1.block.{i}", shortcut=True)
        attention(f"up.1.attn.{i}")
    put("up.1.upsample.conv")
    for i in range(2):
        block(f"up.0.block.{i}", shortcut=True)
    put("norm_out")
    put("conv_out")
    assert next(own, None) is None
    first = {name: value for name, value in weights.items() if name.startswith("up.0")}  # registered first there
    return {name: value for name, value in weights.items() if name not in first} | first


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize("naming", [score_sde_names, score_sde_fork_names, port_names])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_foreign_weights_find_their_layers(naming, prefix):
    network = randomised()
    weights = {prefix + name: value for name, value in naming(network).items()}
    assert equal(aligned(unwrapped(weights), network), network.state_dict())


def test_the_forward_order_of_the_port_puts_the_coarse_levels_of_up_first():
    names = [name.rsplit(".", 1)[0] for name in forward_order(port_names(randomised()))[::2]]
    tops = list(dict.fromkeys(".".join(name.split(".")[:4]) for name in names if name.startswith("up")))
    assert tops[0] == "up.1.block.0"
    assert tops.index("up.1.upsample.conv") < tops.index("up.0.block.0")


def test_weights_of_another_network_are_refused_at_the_layer_that_differs():
    network, weights = randomised(), score_sde_names(randomised())
    bad = weights | {"all_modules.2.weight": torch.zeros(32, 3, 3, 3)}
    with pytest.raises(ValueError, match=r"all_modules.2 of shape \(32, 3, 3, 3\) where input of \(32, 1, 3, 3\)"):
        aligned(bad, network)
    swapped = weights | {"all_modules.0.weight": weights["all_modules.0.weight"].T}
    with pytest.raises(ValueError, match=r"all_modules.0 of shape \(32, 128\) where time.0 of \(128, 32\)"):
        aligned(swapped, network)
    with pytest.raises(ValueError, match=r"all_modules\.99 has no counterpart"):
        aligned(weights | {"all_modules.99.weight": torch.zeros(1), "all_modules.99.bias": torch.zeros(1)}, network)
    last = max(int(name.split(".")[1]) for name in weights if name != "sigmas")
    with pytest.raises(ValueError, match=r"the weights end where output of \(1, 32, 3, 3\) should be"):
        aligned({name: value for name, value in weights.items() if f".{last}." not in name}, network)


@pytest.fixture
def authors(tmp_path, monkeypatch):
    """A checkpoint as the authors' train_unet.py writes it, with its options in classes of a module of theirs."""
    parse_utils = types.ModuleType("parse_utils")
    groups = {
        "DataOptions": {"data_name": "mnist", "data_path": "../data", "results_path": "results"},
        "TrainOptions": {"train_size": 500, "global_seed": 3407, "timesteps": 1000, "prediction_type": "epsilon",
                         "beta_schedule": "linear", "lr": 2e-4, "ema_decay": 0.9999},
        "ModelOptions": {"image_size": 8, "in_channels": 1, "dim": 32, "dim_mults": (1, 2), "attn_resolutions": (4,),
                         "num_res_blocks": 1, "dropout": 0.1, "conditional": True, "resamp_with_conv": True,
                         "nonlinearity": "swish", "scale_by_sigma": False},
    }
    for name, values in groups.items():
        cls = dataclasses.make_dataclass(name, [(key, type(value), value) for key, value in values.items()])
        cls.__module__ = "parse_utils"
        setattr(parse_utils, name, cls)
    monkeypatch.setitem(sys.modules, "parse_utils", parse_utils)

    def write(path, weights, **changes):
        args = argparse.Namespace(config_path=pathlib.PurePosixPath("x"))
        args.config_path = pathlib.Path("configs/mnist.yaml")
        for key, name in (("data", "DataOptions"), ("train", "TrainOptions"), ("model", "ModelOptions")):
            options = {k: v for k, v in changes.items() if k in groups[name]}
            setattr(args, key, getattr(parse_utils, name)(**options))
        optimiser = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.999)}]}
        torch.save({"model": weights, "ema": weights, "opt": optimiser, "args": args, "iterations": 400_000}, path)
        return path

    yield write
    del sys.modules["parse_utils"]


def test_a_checkpoint_of_the_authors_is_read_without_their_code(authors, tmp_path):
    network = randomised()
    path = authors(tmp_path / "500.pt", {f"module.{k}": v for k, v in score_sde_names(network).items()})
    sys.modules.pop("parse_utils")
    result = run(import_checkpoint, path, "--no-check", "--out", tmp_path / "m")
    sys.modules["parse_utils"] = None  # so that the fixture can take it away
    assert result.exit_code == 0, result.output
    model, record = read_model(tmp_path / "m")
    assert equal(model.network.state_dict(), network.state_dict())
    assert (record["size"], record["step"], record["image_shape"]) == (500, 400_000, list(SHAPE))
    x, t = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 999])
    assert torch.equal(model.noise_prediction(x, t), network(x, t))
    assert (model.steps, model.betas[-1].item()) == (1000, 0.02)


@pytest.mark.parametrize(("changes", "message"), [
    ({"prediction_type": "sample"}, "it predicts sample with linear betas"),
    ({"conditional": False}, "a network other than B.4's"),
    ({"dim": 64}, r"all_modules.0 of shape \(128, 32\) where time.0 of \(256, 64\)"),
])
def test_a_checkpoint_of_another_kind_is_refused(authors, tmp_path, changes, message):
    path = authors(tmp_path / "x.pt", score_sde_names(randomised()), **changes)
    with pytest.raises(ValueError, match=message):
        from_authors(path)


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


@pytest.mark.parametrize("where", ["args", "ema", "whole"])
def test_a_malicious_checkpoint_does_nothing_and_gets_a_clear_error(tmp_path, where):
    bomb, path = Malicious(f"touch {tmp_path / 'run'}"), tmp_path / "500.pt"
    torch.save(bomb if where == "whole" else {"ema": {}, "args": {}, "iterations": 1} | {where: bomb}, path)
    result = run(import_checkpoint, path, "--out", tmp_path / "m")
    assert result.exit_code == 1
    name = f"{os.system.__module__}.system"
    assert result.output.strip() == f"Error: {path}: more than weights; it asks for {name}, which is refused"
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "m").exists()


def test_a_malicious_weight_file_of_diffusers_does_nothing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config_of(SETTINGS, SHAPE)))
    torch.save({"x": Malicious(f"touch {tmp_path / 'run'}")}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model.bin: more than weights; it asks for"):
        from_diffusers(tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x80\x04not a pickle"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pt: "):
        read_torch(tmp_path / "x.pt")
    torch.save({"state_dict": {}}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match=r"y.pt: not a checkpoint of the authors' \(no 'args'\)"):
        from_authors(tmp_path / "y.pt")


def test_weights_in_the_wrong_layers_are_noticed_by_what_they_do_to_pure_noise(authors, tmp_path):
    """A network that returns nine tenths of its input is off by 0.01, an untrained one, which returns 0, by 1."""
    assert noise_error(model_with(UNet(SHAPE, None, **SETTINGS)), SHAPE) == pytest.approx(1, abs=0.1)

    class Echo(nn.Module):
        def forward(self, x, t):
            return 0.9 * x

    assert noise_error(model_with(Echo()), SHAPE) == pytest.approx(0.01, abs=0.001)
    path = authors(tmp_path / "500.pt", score_sde_names(randomised()))
    result = run(import_checkpoint, path, "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert "takes pure noise for something else" in result.output
    assert not (tmp_path / "m").exists()


def model_with(network):
    model = new_model({"name": "unet", **SETTINGS}, {}, SHAPE, 0, None)
    model.network = network
    return model.eval()


def test_a_u_net_on_patches_is_refused_where_diffusers_has_none(tmp_path):
    network = {"name": "unet", **SETTINGS, "patch": 2}
    weights = new_model(network, {}, SHAPE, 0, None).state_dict()
    write_model(tmp_path / "a", weights, size=7, network=network, diffusion={}, image_shape=list(SHAPE), seed=0)
    result = run(export_diffusers, tmp_path / "a", "--out", tmp_path / "folder")
    assert (result.exit_code, "on patches of 2 pixels" in result.output) == (1, True)
    assert not (tmp_path / "folder").exists()


def test_our_model_goes_to_diffusers_and_comes_back(tmp_path):
    model = model_with(randomised())
    record = {"network": {"name": "unet", **SETTINGS}, "diffusion": {}, "image_shape": list(SHAPE), "seed": 0}
    write_model(tmp_path / "a", model.state_dict(), size=7, **record)
    assert run(export_diffusers, tmp_path / "a", "--out", tmp_path / "folder").exit_code == 0
    result = run(import_checkpoint, tmp_path / "folder", "--out", tmp_path / "b", "--no-check")
    assert result.exit_code == 1
    assert "--size" in result.output
    result = run(import_checkpoint, tmp_path / "folder", "--out", tmp_path / "b", "--no-check", "--size", 7)
    assert result.exit_code == 0, result.output
    back, record = read_model(tmp_path / "b")
    assert equal(back.state_dict(), model.state_dict())
    assert torch.equal(back.betas, model.betas)
    assert record["size"] == 7


def test_diffusers_draws_the_same_images_from_the_folder(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: no second implementation")
    from attractors.denoisers.samplers import ancestral

    model = model_with(randomised())
    record = {"network": {"name": "unet", **SETTINGS}, "diffusion": {"steps": 20}, "image_shape": list(SHAPE),
              "seed": 0}
    model = new_model(record["network"], record["diffusion"], SHAPE, 0, None)
    model.network = randomised()
    write_model(tmp_path / "a", model.state_dict(), size=7, **record)
    run(export_diffusers, tmp_path / "a", "--out", tmp_path / "folder")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "folder", local_files_only=True)
    noise = torch.randn(21, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
    ours = ancestral(model.eval(), iter(noise))
    x, scheduler = noise[0], pipeline.scheduler
    scheduler.set_timesteps(20)
    for t, z in zip(scheduler.timesteps, noise[1:], strict=True):
        with torch.no_grad():
            output = pipeline.unet(x, t).sample
        moved = scheduler.step(output, t, x, generator=torch.Generator().manual_seed(2))
        if t > 0:  # their noise, taken out, and ours put in
            theirs = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
            deviation = scheduler._get_variance(t) ** 0.5
            x = moved.prev_sample + deviation * (z - theirs)
        else:
            x = moved.prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-3)


def test_synthetic_sets_of_the_authors_from_one_file_or_many(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)
    options = np.array(types.SimpleNamespace(train_size=2), dtype=object)  # a pickle, which is not read
    np.savez(tmp_path / "2.npz", samples=samples, args=options)
    (tmp_path / "many").mkdir()
    np.savez_compressed(tmp_path / "many" / "aXbQz.npz", samples=samples[:4])
    np.savez_compressed(tmp_path / "many" / "bXbQz.npz", samples=samples[4:])
    for source in ("2.npz", "many"):
        result = run(import_checkpoint, tmp_path / source, "--out", tmp_path / "s")
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(read_images(tmp_path / "s"), samples)


def test_neighbours_of_a_folder_of_pictures_in_an_archive(tmp_path):
    random = np.random.default_rng(1)
    training = random.integers(0, 256, (9, 3, 10, 10), np.uint8)
    np.savez(tmp_path / "s.npz", images=training)
    (tmp_path / "pictures").mkdir()
    for i, number in enumerate((4, 7, 4)):
        Image.fromarray(training[number].transpose(1, 2, 0)).save(tmp_path / "pictures" / f"{i}.png")
    arguments = ["--synthetic", tmp_path / "pictures", "--training", tmp_path / "s.npz", "--out", tmp_path / "n"]
    result = run(neighbours, *arguments, "--k", 1)
    assert result.exit_code == 0, result.output
    arrays, record = read_arrays(tmp_path / "n")
    assert arrays["training_indices"][:, 0].tolist() == [4, 7, 4]
    assert arrays["synthetic_indices"][:, 0].tolist() == [2, 0, 0]
    assert arrays["training_distances"].max() == 0
    assert (record["size"], record["count"], record["distance"]) == (9, 3, "l2")


def test_lpips_neighbours_of_the_stage_are_those_of_the_lpips_package(tmp_path, monkeypatch):
    import lpips
    from sklearn.datasets import load_sample_images

    from attractors.distances.lpips_embedding import weights_hash

    torch.manual_seed(0)
    metric = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    weights = {f"head_{i}": head.model[-1].weight.flatten().numpy() for i, head in enumerate(metric.lins)}
    convolutions = [layer for layer in metric.net.modules() if isinstance(layer, nn.Conv2d)]
    for i, layer in enumerate(convolutions):
        weights |= {f"convolution_{i}.{name}": getattr(layer, name).numpy() for name in ("weight", "bias")}
    write_arrays(tmp_path / "alex", weights, backbone="alex", weights_sha256=weights_hash(weights))
    photograph = load_sample_images().images[0]
    patches = np.stack([photograph[i : i + 32, j : j + 32] for i in range(0, 160, 40) for j in range(0, 200, 40)])
    np.savez(tmp_path / "s.npz", images=patches[:12])
    np.savez(tmp_path / "t.npz", images=np.concatenate([patches[12:], patches[:1]]))
    files = ["--synthetic", tmp_path / "t.npz", "--training", tmp_path / "s.npz", "--out", tmp_path / "n"]
    result = run(neighbours, *files, "--distance", "lpips_alex", "--lpips", tmp_path / "alex", "--k", 3, "--size", 10)
    assert result.exit_code == 0, result.output
    arrays, record = read_arrays(tmp_path / "n")
    s, t = (torch.from_numpy(read_images(tmp_path / name)) for name in ("s.npz", "t.npz"))
    expected = torch.stack([metric(one.expand_as(s[:10]), s[:10]).flatten() for one in t])
    np.testing.assert_array_equal(arrays["training_indices"], expected.argsort(dim=1, stable=True)[:, :3])
    np.testing.assert_allclose(arrays["training_distances"], expected.sort(1).values[:, :3], rtol=1e-4, atol=1e-6)
    assert arrays["training_distances"][-1, 0] == 0
    assert record["distance"] == "lpips_alex"
    spacing = torch.stack([metric(one.expand_as(s[:10]), s[:10]).flatten() for one in s[:10]])
    spacing.fill_diagonal_(float("inf"))
    np.testing.assert_allclose(arrays["training_spacing"], spacing.min(1).values, rtol=1e-4)
    result = run(neighbours, *files, "--distance", "lpips_vgg", "--lpips", tmp_path / "alex")
    assert "weights of alex; --distance lpips_vgg needs those of vgg" in result.output


def diffusers_folder(folder, seed=0, unet=None, **scheduler):
    """A folder of diffusers of a random U-Net, with changes to its configurations; returns it and its state dict."""
    model = model_with(randomised(seed))
    record = {"network": {"name": "unet", **SETTINGS}, "diffusion": {}, "image_shape": list(SHAPE), "seed": 0}
    write_model(folder.with_suffix(".safetensors"), model.state_dict(), size=7, **record)
    assert run(export_diffusers, folder.with_suffix(".safetensors"), "--out", folder).exit_code == 0
    for path, changes in (("unet/config.json", unet or {}), ("scheduler/scheduler_config.json", scheduler)):
        content = json.loads((folder / path).read_text("utf-8")) | changes
        (folder / path).write_text(json.dumps(content), "utf-8")
    return folder, model.state_dict()


def import_folder(folder, out, *options):
    return run(import_checkpoint, folder, "--no-check", "--size", 7, "--out", out, *options)


@pytest.mark.parametrize(("changes", "words"), [
    ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True, which makes another schedule"),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "a model for FlowMatchEulerDiscreteScheduler"),
    ({"_class_name": "ScoreSdeVeScheduler"}, "a model for ScoreSdeVeScheduler"),
    ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas is True"),
    ({"variance_type": "learned_range"}, "also learns variances"),
    ({"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2 betas"),
    ({"trained_betas": [0.1] * 1000}, "epsilon or v_prediction, linear are read"),
    ({"prediction_type": "sample"}, "prediction sample"),
    ({"beta_start": 0.02, "beta_end": 0.0001}, "d: diffusion: beta_min is 0.02; it must be at most beta_max"),
])
def test_what_changes_the_schedule_or_the_prediction_is_refused(tmp_path, changes, words):
    folder, _ = diffusers_folder(tmp_path / "d", **changes)
    result = import_folder(folder, tmp_path / "m")
    assert result.exit_code == 1, result.output
    (line,) = result.output.strip().splitlines()
    assert words in line
    assert not (tmp_path / "m").exists()


def test_what_of_a_sampler_is_not_kept_is_named(tmp_path):
    folder, state = diffusers_folder(tmp_path / "d", _class_name="DDIMScheduler", variance_type="fixed_large",
                                     clip_sample=False, beta_end=0.03)
    result = import_folder(folder, tmp_path / "m")
    assert result.exit_code == 0, result.output
    for words in ("variance_type 'fixed_large'", "clip_sample False", "the sampler of DDIMScheduler"):
        assert f"not kept: {words}" in result.output
    model, _ = read_model(tmp_path / "m")
    assert model.betas[-1].item() == pytest.approx(0.03)
    assert equal(model.state_dict(), state)


def test_the_only_variant_of_the_weights_is_taken_and_several_are_listed(tmp_path):
    from safetensors.torch import load_file, save_file

    folder, state = diffusers_folder(tmp_path / "d")
    usual = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(usual)
    usual.unlink()
    halves = {name: value.half() for name, value in weights.items()}
    save_file(halves, usual.with_name("diffusion_pytorch_model.fp16.safetensors"), {"format": "pt"})
    result = import_folder(folder, tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "diffusion_pytorch_model.fp16.safetensors, the only variant there" in result.output
    model, _ = read_model(tmp_path / "m")
    assert equal(model.state_dict(), {name: value.half().float() for name, value in state.items()})
    save_file(halves, usual.with_name("diffusion_pytorch_model.non_ema.safetensors"), {"format": "pt"})
    result = import_folder(folder, tmp_path / "m2")
    assert result.exit_code == 1
    assert "it holds diffusion_pytorch_model.fp16.safetensors, diffusion_pytorch_model.non_ema.saf" in result.output
    for path in usual.parent.glob("*.safetensors"):
        path.unlink()
    names = sorted(weights)
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = usual.with_name(f"diffusion_pytorch_model-0000{i}-of-00002.safetensors")
        save_file({name: weights[name] for name in part}, file, {"format": "pt"})
    assert import_folder(folder, tmp_path / "m3").exit_code == 0
    assert equal(read_model(tmp_path / "m3")[0].state_dict(), state)
    save_file({name: value / 0 for name, value in weights.items()}, usual, {"format": "pt"})
    assert "NaN or infinity" in import_folder(folder, tmp_path / "m4").output


def test_a_folder_of_the_hub_s_cache_is_read_at_its_main_revision(tmp_path):
    cache = tmp_path / "models--someone--ddpm"
    (cache / "refs").mkdir(parents=True)
    for revision in ("aaa", "bbb"):
        folder, state = diffusers_folder(tmp_path / revision, seed=len(revision) + (revision == "bbb"))
        (cache / "snapshots").mkdir(exist_ok=True)
        folder.rename(cache / "snapshots" / revision)
    assert "2 revisions in snapshots/" in import_folder(cache, tmp_path / "m").output
    (cache / "refs" / "main").write_text("bbb")
    result = import_folder(cache, tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert equal(read_model(tmp_path / "m")[0].state_dict(), state)


def test_sample_size_is_a_side_a_pair_or_given(tmp_path):
    for name, size, options, shape in (("square", [8, 8], [], [1, 8, 8]),
                                       ("null", None, ["--image-size", 8], [1, 8, 8])):
        folder, _ = diffusers_folder(tmp_path / name, unet={"sample_size": size})
        if size is None:
            refused = import_folder(folder, tmp_path / "m")
            assert "sample_size is null; --image-size says" in refused.output
        result = import_folder(folder, tmp_path / "m", *options)
        assert result.exit_code == 0, result.output
        model, record = read_model(tmp_path / "m")
        assert record["image_shape"] == shape
        assert model.noise_prediction(torch.zeros(1, *shape), 3).shape == (1, *shape)
    folder, _ = diffusers_folder(tmp_path / "wide", unet={"sample_size": [8, 16]})
    assert "images of 8 x 16 pixels" in import_folder(folder, tmp_path / "m").output
    folder, _ = diffusers_folder(tmp_path / "words", unet={"sample_size": "8"})
    assert "sample_size is '8'" in import_folder(folder, tmp_path / "m").output


def test_numpy_s_scalars_in_a_checkpoint_are_plain_numbers_and_its_objects_are_refused(tmp_path):
    numbers = [np.int64(-5), np.float32(0.5), np.bool_(True), np.dtype(">i4").type(7)]
    torch.save({"numbers": numbers}, tmp_path / "x.pt")
    found = read_torch(tmp_path / "x.pt")["numbers"]
    assert found == [-5, 0.5, True, 7]
    assert {type(number) for number in found} == {int, float, bool}

    class Scalar:
        def __reduce__(self):
            return np._core.multiarray.scalar, (np.dtype("O"), b"cos\nsystem\n(S'touch run'\ntR.")

    torch.save({"numbers": Scalar()}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match=r"y\.pt: "):
        read_torch(tmp_path / "y.pt")
