"""Make episodes and keep them: `<folder>/<task>/<split>-<block>.shard`, each block decided by its name alone.

Block n of a split holds what the n-th hundred of the split's seeds give, so a build that was killed goes on where it stopped, a larger
one adds to a smaller one, and the result does not depend on how often it was interrupted or how many worked on it.

Workers only compute; this process alone writes, and it writes whole shards. A worker whose builder is gone leaves.

A domain is a module with `TITLE`, `LICENCE` and `CAVEATS` for its card; `find(names)`, tasks by their own names or by those of groups,
`all` among them; `provenance()`, facts on who makes the episodes, `generator` and, if there is one, `expert`; and
`record(task, seed)`, an `Episode` or a `Rejected`.
"""

import contextlib
import fcntl
import importlib
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from quickstudy import catalog, data
from quickstudy.generalist.data import store
from quickstudy.generalist.data.store import Episode, Facts, Rejected, Shard


class Domain(NamedTuple):
    """Where a domain's module is, and what it is in a line, to be told without loading it."""

    module: str
    summary: str


_HERE = "quickstudy.generalist.data."
DOMAINS = {
    "babyai": Domain(_HERE + "babyai", "instructions in a gridworld, played by minigrid's bot (BabyAI)"),
    "metaworld": Domain(_HERE + "metaworld", "a robot arm at a table, moved by scripted policies (Meta-World)"),
    "bandits": Domain(_HERE + "bandits", "arms that pay with unknown probabilities, pulled by Gittins indices"),
    "mazes": Domain(_HERE + "mazes", "a hidden goal to be found and then gone to, by an explorer that draws its own map"),
    "control": Domain(_HERE + "control", "poles, cars and pendulums, moved by a few lines of mechanics (Gymnasium's classic control)"),
    "box2d": Domain(_HERE + "box2d", "a lunar lander and a walker on two legs, by feedback laws written by hand (Gymnasium's Box2D)"),
    "toytext": Domain(_HERE + "toy_text", "lakes, cliffs, taxis and cards, played by exact solutions (Gymnasium's toy text)"),
    "scenes": Domain(_HERE + "scenes", "pictures of coloured objects with captions, and questions about them"),
    "characters": Domain(_HERE + "characters", "characters to be told apart after one or two drawings of each"),
    "sentences": Domain(_HERE + "sentences", "plain text: the package's documentation, and sentences about coloured objects"),
    "minari": Domain(_HERE + "minari_files", "episodes that others recorded, imported from local data sets of Minari's"),
}
BLOCK = 100  # episodes; blocks of 400 take a seventh fewer bytes, but a worker makes one of 100 in seconds. Ours, measured
Report = Callable[[int, Mapping[str, float]], None]


class Work(NamedTuple):
    """One block: all that decides what is in it, and who makes it."""

    module: str
    task: str
    split: str
    number: int
    size: int

    @property
    def seeds(self) -> range:
        return store.SEEDS[self.split][self.number * self.size : (self.number + 1) * self.size]

    @property
    def place(self) -> Path:
        """Its file, below the domain's folder."""
        return Path(self.task) / f"{self.split}-{self.number:06}{store.SUFFIX}"


class Built(NamedTuple):
    """What a build did: where, blocks that were there already, blocks made now, and damaged files that were set aside."""

    folder: Path
    kept: int
    made: int
    set_aside: list[Path]


def domain_module(domain: str) -> ModuleType:
    """The module of a domain. Raises `ValueError` for an unknown one and `ImportError` with what to install."""
    return importlib.import_module(DOMAINS[catalog.require(domain, DOMAINS, "domain")].module)


def folder_of(domain: str) -> Path:
    """Where a domain's episodes lie unless another folder is given: in the cache of data sets.

    >>> folder_of("babyai").parts[-2:]
    ('generalist', 'babyai')
    """
    return data.cache_folder() / "generalist" / catalog.require(domain, DOMAINS, "domain")


def plan(domain: str, tasks: Sequence[str] = ("all",), *, episodes: int, split: str = "train", block: int = BLOCK) -> list[Work]:
    """The blocks that hold what the first `episodes` seeds of a split give, of each task; rounded up to whole blocks.

    Raises `ValueError` for an unknown task or split, and for more episodes than a split has seeds.
    """
    module = domain_module(domain)
    if not 0 < episodes <= len(store.SEEDS[catalog.require(split, store.SEEDS, "split")]):
        raise ValueError(f"episodes must be from 1 to {len(store.SEEDS[split])}, the seeds of a split, not {episodes}")
    # Block by block over all tasks, so that a build cut short has some of each.
    return [
        Work(module.__name__, task, split, number, block) for number in range(-(-episodes // block)) for task in module.find(tasks)
    ]


def build(
    domain: str,
    tasks: Sequence[str] = ("all",),
    *,
    episodes: int,
    split: str = "train",
    jobs: int = 1,
    folder: Path | None = None,
    report: Report = lambda done, numbers: None,
    block: int = BLOCK,
) -> Built:
    """Make every block of a `plan` that is not there yet.

    `report` is told how many seeds are done and, of those done now, how long an episode is on average and how many were rejected. A
    damaged shard is set aside as `NAME.damaged` and made anew. Raises as `plan`, and `OSError` if a shard cannot be read or written, a
    worker is lost or another build is at work in the folder; then whole shards stay, and the same call goes on.
    """
    folder = folder or folder_of(domain)
    works = plan(domain, tasks, episodes=episodes, split=split, block=block)
    with _alone(folder):
        _require_domain(folder, domain)
        set_aside: list[Path] = []
        missing = [work for work in works if not _is_whole(folder / work.place, work, set_aside)]
        kept = len(works) - len(missing)
        done, steps, episodes, rejected = kept * block, 0, 0, 0
        report(done, {})
        for work, packed in _work(missing, jobs):
            store.write(folder / work.place, packed)
            shard = Shard.open(folder / work.place)
            done, episodes, rejected = done + block, episodes + len(shard.episodes), rejected + len(shard.rejected)
            steps += sum(facts["steps"] for facts in shard.episodes)
            report(done, {"mean length": steps / max(episodes, 1), "rejected": float(rejected)})
        return Built(folder, kept, len(missing), set_aside)


def _require_domain(folder: Path, domain: str) -> None:
    """One folder has one domain, as its card says."""
    for path in store.shard_paths(folder)[:1]:
        with contextlib.suppress(store.DamagedError):
            if (other := Shard.open(path).facts["domain"]) != DOMAINS[domain].module.rpartition(".")[-1]:
                raise ValueError(f"{folder} has episodes of {other}: build {domain} into another folder")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other builds out of a folder; the system lets them in again when this process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".building").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another build is at work in {folder}: wait for its end, or build into another folder") from None
        yield


def _is_whole(path: Path, work: Work, set_aside: list[Path]) -> bool:
    """Whether a block is there; a damaged file gets another name, so that nothing is lost and nothing reads it."""
    if not path.exists():
        return False
    try:
        shard = Shard.open(path)
        shard.read()
    except store.DamagedError:
        aside = next(name for name in _other_names(path) if not name.exists())
        os.replace(path, aside)
        set_aside.append(aside)
        return False
    if shard.facts["seeds"] != _ends(work.seeds):
        raise ValueError(
            f"{path} was built in blocks of another size, from seed {shard.facts['seeds'][0]} on: build into another folder"
        )
    return True


def _other_names(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())


def _ends(seeds: range) -> list[int]:
    return [seeds[0], seeds[-1]]


def make(work: Work) -> bytes:
    """The shard of one block. Raises `OSError` with the seed if its domain fails to make an episode."""
    module = importlib.import_module(work.module)
    found = [_record(module, work.task, seed) for seed in work.seeds]
    episodes = [one for one in found if isinstance(one, Episode)]
    rejected = [one for one in found if isinstance(one, Rejected)]
    facts: Facts = {"domain": work.module.rpartition(".")[-1], "task": work.task, "split": work.split, "seeds": _ends(work.seeds)}
    return store.pack(episodes, facts | module.provenance(), rejected)


def _record(module: ModuleType, task: str, seed: int) -> Episode | Rejected:
    try:
        found: Episode | Rejected = module.record(task, seed)
    except Exception as error:
        raise OSError(f"seed {seed} of {task} cannot be made ({type(error).__name__}: {error}): what is built stays") from error
    return found


def _work(works: Sequence[Work], jobs: int) -> Iterator[tuple[Work, bytes]]:
    """Let processes make blocks, and give each as it is done. Raises `OSError` if one of them fails or is lost."""
    spawn = multiprocessing.get_context("spawn")  # a fork of a process that runs JAX may stand still
    ahead, busy, processes = iter(works), {}, []
    try:
        for first in itertools.islice(ahead, jobs):
            ours, theirs = spawn.Pipe()
            processes.append(spawn.Process(target=_serve, args=(theirs,), daemon=True))
            processes[-1].start()
            theirs.close()
            ours.send(first)
            busy[ours] = first
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                work = busy.pop(connection)
                try:
                    packed: bytes | OSError = connection.recv()
                except (EOFError, ConnectionError):
                    raise OSError(
                        f"the worker that made {work.place} was lost: what is built stays, run the same again to go on"
                    ) from None
                if isinstance(packed, OSError):
                    raise packed
                following = next(ahead, None)
                if following is not None:
                    connection.send(following)
                    busy[connection] = following
                yield work, packed
    finally:
        for process in processes:
            process.kill()  # it has nothing to put in order
            process.join()


def _serve(connection: Connection) -> None:
    """A worker's life: make what is asked for until the builder is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the builder answers it
    try:
        while True:
            work = connection.recv()
            try:
                made: bytes | OSError = make(work)
            except OSError as error:
                made = OSError(str(error))  # alone: what it was raised from may not go through the pipe
            connection.send(made)
    except (EOFError, ConnectionError):
        return
