"""The generalist's network and its training step in PyTorch, as one would write them there.

Queries, keys and values are one product, attention is `scaled_dot_product_attention` under a mask of packed sequences, a patch's stem
is a strided convolution, AdamW is the fused one, and only what there is of patches and targets is computed. Needs the `[bench]` extra.
"""

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quickstudy.algorithms.imitation.generalist import Config
from quickstudy.generalist.demonstrations import Window
from quickstudy.generalist.network import Generalist as OurGeneralist
from quickstudy.generalist.network import PatchEncoder as OurPatchEncoder
from quickstudy.nn.transformer import Block as OurBlock

Windows = dict[str, Tensor]  # stacked: what is seen, what follows, and whether that counts


class PatchEncoder(nn.Module):
    """4 x 4 pixels at a time by a strided convolution, one residual block, a linear map."""

    def __init__(self, width: int, channels: int, groups: int):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, stride=4)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.out = nn.Linear(16 * channels, width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem((pixels.permute(0, 3, 1, 2).float() / 127.5 - 1) / 4)
        residual = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            residual = convolution(functional.gelu(norm(residual), approximate="tanh"))
        return self.out((x + residual).flatten(1))


class Block(nn.Module):
    """A pre-norm block with rotary positions and GEGLU."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attending = nn.Linear(width, 3 * width, bias=False)
        self.mixing = nn.Linear(width, width, bias=False)
        self.expanding = nn.Linear(width, 2 * hidden, bias=False)
        self.contracting = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], allowed: Tensor, kept: Tensor) -> Tensor:
        parts = self.attending(self.before_attention(x)).unflatten(2, (3, self.heads, -1))
        query, keys, values = parts.permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(rotate(query, *turn), rotate(keys, *turn), values, attn_mask=allowed)
        x = x + kept[:, :1, None] * self.mixing(read.transpose(1, 2).flatten(2))
        gate, units = self.expanding(self.before_feed_forward(x)).chunk(2, dim=2)
        return x + kept[:, 1:, None] * self.contracting(functional.gelu(gate, approximate="tanh") * units)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=3)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=3)


class Generalist(nn.Module):
    """Tokens and patches enter one stream; the embedding is also the way out."""

    def __init__(self, ours: OurGeneralist):
        super().__init__()
        sizes, (tokens, width) = ours.body.architecture, ours.embedding.shape
        self.size = sizes.size
        self.embedding, self.places = nn.Embedding(tokens, width), nn.Embedding(len(ours.places), width)
        self.rows, self.columns = nn.Embedding(len(ours.rows), width), nn.Embedding(len(ours.columns), width)
        self.patches = PatchEncoder(width, ours.patches.stem.out_features, ours.patches.norms[0].groups)
        self.blocks = nn.ModuleList(Block(width, sizes.heads, sizes.hidden) for _ in range(sizes.layers))
        self.last = nn.LayerNorm(width)

    def forward(self, windows: Windows, drop: float | None) -> Tensor:
        """The mean over windows of the mean surprise at what counts; without a rate of dropping, nothing is drawn at random."""
        x, positions, sequences = self.embed(windows, drop is not None), positions_of(windows["fresh"]), windows["fresh"].cumsum(1)
        kept = torch.ones(len(self.blocks), len(x), 2)
        if drop is not None:
            kept = torch.bernoulli((1 - drop) * kept) / (1 - drop)
        allowed = (sequences[:, :, None] == sequences[:, None]).tril()[:, None]
        angles = positions[:, None, :, None] * 10_000.0 ** (-torch.arange(0, self.size, 2) / self.size)
        turn = (angles.cos(), angles.sin())
        for block, its_kept in zip(self.blocks, kept, strict=True):
            x = block(x, turn, allowed, its_kept)
        counts = windows["counts"]
        logits = functional.linear(self.last(x[counts]), self.embedding.weight)
        surprise = functional.cross_entropy(logits, windows["following"][counts], reduction="none")
        share = 1 / (counts.sum(1).clamp(min=1) * len(x))
        return (surprise * share[:, None].expand_as(counts)[counts]).sum()

    def embed(self, windows: Windows, random: bool) -> Tensor:
        tokens, width = self.embedding.weight.shape
        is_patch = windows["id"] >= tokens
        x = width**0.5 * self.embedding(windows["id"].masked_fill(is_patch, 0)) + self.places(windows["place"])
        first, last = windows["interval"][is_patch].unbind(2)
        share = torch.rand(first.shape) if random else torch.tensor(0.5)
        bins = first + ((last - first + 1) * share).long()
        pictures = self.patches(windows["pixels"][is_patch]) + self.rows(bins[:, 0]) + self.columns(bins[:, 1])
        return x.masked_fill(is_patch[:, :, None], 0).index_put((is_patch,), pictures + self.places(windows["place"][is_patch]))


def positions_of(fresh: Tensor) -> Tensor:
    """How many ticks of its own sequence stand before each."""
    index = torch.arange(fresh.shape[1]).expand_as(fresh)
    return index - torch.where(fresh, index, 0).cummax(1).values


def copy_weights(ours: OurGeneralist) -> Generalist:
    """A PyTorch network that computes what ours computes."""
    theirs = Generalist(ours)
    pairs = [(getattr(theirs, name).weight, getattr(ours, name)) for name in ("embedding", "places", "rows", "columns")]
    pairs += [*_norm(theirs.last, ours.body.last), *_patch_encoder(theirs.patches, ours.patches)]
    for layer, block in enumerate(theirs.blocks):
        pairs += _block(block, ours.body.blocks, layer)
    with torch.no_grad():
        for parameter, value in pairs:
            parameter.copy_(torch.tensor(np.asarray(value)))
    assert len(pairs) == len(list(theirs.parameters()))
    return theirs


def _norm(theirs: nn.Module, ours, layer=...) -> list:
    return [(theirs.weight, ours.weight[layer]), (theirs.bias, ours.bias[layer])]


def _patch_encoder(theirs: PatchEncoder, ours: OurPatchEncoder) -> list:
    channels, width = ours.stem.out_features, ours.out.out_features
    channels_first = lambda weight, shape: np.reshape(weight, shape).transpose(0, 3, 1, 2)
    pairs = [
        (theirs.stem.weight, channels_first(ours.stem.weight, (channels, 4, 4, 3))),
        (theirs.stem.bias, ours.stem.bias),
        (theirs.out.weight, channels_first(ours.out.weight, (width, 4, 4, channels)).reshape(width, -1)),
        (theirs.out.bias, ours.out.bias),
    ]
    for convolution, norm, a, b in zip(theirs.convolutions, theirs.norms, ours.convolutions, ours.norms, strict=True):
        kernel = np.reshape(a.weight, (3, 3, channels, channels)).transpose(3, 2, 0, 1)
        pairs += [(convolution.weight, kernel), (convolution.bias, a.bias), *_norm(norm, b)]
    return pairs


def _block(theirs: Block, ours: OurBlock, layer: int) -> list:
    width = ours.contracting.shape[-1]
    square = lambda weight: np.reshape(weight, (width, width)).T
    attending = [square(ours.asking[layer]), *map(square, ours.offering[layer])]
    return [
        (theirs.attending.weight, np.concatenate(attending)),
        (theirs.mixing.weight, square(ours.mixing[layer])),
        (theirs.expanding.weight, np.concatenate([gate.T for gate in np.asarray(ours.expanding[layer])])),
        (theirs.contracting.weight, np.asarray(ours.contracting[layer]).T),
        *_norm(theirs.before_attention, ours.before_attention, layer),
        *_norm(theirs.before_feed_forward, ours.before_feed_forward, layer),
    ]


def as_tensors(windows: Window) -> Windows:
    """Stacked windows as tensors."""
    following = np.asarray(windows.following, np.int64)  # the one type that PyTorch's cross-entropy takes for classes
    arrays = windows.seen._asdict() | {"following": following, "counts": windows.counts}
    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def differences(ours: OurGeneralist, our_loss: float, our_gradient: OurGeneralist, windows: Windows) -> tuple[float, float]:
    """How far apart the losses and the gradients are, relative to theirs, with nothing drawn at random."""
    theirs = copy_weights(ours)
    loss = theirs(windows, None)
    loss.backward()
    mine = torch.cat([parameter.detach().ravel() for parameter in copy_weights(our_gradient).parameters()])
    other = torch.cat([parameter.grad.ravel() for parameter in theirs.parameters()])
    return abs(our_loss - loss.item()) / loss.item(), float((mine - other).norm() / other.norm())


def training_step(ours: OurGeneralist, config: Config, batches: Sequence[Windows]) -> tuple[Callable[[], float], nn.Module]:
    """A function that makes one outer step on the next of these batches, and the network that it trains, at first a copy of ours."""
    model, batch = copy_weights(ours), cycle(batches)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = model(next(batch), config.drop)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step, model
