"""The three fractions as a metric of torchmetrics, for people who log them while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

try:
    from torchmetrics import Metric
except ImportError:
    raise ImportError("CopyFractions needs torchmetrics: pip install 'attractors[metric]'") from None

from attractors.auditing.measure import measure


class CopyFractions(Metric):
    """Memorized, spurious and generalized: the shares of all images since the last reset, as `attractors.audit` has.

    training: [m, C, H, W] in [-1, 1], the images that the model was trained on. delta_m, delta_s: distances or auto.
    encode: a function from images to features [n, D], by default their pixels. squared: distances are squared ones.
    """

    full_state_update = False
    higher_is_better = None
    features: Any  # a list of tensors, or one tensor where torchmetrics gathered those of several processes

    def __init__(
        self, training: torch.Tensor, delta_m: float | str = "auto", delta_s: float | str = "auto",
        encode: Callable[[torch.Tensor], torch.Tensor] | None = None, squared: bool = False, **options: Any,
    ) -> None:
        super().__init__(**options)
        self.delta_m, self.delta_s, self.squared = delta_m, delta_s, squared
        self.encode = encode or (lambda images: images.flatten(1))
        self.add_state("features", default=[], dist_reduce_fx="cat")
        self.training_features = self.encode(training).float()

    def update(self, images: torch.Tensor) -> None:
        """Add images: [n, C, H, W] in [-1, 1]."""
        self.features.append(self.encode(images).float())

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the share of each type. With `auto`, a threshold is chosen from all images so far."""
        samples = self.features if isinstance(self.features, torch.Tensor) else torch.cat(self.features)
        found = measure(
            samples, self.training_features.to(samples.device), squared=self.squared, delta_m=self.delta_m,
            delta_s=self.delta_s, device=samples.device,
        )
        return {kind: torch.tensor(share.share) for kind, share in found.shares().items()}
