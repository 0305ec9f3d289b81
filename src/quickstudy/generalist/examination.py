"""What a generalist foresees without acting: captions and answers word by word, the labels of characters, and plain text.

A caption or an answer is right if each of its pieces, the end among them, is the likeliest one after all before it: so it is what
`answering.go_on` would say. Of characters the first drawing after the support is asked for, which stands alone after it.
"""

from collections import Counter
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from quickstudy.generalist.acting import stacked
from quickstudy.generalist.data import build, reading
from quickstudy.generalist.network import Generalist, Seen
from quickstudy.generalist.summaries import interval_of_a_share
from quickstudy.generalist.tokens import Tokens
from quickstudy.generalist.writing import Writer
from quickstudy.persist import Facts

_TOGETHER = 50  # sequences that are read at once; ours


def examine(network: Generalist, name: str, episodes: int, *, seed: int = 0) -> Facts:
    """How many of `episodes` test sequences of a task such as `scenes/caption-shapes` are right, and the nats a token of each.

    `commonest` is what always saying the commonest of these answers would get. Raises as `reading.episodes` does.
    """
    domain, _, task = name.partition("/")
    module, writer = build.domain_module(domain), Writer()
    # Sequences without actions need no simulator, and are made in milliseconds.
    known = reading.episodes(domain, task, "test", seed + episodes, made=seed + episodes)[seed:]
    tokens = [module.tokens(task, episode, writer) for episode in known]
    asked = [_asked(one, episode.facts.get("support")) for one, episode in zip(tokens, known, strict=True)]
    foreseen, surprise = _foreseen(network, tokens)
    right = np.array([bool(all(one[where])) for one, where in zip(foreseen, asked, strict=True)])
    answers = Counter(tuple(one.ids[where].tolist()) for one, where in zip(tokens, asked, strict=True))
    return {
        "right": float(right.mean()),
        "right interval": interval_of_a_share(float(right.mean()), len(right)),
        "commonest": max(answers.values()) / len(right),
        "nats a token": float(np.mean(np.concatenate([one[where] for one, where in zip(surprise, asked, strict=True)]))),
        "sequences": len(right),
    }


def _asked(tokens: Tokens, support: int | None) -> Int[np.ndarray, " asked"]:
    """Which tokens are to be foreseen: the first text that is said, or of characters the label after `support` others."""
    targets = np.flatnonzero(tokens.targets)
    if support is not None:
        return targets[support : support + 1]
    together = np.cumprod(np.diff(targets, prepend=targets[0] - 1) == 1).astype(bool)
    return targets[together]  # of a picture's questions the first, before any other is answered


def _foreseen(network: Generalist, sequences: Sequence[Tokens]) -> tuple[list[Bool[np.ndarray, " tokens"]], list[np.ndarray]]:
    """For each token of each sequence whether it was the likeliest after those before it, and its surprise in nats."""
    # A power of two, so that few programs are compiled.
    ticks = 1 << (max(len(one.ids) for one in sequences) - 1).bit_length()
    likeliest, surprise = [], []
    for start in range(0, len(sequences), _TOGETHER):
        some = sequences[start : start + _TOGETHER]
        ids = np.stack([np.pad(one.ids, (0, ticks - len(one.ids))) for one in some])
        found = _compare(network, stacked(some, ticks, [True] * len(some)), jnp.asarray(np.where(ids < some[0].size, ids, 0)))
        for i, one in enumerate(some):
            likeliest.append(np.asarray(found[0])[i, : len(one.ids)])
            surprise.append(np.asarray(found[1])[i, : len(one.ids)])
    return likeliest, surprise


@eqx.filter_jit
def _compare(
    network: Generalist, seen: Seen, ids: Int[Array, "sequences ticks"]
) -> tuple[Bool[Array, "sequences ticks"], Float[Array, "sequences ticks"]]:
    """Both of each token but the first, which nothing foretells."""

    def one(seen, ids):
        logits = network.logits(network.unroll(seen, patches=ids.shape[0]))[:-1]
        truth = jnp.take_along_axis(logits, ids[1:, None], axis=1)[:, 0]
        first = lambda value, rest: jnp.concatenate([jnp.array([value]), rest])
        return first(False, truth >= jnp.max(logits, axis=1)), first(0.0, jax.nn.logsumexp(logits, axis=1) - truth)

    return jax.lax.map(lambda args: one(*args), (seen, ids))
