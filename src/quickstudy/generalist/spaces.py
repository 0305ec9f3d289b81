"""Gymnasium's spaces as leaves in a fixed order, and their values as token ids. The specification is in `tokens.py`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int32

from quickstudy.generalist.vocabulary import PATCH, Vocabulary, check_image

try:
    import gymnasium
    from gymnasium import spaces
except ImportError:
    raise ImportError("the generalist's tokens need Gymnasium: pip install 'quickstudy[generalist]'") from None

Space = gymnasium.Space[Any]
Path = tuple[Any, ...]  # the keys that lead to a leaf, from the outside in
Kind = Literal["text", "image", "discrete", "continuous"]


def parts(space: Space) -> dict[Any, Space] | None:
    """The parts of a nested space: a Dict's in key order, a Tuple's by number. None for a space that is not nested."""
    if isinstance(space, spaces.Dict):
        return {key: space.spaces[key] for key in sorted(space.spaces, key=str)}
    return dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def unfold(space: Space, values: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The path and the values of each leaf, in order. Raises `ValueError` where the values are not nested as the space is.

    >>> space = spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.Discrete(2)])})
    >>> list(unfold(space, {"b": 1, "a": (0,)}, ("observation",)))
    [(('observation', 'a', 0), 0), (('observation', 'b'), 1)]
    """
    inner = parts(space)
    name = _name(path)
    if inner is None:
        yield path, values
        return
    if isinstance(space, spaces.Dict):
        if not isinstance(values, Mapping) or set(values) != set(inner):
            given = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(f"{name} must have the keys {sorted(map(str, inner))}, not {given}")
    elif not isinstance(values, Sequence) or isinstance(values, str) or len(values) != len(inner):
        raise ValueError(f"{name} must be a tuple of {len(inner)}, not {_what(values)}")
    for key, part in inner.items():
        yield from unfold(part, values[key], (*path, key))


def fold(space: Space, values: Mapping[Path, Any], path: Path) -> Any:
    """The values, given by the path of each leaf, nested as the space is: what `unfold` undoes."""
    inner = parts(space)
    if inner is None:
        return values[path]
    folded = {key: fold(part, values, (*path, key)) for key, part in inner.items()}
    return folded if isinstance(space, spaces.Dict) else tuple(folded.values())


@dataclass(frozen=True, eq=False)
class Leaf:
    """One space that is not nested: how its values are checked, written as ids and read back.

    `tokens` is how many ids it takes in a time step, 0 for text, whose length varies. `low` and `high` are the declared bounds,
    row-major.
    """

    path: Path
    space: Space
    kind: Kind
    tokens: int
    low: np.ndarray
    high: np.ndarray
    is_action: bool

    @property
    def name(self) -> str:
        """The path in words."""
        return _name(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value of one time step."""
        return self.space.shape or ()

    @property
    def compands(self) -> bool:
        """Whether numbers pass the mu-law: those of observations, unless their declared bounds are already within [-1, 1]."""
        return not self.is_action and not bool(np.all(self.low >= -1) and np.all(self.high <= 1))

    @property
    def counts(self) -> np.ndarray:
        """How many values each token of a discrete leaf can have."""
        return _integers(self.high) - _integers(self.low) + 1

    def read(self, values: Any, steps: int) -> Any:
        """Checked values: strings by step, images (steps, height, width, channels), or numbers (steps, tokens).

        Raises `TypeError` for values of the wrong type, `ValueError` for a wrong shape or for what is outside the declared space.
        """
        if self.kind == "text":
            return self._read_text(values, steps)
        array = np.asarray(values)
        allowed = "u" if self.kind == "image" else "biu" if np.dtype(self.space.dtype).kind in "biu" else "biuf"
        if array.dtype.kind not in allowed or (self.kind == "image" and array.dtype != np.uint8):
            raise TypeError(f"{self.name} must be {np.dtype(self.space.dtype)}, as its space {self.space} says, not {array.dtype}")
        shape = (steps, *self.shape)
        if array.shape != shape:
            raise ValueError(f"{self.name} must have the shape {shape}, a row for each time step, not {array.shape}")
        if self.kind == "image":
            return array
        array = array.reshape(steps, self.tokens)
        if np.dtype(self.space.dtype).kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(self.space.dtype)
        outside = ~((array >= self.low) & (array <= self.high))  # so that NaN is outside
        if outside.any():
            step, place = np.argwhere(outside)[0]
            bounds = f"[{self.low[place]}, {self.high[place]}]"
            raise ValueError(f"{self.name} must lie in {bounds}, not {array[step, place]} (time step {step}, place {place})")
        return array

    def _read_text(self, values: Any, steps: int) -> list[str]:
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or len(values) != steps:
            raise ValueError(f"{self.name} must be a list of {steps} strings, one for each time step, not {_what(values)}")
        texts = list(values)
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"{self.name} must be a list of strings, not of {type(text).__name__}")
        for text in dict.fromkeys(texts):
            if not self.space.contains(text):
                raise ValueError(f"{self.name} must be a text of its space {self.space}, not {text!r}")
        return texts

    def encode(self, values: np.ndarray, vocabulary: Vocabulary) -> Int32[np.ndarray, "steps tokens"]:
        """The ids of checked numbers (steps, tokens)."""
        if self.kind == "discrete":
            return vocabulary.encode_discrete(_integers(values) - _integers(self.low))
        numbers = values.astype(np.float64)
        if self.is_action:
            middle, half = self._scale()
            numbers = (numbers - middle) / np.where(half > 0, half, 1.0)
        return vocabulary.encode_continuous(numbers, compand=self.compands)

    def decode(self, ids: Int32[np.ndarray, "steps tokens"], vocabulary: Vocabulary) -> np.ndarray:
        """The values (steps, ...) of ids (steps, tokens): within the declared bounds, of the space's own type.

        Raises `ValueError` for an id that this leaf never takes.
        """
        ranges = self.ranges(vocabulary)
        outside = (ids < ranges[:, 0]) | (ids >= ranges[:, 1])
        if outside.any():
            step, place = np.argwhere(outside)[0]
            first, end = ranges[place]
            raise ValueError(f"{self.name} takes ids in [{first}, {end}) at place {place}, not {ids[step, place]}")
        dtype = np.dtype(self.space.dtype)
        if self.kind == "discrete":
            values = (vocabulary.decode_discrete(ids) + _integers(self.low)).astype(dtype)
        else:
            numbers = vocabulary.decode_continuous(ids, compand=self.compands)
            if self.is_action:
                middle, half = self._scale()
                numbers = middle + half * numbers
            numbers = np.clip(numbers, self.low.astype(np.float64), self.high.astype(np.float64))
            numbers = np.rint(numbers) if dtype.kind in "iu" else numbers
            values = np.clip(numbers.astype(dtype), self.low, self.high)
        return values.reshape(len(ids), *self.shape)

    def one(self, values: np.ndarray) -> Any:
        """The value of the first time step; of a Box without axes it is an array still, as Gymnasium asks."""
        return values[0, ...] if isinstance(self.space, spaces.Box) else values[0]

    def ranges(self, vocabulary: Vocabulary) -> Int32[np.ndarray, "tokens 2"]:
        """For each token of a time step, the first id it may have and the id after the last."""
        if self.kind == "discrete":
            first, counts = np.full(self.tokens, vocabulary.discrete_start), self.counts
        else:
            first, counts = np.full(self.tokens, vocabulary.continuous_start), np.full(self.tokens, vocabulary.continuous)
        return np.stack([first, first + counts], axis=1).astype(np.int32)

    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.low.astype(np.float64) / 2, self.high.astype(np.float64) / 2
        return high + low, high - low


def leaves(space: Space, vocabulary: Vocabulary, path: Path) -> list[Leaf]:
    """The leaves of a space, in the order in which they are written: text, then images, then all else; within a kind in key order.

    The path begins with "observation" or "action". Raises `TypeError` for a space that no tokens stand for, `ValueError` for one
    that is too large and for images of a size that cannot be cut.
    """

    def walk(space: Space, path: Path) -> Iterator[Leaf]:
        inner = parts(space)
        if inner is None:
            yield _leaf(space, vocabulary, path)
        else:
            for key, part in inner.items():
                yield from walk(part, (*path, key))

    order = {"text": 0, "image": 1, "discrete": 2, "continuous": 2}
    return sorted(walk(space, path), key=lambda leaf: order[leaf.kind])


def _leaf(space: Space, vocabulary: Vocabulary, path: Path) -> Leaf:
    name, is_action, nothing = _name(path), path[0] == "action", np.zeros(0, np.int64)
    if isinstance(space, spaces.Text) and not is_action:
        return Leaf(path, space, "text", 0, nothing, nothing, False)
    if isinstance(space, spaces.Box):
        if _is_image(space) and not is_action:
            check_image(space.shape)
            return Leaf(path, space, "image", space.shape[0] * space.shape[1] // PATCH**2, nothing, nothing, False)
        if is_action and not space.is_bounded():
            raise TypeError(f"{name} is {space}; an action that is a Box needs finite bounds")
        low, high = space.low.reshape(-1), space.high.reshape(-1)
        few = all(
            int(last) - int(first) < vocabulary.discrete for first, last in zip(low, high, strict=True) if space.dtype.kind != "f"
        )
        return Leaf(path, space, "discrete" if few and space.dtype.kind != "f" else "continuous", low.size, low, high, is_action)
    if isinstance(space, spaces.Discrete):
        low, counts = np.array([space.start], space.dtype), np.array([space.n], space.dtype)
    elif isinstance(space, spaces.MultiDiscrete):
        low, counts = space.start.reshape(-1), space.nvec.reshape(-1)
    elif isinstance(space, spaces.MultiBinary):
        low = np.zeros(int(np.prod(space.shape)), space.dtype)
        counts = low + np.int8(2)
    else:
        supported = "Box, Discrete, MultiDiscrete, MultiBinary, Tuple, Dict" + ("" if is_action else ", Text")
        raise TypeError(f"{name} is {space}; the spaces that have tokens {'as actions ' if is_action else ''}are {supported}")
    if np.any(counts > vocabulary.discrete):
        raise ValueError(f"{name} has a number with {counts.max()} values; a discrete value has at most {vocabulary.discrete}")
    return Leaf(path, space, "discrete", low.size, low, low + counts - np.ones_like(low), is_action)


def _is_image(space: spaces.Box[Any]) -> bool:
    is_pixels = space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] in (1, 3)
    return bool(is_pixels and np.all(space.low == 0) and np.all(space.high == 255))


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _integers(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64)  # unsigned ones wrap, and their differences are still right


def _what(values: Any) -> str:
    return f"{type(values).__name__} of {len(values)}" if hasattr(values, "__len__") else type(values).__name__
