"""The LPIPS embedding against the lpips package: with random backbones always, with the real ones where they are."""

import io
import pickle
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from builders import lpips_file, trunk, weights_of
from sklearn.datasets import load_sample_images

from attractors.arrays import write_arrays
from attractors.distances.lpips_embedding import BACKBONES, BATCH, Embedding, read_embedding
from attractors.distances.neighbours import nearest
from attractors.stages.lpips_weights import from_pickle

MODELS = Path(__file__).parents[1] / "models" / "lpips"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")


@pytest.fixture(scope="module")
def official():
    """lpips.LPIPS with its real heads on a random backbone."""

    def make(backbone):
        torch.manual_seed(0)
        metric = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False).eval().requires_grad_(False)
        for layer in trunk(metric):
            layer.bias.normal_()
        return metric

    return {backbone: make(backbone) for backbone in BACKBONES}


@pytest.fixture
def real(request):
    """(the embedding with real weights, lpips.LPIPS with the same)."""
    path = MODELS / f"{request.param}.safetensors"
    if not path.exists():
        pytest.skip(f"no {path}: python src/main.py lpips_weights {request.param} --out {path} writes it")
    embedding = read_embedding(path)
    metric = lpips.LPIPS(net=request.param, pnet_rand=True, verbose=False).eval().requires_grad_(False)
    for layer, weight, bias in zip(trunk(metric), embedding.weights, embedding.biases, strict=True):
        layer.weight.data, layer.bias.data = weight.data, bias.data
    return embedding, metric


def photographs(count, size, seed=0):
    """Patches of two photographs: [count, 3, size, size] in [-1, 1]."""
    random = np.random.default_rng(seed)
    images = load_sample_images().images
    patches = []
    for _ in range(count):
        image = images[random.integers(2)]
        i, j = random.integers(0, image.shape[0] - size), random.integers(0, image.shape[1] - size)
        patches.append(image[i : i + size, j : j + size].transpose(2, 0, 1) / 127.5 - 1)
    return torch.from_numpy(np.array(patches, np.float32))


def pairwise(metric, x, y):
    """LPIPS of every pair, through the package: [len(x), len(y)]."""
    return torch.stack([metric(one.expand_as(y), y).flatten() for one in x])


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [32, 64])
def test_squared_distance_of_embeddings_is_lpips_on_a_random_backbone(official, backbone, size):
    embedding = Embedding(backbone, weights_of(official[backbone]))
    x, y = photographs(6, size), photographs(6, size, seed=1)
    expected = official[backbone](x, y).flatten()
    assert expected.min() > 0
    torch.testing.assert_close(embedding.distance(x, y), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("real", BACKBONES, indirect=True)
def test_squared_distance_of_embeddings_is_lpips_on_real_pairs(real):
    embedding, metric = real
    x, y = photographs(50, 32), photographs(50, 32, seed=1)
    torch.testing.assert_close(embedding.distance(x, y), metric(x, y).flatten(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("real", ["vgg"], indirect=True)
def test_vgg_gives_the_values_that_torchmetrics_documents(real):
    """Their example seeds with 123, builds the metric (which draws its initial weights), then draws the images."""
    import torchvision

    torch.manual_seed(123)
    torchvision.models.vgg16(weights=None, init_weights=False)
    for channels in (64, 128, 256, 512, 512):
        torch.nn.Conv2d(channels, 1, 1, bias=False)
    x, y = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    assert real[0].distance(2 * x - 1, 2 * y - 1).mean().item() == pytest.approx(0.3493, abs=5e-5)
    assert real[0].distance(x, y).mean().item() == pytest.approx(0.3566, abs=5e-5)


def test_neighbours_of_embeddings_are_those_of_brute_force_lpips_with_exact_copies(official):
    embedding = Embedding("alex", weights_of(official["alex"]))
    references, queries = photographs(40, 32), photographs(10, 32, seed=1)
    references[30:36] = references[0]  # six copies of one image: more than k
    references[36] = queries[3]
    features = [torch.cat(list(embedding.batches(images))) for images in (queries, references)]
    distances, indices = nearest(*features, k=5, squared=True)
    expected = pairwise(official["alex"], queries, references)
    order = expected.argsort(dim=1, stable=True)[:, :5]
    assert torch.equal(indices, order)
    torch.testing.assert_close(distances, expected.gather(1, order), rtol=1e-5, atol=1e-7)
    assert indices[3, 0] == 36
    assert distances[3, 0] == 0


def test_small_and_grey_images_are_enlarged_and_repeated_as_the_authors_do(official):
    embedding = Embedding("alex", weights_of(official["alex"]))
    x, y = photographs(4, 28)[:, :1], photographs(4, 28, seed=1)[:, :1]
    pick = (torch.arange(32) * 28 + 14) // 32  # nearest-exact: the source pixel whose centre is nearest
    assert pick[[0, 1, 3, 4, 31]].tolist() == [0, 1, 3, 3, 27]
    larger = [images[:, :, pick][..., pick].repeat(1, 3, 1, 1) for images in (x, y)]
    torch.testing.assert_close(embedding.distance(x, y), official["alex"](*larger).flatten(), rtol=1e-5, atol=0)


def test_an_image_has_the_same_embedding_in_every_set(official):
    embedding = Embedding("alex", weights_of(official["alex"]))
    images = photographs(BATCH + 3, 32)
    whole = torch.cat(list(embedding.batches(images)))
    assert whole.shape == (BATCH + 3, 5760)
    assert embedding.dimensions((3, 32, 32)) == 5760
    assert embedding.dimensions((1, 28, 28)) == 5760
    assert embedding.dimensions((3, 64, 64)) == 31872
    for part in (slice(5, 6), slice(100, BATCH + 3)):
        assert torch.equal(torch.cat(list(embedding.batches(images[part].numpy()))), whole[part])


def test_a_file_of_other_or_damaged_weights_is_refused(official, tmp_path):
    arrays = {name: value.numpy() for name, value in weights_of(official["alex"]).items()}
    assert isinstance(read_embedding(lpips_file(tmp_path / "a", weights=arrays)), Embedding)
    write_arrays(tmp_path / "a", arrays | {"head_0": arrays["head_0"] + 1}, backbone="alex", weights_sha256="0")
    with pytest.raises(ValueError, match=r"a: weights of sha256 .*; its header says 0"):
        read_embedding(tmp_path / "a")
    write_arrays(tmp_path / "b", arrays, size=2)
    with pytest.raises(ValueError, match="b: not LPIPS weights"):
        read_embedding(tmp_path / "b")
    with pytest.raises(ValueError, match="negative head"):
        Embedding("alex", weights_of(official["alex"]) | {"head_2": torch.full((384,), -1.0)})


def test_a_pickle_that_would_run_code_does_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    with pytest.raises(ValueError, match=r"x.ckpt: not a pickle of plain numpy arrays \(it asks for pathlib"):
        from_pickle(pickle.dumps({"AlexNet_0": Malicious()}), "x.ckpt")
    assert not (tmp_path / "run").exists()


def test_convolutions_come_out_of_the_pickle_transposed_and_in_numerical_order():
    kernels = {f"Conv_{i}": {"kernel": np.full((3, 2, 1, 4), i, "f4"), "bias": np.full(4, i, "f4")} for i in range(12)}
    kernels["Conv_0"]["kernel"][2, 1, 0, 3] = 7
    file = io.BytesIO()
    pickle.dump({"NetLinLayer_0": {}, "VGG16_0": dict(reversed(kernels.items()))}, file, protocol=3)
    content = file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    layers = from_pickle(content, "x.ckpt")
    assert [bias[0] for _, bias in layers] == list(range(12))
    assert layers[0][0].shape == (4, 1, 3, 2)
    assert layers[0][0][3, 0, 2, 1] == 7
