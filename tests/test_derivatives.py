"""Products with a Jacobian against closed forms, and the arithmetic in which all of them are computed."""

import pytest
import torch

from attractors.devices import arithmetic
from attractors.landscape.derivatives import forward_products, jacobian, reverse_products


def matrix():
    return torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def field(x):
    """x: [B, 2, 3] to sin(A x), whose Jacobian is diag(cos(A x)) A."""
    return (x.flatten(1) @ matrix().T).sin().reshape(x.shape)


def points(count):
    return torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def exact(x):
    return (x.flatten(1) @ matrix().T).cos()[:, :, None] * matrix()  # [B, N, N]


@pytest.mark.parametrize("batch", [None, 1, 5, 12, 100])
def test_jacobian_equals_its_closed_form_whatever_the_batch(batch):
    torch.testing.assert_close(jacobian(field, points(4), batch), exact(points(4)))


def test_products_from_either_side_equal_those_with_the_matrix():
    x, v = points(1), points(5)
    torch.testing.assert_close(forward_products(field, x, v).flatten(1), v.flatten(1) @ exact(x)[0].T)
    x, v = points(3), torch.randn(7, 3, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    value, products = reverse_products(field, x, v)
    torch.testing.assert_close(value, field(x))
    torch.testing.assert_close(products.flatten(2), torch.einsum("mbi,bij->mbj", v.flatten(2), exact(x)))


def test_attention_has_derivatives_of_both_modes():
    def attention(x):
        parts = x.reshape(len(x), 1, 2, 3)
        return torch.nn.functional.scaled_dot_product_attention(parts, 2 * parts, parts).reshape(x.shape)

    x, v = points(1).float(), points(4).float()
    full = jacobian(attention, x)[0]
    torch.testing.assert_close(forward_products(attention, x, v).flatten(1), v.flatten(1) @ full.T)
    bumped = (attention(x + 1e-3 * v) - attention(x - 1e-3 * v)) / 2e-3
    torch.testing.assert_close(forward_products(attention, x, v), bumped, atol=1e-3, rtol=1e-2)


def test_no_pass_forward_or_backward_may_take_tf32():
    allowed = []

    def note():
        allowed.extend([torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32])

    class Noting(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            note()
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, direction):
            note()
            return direction

        @staticmethod
        def jvp(ctx, direction):
            note()
            return direction.clone()

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        with arithmetic("bfloat16", torch.device("cpu")):
            assert jacobian(Noting.apply, points(2), 3).dtype == torch.float64
            x, v = points(1).float(), points(2).float()
            reverse_products(lambda x: Noting.apply(x) @ torch.eye(3), x, v[:, None])
            found = forward_products(lambda x: Noting.apply(x) @ torch.eye(3), x, v)
        assert found.dtype == torch.float32 and torch.equal(found, v)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert len(allowed) >= 12 and not any(allowed)
