"""Demonstrations as a task distribution: recorded episodes, as one flat stream of tokens, from which windows are drawn.

A window begins at a section, which is a time step that carries its episode's text, of a random task. In a quarter of windows, another
episode of the same task stands before it as a prompt: in one half of these its end, which shows the goal, in the other any part of it.
Where an episode ends before its window does, others of its task follow, each a sequence of its own: nothing is padded.

Source: Reed et al. 2022, "A Generalist Agent", section 2.2 (windows, a quarter prompted, half of the prompts from the end); the
packing is ours.
"""

import functools
import itertools
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Split, Turn
from quickstudy.generalist.network import Seen
from quickstudy.generalist.tokens import Tokens, join
from quickstudy.generalist.vocabulary import Vocabulary

_GRAIN = 16  # by how many tokens the lengths of prompts differ that are told apart when a window's patches are bounded; ours


class Window(AbstractTask):
    """A stretch of tokens, each to be answered with logits of the next.

    `counts` marks the ticks after which text or part of an action follows, `observed` those before a number that is observed.
    The score of a tick is the log-likelihood, in nats, of the next token if that is text or part of an action; otherwise it is zero.
    """

    seen: Seen
    following: Int[Array, " ticks"]
    counts: Bool[Array, " ticks"]
    observed: Bool[Array, " ticks"]

    def reset(self, key: PRNGKeyArray) -> tuple[Int[Array, ""], Seen]:
        first = jnp.zeros((), jnp.int32)
        return first, self._at(first)

    def step(self, world: Int[Array, ""], response: Float[Array, " tokens"], key: PRNGKeyArray) -> Turn:
        truth, counts, after = self.following[world], self.counts[world], (world + 1) % self.following.shape[0]
        # A token that follows and does not count may be a patch, which has no logit.
        likelihood = jax.nn.log_softmax(response)[jnp.where(counts, truth, 0)]
        return Turn(after, self._at(after), truth, jnp.where(counts, likelihood, 0.0), jnp.asarray(End.RUNNING, jnp.int32))

    def _at(self, tick: Int[Array, ""]) -> Seen:
        return jax.tree.map(lambda leaf: leaf[tick], self.seen)


class Stream(eqx.Module):
    """All tokens of many episodes, those of a task one after the other, and where episodes, sections and tasks begin.

    `episodes` are the places of their first tokens and of the end; `recorded` says of which recorded episode each is, if time steps
    stand alone; `sections` are the places of the sections; `section_of` the number of each episode's first section, and `episode_of`
    that of each task's first episode, both with the end as well.
    """

    ids: Int[Array, " tokens"]
    places: Int[Array, " tokens"]
    intervals: UInt8[Array, "tokens 2 2"]
    targets: Bool[Array, " tokens"]
    patches: UInt8[Array, "rows 16 16 3"]
    episodes: Int[Array, " episodes_1"]
    recorded: Int[Array, " episodes"]
    sections: Int[Array, " sections"]
    section_of: Int[Array, " episodes_1"]
    episode_of: Int[Array, " tasks_1"]


class Span(NamedTuple):
    """The first token of a stretch, and how many there are."""

    first: Int[Array, ""]
    length: Int[Array, ""]


class Demonstrations(AbstractTaskDistribution):
    """Windows of `length` tokens from recorded episodes, one stream a split, tasks drawn by `weights`; `demonstrations` makes them.

    `prompted` is, for each task, the share of windows that begin with a prompt, which takes at most half of them; where a time step
    that stands alone would be prompted by another of its own recorded episode, it has none. `patches` and
    `targets` bound how many of a window's ticks are patches, and are followed by text or action tokens. `recorded` says how many
    episodes for training were recorded of each task, also where time steps stand alone and are the stream's episodes.
    """

    streams: dict[str, Stream]
    weights: Float[Array, " tasks"]
    prompted: Float[Array, " tasks"]
    names: tuple[str, ...] = eqx.field(static=True)
    vocabulary: Vocabulary = eqx.field(static=True)
    length: int = eqx.field(static=True)
    patches: int = eqx.field(static=True)
    targets: int = eqx.field(static=True)
    recorded: tuple[int, ...] = eqx.field(static=True)

    def __repr__(self) -> str:
        """In a line, which a run keeps to tell whether it meets the demonstrations that it was begun with."""
        ids = jax.tree.leaves(self.streams)[0]
        digest = "unknown" if isinstance(ids, jax.core.Tracer | jax.ShapeDtypeStruct) else f"{self._digest():08x}"
        return f"Demonstrations({len(self.names)} tasks, windows of {self.length} tokens, digest {digest})"

    def _digest(self) -> int:
        digest = zlib.crc32(repr((self.names, self.vocabulary)).encode())
        for leaf in jax.tree.leaves((self.streams, self.weights, self.prompted)):
            digest = zlib.crc32(np.asarray(leaf).tobytes(), digest)
        return digest

    def sample(self, key: PRNGKeyArray, split: Split) -> Window:
        if split not in self.streams:
            raise ValueError(f"split must be one of {', '.join(sorted(self.streams))} here, not {split!r}")
        stream = self.streams[split]
        task_key, section_key, prompt_key = jr.split(key, 3)
        task = jr.categorical(task_key, jnp.log(self.weights))
        first, last = stream.episode_of[task], stream.episode_of[task + 1]
        section = jr.randint(section_key, (), stream.section_of[first], stream.section_of[last])
        episode = jnp.searchsorted(stream.section_of, section, side="right") - 1
        prompt = self._prompt(stream, task, episode, prompt_key)
        # One token more than a window shows, because each is to be answered with the next.
        ticks = jnp.arange(self.length + 1)
        begin, end = stream.episodes[first], stream.episodes[last]
        onward = begin + (stream.sections[section] - begin + ticks - prompt.length) % (end - begin)
        index = jnp.where(ticks < prompt.length, prompt.first + ticks, onward)
        # What follows a prompt goes on with its sequence; what follows the end of an episode does not.
        begins = stream.episodes[jnp.searchsorted(stream.episodes, index, side="right") - 1] == index
        return self._window(stream, index, (ticks == 0) | (begins & (ticks > prompt.length)))

    def _prompt(self, stream: Stream, task: Array, episode: Array, key: PRNGKeyArray) -> Span:
        """Another episode's end, or a part of it that begins at a section; mostly nothing."""
        first, last = stream.episode_of[task], stream.episode_of[task + 1]
        whether_key, other_key, section_key, end_key = jr.split(key, 4)
        other = first + (episode - first + jr.randint(other_key, (), 1, last - first)) % (last - first)
        room, end = self.length // 2, stream.episodes[other + 1]
        anywhere = stream.sections[jr.randint(section_key, (), stream.section_of[other], stream.section_of[other + 1])]
        # The end begins with a whole time step, if one begins there at all.
        late = jnp.maximum(stream.episodes[other], end - room)
        starts = stream.places[jnp.minimum(late + jnp.arange(room), end - 1)] == 0
        begin = jnp.where(jr.bernoulli(end_key), late + jnp.argmax(starts), anywhere)
        whether = jr.bernoulli(whether_key, self.prompted[task]) & (stream.recorded[other] != stream.recorded[episode])
        return Span(begin, jnp.where(whether, jnp.minimum(end - begin, room), 0))

    def _window(self, stream: Stream, index: Int[Array, " ticks_1"], fresh: Bool[Array, " ticks_1"]) -> Window:
        ids, places = stream.ids[index], stream.places[index].astype(jnp.int32)
        # Tokens that are no patches show the first one, at which nothing looks.
        pixels = stream.patches[jnp.maximum(ids[:-1] - self.vocabulary.size, 0)]
        seen = Seen(ids[:-1], places[:-1], pixels, stream.intervals[index[:-1]], fresh[:-1])
        counts, onward = stream.targets[index[1:]], ~fresh[1:]
        return Window(seen, ids[1:], counts & onward, ~counts & onward & (ids[1:] < self.vocabulary.separator))


def demonstrations(
    recorded: Mapping[Split, Mapping[str, Tokens]],
    vocabulary: Vocabulary,
    *,
    length: int,
    weights: Mapping[str, float] | None = None,
    prompted: float = 0.25,  # Reed et al. 2022, section 2.2
    unprompted: Collection[str] = (),
) -> Demonstrations:
    """Windows of `length` tokens from episodes, given as the tokens of all of them for each split and each task by its name.

    Tasks are drawn by `weights`, equally often without. Those in `unprompted` have no prompts: tasks whose episodes contradict each
    other. Raises `ValueError` if splits have different tasks, a task has no episode, or not the two that prompts need, or a weight is
    missing or not positive.
    """
    names = tuple(recorded["train"])
    for split, tasks in recorded.items():
        if different := set(tasks) ^ set(names):
            raise ValueError(f"every split must have the same tasks: {min(different)} is not in both train and {split}")
        for name in names:
            least, words = (1, "one episode") if name in unprompted else (2, "two episodes")
            if len(tasks[name].episodes) < least:
                raise ValueError(f"{name} needs at least {words} for {split}, not {len(tasks[name].episodes)}")
    weighed = dict.fromkeys(names, 1.0) if weights is None else weights
    for name in names:
        if not weighed.get(name, 0) > 0:
            raise ValueError(f"weights must have a positive number for {name}, not {weighed.get(name)}")
    _keep_arrays_out_of_programs()
    return Demonstrations(
        {split: _stream([tasks[name] for name in names]) for split, tasks in recorded.items()},
        jnp.array([weighed[name] for name in names]),
        jnp.array([0.0 if name in unprompted else prompted for name in names]),
        names,
        vocabulary,
        length,
        _most(recorded, length, unprompted, lambda tokens: tokens.is_patch),
        _most(recorded, length, unprompted, lambda tokens: tokens.targets),
        tuple(len(recorded["train"][name].episodes) for name in names),
    )


def _stream(tasks: Sequence[Tokens]) -> Stream:
    joined = join(tasks)
    episodes = np.append(joined.episodes, len(joined.ids))
    rows = joined.patches if len(joined.patches) else np.zeros((1, 16, 16, 3), np.uint8)
    numbers = lambda values: jnp.asarray(values, jnp.int32)
    return Stream(
        numbers(joined.ids),
        jnp.asarray(joined.places),
        jnp.asarray(joined.intervals),
        jnp.asarray(joined.targets),
        jnp.asarray(rows),
        numbers(episodes),
        numbers(joined.recorded),
        numbers(joined.sections),
        numbers(np.searchsorted(joined.sections, episodes)),
        numbers(np.cumsum([0, *(len(task.episodes) for task in tasks)])),
    )


def _most(
    recorded: Mapping[Split, Mapping[str, Tokens]], length: int, unprompted: Collection[str], marked: Callable[[Tokens], np.ndarray]
) -> int:
    """As many marked tokens as a window of a task can hold, or a few more: those of its two densest stretches, the first a prompt."""
    # Of prompts with nearly the same length the longest stands for all, and what follows it is as long as after the shortest.
    ends = [*range(0, length // 2, _GRAIN), length // 2]
    most = 1
    for tasks in recorded.values():
        for name, tokens in tasks.items():
            # A task's last episode is followed by its first.
            sums = np.concatenate([[0], np.cumsum(np.resize(marked(tokens), len(tokens.ids) + length))])
            densest = functools.cache(lambda ticks, sums=sums: int((sums[ticks:] - sums[: len(sums) - ticks]).max()))
            prompts = [] if name in unprompted else itertools.pairwise(ends)
            most = max(most, densest(length), *(densest(longest) + densest(length - least) for least, longest in prompts))
    return min(length, most)


def _keep_arrays_out_of_programs() -> None:
    """Let JAX hand large arrays to compiled programs, which it otherwise writes into them, at minutes and gigabytes."""
    jax.config.update("jax_use_simplified_jaxpr_constants", True)
