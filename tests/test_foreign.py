"""Checkpoints of the authors and of diffusers, made in their form, read as ours; hostile ones do nothing."""

import json
import os
import types

import authors_checkpoint
import numpy as np
import pytest
import torch
from builders import lpips_file, model_file, randomised, refused, run, weights_of
from PIL import Image
from torch import nn

from attractors.arrays import read_arrays
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
from attractors.denoisers.models import new_model, read_model
from attractors.denoisers.unet import UNet
from attractors.denoisers.unet_diffusers import config_of

SHAPE = (1, 8, 8)
SETTINGS = {"width": 32, "multipliers": [1, 2], "blocks": 1, "attention": [4], "dropout": 0.1}
NETWORK = {"name": "unet", **SETTINGS}


def unet(seed=0):
    return randomised(UNet(SHAPE, None, **SETTINGS), seed)


def score_sde_names(network):
    """The naming of the score-SDE family: all_modules.N, layers of 1 x 1 as W: [in, out] and b, and a buffer."""
    return {"sigmas": torch.linspace(1, 0.01, 1000)} | authors_checkpoint.named(network)


def score_sde_fork_names(network):
    """As some forks do: within a module like layers with like, not in the order of the forward pass."""
    def place(item):
        parts = item[0].split(".")
        return (int(parts[1]), parts[2] if len(parts) == 4 else "") if len(parts) > 1 else (-1, "")

    return dict(sorted(score_sde_names(network).items(), key=place))


def port_names(network):
    """The naming of the first PyTorch port: temb, down, mid, up; levels of `up` counted from the finest."""
    def block(name, *shortcut):
        return [f"{name}.{part}" for part in ("norm1", "conv1", "temb_proj", "norm2", "conv2", *shortcut)]

    def attention(name):
        return [f"{name}.{part}" for part in ("norm", "q", "k", "v", "proj_out")]

    def up(level, attended):
        blocks = [(block(f"up.{level}.block.{i}", "nin_shortcut"), attention(f"up.{level}.attn.{i}")) for i in (0, 1)]
        return [name for one, other in blocks for name in (one + other if attended else one)]

    names = [
        "temb.dense.0", "temb.dense.1", "conv_in", *block("down.0.block.0"), "down.0.downsample.conv",
        *block("down.1.block.0", "nin_shortcut"), *attention("down.1.attn.0"), *block("mid.block_1"),
        *attention("mid.attn_1"), *block("mid.block_2"), *up(1, True), "up.1.upsample.conv", *up(0, False),
        "norm_out", "conv_out",
    ]
    weights = {}
    for name, (weight, bias) in zip(names, layers(network), strict=True):
        conv = name.endswith((".q", ".k", ".v", ".proj_out"))
        weights |= {f"{name}.weight": weight[:, :, None, None] if conv else weight, f"{name}.bias": bias}
    first = {name: value for name, value in weights.items() if name.startswith("up.0")}  # registered first there
    return {name: value for name, value in weights.items() if name not in first} | first


def layers(network):
    """(weight, bias) of every layer in the order of the forward pass, attention's query, key and value apart."""
    for _, module in network.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == 3 * module.in_features:
            yield from zip(module.weight.data.chunk(3), module.bias.data.chunk(3), strict=True)
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.GroupNorm)):
            yield module.weight.data, module.bias.data


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize("naming", [score_sde_names, score_sde_fork_names, port_names])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_foreign_weights_find_their_layers(naming, prefix):
    network = unet()
    weights = {prefix + name: value for name, value in naming(network).items()}
    assert equal(aligned(unwrapped(weights), network), network.state_dict())


def test_the_forward_order_of_the_port_puts_the_coarse_levels_of_up_first():
    names = [name.rsplit(".", 1)[0] for name in forward_order(port_names(unet()))[::2]]
    tops = list(dict.fromkeys(".".join(name.split(".")[:4]) for name in names if name.startswith("up")))
    assert tops[0] == "up.1.block.0"
    assert tops.index("up.1.upsample.conv") < tops.index("up.0.block.0")


def test_weights_of_another_network_are_refused_at_the_layer_that_differs():
    network, weights = unet(), score_sde_names(unet())
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
def authors(tmp_path):
    """A function: changes of its options to a checkpoint as the authors' train_unet.py writes it."""
    def write(**changes):
        (tmp_path / "500.pt").write_bytes(authors_checkpoint.checkpoint(unet(), **changes))
        return tmp_path / "500.pt"

    return write


def test_a_checkpoint_of_the_authors_is_read_without_their_code(authors, tmp_path):
    network = unet()
    run(import_checkpoint, authors(), "--no-check", "--out", tmp_path / "m")
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
def test_a_checkpoint_of_another_kind_is_refused(authors, changes, message):
    path = authors(**changes)
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
    line = refused(import_checkpoint, path, "--out", tmp_path / "m")
    name = f"{os.system.__module__}.system"
    assert line == f"Error: {path}: more than weights; it asks for {name}, which is refused"
    assert not (tmp_path / "run").exists() and not (tmp_path / "m").exists()


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
    assert "takes pure noise for something else" in refused(import_checkpoint, authors(), "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def model_with(network):
    model = new_model(NETWORK, {}, SHAPE, 0, None)
    model.network = network
    return model.eval()


def our_file(path, seed=0, network=NETWORK, **diffusion):
    """The file of a random U-Net; returns its model."""
    def change(model):
        model.network = unet(seed) if network is NETWORK else model.network

    return model_file(path, network, SHAPE, 7, diffusion, seed=0, change=change).eval()


def test_a_u_net_on_patches_is_refused_where_diffusers_has_none(tmp_path):
    our_file(tmp_path / "a", network={**NETWORK, "patch": 2})
    assert "on patches of 2 pixels" in refused(export_diffusers, tmp_path / "a", "--out", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_our_model_goes_to_diffusers_and_comes_back(tmp_path):
    folder, model = diffusers_folder(tmp_path / "folder")
    assert "--size" in refused(import_checkpoint, folder, "--out", tmp_path / "b", "--no-check")
    import_folder(folder, tmp_path / "b")
    back, record = read_model(tmp_path / "b")
    assert equal(back.state_dict(), model.state_dict()) and torch.equal(back.betas, model.betas)
    assert record["size"] == 7


def test_diffusers_draws_the_same_images_from_the_folder(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: no second implementation")
    from attractors.denoisers.samplers import ancestral

    model = our_file(tmp_path / "a", steps=20)
    run(export_diffusers, tmp_path / "a", "--out", tmp_path / "folder")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "folder", local_files_only=True)
    noise = torch.randn(21, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
    x, scheduler = noise[0], pipeline.scheduler
    scheduler.set_timesteps(20)
    for t, z in zip(scheduler.timesteps, noise[1:], strict=True):
        with torch.no_grad():
            output = pipeline.unet(x, t).sample
        x = scheduler.step(output, t, x, generator=torch.Generator().manual_seed(2)).prev_sample
        if t > 0:  # their noise, taken out, and ours put in
            theirs = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
            x = x + scheduler._get_variance(t) ** 0.5 * (z - theirs)
    torch.testing.assert_close(ancestral(model, iter(noise)), x, rtol=1e-3, atol=1e-3)


def test_synthetic_sets_of_the_authors_from_one_file_or_many(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)
    options = np.array(types.SimpleNamespace(train_size=2), dtype=object)  # a pickle, which is not read
    np.savez(tmp_path / "2.npz", samples=samples, args=options)
    (tmp_path / "many").mkdir()
    np.savez_compressed(tmp_path / "many" / "aXbQz.npz", samples=samples[:4])
    np.savez_compressed(tmp_path / "many" / "bXbQz.npz", samples=samples[4:])
    for source in ("2.npz", "many"):
        run(import_checkpoint, tmp_path / source, "--out", tmp_path / "s")
        np.testing.assert_array_equal(read_images(tmp_path / "s"), samples)


def test_neighbours_of_a_folder_of_pictures_in_an_archive(tmp_path):
    random = np.random.default_rng(1)
    training = random.integers(0, 256, (9, 3, 10, 10), np.uint8)
    np.savez(tmp_path / "s.npz", images=training)
    (tmp_path / "pictures").mkdir()
    for i, number in enumerate((4, 7, 4)):
        Image.fromarray(training[number].transpose(1, 2, 0)).save(tmp_path / "pictures" / f"{i}.png")
    files = ["--synthetic", tmp_path / "pictures", "--training", tmp_path / "s.npz", "--out", tmp_path / "n"]
    run("neighbours", *files, "--k", 1)
    arrays, record = read_arrays(tmp_path / "n")
    assert arrays["training_indices"][:, 0].tolist() == [4, 7, 4]
    assert arrays["synthetic_indices"][:, 0].tolist() == [2, 0, 0]
    assert arrays["training_distances"].max() == 0
    assert (record["size"], record["count"], record["distance"]) == (9, 3, "l2")


def test_lpips_neighbours_of_the_stage_are_those_of_the_lpips_package(tmp_path):
    import lpips
    from sklearn.datasets import load_sample_images

    torch.manual_seed(0)
    metric = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    alex = lpips_file(tmp_path / "alex", weights=weights_of(metric))
    photograph = load_sample_images().images[0]
    patches = np.stack([photograph[i : i + 32, j : j + 32] for i in range(0, 160, 40) for j in range(0, 200, 40)])
    np.savez(tmp_path / "s.npz", images=patches[:12])
    np.savez(tmp_path / "t.npz", images=np.concatenate([patches[12:], patches[:1]]))
    files = ["--synthetic", tmp_path / "t.npz", "--training", tmp_path / "s.npz", "--out", tmp_path / "n"]
    run("neighbours", *files, "--distance", "lpips_alex", "--lpips", alex, "--k", 3, "--size", 10)
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
    line = refused("neighbours", *files, "--distance", "lpips_vgg", "--lpips", alex)
    assert "weights of alex; --distance lpips_vgg needs those of vgg" in line


def diffusers_folder(folder, seed=0, unet=None, **scheduler):
    """A folder of diffusers of a random U-Net, with changes to its configurations; returns it and the model."""
    model = our_file(folder.with_suffix(".safetensors"), seed)
    run(export_diffusers, folder.with_suffix(".safetensors"), "--out", folder)
    for path, changes in (("unet/config.json", unet or {}), ("scheduler/scheduler_config.json", scheduler)):
        content = json.loads((folder / path).read_text("utf-8")) | changes
        (folder / path).write_text(json.dumps(content), "utf-8")
    return folder, model


def import_folder(folder, out, *options, by=run):
    return by(import_checkpoint, folder, "--no-check", "--size", 7, "--out", out, *options)


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
    assert words in import_folder(folder, tmp_path / "m", by=refused)
    assert not (tmp_path / "m").exists()


def test_what_of_a_sampler_is_not_kept_is_named(tmp_path):
    folder, model = diffusers_folder(tmp_path / "d", _class_name="DDIMScheduler", variance_type="fixed_large",
                                     clip_sample=False, beta_end=0.03)
    printed = import_folder(folder, tmp_path / "m")
    for words in ("variance_type 'fixed_large'", "clip_sample False", "the sampler of DDIMScheduler"):
        assert f"not kept: {words}" in printed
    back, _ = read_model(tmp_path / "m")
    assert back.betas[-1].item() == pytest.approx(0.03)
    assert equal(back.network.state_dict(), model.network.state_dict())


def test_the_only_variant_of_the_weights_is_taken_and_several_are_listed(tmp_path):
    from safetensors.torch import load_file, save_file

    folder, model = diffusers_folder(tmp_path / "d")
    usual, state = folder / "unet" / "diffusion_pytorch_model.safetensors", model.state_dict()
    weights = load_file(usual)
    usual.unlink()

    def save(values, suffix):
        save_file(values, usual.with_name(f"diffusion_pytorch_model{suffix}.safetensors"), {"format": "pt"})

    halves = {name: value.half() for name, value in weights.items()}
    save(halves, ".fp16")
    assert "diffusion_pytorch_model.fp16.safetensors, the only variant there" in import_folder(folder, tmp_path / "m")
    back = read_model(tmp_path / "m")[0].state_dict()
    assert equal(back, {name: value.half().float() for name, value in state.items()})
    save(halves, ".non_ema")
    line = import_folder(folder, tmp_path / "m2", by=refused)
    assert "it holds diffusion_pytorch_model.fp16.safetensors, diffusion_pytorch_model.non_ema.saf" in line
    for path in usual.parent.glob("*.safetensors"):
        path.unlink()
    names = sorted(weights)
    for i, part in enumerate((names[::2], names[1::2]), 1):
        save({name: weights[name] for name in part}, f"-0000{i}-of-00002")
    import_folder(folder, tmp_path / "m3")
    assert equal(read_model(tmp_path / "m3")[0].state_dict(), state)
    save({name: value / 0 for name, value in weights.items()}, "")
    assert "NaN or infinity" in import_folder(folder, tmp_path / "m4", by=refused)


def test_a_folder_of_the_hub_s_cache_is_read_at_its_main_revision(tmp_path):
    cache = tmp_path / "models--someone--ddpm"
    for part in ("refs", "snapshots"):
        (cache / part).mkdir(parents=True)
    for seed, revision in enumerate(("aaa", "bbb"), 3):
        folder, model = diffusers_folder(tmp_path / revision, seed)
        folder.rename(cache / "snapshots" / revision)
    assert "2 revisions in snapshots/" in import_folder(cache, tmp_path / "m", by=refused)
    (cache / "refs" / "main").write_text("bbb")
    import_folder(cache, tmp_path / "m")
    assert equal(read_model(tmp_path / "m")[0].state_dict(), model.state_dict())


def test_sample_size_is_a_side_a_pair_or_given(tmp_path):
    for number, (size, options, words) in enumerate((
        ([8, 8], [], None), (None, ["--image-size", 8], "sample_size is null; --image-size says"),
        ([8, 16], None, "images of 8 x 16 pixels"), ("8", None, "sample_size is '8'"),
    )):
        folder, _ = diffusers_folder(tmp_path / f"{number}", unet={"sample_size": size})
        if words:
            assert words in import_folder(folder, tmp_path / "m", by=refused)
        if options is not None:
            import_folder(folder, tmp_path / "m", *options)
            model, record = read_model(tmp_path / "m")
            assert record["image_shape"] == list(SHAPE)
            assert model.noise_prediction(torch.zeros(1, *SHAPE), 3).shape == (1, *SHAPE)


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
