"""Time and memory of the case study on the full-size U-Net of Stable Diffusion 1.4, by counting, without its weights.

python benchmarks/stable_diffusion_cost.py

The U-Net is built with that configuration on the meta device: no memory, no download. torch counts the floating-point
operations of its forward and reverse passes; a forward-mode product J v is taken as three forward passes, as many as
a product of two activations costs with its tangents (one with weights costs two).
A time is operations / (peak of the card x the share of it reached), for the shares printed: an estimate, no timing.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

N = 4 * 64 * 64
PARAMETERS = 859_520_964  # of the released U-Net: checked below
PEAKS = {"float32": 67e12, "tf32": 495e12, "bfloat16": 989e12}  # H100 SXM, dense, from NVIDIA's data sheet
FLOAT64 = 67e12  # its float64 tensor cores
SHARES = (0.2, 0.5)  # of the peak reached: convolutions and attention at these sizes lie in between
NOISES, STEPS, PROBES = 8, 50, 128
PRODUCTS = 2 * 2 * (2 * 64 + 1)  # two rounds of Lanczos with 129 vectors, J v and J^T v each; restarts may add more


def unet():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel(
            sample_size=64, in_channels=4, out_channels=4, cross_attention_dim=768, attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS
    return model.requires_grad_(False)


def operations(model, reverse):
    """Floating-point operations of one evaluation, or of one product with the transposed Jacobian."""
    x = torch.empty(1, 4, 64, 64, device="meta", requires_grad=reverse)
    t, text = torch.empty(1, device="meta"), torch.empty(1, 77, 768, device="meta")
    with FlopCounterMode(display=False) as counter:
        inner = x * 1  # the counter's hooks refuse a leaf
        out = model(inner, t, encoder_hidden_states=text).sample
        if reverse:
            torch.autograd.grad(out, inner, torch.empty_like(out))
    return counter.get_total_flops()


def activations(model):
    """Bytes in float32 of all outputs of layers for one latent: what a reverse product keeps, less attention."""
    total = 0

    def add(_, __, output):
        nonlocal total
        total += output.numel() * 4 if torch.is_tensor(output) else 0

    hooks = [layer.register_forward_hook(add) for layer in model.modules() if not list(layer.children())]
    with torch.no_grad():
        model(
            torch.empty(1, 4, 64, 64, device="meta"), torch.empty(1, device="meta"),
            encoder_hidden_states=torch.empty(1, 77, 768, device="meta"),
        )
    for hook in hooks:
        hook.remove()
    return total


def main():
    model = unet()
    forward, reverse = operations(model, False), operations(model, True)
    print(
        f"U-Net: {PARAMETERS:,} parameters; one evaluation {forward / 1e9:,.0f} GFLOP, one J^T v {reverse / 1e9:,.0f}"
    )
    gram, roots = 2 * N**2 * 4 * N, 4 / 3 * N**3
    work = {
        f"generate: {NOISES} noises, {STEPS} guided steps": ({"float32": 2 * NOISES * STEPS * forward}, 0),
        f"Alg. 3, one score: {4 * N:,} evaluations": (dict.fromkeys(PEAKS, 4 * N * forward), gram + roots),
        f"Alg. 3, guided: {8 * N:,} evaluations": (dict.fromkeys(PEAKS, 8 * N * forward), gram + roots),
        f"Lanczos, 64 values: {PRODUCTS} products": ({"float32": PRODUCTS / 2 * (3 * forward + reverse)}, 0),
        f"Hutchinson, {PROBES} probes": ({"float32": PROBES * 3 * forward}, 0),
    }
    print(f"\n{'seconds of one prompt on one H100':48}{'':10}{''.join(f'at {s:.0%} of peak ' for s in SHARES)}")
    for name, (counts, double) in work.items():
        for precision, count in counts.items():
            times = [count / (PEAKS[precision] * share) + double / (FLOAT64 * share) for share in SHARES]
            print(f"{name:48}{precision:10}" + "".join(f"{seconds:14,.0f} " for seconds in times))
    print(f"  of which float64 sums of M M^T: {gram:.2g} operations, eigenvalues: {roots:.2g}")
    weights, square, kept = 4 * PARAMETERS / 1e9, 8 * N**2 / 1e9, activations(model) / 1e9
    attention = 8 * (64 * 64) ** 2 * 4 / 1e9
    print(
        f"\nGB: weights {weights:.1f}; M M^T {square:.1f}, and about {2 * square:.1f} more for its eigenvalues; "
        f"a checkpoint {square:.1f}\n"
        f"    activations of a latent: {kept:.1f} where all are kept (J^T v), and attention maps, the largest "
        f"{attention:.2f}, held for derivatives only\n"
        f"    the whole matrix of Alg. 3, which is never held: {4 * N * N * 4 / 1e9:.1f} in float32"
    )


if __name__ == "__main__":
    main()
