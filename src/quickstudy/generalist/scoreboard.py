"""The scoreboard: a generalist in environments made from test seeds, beside the expert, the nearest neighbour and random actions.

Everyone plays the same episodes. A score is normalised as (return - random) / (expert - random). Both are constants, measured once on
valid seeds (`references.py`), so that a score does not depend on which test seeds are played. Where a task has none, both are
measured on the episodes that are played; the board says which under `scales`.

Retrieve-and-play, the nearest neighbour: Sridhar et al. 2024, "REGENT".
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32
from rich.table import Table

from quickstudy import catalog, measure, shipped, store
from quickstudy.generalist import references, trained
from quickstudy.generalist.acting import Players
from quickstudy.generalist.cloning import clone_each
from quickstudy.generalist.data.store import SEEDS, Episode
from quickstudy.generalist.demonstrations import Demonstrations
from quickstudy.generalist.embodiments import EMBODIMENTS, Embodiment, parse
from quickstudy.generalist.examination import examine
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.prompts import PROMPTS, prompt
from quickstudy.generalist.summaries import normalised, over_tasks, shown, summary
from quickstudy.persist import Facts, read_json, write_json

EPISODES = 100  # of each task; JAT: 10, Reed et al. 2022: 50
_EPISODES_OF = {"metaworld": 50}  # whose failures take 500 steps each
_TOGETHER = 50  # environments that are played side by side; ours
# Narrow, so that the longest name fits beside its numbers in 80 columns.
_LOOKS: Facts = {"title_justify": "left", "box": None, "collapse_padding": True, "pad_edge": False}
_MOST_STEPS = 100_000  # that the nearest neighbour knows; ours: of long episodes a few hundred show all there is
_MADE = 50  # episodes for the nearest neighbour where nothing needs to be built: as many as `reading.episodes` makes
_MOST_NEIGHBOURS = 3_000  # episodes that the nearest neighbour knows; ours: those of a hard level of BabyAI take 400 megabytes


@runtime_checkable
class Policy(Protocol):
    """Whoever acts in several environments at once."""

    def reset(self, players: Sequence[int]) -> None: ...

    def act(self, observations: Sequence[Any], players: Sequence[int]) -> list[Any]: ...


class Played(NamedTuple):
    """What came of one episode for each seed."""

    returns: Float[np.ndarray, " episodes"]
    success: Bool[np.ndarray, " episodes"]


def play(policy: Policy, body: Embodiment, task: str, seeds: Sequence[int], *, together: int = _TOGETHER) -> Played:
    """Play one episode from each seed; `together` environments run side by side, and where one ends, the next begins."""
    returns, success = np.zeros(len(seeds)), np.zeros(len(seeds), bool)
    waiting = list(enumerate(seeds))[::-1]
    worlds: dict[int, tuple[int, Any]] = {}
    seen: dict[int, Any] = {}

    def begin(player: int) -> None:
        if waiting:
            number, seed = waiting.pop()
            world = body.environment(task, seed)
            worlds[player], seen[player] = (number, world), body.observe(world.reset())
            policy.reset([player])

    for player in range(min(together, len(seeds))):
        begin(player)
    while worlds:
        who = sorted(worlds)
        for player, action in zip(who, policy.act([seen[player] for player in who], who), strict=True):
            number, world = worlds[player]
            step = world.step(action)
            returns[number] += step.reward
            success[number] |= step.success
            seen[player] = body.observe(step.observation)
            if step.end:
                del worlds[player]
                begin(player)
    return Played(returns, success)


class Random:
    """Acts at random."""

    def __init__(self, body: Embodiment, seed: int = 0):
        self._space = body.tokenizer.action_space
        self._space.seed(seed)

    def reset(self, players: Sequence[int]) -> None:
        """Nothing is remembered."""

    def act(self, observations: Sequence[Any], players: Sequence[int]) -> list[Any]:
        """Samples of the action space."""
        return [self._space.sample() for _ in observations]


class Nearest:
    """Retrieves the recorded observation that is most alike, of those with the same text if there are any, and repeats its action.

    It knows the first 100,000 recorded steps.
    """

    def __init__(self, body: Embodiment, episodes: Sequence[Episode]):
        vectors, texts = _numbers_and_texts(body.observe(body.raw(episodes)))
        self._vectors = vectors[:_MOST_STEPS]
        self._lengths = np.sum(np.square(self._vectors), axis=1)
        self._numbers = {text: number for number, text in enumerate(dict.fromkeys(texts[:_MOST_STEPS]))}
        self._texts = np.array([self._numbers[text] for text in texts[:_MOST_STEPS]])
        self._actions = np.concatenate([episode.actions for episode in episodes])[:_MOST_STEPS]

    def reset(self, players: Sequence[int]) -> None:
        """Nothing is remembered."""

    def act(self, observations: Sequence[Any], players: Sequence[int]) -> list[Any]:
        """The action of the nearest step for each observation, by the squared distance of all numbers."""
        together = {name: [observation[name] for observation in observations] for name in observations[0]}
        vectors, texts = _numbers_and_texts(together)
        distances = self._lengths - 2 * vectors @ self._vectors.T
        if len(self._numbers) > 1:
            other = self._texts != np.array([self._numbers.get(text, -1) for text in texts])[:, None]
            distances = np.where(other & ~other.all(axis=1, keepdims=True), np.inf, distances)
        return list(self._actions[np.argmin(distances, axis=1)])


def _numbers_and_texts(observed: Mapping[str, Any]) -> tuple[Float32[np.ndarray, "steps numbers"], np.ndarray]:
    is_text = {name: isinstance(values[0], str) for name, values in observed.items()}
    numbers = [np.asarray(observed[name], np.float32) for name in sorted(observed) if not is_text[name]]
    texts = [np.asarray(observed[name], object) for name in sorted(observed) if is_text[name]]
    steps = len(numbers[0])
    joined = functools.reduce(np.add, texts, np.array([""] * steps, object))
    return np.concatenate([array.reshape(steps, -1) for array in numbers], axis=1), joined


def scoreboard(  # noqa: PLR0913  (each but two is a flag of `quickstudy eval`)
    network: Generalist,
    names: Iterable[str],
    *,
    episodes: int | None = None,
    prompts: Sequence[str] = ("none",),
    neighbours: int | Mapping[str, int],
    seed: int = 0,
    cloning: bool = False,
    greedy: bool = False,
    report: Any = lambda name: None,
) -> Facts:
    """Play `episodes` test seeds of each task, named as in `babyai-compact/GoToLocal`, and compare; None: `EPISODES` of its domain.

    For each task and whoever plays: mean return with its 95 % interval, interquartile mean, minimum, success rate with its interval,
    and the normalised score. For each domain, and for all: the means over its tasks of success and normalised score with their
    intervals, the interquartile mean of the normalised scores of all episodes, the least that a task has in the mean, and the shares
    of tasks above half and above four fifths of the expert's. `neighbours` is how many training episodes the nearest neighbour knows,
    of each task or told by name. With `cloning`, networks of plain behaviour cloning learn from the same episodes and play too
    (`cloning.py`): that takes up to two minutes a task. The generalist and clones draw their actions, or take the likeliest with
    `greedy`. Tasks that are no play, such as `scenes/caption-shapes`, are examined instead (`examination.py`).
    """
    names, tasks, scores, scales, examined = list(names), {}, {}, {}, {}
    for kind in prompts:
        catalog.require(kind, PROMPTS, "prompt")
    most = episodes or EPISODES
    if not 0 <= seed <= len(SEEDS["test"]) - most:
        raise ValueError(f"seed and episodes must be at most {len(SEEDS['test']):,} together, not {seed:,} and {most:,}")
    playable = [name for name in names if name.partition("/")[0] in EMBODIMENTS]
    known = functools.partial(_known, neighbours)
    clones = clone_each(playable, known, seed=seed, greedy=greedy) if cloning else {}
    for name in names:
        if name not in playable:
            examined[name] = examine(network, name, episodes or EPISODES, seed=seed)
            report(name)
            continue
        body, task = parse(name)
        seeds = SEEDS["test"][seed : seed + (episodes or _EPISODES_OF.get(body.domain, EPISODES))]
        played = {"expert": expert(body, task, seeds), "random": play(Random(body, seed), body, task, seeds)}
        played["nearest neighbour"] = play(Nearest(body, known(name)), body, task, seeds)
        played |= {who: play(policy, body, task, seeds) for who, policy in clones.get(name, {}).items()}
        for kind in prompts:
            begin = prompt(kind, name, playable, room=network.body.reach // 2, seed=seed)
            players = Players(network, body.tokenizer, min(_TOGETHER, len(seeds)), prompt=begin, greedy=greedy)
            players.reset(seed=seed)
            label = "generalist" if kind == "none" else f"with prompt: {kind}"
            played[label] = play(players, body, task, seeds)
        here = {who: {"return": float(played[who].returns.mean())} for who in ("expert", "random")}
        constants = references.find(name)
        scale: Facts = {"from": "these episodes", **here} if constants is None else {"from": "constants", **constants}
        scales[name], low, high = scale, scale["random"]["return"], scale["expert"]["return"]
        scores[name] = {who: normalised(what.returns, low, high) for who, what in played.items()}
        tasks[name] = {who: summary(what.returns, what.success, scores[name][who]) for who, what in played.items()}
        report(name)
    return {
        "seed": seed,
        "greedy": greedy,
        "tasks": tasks,
        "scales": scales,
        "domains": _by_domain(tasks, scores),
        "mean": over_tasks(tasks, scores),
        "examined": examined,
    }


def _known(neighbours: int | Mapping[str, int], name: str) -> list[Episode]:
    body, task = parse(name)
    return body.episodes(task, "train", neighbours if isinstance(neighbours, int) else neighbours[name])


def keep(folder: Path, board: Facts, *, best: bool = False) -> Path:
    """Write a board into a run's folder, with the next number beside earlier ones. Raises `OSError` if it cannot be written."""
    name = "scoreboard.best" if best else "scoreboard"
    names = (f"{name}{f'-{number}' if number > 1 else ''}.json" for number in itertools.count(1))
    path = next(folder / one for one in names if not (folder / one).exists())
    write_json(path, board)
    return path


def score_run(folder: Path, *, best: bool = False, only: Sequence[str] = (), **options: Any) -> Facts:
    """The scoreboard of a run's generalist on the tasks of its training; with `best`, of the weights that did best on the valid split.

    `only` names tasks or embodiments, if not all are to be played. Raises what `store.load` and `scoreboard` raise, and `ValueError`
    if `only` names none of its tasks.
    """
    run = store.load(folder, best=best)
    assert isinstance(run.learner, Generalist)
    assert isinstance(run.tasks, Demonstrations)
    known = {name: min(_MOST_NEIGHBOURS, count) for name, count in zip(run.tasks.names, run.tasks.recorded, strict=True)}
    settings = read_json(folder / store.CONFIG)
    told = ("command", "commit", "changed files", "seed", "steps", "start", "versions", "machine")
    training = {name: settings[name] for name in told if name in settings}
    training["command"] = shipped.without_places(settings["command"])
    training["seconds"] = round(sum(line["seconds"] for line in store.read_metrics(folder)))
    board = scoreboard(run.learner, chosen(run.tasks.names, only), neighbours=known, **options)
    return {"step": run.step, "training": training, "evaluation": _evaluation(), **board}


def score_shipped(*, only: Sequence[str] = (), **options: Any) -> Facts:
    """The scoreboard of the generalist that comes with the package, on the tasks of its training.

    The nearest neighbour and clones know as many episodes as are made on the spot: nothing needs to be built. Raises as `score_run`.
    """
    facts = shipped.provenance("generalist")
    names = chosen(facts["names"], only)
    board = scoreboard(trained.shipped().network, names, neighbours=_MADE, **options)
    return {"step": facts["steps"], "training": facts, "evaluation": _evaluation(), **board}


def chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """Those of `names` that are in `only`, by themselves or by what stands before their stroke; all if it is empty.

    Raises `ValueError` for one that names none of them.

    >>> chosen(["scenes/caption-shapes", "mazes-plain/tree-7"], ["mazes-plain"])
    ['mazes-plain/tree-7']
    """
    known = [*dict.fromkeys(name.partition("/")[0] for name in names), *names]
    for one in only:
        catalog.require(one, known, "task or embodiment")
    return [name for name in names if not only or name in only or name.partition("/")[0] in only]


def _evaluation() -> Facts:
    head = measure.commit()
    return {"commit": head[0] if head else None, "versions": measure.versions(), "machine": measure.machine()}


def tables(board: Facts) -> list[Table]:
    """A scoreboard to be printed: tables for each task, who plays best first, of means over tasks, and of what was examined."""
    best_first = lambda players, by: sorted(players.items(), key=lambda item: -np.nan_to_num(item[1][by]))
    told = []
    for name, players in board["tasks"].items():
        told.append(Table("", "success", "return", "IQM", "least", "normalised", title=name, **_LOOKS))
        for who, row in best_first(players, "return"):
            rest = (f"{row[column]:.2f}" for column in ("interquartile mean", "minimum", "normalised"))
            told[-1].add_row(who, shown(row, "success"), shown(row, "return"), *rest)
    domains = board["domains"] if len(board["domains"]) > 1 else {}
    for what, mean in (*domains.items(), (f"mean of {len(board['tasks'])} tasks", board["mean"])):
        told.append(Table("", "success", "normalised", "IQM", "least", "> 0.5", title=what, **_LOOKS))
        for who, row in best_first(mean, "normalised"):
            rest = (f"{row[column]:.2f}" for column in ("interquartile mean", "minimum", "above half"))
            told[-1].add_row(who, shown(row, "success"), shown(row, "normalised"), *rest)
    if board["examined"]:
        told.append(Table("", "right", "commonest", "nats a token", title="words and labels", **_LOOKS))
        for name, row in board["examined"].items():
            told[-1].add_row(name, shown(row, "right"), f"{row['commonest']:.2f}", f"{row['nats a token']:.3f}")
    return told if board["tasks"] else told[-1:]


def expert(body: Embodiment, task: str, seeds: Sequence[int]) -> Played:
    """Let a task's expert play one episode from each seed; one that it fails counts as no return. Raises as its `record` does."""
    played = [body.record(task, seed) for seed in seeds]
    kept = [one if isinstance(one, Episode) else None for one in played]
    returns = np.array([0.0 if one is None else one.rewards.sum() for one in kept], float)
    return Played(returns, np.array([one is not None and bool(one.facts["success"]) for one in kept]))


def _by_domain(tasks: Facts, scores: Facts) -> Facts:
    """What is told over the tasks of each embodiment, in the order in which they come."""
    domains = dict.fromkeys(name.partition("/")[0] for name in tasks)
    return {
        domain: over_tasks({name: row for name, row in tasks.items() if name.partition("/")[0] == domain}, scores)
        for domain in domains
    }
