"""Minari's data sets: recorded episodes written as one, and the episodes of one read, to train on beside those made here.

Minari (https://minari.farama.org) is Farama's format for recorded episodes. Only data sets in its folder are read, which is
`MINARI_DATASETS_PATH` or `~/.minari/datasets`; nothing is downloaded, and no environment that a data set names is made.

Where the two differ:

* Minari has one observation more than actions, the store only what was seen before each action. So the last observation of an exported
  episode is a copy of the one before it, as the metadata say (`last_observation`); that of an imported one is left out.
* Exported are an encoding's observations (raw ones have no space), of the one that leaves out least; pictures not as JPEG.
* The store does not tell how an episode ended: an exported one terminates if it was a success, and is truncated if not.
* Splits are by number: of an imported data set the first 90 % of the episodes, rounded up, are train, half of the others, rounded up,
  valid, and the rest test.
* What an environment told beside its observations (`infos`) is not imported.

The format has no digests. A file that is cut, or whose structure is broken, is refused; a changed number is not noticed.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from quickstudy import catalog
from quickstudy.core import Split
from quickstudy.generalist.data import build, naming, store
from quickstudy.generalist.data.store import DamagedError, Episode, Facts, Rejected, Shard
from quickstudy.generalist.spaces import Space, fold, leaves, parts, unfold
from quickstudy.generalist.tokens import Tokenizer, Tokens
from quickstudy.generalist.writing import Writer

TITLE = "Episodes of Minari's data sets, imported"
LICENCE = "that of each data set, which its metadata may tell"
CAVEATS = (
    "What is in an episode, and how good it is, is for its data set to say; nothing is checked but that its values lie in its spaces.",
    "Splits are by the number of an episode: 90 % train, 5 % valid, 5 % test, in this order.",
)

# The encoding of each played domain that leaves out least: BabyAI's has all symbols, Meta-World's all numbers, clipped to a metre.
_ENCODINGS = {"babyai": "symbolic", "metaworld": "full"} | dict.fromkeys(("bandits", "mazes", "control", "box2d", "toytext"), "plain")
# Facts that all episodes of a shard share, or that Minari keeps under names of its own.
_NOT_OF_ONE = ("seed", "steps", "domain", "split", "seeds", "generator", "expert")
_ID = r"(\w[\w-]+/)*\w[\w-]*-v\d+"  # what is a data set's name for Minari, without names that begin with a hyphen


def minari_folder() -> Path:
    """Where Minari keeps its data sets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def names() -> list[str]:
    """The data sets in Minari's folder."""
    folder = minari_folder()
    return sorted(path.parents[1].relative_to(folder).as_posix() for path in folder.rglob("data/metadata.json"))


def _minari() -> ModuleType:
    try:
        import h5py  # noqa: F401  (Minari needs it, but imports it late)
        import minari
    except ImportError as error:
        raise ImportError("Minari's data sets need minari and h5py: pip install 'quickstudy[generalist]'") from error
    return minari


# --- export --------------------------------------------------------------------------------------------------------------------------


def export(domain: str, task: str, split: Split, episodes: Sequence[Episode], name: str) -> str:
    """Write episodes of a played domain as a new data set of Minari's, and return its name, such as `babyai/go-to-local-v0`.

    Seeds and facts become metadata of the episodes, who made them metadata of the data set. Raises `ValueError` for a domain that is
    not played, no episodes, a name that Minari does not allow and one that is taken; `ImportError` with what to install.
    """
    minari, module = _minari(), build.domain_module(catalog.require(domain, _ENCODINGS, "domain that is played"))
    if not re.fullmatch(_ID, name, re.ASCII):
        raise ValueError(f"the name of a Minari data set must be like babyai/go-to-local-v0, not {name!r}")
    if not episodes:
        raise ValueError(f"there must be at least one episode of {task} to export, not none")
    folder = minari_folder() / name
    if folder.exists():
        raise ValueError(f"there is a Minari data set {name} in {minari_folder()} already: choose another name or version")
    how = module.encoding(_ENCODINGS[domain], task)
    made = {who: "; ".join(sorted({(module.provenance() | one.facts)[who] for one in episodes})) for who in ("generator", "expert")}
    about = {"domain": domain, "task": task, "split": split, "encoding": how.name, "last_observation": "repeated"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # there is no author, no permanent link and no environment to name
            data_set = minari.create_dataset_from_buffers(
                name,
                [_buffer(how, module.raw(one), one) for one in episodes],
                algorithm_name=made["expert"],
                description=f"{module.TITLE}; {task}, {split}; the last observation of each episode repeats the one before it",
                observation_space=how.space,
                action_space=how.action_space,
                data_format="hdf5",
                jpeg_encoding=False,
            )
        data_set.storage.update_metadata(about | {"generator": made["generator"], "licence": module.LICENCE})
        data_set.storage.update_episode_metadata([_own(one.facts) for one in episodes])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a data set would have the name of a whole one
        raise
    return name


def _buffer(how: Any, raw: Mapping[str, Any], episode: Episode) -> Any:
    from minari.data_collector import EpisodeBuffer

    seen = {name: _with_last_twice(values) for name, values in how.observe(raw).items()}
    ends, success = [False] * (len(episode.actions) - 1), episode.facts.get("success", False)
    return EpisodeBuffer(
        seed=episode.facts.get("seed"),
        observations=seen,
        actions=np.asarray(episode.actions, how.action_space.dtype),
        rewards=episode.rewards.tolist(),
        terminations=[*ends, success],
        truncations=[*ends, not success],
    )


def _with_last_twice(values: Any) -> Any:
    return [*values, values[-1]] if isinstance(values, list) else np.concatenate([values, values[-1:]])


def _own(facts: Facts) -> Facts:
    """An episode's own facts, as attributes of an HDF5 file can be: numbers and text, all else as JSON."""
    own = {name: value for name, value in facts.items() if name not in _NOT_OF_ONE}
    return {name: value if isinstance(value, str | bool | int | float) else json.dumps(value) for name, value in own.items()}


# --- import --------------------------------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """An open data set of Minari's: all that is known of it before an episode is read."""

    name: str
    folder: Path
    data: Any  # Minari's own object
    metadata: Facts

    @property
    def spaces(self) -> tuple[Space, Space]:
        """Of observations and actions."""
        return self.data.observation_space, self.data.action_space

    def episodes(self, numbers: range) -> Iterator[Episode]:
        """Some episodes by their numbers. Raises `DamagedError` naming the folder if they cannot be read."""
        observed, acted = self.spaces
        with _telling_of_damage(self.folder):
            every = zip(self.data.iterate_episodes(numbers), self.data.storage.get_episode_metadata(numbers), strict=True)
            for number, (one, metadata) in zip(numbers, every, strict=True):
                steps = len(one.rewards)
                seen = {_key(path): values for path, values in unfold(observed, one.observations, ("observation",))}
                actions = _as_array(acted, one.actions)
                if len(actions) != steps or any(len(values) != steps + 1 for values in seen.values()):
                    raise DamagedError(f"{self.folder} is damaged: episode {number} has not one observation more than actions")
                own = json.loads(json.dumps(metadata, default=lambda value: value.tolist()))  # plain numbers and lists
                facts = {"number": number, "return": float(np.sum(one.rewards)), "minari": own}
                facts |= {"seed": own["seed"]} if own.get("seed") is not None else {}
                ends = {"terminated": one.terminations, "truncated": one.truncations}
                facts |= {how: bool(steps and values[-1]) for how, values in ends.items()}
                yield Episode({name: values[:-1] for name, values in seen.items()}, actions, one.rewards, facts)


def _open(name: str) -> _Found:
    known, minari = names(), _minari()
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there is none"
        raise ValueError(f"there is no Minari data set {name!r} in {minari_folder()}; {there}")
    folder = minari_folder() / name
    with _telling_of_damage(folder):
        metadata = json.loads((folder / "data" / "metadata.json").read_text())
        if metadata["data_format"] != "hdf5":
            raise ValueError(f"the Minari data set {name} is kept as {metadata['data_format']}; only hdf5 is read")
        # Where they are missing, Minari makes the environment that the data set names, which is code that it chooses.
        if not {"observation_space", "action_space"} <= metadata.keys():
            raise ValueError(f"the Minari data set {name} does not tell its spaces; only those that do are read")
        return _Found(name, folder, minari.load_dataset(name), metadata)


@contextlib.contextmanager
def _telling_of_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except (DamagedError, PermissionError):
        raise
    except (OSError, KeyError, AssertionError, AttributeError, RuntimeError, TypeError, json.JSONDecodeError) as error:
        raise DamagedError(f"{folder} is damaged: {error or type(error).__name__}") from None


def import_episodes(name: str) -> list[Episode]:
    """All episodes of a data set in Minari's folder; nested observations are named by their keys with `/` between.

    Nested actions are one row of numbers a step. Facts are the `number`, `return`, `seed` if there is one, whether it `terminated` or
    was `truncated`, and Minari's own under `minari`. Raises `ValueError` for an unknown name, with those that there are, and
    `OSError` naming the folder if it is damaged.
    """
    found = _open(name)
    return list(found.episodes(range(found.data.total_episodes)))


def tokenizer(name: str, writer: Writer | None = None) -> Tokenizer:
    """The tokenizer of a data set's own spaces. Raises `TypeError`, `ValueError` if they have no tokens, and as `import_episodes`."""
    return _tokenizer(name, *_open(name).spaces, writer or Writer())


def _tokenizer(name: str, observed: Space, acted: Space, writer: Writer) -> Tokenizer:
    try:
        return Tokenizer(observed, acted, writer.vocabulary, writer.text)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the Minari data set {name} cannot be written as tokens: {error}") from None


def encode(machine: Tokenizer, episode: Episode) -> Tokens:
    """The tokens of an imported episode. Raises `ValueError` or `TypeError` for values outside the tokenizer's spaces."""
    observed = leaves(machine.observation_space, machine.vocabulary, ("observation",))
    seen = fold(machine.observation_space, {leaf.path: episode.observations[_key(leaf.path)] for leaf in observed}, ("observation",))
    return machine.encode(seen, _as_nested(machine, episode.actions))


def splits(episodes: int) -> dict[Split, range]:
    """Which episodes, by number, are in which split.

    >>> splits(100)
    {'train': range(0, 90), 'valid': range(90, 95), 'test': range(95, 100)}
    """
    train = -(-9 * episodes // 10)
    valid = train + -(-(episodes - train) // 2)
    return {"train": range(train), "valid": range(train, valid), "test": range(valid, episodes)}


def _key(path: tuple[Any, ...]) -> str:
    """What the store calls a part of an observation; an observation that has no parts is `observation`."""
    return "/".join(map(str, path[1:])) or "observation"


def _as_array(space: Space, actions: Any) -> np.ndarray:
    """Actions as one array: as they are, or if they are nested all parts side by side, in the order of their tokens."""
    arrays = [np.asarray(values) for _, values in unfold(space, actions, ("action",))]
    return arrays[0] if parts(space) is None else np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def _as_nested(machine: Tokenizer, actions: np.ndarray) -> Any:
    """What `_as_array` undoes."""
    if parts(machine.action_space) is None:
        return actions
    values, at = {}, 0
    for leaf in leaves(machine.action_space, machine.vocabulary, ("action",)):
        part = actions[:, at : at + leaf.tokens]
        values[leaf.path] = part.reshape(len(actions), *leaf.shape).astype(leaf.space.dtype)
        at += leaf.tokens
    return fold(machine.action_space, values, ("action",))


# --- the store -----------------------------------------------------------------------------------------------------------------------


class Imported(NamedTuple):
    """What an import did: the folder of the task, and how many episodes were kept and how many rejected."""

    folder: Path
    episodes: int
    rejected: int


def task_of(name: str) -> str:
    """The task that a data set is in the store: its name with dots for slashes, because a slash ends the domain's name.

    >>> task_of("cartpole/test-v0")
    'cartpole.test-v0'
    """
    return name.replace("/", ".")  # Minari allows no dots, so no two names become one


def import_into_store(name: str, folder: Path | None = None) -> Imported:
    """Keep a data set's episodes as the task `task_of(name)` of the domain `minari`; in place of what was imported of it before.

    Episodes without steps, and those with values outside the spaces, are rejected. Raises as `import_episodes` and `tokenizer`,
    `ValueError` if no episode is left, and `OSError` if the store cannot be written.
    """
    found = _open(name)
    machine, task = _tokenizer(name, *found.spaces, Writer()), task_of(name)
    place = (folder or build.folder_of("minari")) / task
    told = {key: found.metadata[key] for key in ("observation_space", "action_space")}
    shared = {"domain": "minari", "task": task, "generator": f"{naming.with_versions('minari')}, data set {name}", **told}
    shared |= {"expert": found.metadata["algorithm_name"]} if "algorithm_name" in found.metadata else {}
    shared["minari"] = {key: value for key, value in found.metadata.items() if key not in told}
    packed, kept, rejected, why = {}, 0, 0, "it has none"
    for split, numbers in splits(found.data.total_episodes).items():
        for block in range(0, len(numbers), build.BLOCK):
            good, bad = [], []
            for episode in found.episodes(numbers[block : block + build.BLOCK]):
                try:
                    encode(machine, episode)
                    good.append(episode)
                except (ValueError, TypeError) as error:
                    reason = "without values in its spaces" if len(episode.actions) else "without a step"
                    bad.append(Rejected(episode.facts["number"], reason))
                    why = str(error)
            shard = place / f"{split}-{block // build.BLOCK:06}{store.SUFFIX}"
            packed[shard] = store.pack(good, shared | {"split": split}, bad)
            kept, rejected = kept + len(good), rejected + len(bad)
    if not kept:
        raise ValueError(f"no episode of the Minari data set {name} can be imported: {why}")
    for shard, content in packed.items():
        store.write(shard, content)
    for old in set(store.shard_paths(place)) - packed.keys():
        old.unlink()
    return Imported(place, kept, rejected)


def stored(task: str, split: Split, n: int) -> list[Episode]:
    """What the first `n` episodes of a task's split give, in the store. Raises `FileNotFoundError` if there are not as many."""
    folder = build.folder_of("minari") / task
    shards = [shard for shard in map(Shard.open, store.shard_paths(folder)) if shard.facts["split"] == split]
    numbers = sorted(i for one in shards for i in (*(kept["number"] for kept in one.episodes), *(lost.seed for lost in one.rejected)))
    if len(first := set(numbers[:n])) < n:
        hint = "ask for fewer" if numbers else "import them with `quickstudy data import ID`"
        raise FileNotFoundError(f"there are {len(numbers)} episodes of {task} for {split} in {folder}, not {n}: {hint}")
    return [episode for shard in shards for episode in shard.read() if episode.facts["number"] in first]


def tokens(task: str, episode: Episode, writer: Writer) -> Tokens:
    """The tokens of an episode in the store, by the spaces that its facts tell. Raises as `encode`."""
    return encode(_stored_tokenizer(task, episode.facts["observation_space"], episode.facts["action_space"], writer), episode)


@functools.cache
def _stored_tokenizer(task: str, observed: str, acted: str, writer: Writer) -> Tokenizer:
    _minari()
    from minari.serialization import deserialize_space

    return _tokenizer(task, deserialize_space(observed), deserialize_space(acted), writer)


def find(names: Sequence[str]) -> list[str]:
    """Always raises `ValueError`: what others recorded cannot be built."""
    raise ValueError("Minari's data sets are not built but imported: `quickstudy data import ID`")
