"""Embodiments: how each domain's recorded episodes become the generalist's demonstrations, and how its environments are played.

An embodiment fixes the observations (one of a domain's encodings) and the tokenizer; the network knows it only by its tokens.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from quickstudy import catalog
from quickstudy.core import Split
from quickstudy.generalist.data import build, reading
from quickstudy.generalist.data.playing import Step
from quickstudy.generalist.data.store import Episode
from quickstudy.generalist.demonstrations import Demonstrations, demonstrations
from quickstudy.generalist.text import TextModel
from quickstudy.generalist.tokens import Tokenizer, Tokens, join
from quickstudy.generalist.vocabulary import Vocabulary
from quickstudy.generalist.writing import Writer

_TOGETHER = 500  # episodes that are encoded at once; ours


class Embodiment(NamedTuple):
    """One domain as the generalist meets it: its tokenizer, its observations from raw ones, and its environments by task and seed."""

    domain: str
    tokenizer: Tokenizer
    observe: Callable[[Any], Any]
    environment: Callable[[str, int], Any]
    raw: Callable[[Sequence[Episode]], Any]
    record: Callable[[str, int], Any]

    def encode(self, episodes: Sequence[Episode]) -> Tokens:
        """The tokens of episodes of one task, one after the other."""
        return self._encode(episodes, None)

    def sequences(self, episodes: Sequence[Episode]) -> Tokens:
        """What is learned from: the same; but if time steps stand alone, each is an episode, and they are in random order.

        The order is always the same. In their own order a window would show a dozen steps that hardly differ.
        """
        return self._encode(episodes, np.random.default_rng(0) if self.tokenizer.alone else None)

    def _encode(self, episodes: Sequence[Episode], shuffle: np.random.Generator | None) -> Tokens:
        parts = []
        for start in range(0, len(episodes), _TOGETHER):
            some = episodes[start : start + _TOGETHER]
            lengths = [len(episode.actions) for episode in some]
            raw, actions = self.raw(some), np.concatenate([episode.actions for episode in some])
            of = np.arange(len(some))
            if shuffle is not None:
                order = shuffle.permutation(len(actions))
                raw, actions = {name: _in_order(values, order) for name, values in raw.items()}, actions[order]
                of, lengths = np.repeat(of, lengths)[order], [1] * len(actions)
            parts.append(self.tokenizer.encode(self.observe(raw), actions, lengths)._replace(recorded=of))
        return join(parts)

    def episodes(self, task: str, split: Split, n: int) -> list[Episode]:
        """What the first `n` seeds of a split give. Raises as `reading.episodes` does."""
        return reading.episodes(self.domain, task, split, n)

    def brief(self, steps: int) -> "Embodiment":
        """The same with environments whose episodes end after so many steps at most."""
        return self._replace(environment=lambda task, seed: _Brief(self.environment(task, seed), steps))


@dataclasses.dataclass
class _Brief:
    """An environment whose episode has so many steps left."""

    world: Any
    left: int

    def reset(self) -> Any:
        return self.world.reset()

    def step(self, action: Any) -> Step:
        self.left -= 1
        step: Step = self.world.step(action)
        return step._replace(end=step.end or self.left == 0)


def _played(domain: str, encoding: str, task: str) -> Embodiment:
    module, text = build.domain_module(domain), TextModel()
    how, vocabulary = module.encoding(encoding, task), Vocabulary(text.size)
    tokenizer = Tokenizer(
        how.space, how.action_space, vocabulary, text, text_every=how.text_every, separator=how.separator, alone=how.alone
    )

    def raw(episodes: Sequence[Episode]) -> dict[str, Any]:
        each = [module.raw(episode) for episode in episodes]
        return {name: _one_after_the_other([one[name] for one in each]) for name in each[0]}

    return Embodiment(domain, tokenizer, how.observe, module.environment, raw, module.record)


def _one_after_the_other(values: Sequence[Any]) -> Any:
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else [text for texts in values for text in texts]


def _in_order(values: Any, order: np.ndarray) -> Any:
    return values[order] if isinstance(values, np.ndarray) else [values[i] for i in order]


# The encodings of the domains that are played, told without loading these.
_ENCODINGS = {
    "babyai": ("compact", "patches", "symbolic"),
    "metaworld": ("full", "lean", "relative", "named"),
    "bandits": ("plain",),
    "mazes": ("plain",),
    "control": ("plain", "named"),
    "box2d": ("plain", "named"),
    "toytext": ("plain", "named"),
}
EMBODIMENTS: dict[str, Callable[[str], Embodiment]] = {
    f"{domain}-{encoding}": functools.partial(_played, domain, encoding)
    for domain, encodings in _ENCODINGS.items()
    for encoding in encodings
}


@functools.cache
def parse(name: str) -> tuple[Embodiment, str]:
    """The embodiment and the task of a name such as `babyai-compact/GoToLocal`.

    Raises `ValueError` for an unknown embodiment or task, `ImportError` with what to install.
    """
    body, _, task = name.partition("/")
    return EMBODIMENTS[catalog.require(body, EMBODIMENTS, "embodiment")](task), task


def recorded(
    names: Sequence[str],
    *,
    episodes: int | Mapping[str, int],
    held_out: int,
    length: int,
    weights: Mapping[str, float] | None = None,
    unprompted: Collection[str] = (),
    filtered: Collection[str] = (),
) -> Demonstrations:
    """Demonstrations of tasks, each named as in `babyai-compact/GoToLocal` or, of a domain without actions, `scenes/caption-shapes`.

    The first `episodes` seeds are for training, as many of each task or told by name; `held_out` for each other split. Of the tasks in
    `filtered`, episodes for training whose return is not `reading.good_enough` are left out: for experts that are sometimes bad, and
    not for tasks with luck, where the lucky would be kept. Raises as `reading.episodes` and `demonstrations` do.
    """
    writer = Writer()
    tokens: dict[Split, dict[str, Tokens]] = {"train": {}, "valid": {}, "test": {}}
    counts = []
    for name in names:
        for split in tokens:
            known = episodes if isinstance(episodes, int) else episodes[name]
            some = _episodes(name, split, known if split == "train" else held_out)
            if split == "train" and name in filtered:
                good = reading.good_enough(np.array([episode.facts["return"] for episode in some]))
                some = [episode for episode, is_good in zip(some, good, strict=True) if is_good]
            if split == "train":
                counts.append(len(some))
            tokens[split][name] = _tokens(name, some, writer)
    made = demonstrations(tokens, writer.vocabulary, length=length, weights=weights, unprompted=unprompted)
    return dataclasses.replace(made, recorded=tuple(counts))


def _episodes(name: str, split: Split, n: int) -> list[Episode]:
    where, _, task = name.partition("/")
    return reading.episodes(parse(name)[0].domain if where in EMBODIMENTS else where, task, split, n)


def _tokens(name: str, episodes: Sequence[Episode], writer: Writer) -> Tokens:
    where, _, task = name.partition("/")
    if where in EMBODIMENTS:
        return parse(name)[0].sequences(episodes)
    module = build.domain_module(where)
    return join([module.tokens(task, episode, writer) for episode in episodes])
