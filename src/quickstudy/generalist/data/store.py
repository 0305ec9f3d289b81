"""Episodes on disk: compressed shards that are read through a memory map, checked by digests and written whole or not at all.

A shard holds a block of episodes of one task and one split. Its file is, in this order:

    16 bytes   the words `quickstudy shard`
     4 bytes   the version of the format, little-endian
     4 bytes   the length of the index
    32 bytes   the SHA-256 of the index
    the index  JSON, compressed with zlib: facts, arrays (dtype and shape of one step), episodes, rejected seeds, the body's SHA-256
    the body   each array over the steps of all episodes, one after the other, compressed together with LZMA

So the facts of very many episodes are read without touching a body. Compressed is a whole block at once, because steps and episodes
resemble each other: on BabyAI that takes half the bytes of single episodes, and LZMA 0.5 to 0.7 of those of zlib.
"""

import contextlib
import functools
import hashlib
import json
import lzma
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Facts = dict[str, Any]
Observations = dict[str, np.ndarray | list[str]]

VERSION = 1
SUFFIX = ".shard"
# Each split has its own range of the generator's seeds, so no episode is in two of them.
SEEDS = {"train": range(0, 1_000_000), "valid": range(1_000_000, 2_000_000), "test": range(2_000_000, 3_000_000)}
_MAGIC = b"quickstudy shard"
_HEAD = struct.Struct("<16sII32s")
# Matches as long as the format allows, because a step that stays is one: a quarter less; higher presets gain nothing. Ours, measured.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "nice_len": 273}]
_KEPT = 8  # decoded blocks kept in memory for reading in any order; ours


class Episode(NamedTuple):
    """What was seen before each action (leading axis: time), the actions, the rewards that followed, and facts (seed, return ...)."""

    observations: Observations
    actions: np.ndarray
    rewards: np.ndarray
    facts: Facts


class DamagedError(OSError):
    """A shard is not what was written; the message names its file."""


class Rejected(NamedTuple):
    """A seed that gave no episode worth keeping, and why."""

    seed: int
    reason: str


def pack(episodes: Sequence[Episode], facts: Facts, rejected: Sequence[Rejected] = ()) -> bytes:
    """The bytes of a shard: episodes with equal kinds of observations, facts that all of them share, and the seeds that gave none.

    Raises `ValueError` if the arrays of an episode differ in length or those of two episodes in kind.
    """
    columns = [_columns(episode) for episode in episodes]
    kinds = [{name: (array.dtype.kind, array.shape[1:]) for name, array in column.items()} for column in columns]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("the episodes of a shard must have observations of the same names, types and shapes")
    joined = {name: np.concatenate([column[name] for column in columns]) for name in (columns[0] if columns else ())}
    body = lzma.compress(b"".join(array.tobytes() for array in joined.values()), lzma.FORMAT_RAW, filters=_FILTERS)
    index = {
        "facts": facts,
        "arrays": {name: [array.dtype.str, array.shape[1:]] for name, array in joined.items()},
        "episodes": [episode.facts | {"steps": len(episode.actions)} for episode in episodes],
        "rejected": rejected,
        "body": [len(body), hashlib.sha256(body).hexdigest()],
    }
    packed = zlib.compress(json.dumps(index).encode(), 9)
    return _HEAD.pack(_MAGIC, VERSION, len(packed), hashlib.sha256(packed).digest()) + packed + body


def _columns(episode: Episode) -> dict[str, np.ndarray]:
    named = {f"observations/{name}": values for name, values in sorted(episode.observations.items())}
    arrays = {name: np.asarray(values) for name, values in (named | {"actions": episode.actions, "rewards": episode.rewards}).items()}
    for name, array in arrays.items():
        if len(array) != len(episode.actions):
            raise ValueError(f"{name} has {len(array)} steps and actions has {len(episode.actions)}: they must be as many")
        if array.dtype.kind not in "biufU":
            raise ValueError(f"{name} must be an array of numbers or a list of strings, not of {array.dtype}")
    return arrays


def write_shard(path: Path, episodes: Sequence[Episode], facts: Facts | None = None, rejected: Sequence[Rejected] = ()) -> None:
    """Write a shard, whole or not at all. Raises as `pack`, and `OSError` naming the file if it cannot be written."""
    write(path, pack(episodes, facts or {}, rejected))


def write(path: Path, packed: bytes) -> None:
    """Write what `pack` gave, whole or not at all. Raises `OSError` naming the file if it cannot be written."""
    from quickstudy import persist  # here, because it loads JAX, which those who only pack or read do not need

    path.parent.mkdir(parents=True, exist_ok=True)
    persist.write_atomically(path, packed)


class Shard(NamedTuple):
    """An open shard: everything but its body, which is read when an episode is asked for."""

    path: Path
    facts: Facts  # shared by all of its episodes
    episodes: list[Facts]  # each one's own
    rejected: list[Rejected]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]  # name -> dtype, shape of one step
    body: tuple[int, int, str]  # offset, length, SHA-256

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Read a shard's index. Raises `OSError` naming the file if it is missing, of another format or damaged."""
        with _mapped(path) as view:
            if len(view) < _HEAD.size or view[: len(_MAGIC)] != _MAGIC:
                raise _damaged(path, "it does not begin as a shard does")
            _, version, length, digest = _HEAD.unpack(view[: _HEAD.size])
            if version != VERSION:
                raise OSError(f"{path} has format version {version}; this version of quickstudy reads version {VERSION}")
            packed, start = view[_HEAD.size : _HEAD.size + length], _HEAD.size + length
            if hashlib.sha256(packed).digest() != digest:
                raise _damaged(path, "its index does not fit its digest")
            index = json.loads(zlib.decompress(packed))
            if len(view) != start + index["body"][0]:
                raise _damaged(path, f"it has {len(view)} bytes where its index says {start + index['body'][0]}")
        arrays = {name: (dtype, tuple(shape)) for name, (dtype, shape) in index["arrays"].items()}
        rejected = [Rejected(*one) for one in index["rejected"]]
        return cls(path, index["facts"], index["episodes"], rejected, arrays, (start, *index["body"]))

    def read(self) -> list[Episode]:
        """All episodes, decoded. Raises `OSError` naming the file if its body is damaged or gone."""
        start, length, digest = self.body
        with _mapped(self.path) as view:
            body = view[start : start + length]
        if hashlib.sha256(body).hexdigest() != digest:
            raise _damaged(self.path, "its body does not fit its digest")
        raw = lzma.decompress(body, lzma.FORMAT_RAW, filters=_FILTERS)
        columns, offset, steps = {}, 0, [facts["steps"] for facts in self.episodes]
        for name, (dtype, shape) in self.arrays.items():
            size = sum(steps) * int(np.prod(shape)) * np.dtype(dtype).itemsize
            columns[name] = np.frombuffer(raw, dtype, size // np.dtype(dtype).itemsize, offset).reshape(sum(steps), *shape)
            offset += size
        ends = np.cumsum(steps, dtype=int).tolist()
        return [self._episode(i, columns, slice(end - steps[i], end)) for i, end in enumerate(ends)]

    def _episode(self, i: int, columns: Mapping[str, np.ndarray], part: slice) -> Episode:
        observations: Observations = {}
        for name, array in columns.items():
            kind, _, key = name.partition("/")
            if kind == "observations":
                observations[key] = array[part].tolist() if array.dtype.kind == "U" else array[part]
        return Episode(observations, columns["actions"][part], columns["rewards"][part], self.facts | self.episodes[i])


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes; closed again at once, because a store has more shards than a process may keep open files."""
    with path.open("rb") as file:
        try:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise _damaged(path, "it is empty") from None
        with view:
            yield view


def _damaged(path: Path, how: str) -> DamagedError:
    return DamagedError(f"{path} is damaged: {how}")


class Store:
    """Many shards as one sequence of episodes, in the order of their files; facts lie in memory, bodies on disk."""

    def __init__(self, shards: Sequence[Shard]):
        self.shards = list(shards)
        self._ends = np.cumsum([len(shard.episodes) for shard in self.shards], dtype=int)
        self._read = functools.lru_cache(_KEPT)(lambda where: self.shards[where].read())

    @classmethod
    def open(cls, folder: Path, *, tasks: Sequence[str] | None = None, split: str | None = None) -> "Store":
        """Open every shard below a folder; only those of some tasks, or of one split, where these are given.

        Raises `FileNotFoundError` if there is none and `OSError` naming the file if one is damaged.
        """
        paths = shard_paths(folder)
        shards = [Shard.open(path) for path in paths]
        chosen = [
            shard
            for shard in shards
            if (tasks is None or shard.facts.get("task") in tasks) and (split is None or shard.facts.get("split") == split)
        ]
        if not chosen:
            what = "".join([f" of {', '.join(tasks)}" if tasks is not None else "", f" in the split {split}" if split else ""])
            raise FileNotFoundError(f"there are no episodes{what} in {folder}: build them with `quickstudy data build`")
        return cls(chosen)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def facts(self, i: int) -> Facts:
        """The facts of one episode, without reading it. Raises `IndexError` beyond the last."""
        where, within = self._find(i)
        return self.shards[where].facts | self.shards[where].episodes[within]

    def episode(self, i: int) -> Episode:
        """One episode; its block is decoded, and the last few are kept. Raises as `facts`, and `OSError` if it is damaged."""
        where, within = self._find(i)
        return self._read(where)[within]

    def iterate(self, split: str | None = None) -> Iterator[Episode]:
        """All episodes in order, or those of one split; each block is decoded once, and one at a time is in memory."""
        for shard in self.shards:
            if split is None or shard.facts.get("split") == split:
                yield from shard.read()

    def _find(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"there is no episode {i}: there are {len(self)}")
        where = int(np.searchsorted(self._ends, i, side="right"))
        return where, i - (int(self._ends[where - 1]) if where else 0)


def shard_paths(folder: Path) -> list[Path]:
    """The shards below a folder, sorted; none if there is no such folder."""
    return sorted(folder.rglob(f"*{SUFFIX}"))


def complaints(folder: Path) -> list[str]:
    """Read every shard below a folder wholly, and say in a sentence each which are damaged."""
    found = []
    for path in shard_paths(folder):
        try:
            Shard.open(path).read()
        except OSError as error:
            found.append(str(error))
    return found
