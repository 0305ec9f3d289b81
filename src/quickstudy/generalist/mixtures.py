"""Mixtures: which tasks a generalist is trained on, how often each is drawn, and how many episodes of each there are.

Weights are by hand, as in Reed et al. 2022, "A Generalist Agent", table 1, whose domains are drawn about equally often.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from quickstudy.core import Split
from quickstudy.generalist.demonstrations import Demonstrations


class Share(NamedTuple):
    """How often a task is drawn, beside the weights of others, and how many seeds for training its episodes come from."""

    weight: float
    episodes: int


# The levels of BabyAI that are one room, as `data/babyai.py` lists them: here without minigrid, which a list does not need.
SINGLE_ROOM = (
    *("GoToRedBallGrey", "GoToRedBallNoDists", "GoToRedBall", "GoToRedBlueBall", "GoToObj", "GoToLocal"),
    *("PickupDist", "PickupLoc", "PutNextLocal", "OneRoomS8", "GoToLocalS6N3", "PutNextLocalS6N4"),
)
# Meta-World's ten, in its own order.
MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close"),
    *("button-press-topdown", "peg-insert-side", "window-open", "window-close"),
)
CONTROL = ("CartPole", "Acrobot", "MountainCar", "MountainCarContinuous", "Pendulum")
BOX2D = ("LunarLander", "LunarLanderContinuous", "BipedalWalker")
TOYS = ("FrozenLake4x4", "CliffWalking", "Taxi", "Blackjack")  # of the larger lake a window has three steps only
CAPTIONS, QUESTIONS, RELATIONS = (
    tuple(f"scenes/{what}-{style}" for style in ("gridworld", "shapes")) for what in ("caption", "question", "relation")
)
SCENES = (*CAPTIONS, *QUESTIONS, *RELATIONS)
CHARACTERS = ("characters/characters-5-way-1-shot", "characters/characters-5-way-2-shot")
TEXT = "sentences/sentences"


def named(embodiment: str, tasks: Sequence[str], weight: float, episodes: int) -> dict[str, Share]:
    """The same share for several tasks of an embodiment.

    >>> named("babyai-compact", ["GoToObj"], 0.5, 10)
    {'babyai-compact/GoToObj': Share(weight=0.5, episodes=10)}
    """
    return {f"{embodiment}/{task}": Share(weight, episodes) for task in tasks}


class Mixture(NamedTuple):
    """Tasks with their shares, how many seeds of each there are for valid and for test, and the length of a window in tokens."""

    shares: Mapping[str, Share]
    held_out: int
    length: int

    def demonstrations(self) -> Demonstrations:
        """What a generalist is trained on. Sequences of characters are never prompted: labels mean other classes in each of them.

        Raises as `embodiments.recorded` does.
        """
        from quickstudy.generalist.embodiments import recorded  # needs simulators and the text model, which a network alone does not

        return recorded(
            tuple(self.shares),
            episodes={name: share.episodes for name, share in self.shares.items()},
            held_out=self.held_out,
            length=self.length,
            weights={name: share.weight for name, share in self.shares.items()},
            unprompted=[name for name in self.shares if name.startswith("characters/")],
        )

    def builds(self) -> list[tuple[str, list[str], Split, int]]:
        """What must be built for it: domain, tasks, split, and episodes of each.

        >>> Mixture(named("mazes-plain", ("tree-7", "loops-7"), 1.0, 500), held_out=100, length=64).builds()[:2]
        [('mazes', ['tree-7', 'loops-7'], 'train', 500), ('mazes', ['tree-7', 'loops-7'], 'valid', 100)]
        """
        found: dict[tuple[str, Split, int], list[str]] = {}
        splits: tuple[Split, ...] = ("train", "valid", "test")
        for name, share in self.shares.items():
            where, _, task = name.partition("/")
            for split in splits:
                count = share.episodes if split == "train" else self.held_out
                found.setdefault((where.partition("-")[0], split, count), []).append(task)
        return [(domain, tasks, split, count) for (domain, split, count), tasks in found.items()]


def single_room() -> Mixture:
    """Twelve levels of BabyAI, equally often."""
    return Mixture(named("babyai-compact", SINGLE_ROOM, 1.0, 3_000), held_out=100, length=256)


def laptop() -> Mixture:
    """Levels, a robot arm, poles and cars, toys, bandits, mazes, pictures with captions and questions, characters and text."""
    # What takes longest is drawn most often: levels with several things, of which the others are parts, and questions. The arm had
    # twice to three times its share until it was learned.
    # To learn from the context was not begun to be learned when all else was, so characters are drawn often too.
    shares = named("babyai-compact", SINGLE_ROOM, 0.3, 3_000) | {
        "babyai-compact/GoToLocal": Share(2.0, 20_000),
        "babyai-compact/PickupDist": Share(4.0, 20_000),
        "babyai-compact/PickupLoc": Share(4.0, 20_000),
        "babyai-compact/PutNextLocal": Share(10.0, 40_000),
        "babyai-compact/PutNextLocalS6N4": Share(2.0, 20_000),
    }
    shares |= named("metaworld-relative", MT10, 0.6, 1_000)
    shares |= {"metaworld-relative/push": Share(1.2, 1_000), "metaworld-relative/pick-place": Share(1.2, 1_000)}
    shares |= {"metaworld-relative/peg-insert-side": Share(1.0, 1_000)}
    shares |= named("control-plain", CONTROL, 0.3, 1_000) | {"control-plain/Pendulum": Share(1.5, 1_000)}
    shares |= named("toytext-plain", TOYS, 0.2, 1_000) | {"toytext-plain/FrozenLake4x4": Share(0.5, 1_000)}
    shares |= named("bandits-plain", ("bernoulli-2", "bernoulli-5"), 0.4, 3_000)
    shares |= named("mazes-plain", ("tree-7", "loops-7"), 0.7, 3_000)
    # Captions are learned sooner than answers to questions, and those of them last that tell how objects lie to each other.
    shares |= dict.fromkeys(CAPTIONS, Share(1.2, 10_000)) | dict.fromkeys(QUESTIONS, Share(4.0, 40_000))
    shares |= dict.fromkeys(RELATIONS, Share(8.0, 40_000))
    shares |= dict.fromkeys(CHARACTERS, Share(1.5, 10_000)) | {TEXT: Share(0.3, 3_000)}
    return Mixture(shares, held_out=100, length=256)


def gpu() -> Mixture:
    """All of BabyAI's and Meta-World's tasks beside the others, for one accelerator."""
    return _everything("babyai-compact", "metaworld-relative", episodes=20_000)


def paper() -> Mixture:
    """The tasks of `gpu` in the paper's own reading: every symbol and number, and text at every step."""
    return _everything("babyai-symbolic", "metaworld-full", episodes=100_000)


def _everything(levels: str, arm: str, *, episodes: int) -> Mixture:
    from quickstudy.generalist.data import babyai, bandits, mazes, metaworld

    shares = named(levels, babyai.LEVELS, 1.0, episodes) | named(arm, metaworld.GROUPS["all"], 1.0, 1_000)
    # Control, toys and bandits are drawn twice as often as in `laptop`, Box2D as control; the other weights by hand.
    shares |= named("control-plain", CONTROL, 0.6, 1_000) | named("box2d-plain", BOX2D, 0.6, 1_000)
    shares |= named("toytext-plain", (*TOYS, "FrozenLake8x8"), 0.4, 1_000)
    shares |= named("bandits-plain", bandits.GROUPS["all"], 0.8, 3_000) | named("mazes-plain", mazes.GROUPS["all"], 1.0, 3_000)
    shares |= dict.fromkeys((*SCENES, *CHARACTERS), Share(2.0, 20_000)) | {TEXT: Share(2.0, 20_000)}
    return Mixture(shares, held_out=100, length=1_024)


def ci() -> Mixture:
    """A little of each kind, so few episodes that they are made on the spot."""
    shares = named("babyai-compact", ("GoToRedBallNoDists", "GoToObj"), 1.0, 50)
    shares |= {SCENES[0]: Share(1.0, 50), CHARACTERS[0]: Share(1.0, 50)}
    return Mixture(shares, held_out=20, length=64)


def smoke() -> Mixture:
    """The least that can be trained on."""
    return Mixture(named("babyai-compact", ("GoToObj", "GoToLocal"), 1.0, 4), held_out=2, length=24)


MIXTURES: dict[str, Callable[[], Mixture]] = {
    "laptop": laptop,
    "single-room": single_room,
    "ci": ci,
    "smoke": smoke,
    "gpu": gpu,
    "paper": paper,
}
