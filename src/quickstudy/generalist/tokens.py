"""Episodes as one flat sequence of tokens, and back: what the generalist agent reads and writes.

Source: Reed et al. 2022, "A Generalist Agent" (Gato), https://arxiv.org/abs/2205.06175, section 2.1 and appendices B and C. What is
marked * is recalled, or known from others' programs that quote the appendices; what is marked + is our choice.

The values of one time step, and their ids for a vocabulary of T pieces of text:

| value            | becomes                                                                | ids                   | literal+      |
|------------------|------------------------------------------------------------------------|-----------------------|---------------|
| text             | pieces of SentencePiece (2,048 of our own here, 32,000 in the paper)   | [0, T)                | [0, T)        |
| discrete value   | itself, counted from the space's least value+; at most 1,024 values    | [T, T + 1024)         | [0, 1024)     |
| continuous value | mu-law (mu = 100, M = 256), clip to [-1, 1], 1,024 bins of equal width | [T + 1024, T + 2048)  | [T, T + 1024) |
| separator        | one token                                                              | T + 2048              | T + 1024      |
| 16 x 16 patch    | its pixels, scaled to [-1, 1] and divided by 4                         | size + row in a table+| the same      |

* An observation that is declared to lie in [-1, 1] is there already and does not pass the mu-law.+ A value beyond 256 is clipped.
* A continuous action is scaled linearly from its declared bounds to [-1, 1]+, and never companded.*
* A bin stands for its centre.+ So a companded number x comes back with an error of at most 0.01 (|x| + 0.01), any other with at most
  half a bin: 1/1024 of half the width of its range. A whole number is rounded.
* An integer Box with at most 1,024 values counts as discrete+, a wider one as continuous+; MultiBinary is 0 or 1.
* An unsigned byte Box with bounds 0 and 255, three axes and 1 or 3 channels is an image+; its sides must be multiples of 16.

The order (appendix B*):

* A time step is its observation, the separator, its action; an episode is its time steps in order. Rewards are not written.
* An observation is its texts, then its images, then its discrete and continuous tensors; within each, nested spaces are in key order.
* A tensor is row-major, and so are the patches of an image.

The places (appendix C*):

* Each observation token and the separator+ have a local place within the time step, 0 to at most 511; the tokens of actions share
  one, 512.
* A patch has two intervals, the rows and the columns that it covers in 128ths of the image. Training draws one bin from each,
  evaluation takes the rounded mean (`position_bins`).
* The targets of training are the tokens of text and of actions; all others are only read.

Two ways to fewer tokens, neither of them the paper's:+ text may be written at every `text_every`-th step only, and `separator=False`
writes no separators. A step that writes its text begins a section; if all do, every step is one.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int16, Int32, Int64, UInt8

from quickstudy.generalist.spaces import Leaf, Path, Space, fold, leaves, unfold
from quickstudy.generalist.text import TextModel
from quickstudy.generalist.vocabulary import (
    PATCH,
    Vocabulary,
    distinct_patches,
    from_patches,
    patch_intervals,
    require_range,
    to_patches,
)

ACTION_PLACE = 512  # of every token of an action; also how many tokens an observation may have, the separator among them


class Tokens(NamedTuple):
    """A sequence of tokens. A patch's id is `size` plus its row in `patches`, which has each different patch once."""

    ids: Int32[np.ndarray, " length"]
    places: Int16[np.ndarray, " length"]  # within the time step
    targets: Bool[np.ndarray, " length"]  # whether training predicts the token: text and actions
    intervals: UInt8[np.ndarray, "length 2 2"]  # of patches: (row, column) x (first, last bin); zeros elsewhere
    patches: UInt8[np.ndarray, "rows 16 16 3"]
    sections: Int64[np.ndarray, " sections"]  # where the time steps begin that write their text
    episodes: Int64[np.ndarray, " episodes"]  # where the first time steps begin, of as many episodes as follow each other
    recorded: Int64[np.ndarray, " episodes"]  # which recorded episode each is, or is a time step of
    size: int  # of the vocabulary

    @property
    def is_patch(self) -> Bool[np.ndarray, " length"]:
        """Which tokens are patches."""
        return self.ids >= self.size

    @property
    def is_action(self) -> Bool[np.ndarray, " length"]:
        """Which tokens are part of an action."""
        return self.places == ACTION_PLACE


def join(parts: Sequence[Tokens]) -> Tokens:
    """One sequence after the other, with one table of their different patches.

    Raises `ValueError` where there are none, or where they are of vocabularies of different sizes.
    """
    sizes = sorted({part.size for part in parts})
    if len(sizes) != 1:
        raise ValueError(f"sequences that are joined must be one at least and of one vocabulary's size, not of the sizes {sizes}")
    table, rows = distinct_patches(np.concatenate([part.patches for part in parts]))
    ids, sections, episodes, recorded, before, rows_before, known = [], [], [], [], 0, 0, 0
    for part in parts:
        ids.append(part.ids.copy())
        ids[-1][part.is_patch] = sizes[0] + rows[part.ids[part.is_patch] - sizes[0] + rows_before]
        sections.append(part.sections + before)
        episodes.append(part.episodes + before)
        recorded.append(part.recorded + known)
        before, rows_before, known = before + len(part.ids), rows_before + len(part.patches), known + 1 + part.recorded.max(initial=-1)
    places, targets, intervals = map(np.concatenate, zip(*((one.places, one.targets, one.intervals) for one in parts), strict=True))
    where = (np.concatenate(sections), np.concatenate(episodes), np.concatenate(recorded))
    return Tokens(np.concatenate(ids), places, targets, intervals, table, *where, sizes[0])


class Tokenizer:
    """Writes the episodes of one kind of environment as tokens, and reads them back.

    Values of an episode of T time steps are arrays with a leading axis T, nested as their space is; text is a list of T strings.
    With `alone` each time step is a sequence of its own, in training and in play: for experts that need no more than they see.

    >>> from gymnasium.spaces import Box, Dict, Discrete, Text
    >>> mission = Text(99, charset="abcdefghijklmnopqrstuvwxyz ")
    >>> text = TextModel()
    >>> tokenizer = Tokenizer(Dict(mission=mission, speed=Box(-9, 9, (2,))), Discrete(7), Vocabulary(text.size), text)
    >>> tokens = tokenizer.encode({"mission": ["go to the red ball"], "speed": np.array([[0.5, -2.0]])}, np.array([6]))
    >>> print(tokenizer.describe(tokens))
    0: mission "go to the red ball", speed [0.502, -2], |, action 6
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        vocabulary: Vocabulary,
        text: TextModel | None = None,
        *,
        text_every: int = 1,
        separator: bool = True,
        alone: bool = False,
    ):
        """Raises `TypeError` for spaces that have no tokens, `ValueError` for sizes beyond what the specification allows."""
        self.observation_space, self.action_space = observation_space, action_space
        self.vocabulary, self.text, self.text_every, self.separator, self.alone = vocabulary, text, text_every, separator, alone
        observed = leaves(observation_space, vocabulary, ("observation",))
        self._texts = [leaf for leaf in observed if leaf.kind == "text"]
        self._fixed = [leaf for leaf in observed if leaf.kind != "text"]
        self._actions = leaves(action_space, vocabulary, ("action",))
        self._observation_ids = sum(leaf.tokens for leaf in self._fixed)  # of a time step, without its text
        self.action_ids = sum(leaf.tokens for leaf in self._actions)
        if text_every < 1:
            raise ValueError(f"text_every must be at least 1, not {text_every}")
        if self._texts and text is None:
            raise ValueError(f"{self._texts[0].name} is text, and no text model was given")
        if text is not None and text.size > vocabulary.text:
            raise ValueError(f"the text model has {text.size} pieces, the vocabulary has ids for {vocabulary.text}")
        if self.action_ids == 0:
            raise ValueError(f"the action space {action_space} has no values")
        if not separator and self._observation_ids == 0:
            raise ValueError("without separators every observation needs a token that is not text: where would its time step begin?")
        self._check_length(0)

    @property
    def action_ranges(self) -> Int32[np.ndarray, "tokens 2"]:
        """For each token of an action, the first id it may have and the id after the last."""
        return np.concatenate([leaf.ranges(self.vocabulary) for leaf in self._actions])

    def encode(self, observations: Any, actions: Any, lengths: Sequence[int] | None = None) -> Tokens:
        """The tokens of a whole episode, or of several that follow each other, of as many steps each as `lengths` says.

        Raises `ValueError` or `TypeError` for values that are not of their spaces, where text changes at a step that does not write
        it, and for lengths that do not add up.
        """
        first = next(iter(unfold(self.action_space, actions, ("action",))))[1]
        steps = len(first) if hasattr(first, "__len__") else 0
        if steps == 0:
            raise ValueError("an episode has at least one time step; its actions have a leading axis of time steps")
        of = np.array([steps] if lengths is None else lengths, np.int64)
        if of.sum() != steps or of.min() < 1:
            raise ValueError(f"lengths must be at least 1 and add up to the {steps} time steps there are, not to {of.sum()}")
        begins = np.cumsum(of) - of
        step_of = np.arange(steps) - np.repeat(begins, of)
        return self._write(observations, self.encode_actions(actions, steps), step_of % self.text_every == 0, begins)

    def step(self, observation: Any, first: bool) -> Tokens:
        """The tokens of one time step up to its separator: what an agent reads before it acts.

        `first` says whether text is written, as at the first step of a section. Raises as `encode` does.
        """
        values = dict(unfold(self.observation_space, observation, ("observation",)))
        batch = {
            leaf.path: [values[leaf.path]] if leaf.kind == "text" else np.asarray(values[leaf.path])[None]
            for leaf in (*self._texts, *self._fixed)
        }
        nested = fold(self.observation_space, batch, ("observation",))
        return self._write(nested, np.zeros((1, 0), np.int32), np.array([first]), np.zeros(0, np.int64))

    def encode_action(self, action: Any) -> Int32[np.ndarray, " tokens"]:
        """The ids of one action. Raises as `encode` does."""
        values = {path: np.asarray(value)[None] for path, value in unfold(self.action_space, action, ("action",))}
        return self.encode_actions(fold(self.action_space, values, ("action",)), 1)[0]

    def action_tokens(self, ids: Int[np.ndarray, " tokens"]) -> Tokens:
        """The tokens of an action, or of a part of one, that these ids are."""
        n = len(ids)
        no_patches, nowhere = np.zeros((0, PATCH, PATCH, 3), np.uint8), np.zeros(0, np.int64)
        what = (ids.astype(np.int32), np.full(n, ACTION_PLACE, np.int16), np.ones(n, bool), np.zeros((n, 2, 2), np.uint8))
        return Tokens(*what, no_patches, nowhere, nowhere, nowhere, self.vocabulary.size)

    def decode_action(self, ids: Int[np.ndarray, " tokens"]) -> Any:
        """The action that ids stand for, a member of its space. Raises `ValueError` for another number of ids, or for other ids."""
        if len(ids) != self.action_ids:
            raise ValueError(f"an action has {self.action_ids} tokens, not {len(ids)}")
        values = self._read(self._actions, ids[None].astype(np.int32))
        alone = {leaf.path: leaf.one(values[leaf.path]) for leaf in self._actions}
        return fold(self.action_space, alone, ("action",))

    def decode(self, tokens: Tokens) -> tuple[Any, Any]:
        """The observations and the actions of whole time steps, with text that was not written carried on from the step before.

        Raises `ValueError` for steps that are cut, and where an observation has several texts, which have become one.
        """
        if len(self._texts) > 1:
            raise ValueError(f"{' and '.join(leaf.name for leaf in self._texts)} are written as one text and cannot be told apart")
        starts = np.flatnonzero(tokens.places == 0)
        acts = np.arange(self._observation_ids + self.separator + self.action_ids) >= self._observation_ids + self.separator
        is_text = tokens.targets & ~tokens.is_action
        texts = np.add.reduceat(is_text, starts, dtype=np.int64) if len(starts) else starts
        whole = len(starts) > 0 and starts[0] == 0 and np.all(np.diff(starts, append=len(is_text)) == texts + len(acts))
        at = (starts + texts)[:, None] + np.arange(len(acts))
        if not whole or np.any(is_text[at]) or np.any(tokens.is_action[at] != acts[None]):
            raise ValueError("tokens must be whole time steps of these spaces, each from its observation to its action")
        ids = tokens.ids[at]
        values = self._read(self._fixed, ids[:, : self._observation_ids], tokens)
        for leaf in self._texts:
            assert self.text is not None
            read: list[str] = []
            for start, count in zip(starts, texts, strict=True):
                read.append(self.text.decode(tokens.ids[start : start + count].tolist()) if count or not read else read[-1])
            values[leaf.path] = read
        actions = self._read(self._actions, ids[:, acts])
        return fold(self.observation_space, values, ("observation",)), fold(self.action_space, actions, ("action",))

    def describe(self, tokens: Tokens) -> str:
        """The sequence in words, a line for each time step; the tokens of steps that are cut are only counted."""
        starts = [0, *(start for start in np.flatnonzero(tokens.places == 0).tolist() if start), len(tokens.ids)]
        return "\n".join(
            f"{number}: {self._describe_step(tokens, start, end)}" for number, (start, end) in enumerate(pairwise(starts))
        )

    def _describe_step(self, tokens: Tokens, start: int, end: int) -> str:
        ids, is_action = tokens.ids[start:end], tokens.is_action[start:end]
        texts, acts = int(np.sum(tokens.targets[start:end] & ~is_action)), int(is_action.sum())
        observed = texts + self._observation_ids
        if tokens.places[start] != 0 or len(ids) != observed + self.separator + acts or acts not in (0, self.action_ids):
            return f"{len(ids)} tokens of a time step that is cut"
        words = []
        if texts:
            assert self.text is not None
            words.append(f'{", ".join(_label(leaf) for leaf in self._texts)} "{self.text.decode(ids[:texts].tolist())}"')
        for leaf, block in _blocks(self._fixed, ids[None, texts:observed]):
            shown = block - self.vocabulary.size if leaf.kind == "image" else leaf.decode(block, self.vocabulary)[0]
            words.append(f"{_label(leaf)} {'patches ' if leaf.kind == 'image' else ''}{_numbers(shown)}")
        words += ["|"] if self.separator else []
        if acts:
            blocks = _blocks(self._actions, ids[None, -acts:])
            words += [f"{_label(leaf)} {_numbers(leaf.decode(block, self.vocabulary)[0])}" for leaf, block in blocks]
        return ", ".join(words)

    def encode_actions(self, actions: Any, steps: int) -> Int32[np.ndarray, "steps tokens"]:
        """The ids of the actions of so many time steps. Raises as `encode` does."""
        values = dict(unfold(self.action_space, actions, ("action",)))
        blocks = [leaf.encode(leaf.read(values[leaf.path], steps), self.vocabulary) for leaf in self._actions]
        return np.concatenate(blocks, axis=1)

    def _write(
        self,
        observations: Any,
        actions: Int32[np.ndarray, "steps tokens"],
        writes: Bool[np.ndarray, " steps"],
        begins: Int64[np.ndarray, " episodes"],
    ) -> Tokens:
        values = dict(unfold(self.observation_space, observations, ("observation",)))
        steps = len(writes)
        text, text_lengths = self._text_block([leaf.read(values[leaf.path], steps) for leaf in self._texts], writes)
        self._check_length(int(text_lengths.max()))
        images = [leaf for leaf in self._fixed if leaf.kind == "image"]
        none = np.zeros((steps, 0, PATCH, PATCH, 3), np.uint8)
        patches = np.concatenate([none, *(to_patches(leaf.read(values[leaf.path], steps)) for leaf in images)], axis=1)
        table, rows = distinct_patches(patches.reshape(-1, PATCH, PATCH, 3))
        numbers = [leaf.encode(leaf.read(values[leaf.path], steps), self.vocabulary) for leaf in self._fixed if leaf.kind != "image"]
        separators = np.full((steps, int(self.separator)), self.vocabulary.separator, np.int32)
        fixed = np.concatenate([rows.reshape(patches.shape[:2]) + self.vocabulary.size, *numbers, separators, actions], axis=1)

        lengths = text_lengths + fixed.shape[1]
        starts = np.cumsum(lengths) - lengths
        at = (starts + text_lengths)[:, None] + np.arange(fixed.shape[1])  # where all but the text goes
        acts = at[:, fixed.shape[1] - actions.shape[1] :]
        ids, targets = np.empty(lengths.sum(), np.int32), np.ones(lengths.sum(), bool)
        targets[at] = False
        ids[targets], ids[at] = text, fixed
        targets[acts] = True
        places = (np.arange(len(ids)) - np.repeat(starts, lengths)).astype(np.int16)
        places[acts] = ACTION_PLACE
        intervals = np.zeros((len(ids), 2, 2), np.uint8)
        if images:
            intervals[at[:, : patches.shape[1]]] = np.concatenate([patch_intervals(*leaf.shape[:2]) for leaf in images])
        where = (starts[writes], starts[begins], np.arange(len(begins)))
        return Tokens(ids, places, targets, intervals, table, *where, self.vocabulary.size)

    def _text_block(
        self, texts: list[list[str]], writes: Bool[np.ndarray, " steps"]
    ) -> tuple[Int32[np.ndarray, " length"], Int64[np.ndarray, " steps"]]:
        """The ids of all texts that are written, step by step, and how many there are in each step."""
        if self.text is None or not texts:
            return np.zeros(0, np.int32), np.zeros(len(writes), np.int64)
        together = list(zip(*texts, strict=True))
        for step in np.flatnonzero(~writes[1:]) + 1:
            if together[step] != together[step - 1]:
                raise ValueError(f"text changes at time step {step}, but is written at every {self.text_every}th only")
        ids = {several: [piece for text in several for piece in self.text.encode(text)] for several in dict.fromkeys(together)}
        written = [ids[several] if writing else [] for several, writing in zip(together, writes.tolist(), strict=True)]
        return np.fromiter(chain.from_iterable(written), np.int32), np.fromiter(map(len, written), np.int64)

    def _read(self, leaves: list[Leaf], ids: Int32[np.ndarray, "steps tokens"], tokens: Tokens | None = None) -> dict[Path, Any]:
        values = {}
        for leaf, block in _blocks(leaves, ids):
            if leaf.kind == "image":
                assert tokens is not None
                require_range("ids of patches", block, tokens.size, tokens.size + len(tokens.patches))
                values[leaf.path] = from_patches(tokens.patches[block - tokens.size], leaf.shape)
            else:
                values[leaf.path] = leaf.decode(block, self.vocabulary)
        return values

    def _check_length(self, text: int) -> None:
        tokens = text + self._observation_ids + self.separator
        if tokens > ACTION_PLACE:
            raise ValueError(f"an observation has at most {ACTION_PLACE} tokens with its separator, not {tokens}: places end there")


def _blocks(leaves: list[Leaf], ids: Int32[np.ndarray, "steps tokens"]) -> Iterator[tuple[Leaf, Int32[np.ndarray, "steps block"]]]:
    at = 0
    for leaf in leaves:
        yield leaf, ids[:, at : at + leaf.tokens]
        at += leaf.tokens


def _label(leaf: Leaf) -> str:
    return ".".join(map(str, leaf.path[1:] if leaf.path[0] == "observation" and leaf.path[1:] else leaf.path))


def _numbers(values: Any) -> str:
    formats: Any = {"float_kind": "{:.3g}".format, "int_kind": str}
    shown = np.array2string(np.asarray(values).reshape(-1), formatter=formats, separator=", ", threshold=8, max_line_width=10_000)
    return shown[1:-1] if np.size(values) == 1 else shown
