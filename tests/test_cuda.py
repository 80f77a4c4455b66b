"""Every stage that takes --device on CUDA against the same stage on the CPU: values, resuming, arithmetic, waiting.

On a machine with a CUDA device these tests run there and compare values. Without one, test_simulated_cuda.py runs this
module in a process of its own on a simulated device, where in float32 the bytes are those of the CPU.
"""

import importlib
import importlib.util
import os
import pkgutil
from collections import Counter
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from builders import lpips_file, model_file
from builders import run as run_stage
from simulated_cuda import simulated_cuda
from tiny_pipeline import build

from attractors.arrays import read_arrays, write_arrays
from attractors.denoisers import checkpoints, training
from attractors.denoisers.latent import generate
from attractors.denoisers.models import new_model
from attractors.denoisers.samplers import ancestral, ddim, sample_noise
from attractors.devices import open_device
from attractors.distances.lpips_embedding import BACKBONES
from attractors.distances.neighbours import nearest
from attractors.landscape.critical_times import critical_times
from attractors.landscape.curvature import central_difference, jacobian, one_sided_resumable
from attractors.landscape.linearised import hutchinson, leading_singular_values
from attractors.landscape.potential import energy
from attractors.settings.train import Training

SIMULATED = os.environ.get("ATTRACTORS_SIMULATED_CUDA") == "1"
pytestmark = [pytest.mark.skipif(not SIMULATED and not torch.cuda.is_available(), reason="no CUDA device"),
              pytest.mark.filterwarnings("ignore")]
only_simulated = pytest.mark.skipif(not SIMULATED, reason="a real device does not count")
SHAPE, K = (1, 8, 8), 4
NETWORK = {"name": "unet", "width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [], "dropout": 0.1}
SWEEP = """\
dataset: digits
network: {name: unet, width: 32, multipliers: [1, 1], blocks: 1, attention: [], dropout: 0.1}
diffusion: {steps: 6}
"""


def cuda(**options):
    """The context in which a CUDA device is there; it yields what the simulated one logs."""
    return simulated_cuda(**options) if SIMULATED else nullcontext()


STUDY = """\
model: {model}
sd_generate: {{noises: 2, steps: 3}}
sd_curvature: {{leading: 2, probes: 4, batch: 200, products: 2, kinds: [guided]}}
prompts:
  hippo: {{type: memorized, prompt: Mothers influence on her young hippo, source: Webster}}
  none: {{type: generalized, prompt: null, source: no text}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Inputs of all stages: images, a model that is not trained but whose outputs are not zero, S', LPIPS weights."""
    path, random = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    (path / "sweep.yaml").write_text(SWEEP)
    images = random.uniform(-1, 1, (12, *SHAPE)).astype(np.float32)
    write_arrays(path / "subset.safetensors", {"images": images})
    close = images[[0, 0, 1, 2, 5, 6, 7, 8]] + random.normal(0, 0.02, (8, *SHAPE)).astype(np.float32)
    write_arrays(path / "synthetic.safetensors", {"images": close.clip(-1, 1)})
    for name, network in (("model", NETWORK), ("exact", {"name": "exact"})):
        model_file(path / f"{name}.safetensors", network, SHAPE, K, {"steps": 6}, images=torch.from_numpy(images[:K]),
                   change=lambda model: [torch.nn.init.normal_(p, 0, 0.1, torch.Generator().manual_seed(p.numel()))
                                         for p in model.parameters()])
    for name, source in (("models", "model"), ("data/subsets", "subset"), ("data/synthetic/sweep", "synthetic")):
        (path / name).mkdir(parents=True)
        file = "digits.safetensors" if source == "subset" else f"{K}.safetensors"
        (path / name / file).write_bytes((path / f"{source}.safetensors").read_bytes())
    for backbone in BACKBONES:
        lpips_file(path / f"{backbone}.safetensors", backbone)
    run_stage("neighbours", *arguments_of("neighbours", path), "--device", "cpu", "--out", path / "neighbours")
    run_stage("toy_train", *arguments_of("toy_train", path), "--device", "cpu", "--out", path / "toy.safetensors")
    for skip in (0, K):
        snapshots = [*arguments_of("train_snapshots", path), "--skip", skip, "--device", "cpu"]
        run_stage("train_snapshots", *snapshots, "--out", path / f"snapshots-{skip}")
    return path


@pytest.fixture(scope="module")
def study(folder):
    """Inputs of the stages of Stable Diffusion, beside the others: a tiny pipeline, and images of two prompts."""
    if importlib.util.find_spec("diffusers") is None or importlib.util.find_spec("transformers") is None:
        pytest.skip("needs diffusers and transformers: pip install -e '.[stable-diffusion]'")
    build(folder / "pipeline")
    (folder / "study.yaml").write_text(STUDY.format(model=folder / "pipeline"))
    for prompt in ("hippo", "none"):
        arguments = ["--study", folder / "study.yaml", "--prompt", prompt, "--device", "cpu"]
        run_stage("sd_generate", *arguments, "--out", folder / "latents" / f"{prompt}.safetensors")
    return folder


def arguments_of(case, path):
    """The command line of a case, without --device and --out."""
    sweep, model = ["--sweep", path / "sweep.yaml"], ["--model", path / "model.safetensors"]
    s, s_prime = path / "subset.safetensors", path / "synthetic.safetensors"
    near = [*sweep, "--synthetic", s_prime, "--training", s, "--size", K, "--k", 2]
    measured = [*model, "--neighbours", path / "neighbours", "--synthetic", s_prime, "--subset", s]
    measured += ["--nearest", 2, "--repeating", 2, "--uniform", 1, "--training-limit", 2, *sweep]
    basin = [*measured, "--trials", 2, "--steps", 2, "--stride", 2, "--delta-d", 3.0]
    toy = ["--width", 16, "--blocks", 1, "--iterations", 30, "--batch", 8]
    train = [*sweep, "--subset", s, "--size", K, "--iterations", 4, "--batch", 3]
    others = ["--samples", 4, "--images", 4, "--levels", 3, "--t0", 3]
    hippo = ["--study", path / "study.yaml", "--prompt", "hippo"]
    latents = path / "latents"
    return {
        "train": train,
        "train exact": [*train, "--sweep", path / "exact.yaml"],
        "sample": [*sweep, *model, "--floor", 6, "--batch", 4],
        "sample exact": [*sweep, "--model", path / "exact.safetensors", "--floor", 6, "--batch", 4],
        "neighbours": near,
        "neighbours lpips": [*near, "--distance", "lpips_alex", "--lpips", path / "alex.safetensors"],
        "basin": [*basin, "--distance", "l2"],
        "basin lpips": [*basin, "--distance", "lpips_vgg", "--lpips", path / "vgg.safetensors"],
        "curvature": [*measured, *(part for m in ("central", "one_sided", "jacobian") for part in ("--method", m))],
        "energy": [*measured, "--nodes", 3, "--references", 2],
        "census": [*sweep, path / "models", "--data", path / "data", "--t", 3, "--steps", 6, "--trials", 2],
        "controls": [*sweep, "--subset", s, "--size", K, "--samples", 4, "--steps", 3, "--width", 0.3, "--side", 3],
        "train_snapshots": [*train, "--snapshots", 2],
        "phase": [path / "snapshots-0", path / f"snapshots-{K}", "--subset", s, "--samples", 5, "--images", 2],
        "training_time": [path / "snapshots-0", path / f"snapshots-{K}", "--subset", s, "--samples", 5],
        "yardsticks": [*sweep, *model, "--synthetic", s_prime, "--training", s, "--size", K, *others],
        "toy_train": ["--size", 9, *toy],
        "toy_evaluate": ["--model", path / "toy.safetensors", "--samples", 6, "--steps", 8, "--side", 4,
                         "--metrics", path / "m.json"],
        "sd_generate": hippo,
        "sd_curvature": [*hippo, "--latents", latents / "hippo.safetensors", "--metrics", path / "curvature.csv"],
        "sd_stability": ["--study", path / "study.yaml", latents, "--lpips", path / "alex.safetensors"],
    }[case]


STABLE_DIFFUSION = ["sd_generate", "sd_curvature", "sd_stability"]
MEASURING = ["neighbours", "neighbours lpips", "basin", "basin lpips", "curvature", "energy", "sample exact"]
MEASURING += ["yardsticks", "training_time", "phase", "census", "controls", *STABLE_DIFFUSION]
CASES = ["train", "sample", "train_snapshots", *MEASURING, "toy_train", "toy_evaluate"]


@pytest.fixture
def inputs(case, request, folder, monkeypatch):
    """The folder that holds what a case reads. Lanczos ends after its first 20 steps, however far it is."""
    monkeypatch.setattr("attractors.landscape.linearised.TOLERANCE", 1e6)
    return request.getfixturevalue("study") if case in STABLE_DIFFUSION else folder


def run(case, folder, out, device, *more):
    """Run a case; return (arrays, record) of what it wrote. Of a table, the arrays are its columns of numbers."""
    precision = ["--precision", "float32", "--no-compile"] if case in ("train", "sample") and not more else []
    arguments = [*arguments_of(case, folder), "--device", device, *precision, *more, "--out", out]
    run_stage(case.split()[0], *arguments)
    if case in ("sd_stability", "controls"):
        return pd.read_csv(out).select_dtypes("number").to_dict("series"), {}
    return read_arrays(out / f"{K}.safetensors" if case == "census" else out)


def compare(found, expected, exactly, tolerance=1e-4):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if exactly:
            assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), name
        else:
            np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_stage_computes_on_cuda_what_it_computes_on_a_cpu(case, inputs, tmp_path):
    expected, record = run(case, inputs, tmp_path / "cpu.safetensors", "cpu")
    with cuda():
        found, other = run(case, inputs, tmp_path / "cuda.safetensors", "cuda")
    compare(found, expected, SIMULATED and "curvature" not in case, 1e-9 if SIMULATED else 1e-3)
    assert other == record


def test_every_stage_with_a_device_has_a_case():
    stages = importlib.import_module("attractors.stages").__path__
    names = [module.name for module in pkgutil.iter_modules(stages)]
    mains = {name: importlib.import_module(f"attractors.stages.{name}").main for name in names}
    taking = {name for name, main in mains.items() if any(option.name == "device" for option in main.params)}
    assert taking == {case.split()[0] for case in CASES}


@only_simulated
@pytest.mark.parametrize("case", MEASURING)
def test_no_convolution_or_product_of_a_measurement_may_use_tf32(case, inputs, tmp_path):
    """torch allows TF32 in convolutions by default, so here it is allowed before the stage starts."""
    with cuda() as log:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        run(case, inputs, tmp_path / "o.safetensors", "cuda")
        used = Counter(key[:2] for key in log.arithmetic)
    assert {precision for _, precision in used} <= {"float32"}
    assert used or case == "neighbours"


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
@pytest.mark.parametrize("case", ["train", "sample"])
def test_training_and_sampling_may_be_faster_and_say_so_in_the_file(case, precision, folder, tmp_path):
    expected, _ = run(case, folder, tmp_path / "cpu.safetensors", "cpu")
    with cuda(rounding=True) as log:
        found, record = run(case, folder, tmp_path / "cuda.safetensors", "cuda", "--precision", precision,
                            "--no-compile")
    name = "tf32" if precision == "auto" else precision
    assert record["acceleration"] == {"precision": name, "channels_last": False, "compile": False}
    compare(found, expected, False, 0.3 if precision == "bfloat16" else 0.03)
    assert any(found[name].tobytes() != value.tobytes() for name, value in expected.items())
    if SIMULATED and name == "tf32":
        assert {key[1] for key in log.arithmetic} == {"tf32"}


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_alg_3_of_stable_diffusion_may_be_faster_and_the_derivatives_beside_it_are_not(precision, study, tmp_path):
    how, tables = ["--method", "one_sided", "--method", "hutchinson", "--metrics"], [tmp_path / n for n in "ab"]
    expected, _ = run("sd_curvature", study, tmp_path / "cpu.safetensors", "cpu", *how, tables[0])
    with cuda(rounding=True) as log:
        found, record = run("sd_curvature", study, tmp_path / "cuda.safetensors", "cuda", *how, tables[1],
                            "--precision", precision)
    assert record["precision"] == precision
    exact, table = (pd.read_csv(path, index_col="method") for path in tables)
    moved, error = np.abs(found["guided_one_sided"] - expected["guided_one_sided"]), table.loc["one_sided"]
    assert 0 < error.score_error < (0.1 if precision == "bfloat16" else 0.02)  # guidance multiplies it by 7.5
    assert 0 < moved[1:].max() < 2 * error.spectrum_error
    assert table.rms["hutchinson"] == pytest.approx(exact.rms["hutchinson"], rel=1e-5 if SIMULATED else 1e-3)
    if SIMULATED:
        used = {place.split(":")[0] for _, kind, place in log.arithmetic if kind == "tf32"}
        assert used == ({"attractors/denoisers/latent.py"} if precision == "tf32" else set())


def test_the_defaults_of_cuda_train_and_sample(folder, tmp_path):
    """TF32 and, where a compiler is found, compilation and channels last."""
    for case in ("train", "sample"):
        with cuda() as log:
            _, record = run(case, folder, tmp_path / f"{case}.safetensors", "cuda", "--precision", "auto")
            if SIMULATED and record["acceleration"]["compile"]:
                assert log.operators["torch.compile"] == 1
        assert record["acceleration"]["channels_last"] == record["acceleration"]["compile"]


class Killed(BaseException):
    """Stands for a kill."""


def goes_on_to_the_same_bytes(case, folder, out, how, cls, method, when=lambda given: True):
    """Whether a run that is killed where `method` of `cls` has kept its state ends as an undisturbed one does."""
    original = getattr(cls, method)

    def dies(self, given):
        self.cost = 0.0
        original(self, given)
        if when(given):
            raise Killed

    with cuda():
        run(case, folder, out / "whole" / "m.safetensors", "cuda", *how)
        with mock.patch.object(cls, method, dies), pytest.raises(Killed):
            run(case, folder, out / "m.safetensors", "cuda", *how)
        run(case, folder, out / "m.safetensors", "cuda:0", *how)
    return (out / "m.safetensors").read_bytes() == (out / "whole" / "m.safetensors").read_bytes()


@pytest.mark.parametrize(("case", "how"), [
    ("train", ["--precision", "float32", "--no-compile"]), ("train", ["--precision", "bfloat16", "--no-compile"]),
    ("train_snapshots", []),
])
def test_a_killed_training_goes_on_to_the_same_bytes(case, how, folder, tmp_path, monkeypatch):
    for module in ("denoisers.training", "stages.train_snapshots"):
        monkeypatch.setattr(f"attractors.{module}.CHECK_EVERY", 2)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    assert goes_on_to_the_same_bytes(case, folder, tmp_path, how, checkpoints.Checkpoint, "save",
                                     lambda state: state["step"] == 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_sampling_goes_on_to_the_same_bytes(precision, folder, tmp_path):
    how = ["--precision", precision, "--no-compile"]
    assert goes_on_to_the_same_bytes("sample", folder, tmp_path, how, checkpoints.Rows, "append")


@pytest.mark.parametrize("case", ["basin", "curvature", "energy", "sd_curvature"])
def test_a_killed_measurement_goes_on_to_the_same_bytes(case, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    for stage in ("basin", "energy"):
        monkeypatch.setattr(f"attractors.stages.{stage}.CHUNK", 2)
    load, resumed = checkpoints.Checkpoint.load, []
    how = ["--batch", "128", *(["--method", "one_sided"] if case == "sd_curvature" else [])]

    def loads(self, device):
        resumed.append(load(self, device))
        return resumed[-1]

    monkeypatch.setattr(checkpoints.Checkpoint, "load", loads)
    assert goes_on_to_the_same_bytes(case, inputs, tmp_path, how, checkpoints.Checkpoint, "save")
    assert resumed[-1] is not None


def test_the_exact_control_is_exact_on_cuda(folder, tmp_path):
    """By default too, where TF32 rounds: each sample is a memory."""
    memories = read_arrays(folder / "exact.safetensors")[0]["network.memories"]
    with cuda(rounding=True):
        found, record = run("sample exact", folder, tmp_path / "s.safetensors", "cuda")
    expected, _ = run("sample exact", folder, tmp_path / "cpu.safetensors", "cpu")
    assert "acceleration" not in record
    compare(found, expected, SIMULATED, 1e-5)
    assert memories.shape == (K, 64)


# Waiting for the device: what a loop costs that is twice as long, less what one of the first length costs.


def tiny_model(steps):
    model = new_model(NETWORK, {"steps": steps}, SHAPE, 3, torch.zeros(2, *SHAPE)).to(open_device("cuda"))
    return model.eval().requires_grad_(False)


def sampling(steps):
    model = tiny_model(steps)
    ancestral(model, sample_noise(3, range(3), SHAPE, steps, open_device("cuda")))


def recovery(steps):
    x = torch.zeros(3, *SHAPE, device="cuda")
    ddim(tiny_model(50), x, torch.full((3,), 49, device="cuda"), steps)


def learning(steps):
    images = torch.zeros(5, *SHAPE, device="cuda")
    training.train(tiny_model(6).train().requires_grad_(), images,
                   Training(iterations=steps, batch=3, learning_rate=1e-3), 0)


def path_energy(nodes):
    energy(tiny_model(6), torch.zeros(3, *SHAPE, device="cuda"), torch.zeros(SHAPE, device="cuda"), 2, nodes)


def spectrum(blocks):
    central_difference(tiny_model(6), torch.zeros(1, *SHAPE, device="cuda"), [0], 3, 2, -(-256 // blocks))


def alg_3(blocks):
    x_0 = torch.zeros(1, *SHAPE, device="cuda")
    one_sided_resumable(tiny_model(6), x_0, 0, 3, 2, -(-256 // blocks), save=lambda state: None)


def probing(batches):
    hutchinson(tiny_model(6), torch.zeros(1, *SHAPE, device="cuda"), 2 * batches, 3, t=2, batch=2)


def generating(steps):
    generate(tiny_model(50), torch.zeros(1, *SHAPE, device="cuda"), steps)


def rows_of_jacobian(blocks):
    jacobian(tiny_model(6), torch.zeros(1, *SHAPE, device="cuda"), 2, -(-64 // blocks))


LOOPS = {"sampling": sampling, "ddim": recovery, "training": learning, "energy": path_energy, "spectrum": spectrum,
         "jacobian": rows_of_jacobian, "alg 3": alg_3, "hutchinson": probing, "generation": generating}


@only_simulated
@pytest.mark.parametrize("loop", LOOPS)
def test_no_step_of_a_loop_waits_for_the_device(loop):
    counts = []
    for steps in (3, 5):
        with cuda() as log:
            LOOPS[loop](steps)
            counts.append(Counter(log.syncs))
    assert counts[0] == counts[1]


@only_simulated
def test_a_product_of_lanczos_waits_once_for_its_result():
    counts = []
    for leading in (2, 20):
        with cuda() as log:
            model, x_0 = tiny_model(6), torch.zeros(1, *SHAPE, device="cuda")
            for p in model.parameters():  # a new network returns 0, which has no singular values to find
                torch.nn.init.normal_(p, 0, 0.1)
            before = sum(log.syncs.values())
            _, products = leading_singular_values(model, x_0, leading, 3, t=2)
            counts.append((products, sum(log.syncs.values()) - before))
    (few, waits), (many, more) = counts
    assert more - waits == many - few > 0


@only_simulated
def test_a_round_of_the_search_for_basins_waits_once():
    counts = []
    for steps in (30, 50):
        with cuda() as log:
            x = torch.zeros(2, *SHAPE, device="cuda")
            found = critical_times(tiny_model(steps), x, [0, 1], 3, delta_d=1e9, trials=2, steps=2)
            counts.append((int(found.searched[0]), sum(log.syncs.values())))
    (few, waits), (many, more) = counts
    assert more - waits == many - few > 0


@only_simulated
def test_no_block_of_references_waits_for_the_device():
    """Only what is found for a row of queries is read, once all references have been seen."""
    random, counts = np.random.default_rng(0), []
    for references in (256, 512):
        x = random.standard_normal((64, 16)).astype(np.float32)
        y = random.standard_normal((references, 16)).astype(np.float32)
        blocks = []
        with cuda() as log:
            open_device("cuda")
            nearest(x, y, 2, memory=64 * 1024, device="cuda", progress=lambda b, blocks=blocks: blocks.extend(b) or b)
            counts.append((len(blocks), sum(log.syncs.values())))
    (few, waits), (many, more) = counts
    assert many > few > 1
    assert more == waits
