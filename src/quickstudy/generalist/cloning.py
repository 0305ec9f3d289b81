"""Plain behaviour cloning, the scoreboard's simplest learner: a small perceptron from one observation to the expert's action.

    min over weights of E_step of mean over parts of the action of -log p(part | observation, task)

A network of one task, or of several that have equal spaces, with one input a task: a one-hot of the task beside the observation.

It is given all that one observation shows, and nothing of what was before:

* pictures, as numbers from 0 to 1, and other numbers, standardised over the training steps
* discrete values, and the task, as one-hots
* text as a one-hot for the piece at each place of the text; a bag of pieces would not tell what is put next to what, and a one-hot of
  whole texts would know none that training did not have. Pieces that were never at their place in training are left out.

It answers in the tokenizer's own tokens, so a continuous action has the same bins as the generalist's, and each part of an action is
independent of the others. Like the generalist it draws its actions from its distribution, unless told otherwise. That is also better
for it: who forgets what was before and takes the likeliest action may do the same for ever (GoToLocal: 0.8 of missions, not 0.9).

Source: Pomerleau 1989, "ALVINN" (recalled). The network and its settings are ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray, UInt8

from quickstudy.generalist.data.store import Episode
from quickstudy.generalist.embodiments import Embodiment, parse
from quickstudy.generalist.spaces import Path, leaves, unfold
from quickstudy.generalist.tokens import Tokenizer

# Ours. A network takes 10 to 20 s of one core for a level of BabyAI with 3,000 episodes, 40 s for a task of Meta-World with 1,000.
# On the valid seeds of GoToLocal half or double the steps, or double the width, change nothing beyond the error of 100 episodes.
_WIDTH = 256  # of both hidden layers
_STEPS = 4_000  # of training for each task
_BATCH = 128  # time steps, drawn from all tasks equally often
_RATE = 0.001  # of Adam; it falls to nothing, as a cosine does
_PLACES = 64  # pieces of a text that are read
_FAR = 5.0  # standard deviations beyond which numbers are clipped, so that what hardly varied in training is never huge
_MOST_BYTES = 500_000_000  # of training steps; of more a random part is kept. While they are put together they take three times that
_TOGETHER = 500  # episodes that are read at once


class Inputs(NamedTuple):
    """What a perceptron reads of time steps."""

    pixels: UInt8[np.ndarray, "steps pixels"]
    numbers: Float32[np.ndarray, "steps numbers"]
    ones: Int32[np.ndarray, "steps ones"]  # which of the inputs that are 0 or 1 are 1; -1 stands for none


class Reader:
    """Makes inputs of observations, and knows the words and the spread of numbers that training had."""

    def __init__(self, tokenizer: Tokenizer, tasks: int):
        self._space, self._text = tokenizer.observation_space, tokenizer.text
        self._leaves = leaves(self._space, tokenizer.vocabulary, ("observation",))
        counts = [leaf.counts for leaf in self._leaves if leaf.kind == "discrete"]
        ends = np.cumsum([0, tasks, *(count for many in counts for count in many.tolist())])
        self._firsts, self._fixed = ends[:-1], int(ends[-1])  # the one-hot of the task is the first
        self._words = dict[tuple[int, int], int]()  # the number of the input that stands for a place and a piece
        self._places = _PLACES if any(leaf.kind == "text" for leaf in self._leaves) else 0
        self._mean, self._scale = np.zeros(1, np.float32), np.ones(1, np.float32)

    @property
    def ones(self) -> int:
        """How many inputs are 0 or 1."""
        return self._fixed + len(self._words)

    def learn(self, observed: Any, task: int, steps: int) -> Inputs:
        """Read steps of training, nested as the space is, with all their words; numbers are not yet standardised."""
        values = dict(unfold(self._space, observed, ("observation",)))
        for row in self._pieces(values, steps):
            for piece in row:
                self._words.setdefault(piece, self.ones)
        return self._read(values, task, steps)

    def finish(self, inputs: Inputs) -> Inputs:
        """Standardise all numbers of training by their mean and spread, and keep as many places of text as it had."""
        if inputs.numbers.size:
            spread = inputs.numbers.std(axis=0)
            self._mean, self._scale = inputs.numbers.mean(axis=0), np.where(spread > 0, spread, 1).astype(np.float32)
        other = inputs.ones.shape[1] - self._places
        self._places = max((place + 1 for place, _ in self._words), default=0)
        return inputs._replace(numbers=self._standard(inputs.numbers), ones=inputs.ones[:, : other + self._places])

    def read(self, observations: Sequence[Any], task: int) -> Inputs:
        """Read observations, one for each environment."""
        each = [dict(unfold(self._space, one, ("observation",))) for one in observations]
        stacked = lambda kind, values: values if kind == "text" else np.stack([np.asarray(value) for value in values])
        values = {leaf.path: stacked(leaf.kind, [one[leaf.path] for one in each]) for leaf in self._leaves}
        inputs = self._read(values, task, len(each))
        return inputs._replace(numbers=self._standard(inputs.numbers))

    def _standard(self, numbers: np.ndarray) -> Float32[np.ndarray, "steps numbers"]:
        return np.clip((numbers - self._mean) / self._scale, -_FAR, _FAR).astype(np.float32)

    def _read(self, values: Mapping[Path, Any], task: int, steps: int) -> Inputs:
        of = lambda kind: [(leaf, leaf.read(values[leaf.path], steps)) for leaf in self._leaves if leaf.kind == kind]
        pixels = [image.reshape(steps, -1) for _, image in of("image")]
        numbers = [array.astype(np.float32) for _, array in of("continuous")]
        chosen = [array.astype(np.int64) - leaf.low.astype(np.int64) for leaf, array in of("discrete")]
        ones = np.concatenate([np.full((steps, 1), task), *chosen], axis=1) + self._firsts
        known = [[self._words.get(piece, -1) for piece in row] for row in self._pieces(values, steps)]
        words = [row + [-1] * (self._places - len(row)) for row in known] if self._places else np.zeros((steps, 0))
        return Inputs(
            np.concatenate([np.zeros((steps, 0), np.uint8), *pixels], axis=1),
            np.concatenate([np.zeros((steps, 0), np.float32), *numbers], axis=1),
            np.concatenate([ones, words], axis=1).astype(np.int32),
        )

    def _pieces(self, values: Mapping[Path, Any], steps: int) -> Iterator[list[tuple[int, int]]]:
        """For each step the places of its text, all texts one after the other, each with the piece that is there."""
        texts = [leaf.read(values[leaf.path], steps) for leaf in self._leaves if leaf.kind == "text"]
        for several in zip(*texts, strict=True):
            assert self._text is not None
            yield list(enumerate(piece for text in several for piece in self._text.encode(text)))[: self._places]


class Perceptron(eqx.Module):
    """Two hidden layers, from inputs to the logits of each token of an action."""

    dense: Float[Array, "numbers width"]  # a row for each pixel, then for each other number
    table: Float[Array, "ones width"]  # a row for each input that is 0 or 1
    rest: eqx.nn.MLP
    counts: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, inputs: Inputs, ones: int, counts: Sequence[int], width: int, *, key: PRNGKeyArray):
        keys = jr.split(key, 3)
        self.counts = tuple(counts)
        # Each of the three kinds begins with as much to say, however many there are of it: ours.
        pixels, numbers, chosen = (array.shape[1] for array in inputs)
        scale = np.repeat([pixels, numbers], [pixels, numbers]).astype(np.float32) ** -0.5
        self.dense = jr.normal(keys[0], (pixels + numbers, width)) * scale[:, None]
        self.table = jr.normal(keys[1], (ones, width)) * chosen**-0.5
        self.rest = eqx.nn.MLP(width, len(self.counts) * max(self.counts), width, depth=1, key=keys[2])

    def __call__(
        self, pixels: UInt8[Array, " pixels"], numbers: Float32[Array, " numbers"], ones: Int32[Array, " ones"]
    ) -> Float[Array, "tokens most"]:
        dense = jnp.concatenate([pixels.astype(jnp.float32) / 255, numbers]) @ self.dense
        rows = jnp.where(ones[:, None] >= 0, self.table[ones], 0)
        logits = self.rest(jax.nn.relu(dense + jnp.sum(rows, axis=0))).reshape(len(self.counts), -1)
        return jnp.where(jnp.arange(logits.shape[1])[None] < jnp.array(self.counts)[:, None], logits, -jnp.inf)


class Clone(NamedTuple):
    """A trained perceptron, with all that it needs to act."""

    network: Perceptron
    reader: Reader
    tokenizer: Tokenizer


def clone(known: Sequence[tuple[Embodiment, Sequence[Episode]]], *, width: int = _WIDTH, steps: int = _STEPS, seed: int = 0) -> Clone:
    """Train one network for one task, or for several of equal spaces, each given by its embodiment and its episodes.

    `steps` are for each task, drawn equally often. Equal seeds give equal networks. Raises `ValueError` for no tasks, for one without
    episodes, and where spaces differ.

    >>> body, task = parse("bandits-plain/bernoulli-2")
    >>> made = clone([(body, body.episodes(task, "train", 2))], width=8, steps=5)
    >>> (arm,) = Cloned(made).act([body.observe(body.environment(task, seed=0).reset())], [0])
    >>> arm in (0, 1)
    True
    """
    if not known or not all(episodes for _, episodes in known):
        raise ValueError("cloning needs one task at least, and one episode at least of each")
    if not all(are_alike(known[0][0], body) for body, _ in known):
        raise ValueError("tasks that one network clones must have equal spaces")
    tokenizer, draw = known[0][0].tokenizer, np.random.default_rng(seed)
    reader = Reader(tokenizer, len(known))
    parts, answers, sizes = [], [], []
    for task, (body, episodes) in enumerate(known):
        for start in range(0, len(episodes), _TOGETHER):
            some = episodes[start : start + _TOGETHER]
            actions = np.concatenate([episode.actions for episode in some])
            inputs = reader.learn(body.observe(body.raw(some)), task, len(actions))
            kept = draw.random(len(actions)) < _MOST_BYTES / len(known) / _bytes(inputs, episodes)
            parts.append(Inputs(*(array[kept] for array in inputs)))
            answers.append((tokenizer.encode_actions(actions, len(actions)) - tokenizer.action_ranges[:, 0])[kept])
            sizes.append((task, int(kept.sum())))
    inputs = reader.finish(Inputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))))
    ends = np.cumsum([sum(size for of, size in sizes if of == task) for task in range(len(known))])
    counts = np.diff(tokenizer.action_ranges, axis=1)[:, 0].tolist()
    network_key, key = jr.split(jr.key(seed))
    network = Perceptron(inputs, reader.ones, counts, width, key=network_key)
    recorded = (*map(jnp.asarray, inputs), jnp.asarray(np.concatenate(answers), jnp.int32))
    return Clone(_trained(network, recorded, jnp.asarray(np.append(0, ends)), steps * len(known), key), reader, tokenizer)


def clone_each(
    names: Sequence[str], episodes: Callable[[str], Sequence[Episode]], *, seed: int = 0, greedy: bool = False
) -> dict[str, dict[str, "Cloned"]]:
    """For each task, named as in `babyai-compact/GoToLocal`, a clone of it alone, and one of all these tasks that have its spaces.

    Raises as `clone`.
    """
    groups: list[list[str]] = []
    for name in names:
        for group in groups:
            if are_alike(parse(group[0])[0], parse(name)[0]):
                group.append(name)
                break
        else:
            groups.append([name])
    made = {}
    for group in groups:
        known = [(parse(name)[0], episodes(name)) for name in group]
        alone = [clone([one], seed=seed) for one in known]
        together = clone(known, seed=seed) if len(group) > 1 else alone[0]
        for task, name in enumerate(group):
            made[name] = {
                "single-task cloning": Cloned(alone[task], greedy=greedy, seed=seed),
                "one-hot cloning": Cloned(together, task, greedy=greedy, seed=seed),
            }
    return made


def are_alike(one: Embodiment, other: Embodiment) -> bool:
    """Whether one network can act in both: their spaces are equal."""
    return bool(
        one.domain == other.domain
        and one.tokenizer.observation_space == other.tokenizer.observation_space
        and one.tokenizer.action_space == other.tokenizer.action_space
    )


def _bytes(inputs: Inputs, episodes: Sequence[Episode]) -> int:
    """Of all steps of a task, where some of them take as many as these do."""
    return sum(array[0].nbytes for array in inputs) * sum(len(episode.actions) for episode in episodes)


@eqx.filter_jit
def _trained(
    network: Perceptron, recorded: tuple[Array, ...], ends: Int[Array, " tasks_1"], steps: int, key: PRNGKeyArray
) -> Perceptron:
    *inputs, answers = recorded
    weights, fixed = eqx.partition(network, eqx.is_inexact_array)
    optimiser = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

    def loss(weights, which):
        logits = jax.vmap(eqx.combine(weights, fixed))(*(array[which] for array in inputs))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, answers[which]))

    def step(carry, key):
        weights, state = carry
        task_key, step_key = jr.split(key)
        task = jr.randint(task_key, (_BATCH,), 0, len(ends) - 1)
        which = jr.randint(step_key, (_BATCH,), ends[task], ends[task + 1])
        gradient = jax.grad(loss)(weights, which)
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes integer counts with floats
            updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(weights, updates), state), None

    (weights, _), _ = jax.lax.scan(step, (weights, optimiser.init(weights)), jr.split(key, steps))
    return eqx.combine(weights, fixed)


class Cloned:
    """Acts as a clone does in the task of a number. Actions are drawn from its distribution, or are its likeliest with `greedy`."""

    def __init__(self, clone: Clone, task: int = 0, *, greedy: bool = False, seed: int = 0):
        self._clone, self._task, self._greedy, self._draw = clone, task, greedy, np.random.default_rng(seed)

    def reset(self, players: Sequence[int]) -> None:
        """Nothing is remembered."""

    def act(self, observations: Sequence[Any], players: Sequence[int]) -> list[Any]:
        """One action for each observation. Raises as `Tokenizer.step` does."""
        network, reader, tokenizer = self._clone
        inputs, n = reader.read(observations, self._task), len(observations)
        # A power of two, so that few programs are compiled.
        room = (1 << (n - 1).bit_length()) - n
        padded = (jnp.asarray(np.pad(array, ((0, room), (0, 0)))) for array in inputs)
        logits = np.asarray(_read_all(network, *padded))[:n]
        luck = 0.0 if self._greedy else self._draw.gumbel(size=logits.shape)
        return [tokenizer.decode_action(ids) for ids in np.argmax(logits + luck, axis=2) + tokenizer.action_ranges[:, 0]]


@eqx.filter_jit
def _read_all(network: Perceptron, pixels: Array, numbers: Array, ones: Array) -> Float[Array, "players tokens most"]:
    return jax.vmap(network)(pixels, numbers, ones)
