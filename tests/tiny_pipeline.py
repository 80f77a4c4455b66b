"""A Stable Diffusion pipeline with random weights and a few thousand parameters: the real classes, no download.

python tests/tiny_pipeline.py .cache/stable_diffusion_tiny
"""

import json
import sys
from pathlib import Path

import torch

SIDE = 8  # latents are [4, 8, 8], images [3, 32, 32]


def tokenizer(folder):
    """A CLIPTokenizer of single characters."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    characters = sorted(ByteLevel.alphabet())
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77), len(words)


def build(folder, seed=0):
    """Write the pipeline to `folder` and return it."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = Path(folder)
    words, count = tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = CLIPTextModel(
            CLIPTextConfig(vocab_size=count, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                           num_attention_heads=2, projection_dim=16, bos_token_id=count - 2, eos_token_id=count - 1,
                           pad_token_id=count - 1)
        )
        unet = UNet2DConditionModel(sample_size=SIDE, cross_attention_dim=16, block_out_channels=(8, 16),
                                    attention_head_dim=2, layers_per_block=1, norm_num_groups=4,
                                    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                                    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
        vae = AutoencoderKL(block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=4 * SIDE,
                            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)
    scheduler = PNDMScheduler(  # as Stable Diffusion 1.4
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(vae, text, words, unet, scheduler, safety_checker=None, feature_extractor=None,
                                       requires_safety_checker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return pipeline


if __name__ == "__main__":
    build(sys.argv[1])
    print(f"{sys.argv[1]}: a random Stable Diffusion pipeline with latents [4, {SIDE}, {SIDE}]")
