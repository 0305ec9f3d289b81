"""The same MAML meta-step in PyTorch, written twice: with `torch.func` (tasks under `vmap`) and with `higher` (task after task).

The network is quickstudy's strided `Conv4`: `GroupNorm(1, channels)` *is* normalisation by all of one example's numbers with a scale
and a shift per channel (and faster than the same written out). Needs the `[bench]` extra.
"""

from collections.abc import Callable

import higher
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from quickstudy.algorithms.fewshot.maml import Config
from quickstudy.nn.conv4 import Conv4 as OurConv4
from quickstudy.tasks.episode import EpisodeTask

Episodes = tuple[Tensor, Tensor, Tensor, Tensor]  # support inputs and labels, query inputs and labels, stacked over tasks


class Conv4(nn.Module):
    """Four blocks of strided convolution, normalisation and rectifier, then a linear head; 28x28 images, of which 2x2 are left."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        inputs = (1, channels, channels, channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, channels, 3, stride=2, padding=1) for i in inputs)
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels, eps=1e-5) for _ in inputs)
        self.head = nn.Linear(4 * channels, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = images[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
        return self.head(x.flatten(1))


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def copy_weights(ours: OurConv4) -> Conv4:
    """A PyTorch network that computes what ours computes: its channels come before its pixels, ours after them."""
    channels, outputs = ours.convolutions[0].bias.shape[0], ours.head.bias.shape[0]
    theirs = Conv4(channels, outputs)
    pairs = [(theirs.head.weight, _channels_first(ours.head.weight, (outputs, 2, 2, channels))), (theirs.head.bias, ours.head.bias)]
    for convolution, norm, a, b in zip(theirs.convolutions, theirs.norms, ours.convolutions, ours.norms, strict=True):
        kernel = np.reshape(a.weight, (3, 3, -1, channels)).transpose(3, 2, 0, 1)
        pairs += [(convolution.weight, kernel), (convolution.bias, a.bias), (norm.weight, b.scale), (norm.bias, b.shift)]
    with torch.no_grad():
        for parameter, value in pairs:
            parameter.copy_(torch.tensor(np.asarray(value)))
    return theirs


def _channels_first(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.reshape(weight, shape).transpose(0, 3, 1, 2).reshape(shape[0], -1)


def as_tensors(tasks: EpisodeTask) -> Episodes:
    inputs = [torch.tensor(np.asarray(x)) for x in (tasks.support_x, tasks.query_x)]
    labels = [torch.tensor(np.asarray(y), dtype=torch.int64) for y in (tasks.support_y, tasks.query_y)]
    return inputs[0], labels[0], inputs[1], labels[1]


def func_loss(model: Conv4, config: Config, episodes: Episodes) -> Tensor:
    """The mean query loss after adaptation, its gradient left in the parameters: `grad` inside `vmap` inside, autograd outside.

    Taking the outer gradient by `torch.func.grad` too was slower.
    """

    def loss(parameters, x, y):
        return functional.cross_entropy(functional_call(model, parameters, (x,)), y)

    def after_adaptation(parameters, support_x, support_y, query_x, query_y):
        for _ in range(config.inner_steps):
            slope = grad(loss)(parameters, support_x, support_y)
            parameters = {name: value - config.inner_learning_rate * slope[name] for name, value in parameters.items()}
        return loss(parameters, query_x, query_y)

    mean = vmap(after_adaptation, in_dims=(None, 0, 0, 0, 0))(dict(model.named_parameters()), *episodes).mean()
    mean.backward()
    return mean.detach()


def higher_loss(model: Conv4, config: Config, episodes: Episodes) -> Tensor:
    """The same with `higher`: one task after another, gradients adding up in the parameters."""
    total, inner = torch.zeros(()), torch.optim.SGD(model.parameters(), lr=config.inner_learning_rate)
    for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
        with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, optimizer):
            for _ in range(config.inner_steps):
                optimizer.step(functional.cross_entropy(fast(support_x), support_y))
            loss = functional.cross_entropy(fast(query_x), query_y) / len(episodes[0])
            loss.backward()
        total += loss.detach()
    return total


def meta_step(gradient: Callable[[Conv4, Config, Episodes], Tensor], ours: OurConv4, config: Config, episodes: Episodes):
    """A function that makes one outer step by Adam, and the network that it trains, which starts as a copy of ours."""
    model = copy_weights(ours)
    outer = torch.optim.Adam(model.parameters(), lr=config.outer_learning_rate)

    def step() -> float:
        outer.zero_grad()
        loss = float(gradient(model, config, episodes))
        outer.step()
        return loss

    return step, model


def differences(our_loss: float, our_gradient: OurConv4, their_loss: float, theirs: Conv4) -> tuple[float, float]:
    """How far apart the losses and the gradients are, relative to theirs; `theirs` holds its gradient in its parameters."""
    mine = torch.cat([parameter.detach().ravel() for parameter in copy_weights(our_gradient).parameters()])
    other = torch.cat([parameter.grad.ravel() for parameter in theirs.parameters()])
    return abs(our_loss - their_loss) / abs(their_loss), float((mine - other).norm() / other.norm())
