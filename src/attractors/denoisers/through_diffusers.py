"""Models of diffusers that diffusers itself computes, for those that are not the U-Net of B.4."""

from typing import Any

import torch
from torch import nn

CLASSES = ("UNet2DModel", "DiTTransformer2DModel")


class DiffusersNetwork(nn.Module):
    """A UNet2DModel, or a DiTTransformer2DModel with the label that stands for none, by its config.json.

    Raises ValueError where diffusers is missing, and for a configuration of which it makes no model.
    """

    def __init__(self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, config: dict[str, Any]) -> None:
        super().__init__()
        try:
            import diffusers
        except ImportError:
            raise ValueError("this model is computed by diffusers: pip install diffusers") from None
        if (name := str(config.get("_class_name", "UNet2DModel"))) not in CLASSES:
            raise ValueError(f"a {name[:80]} of diffusers; {' and '.join(CLASSES)} are read")
        try:
            self.model = getattr(diffusers, name).from_config(config)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"diffusers makes no {name} of this config.json ({error})") from None
        self.label = config.get("num_embeds_ada_norm", 1000) if name == CLASSES[1] else None
        if self.model.config.in_channels != image_shape[0]:
            raise ValueError(f"a {name} of {self.model.config.in_channels} channels; images have {image_shape[0]}")
        if self.label is None and self.model.config.get("num_class_embeds"):
            raise ValueError("a UNet2DModel with class labels; write code that fixes one, and import FILE.py:NAME")

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and t: [B], 0-based, to the prediction: [B, C, H, W]."""
        if self.label is None:
            return self.model(x, t).sample
        labels = torch.full((len(x),), self.label, device=x.device)
        return self.model(x, timestep=t, class_labels=labels).sample[:, : x.shape[1]]  # the rest are variances
