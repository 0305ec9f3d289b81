"""Acting: a generalist in many environments of one kind at once, each with its own context in a key-value cache.

An environment's context is its prompt, if there is one, then what was seen and done since. The cache keeps as many tokens as training
windows had, so a life may be longer. Where a tokenizer's time steps stand alone, only the prompt and the present step are the context.
Of each action token only the values that the action space allows are drawn from.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.generalist.network import Generalist, Seen
from quickstudy.generalist.tokens import Tokenizer, Tokens, join
from quickstudy.nn.transformer import Cache


class Players:
    """A generalist that acts in `size` environments at once, whose episodes may end at different times.

    `prompt` is what stands at the beginning of every context, as tokens: an episode of the same task, or nothing; or a list of these,
    one for each environment. Actions are drawn from the network's distribution, or are its likeliest with `greedy`.

    Raises `ValueError` for a tokenizer or a prompt of another vocabulary than the network's, and for a list of another length than
    `size`.
    """

    def __init__(
        self,
        network: Generalist,
        tokenizer: Tokenizer,
        size: int,
        *,
        prompt: Tokens | list[Tokens | None] | None = None,
        greedy: bool = False,
    ):
        tokens, prompts = network.embedding.shape[0], prompt if isinstance(prompt, list) else [prompt] * size
        if len(prompts) != size:
            raise ValueError(f"prompt must be a list of one for each of the {size} environments, not of {len(prompts)}")
        for what, given in (("tokenizer", tokenizer.vocabulary.size), *(("prompt", one.size) for one in prompts if one is not None)):
            if given != tokens:
                raise ValueError(f"the {what} has a vocabulary of {given} tokens, and the network one of {tokens}")
        self._network, self._tokenizer, self._prompts, self._greedy = network, tokenizer, prompts, greedy
        self._memory = empty(network, size)
        self._pending: list[list[Tokens]] = [[] for _ in range(size)]
        self._fresh, self._ticks = [True] * size, [0] * size
        self.reset()

    def reset(self, players: Sequence[int] | None = None, seed: int = 0) -> None:
        """Begin anew in these environments; or in all, with a new seed."""
        if players is None:
            self._key = jr.key(seed)
        for i in range(len(self._pending)) if players is None else players:
            prompt = self._prompts[i]
            self._pending[i] = [] if prompt is None else [prompt]
            self._fresh[i], self._ticks[i] = True, 0

    def act(self, observations: Sequence[Any], players: Sequence[int] | None = None) -> list[Any]:
        """One action for each observation, of these environments in this order, or of all.

        Raises what `Tokenizer.step` raises for an observation that is not of its space.
        """
        who = list(range(len(self._pending)) if players is None else players)
        if self._tokenizer.alone:
            self.reset(who)
        steps = [
            self._tokenizer.step(observation, first=self._ticks[i] % self._tokenizer.text_every == 0)
            for i, observation in zip(who, observations, strict=True)
        ]
        for i, step in zip(who, steps, strict=True):
            self._pending[i].append(step)
            self._ticks[i] += 1
        chosen = np.zeros((len(self._pending), self._tokenizer.action_ids), np.int32)
        for number, (low, high) in enumerate(self._tokenizer.action_ranges.tolist()):
            self._key, key = jr.split(self._key)
            chosen[:, number] = choose(self._read(), jnp.int32(low), jnp.int32(high), key, self._greedy)
            for i in who:
                self._pending[i].append(self._tokenizer.action_tokens(chosen[i, number : number + 1]))
        return [self._tokenizer.decode_action(chosen[i]) for i in who]

    def _read(self) -> Float[Array, "players tokens"]:
        """Read all pending tokens, and return the logits after each environment's last."""
        pending = [join(parts) if parts else None for parts in self._pending]
        self._memory, logits = read(self._network, self._memory, pending, self._fresh)
        self._fresh = [fresh and (tokens is None or not len(tokens.ids)) for fresh, tokens in zip(self._fresh, pending, strict=True)]
        self._pending = [[] for _ in self._pending]
        return logits


def empty(network: Generalist, size: int) -> Cache:
    """Memories of `size` contexts that have not begun."""
    return jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), network.body.start())


def read(
    network: Generalist, memory: Cache, pending: Sequence[Tokens | None], fresh: Sequence[bool]
) -> tuple[Cache, Float[Array, "players tokens"]]:
    """Memories after the pending tokens of each context, at least one of which has some, and the logits after each one's last.

    The memory that is given is used up.
    """
    lengths = np.array([0 if tokens is None else len(tokens.ids) for tokens in pending])
    # Powers of two, so that few programs are compiled.
    ticks = 1 << int(lengths.max() - 1).bit_length()
    return advance(network, memory, stacked(pending, ticks, fresh), jnp.asarray(np.arange(ticks)[None] < lengths[:, None]))


def stacked(sequences: Sequence[Tokens | None], ticks: int, fresh: Sequence[bool]) -> Seen:
    """Token sequences of at most `ticks` tokens as the network sees them, side by side, with blanks after their ends."""
    n = len(sequences)
    ids, places = np.zeros((n, ticks), np.int32), np.zeros((n, ticks), np.int32)
    pixels, intervals = np.zeros((n, ticks, 16, 16, 3), np.uint8), np.zeros((n, ticks, 2, 2), np.uint8)
    for i, tokens in enumerate(sequences):
        if tokens is not None:
            length = len(tokens.ids)
            ids[i, :length], places[i, :length], intervals[i, :length] = tokens.ids, tokens.places, tokens.intervals
            patches = np.flatnonzero(tokens.is_patch)
            pixels[i, patches] = tokens.patches[tokens.ids[patches] - tokens.size]
    first = np.arange(ticks)[None] == 0
    return Seen(*map(jnp.asarray, (ids, places, pixels, intervals, first & np.asarray(fresh)[:, None])))


@eqx.filter_jit(donate="all-except-first")
def advance(network: Generalist, memory: Cache, seen: Seen, active: Bool[Array, "players ticks"]) -> tuple[Cache, Array]:
    """Memories after their active tokens, and the logits after the last of these."""

    def tick(carry, item):
        memory, features = carry
        one, is_active = item
        after, new = jax.vmap(network.read)(memory, one)
        # A token that is not there is written where the next one will be, and never read.
        position = jnp.where(is_active, after.position, memory.position)
        return (after._replace(position=position), jnp.where(is_active[:, None], new, features)), None

    ticks_first = lambda leaf: jnp.swapaxes(leaf, 0, 1)
    blank = jnp.zeros((active.shape[0], network.embedding.shape[1]))
    (memory, features), _ = jax.lax.scan(tick, (memory, blank), (jax.tree.map(ticks_first, seen), ticks_first(active)))
    return memory, network.logits(features)


@eqx.filter_jit
def choose(
    logits: Float[Array, "players tokens"], low: Int[Array, ""], high: Int[Array, ""], key: PRNGKeyArray, greedy: bool
) -> Int[Array, " players"]:
    """One token for each row of logits, from `low` on and below `high`."""
    number = jnp.arange(logits.shape[1])
    allowed = jnp.where(((number >= low) & (number < high))[None], logits, -jnp.inf)
    return jnp.argmax(allowed, axis=1) if greedy else jr.categorical(key, allowed)
