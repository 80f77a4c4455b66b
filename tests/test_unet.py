"""The U-Net against diffusers' independent implementation of it; test_tables.py counts the parameters of Table 3."""

import pytest
import torch
from builders import randomised

from attractors.denoisers import networks
from attractors.denoisers.diffusion import linear_betas
from attractors.denoisers.unet import Attention, Downsample, ResidualBlock, UNet, time_embedding
from attractors.denoisers.unet_diffusers import config_of, from_diffusers, settings_of, to_diffusers
from attractors.settings.network import network_settings


@pytest.mark.parametrize(("size", "multipliers", "attention"),
                         [(28, (1, 2, 2), []), (32, (1, 2, 2, 2), [16]), (64, (1, 1, 2, 2, 4, 4), [16])])
def test_attention_at_16_and_in_the_middle_only(size, multipliers, attention):
    network = UNet((3, size, size), None, 32, multipliers)
    seen = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-1]))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size), torch.tensor([5])).shape == (1, 3, size, size)
    middle = size // 2 ** (len(multipliers) - 1)
    assert seen == attention * 2 + [middle] + attention * 3  # 2 blocks down, 3 up


@pytest.mark.parametrize(("shape", "multipliers"),
                         [((1, 28, 28), (1, 2, 2)), ((3, 32, 32), (1, 2, 2, 2)), ((3, 64, 64), (1, 1, 2, 2, 4, 4))])
def test_forward_pass_equals_diffusers_with_the_weights_copied_across(shape, multipliers):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: no second implementation")
    network = randomised(UNet(shape, None, 32, multipliers))
    theirs = diffusers.UNet2DModel(**config_of(network.settings, shape)).eval()
    theirs.load_state_dict(to_diffusers(network.state_dict(), network.settings))  # strict: no weight is left over
    x, t = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 17, 999])
    with torch.no_grad():
        expected, found = theirs(x, t).sample, network(x, t)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4 * expected.abs().max().item())


def test_weights_return_unchanged_from_the_names_of_diffusers():
    network = randomised(UNet((3, 32, 32), None, 32, (1, 2, 2, 2)))
    theirs = to_diffusers(network.state_dict(), network.settings)
    old = {name.replace("to_q", "query").replace("to_out.0", "proj_attn"): value for name, value in theirs.items()}
    for weights in (theirs, old):
        back = from_diffusers(weights, network.settings)
        assert back.keys() == network.state_dict().keys()
        assert all(torch.equal(value, back[name]) for name, value in network.state_dict().items())
    settings, shape = settings_of(config_of(network.settings, (3, 32, 32)))
    assert (settings, shape) == ({"name": "unet", **network.settings}, (3, 32, 32))
    with pytest.raises(ValueError, match=r"no counterpart for 1 weights, first class_embedding.weight"):
        from_diffusers({**theirs, "class_embedding.weight": torch.zeros(1)}, network.settings)


@pytest.mark.parametrize(("change", "message"), [
    ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
    ({"attention_head_dim": 8}, "attention_head_dim is 8"),
    ({"norm_eps": 1e-5}, "norm_eps is 1e-05"),
    ({"out_channels": 6}, "out_channels is 6"),
    ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
])
def test_a_diffusers_configuration_of_another_network_is_refused(change, message):
    with torch.device("meta"):
        network = UNet((3, 32, 32), None, 32, (1, 2, 2, 2))
    with pytest.raises(ValueError, match=message):
        settings_of(config_of(network.settings, (3, 32, 32)) | change)


def test_attention_equals_softmax_of_scaled_products_written_out():
    layer = randomised(Attention(64))
    x = torch.randn(2, 64, 3, 5, generator=torch.Generator().manual_seed(2))
    h = layer.norm(x).flatten(2).transpose(1, 2)
    query, key, value = (h @ layer.query_key_value.weight.T + layer.query_key_value.bias).chunk(3, -1)
    weights = torch.softmax(query @ key.transpose(1, 2) / 8, -1)  # 8 = sqrt(64)
    expected = x + (weights @ value @ layer.output.weight.T + layer.output.bias).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_forward_mode_jacobian_equals_the_reverse_mode_one():
    network = randomised(UNet((1, 8, 8), None, 32, (1, 2), attention=(8,)))
    x, t = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([4])
    forward = torch.func.jacfwd(lambda z: network(z, t))(x)
    reverse = torch.autograd.functional.jacobian(lambda z: network(z, t), x)
    torch.testing.assert_close(forward, reverse, rtol=1e-3, atol=1e-5)


def test_time_embedding_by_hand():
    embedding = time_embedding(torch.tensor([0, 3]), 4)
    angles = torch.tensor([3.0, 3e-4])
    torch.testing.assert_close(embedding[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    torch.testing.assert_close(embedding[1], torch.cat([angles.sin(), angles.cos()]))


def test_downsampling_pads_right_and_bottom_only():
    layer = Downsample(1)
    layer.convolution.weight.data = torch.zeros(1, 1, 3, 3)
    layer.convolution.weight.data[0, 0, 0, 0] = 1  # picks the top left of each window
    layer.convolution.bias.data.zero_()
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layer(x, None).tolist() == [[[[0, 2], [8, 10]]]]


def test_an_untrained_network_predicts_zero_and_has_ddpm_variances():
    torch.manual_seed(0)
    network = UNet((3, 32, 32), None, 128, (1, 2, 2, 2))
    with torch.no_grad():
        assert network(torch.randn(2, 3, 32, 32), torch.tensor([1, 2])).abs().max() == 0
    weight = network.down[4].residual.convolution_1.weight  # 256 -> 256, 3 x 3
    assert weight.var().item() == pytest.approx(1 / (256 * 9), rel=0.01)  # scale 1 / fan_avg
    assert weight.abs().max().item() <= (3 / (256 * 9)) ** 0.5


def test_dropout_acts_in_training_only_and_where_ddpm_has_it():
    block = randomised(ResidualBlock(32, 32, 64, dropout=0.5))
    x, time = torch.randn(1, 32, 8, 8), torch.randn(1, 64)
    still = block(x, time)
    assert torch.equal(still, block(x, time))
    block.train()
    assert not torch.equal(still, block(x, time))
    block.convolution_2.weight.data.zero_()
    torch.testing.assert_close(block(x, time), x + block.convolution_2.bias[:, None, None])  # before the last layer


def test_a_u_net_on_patches_is_the_u_net_of_the_rearranged_image():
    on_patches = randomised(UNet((1, 8, 8), None, 32, [1, 2], 1, (2,), patch=2))
    plain = UNet((4, 4, 4), None, 32, [1, 2], 1, (2,))
    plain.load_state_dict(on_patches.state_dict())
    x, t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 5, 99])
    rows = x.reshape(3, 4, 2, 4, 2).permute(0, 2, 4, 1, 3).reshape(3, 4, 4, 4)  # channel 2i + j
    expected = plain(rows, t).reshape(3, 2, 2, 4, 4).permute(0, 3, 1, 4, 2).reshape(3, 1, 8, 8)
    torch.testing.assert_close(on_patches(x, t), expected)
    assert not torch.allclose(expected, torch.zeros(()))


@pytest.mark.parametrize(("shape", "settings", "message"), [
    ((1, 28, 28), {"multipliers": [1, 2, 2, 2]}, "halve 3 times"),
    ((1, 28, 24), {"multipliers": [1, 2]}, "square"),
    ((1, 28, 28), {"multipliers": [1, 2], "patch": 4}, "in patches of 4 x 4 with 2 multipliers"),
    ((3, 32, 32), {"width": 48}, "multiple of 32"),
    ((3, 32, 32), {"wdith": 64}, "no setting 'wdith'; did you mean width"),
])
def test_settings_that_make_no_network_are_named(shape, settings, message):
    alpha_bar = torch.cumprod(1 - linear_betas(), 0)
    with pytest.raises(ValueError, match=message):
        networks.build(network_settings({"name": "unet", **settings}), shape, alpha_bar)
