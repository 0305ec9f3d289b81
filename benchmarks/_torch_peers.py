"""The same MAML meta-step in PyTorch, written twice: with `torch.func` (tasks under `vmap`) and with `higher` (one task after another).

The network is quickstudy's `Conv4` with strides: `GroupNorm(1, channels)` *is* normalisation by all of one example's numbers with a scale
and a shift per channel. Both need the `[bench]` extra; nothing else imports this module.
"""

from collections.abc import Callable, Sequence

import higher
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Episodes = tuple[Tensor, Tensor, Tensor, Tensor]  # support_x, support_y, query_x, query_y, each stacked over tasks
Gradient = Callable[[Episodes], Tensor]  # leaves the gradient of the mean loss in the parameters and returns that loss

Torch = torch.Tensor


class Conv4(nn.Module):
    """Four blocks of strided convolution, normalisation and rectifier, then a linear head."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        inputs = [1, channels, channels, channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, channels, 3, stride=2, padding=1) for i in inputs)
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels, eps=1e-5) for _ in inputs)
        self.head = nn.Linear(4 * channels, outputs)  # 28 pixels leave 2 x 2

    def forward(self, images: Tensor) -> Tensor:
        x = images[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
        return self.head(x.flatten(1))
