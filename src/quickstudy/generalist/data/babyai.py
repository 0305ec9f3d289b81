"""BabyAI: instructions in a gridworld, minigrid's bot as the expert, and three ways to write an observation for a sequence model.

Levels and bot: minigrid (BabyAI, Chevalier-Boisvert et al. 2019; minigrid, 2023). What is stored of a step is what the environment
gives: the partial view of 7 x 7 cells as (object, colour, state), the direction, and the mission once an episode. An `Encoding` turns
that into observations in Gymnasium's spaces.

On every second seed for training the bot is not always obeyed, and what is stored is what it said: so episodes show what to do after a
mistake, such as to put down what should not have been picked up. The idea is told in `control.py`.

The bot has faults: on some seeds it plans for ever, on others it breaks off. So each of its decisions has a time limit on the wall
clock, and only episodes that end with a reward are kept; the other seeds are recorded with the reason.
"""

import contextlib
import functools
import io
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, SupportsInt

import numpy as np
from jaxtyping import UInt8

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.playing import CHANCE, Encoding, Step, disturbance, replaced
from quickstudy.generalist.data.store import Episode, Facts, Observations, Rejected
from quickstudy.generalist.vocabulary import require_range

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame, which minigrid imports, greets on standard output
try:
    import gymnasium
    import minigrid  # noqa: F401  (it registers its environments)
    from gymnasium import spaces
    from minigrid.core.actions import Actions
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj
    from minigrid.utils import baby_ai_bot
except ImportError as error:
    raise ImportError("BabyAI needs minigrid: pip install 'quickstudy[generalist]'") from error

TITLE = "BabyAI: instructions in a gridworld, played by minigrid's bot"
LICENCE = "made here by minigrid's levels and bot (Apache-2.0)"
CAVEATS = (
    "The bot plans on the inner state of the level, as far as it has looked around; it is good, not optimal.",
    "On odd seeds for training some actions are replaced by chance: returns there are lower than the bot's own.",
    "Seeds on which the bot fails are missing, so a level may be a little easier here than as it is generated.",
)

# The 39 levels of JAT (Gallouedec et al. 2024), in its order. Its name of one is `babyai-go-to-local`; its `put-next` is PutNextS7N4.
_JAT = """
ActionObjDoor BlockedUnlockPickup BossLevelNoUnlock BossLevel FindObjS5 GoToDoor GoToImpUnlock GoToLocal GoToObjDoor GoToObj
GoToRedBallGrey GoToRedBallNoDists GoToRedBall GoToRedBlueBall GoToSeq GoTo KeyCorridor MiniBossLevel MoveTwoAcrossS8N9 OneRoomS8
OpenDoor OpenDoorsOrderN4 OpenRedDoor OpenTwoDoors Open PickupAbove PickupDist PickupLoc Pickup PutNextLocal PutNextS7N4 SynthLoc
SynthSeq Synth UnblockPickup UnlockLocal UnlockPickup UnlockToUnlock Unlock
"""
# Levels whose grid is one room without doors: nothing has to be kept in mind or opened. Ten are JAT's; two are smaller variants.
_ONE_ROOM = """
GoToRedBallGrey GoToRedBallNoDists GoToRedBall GoToRedBlueBall GoToObj GoToLocal PickupDist PickupLoc PutNextLocal OneRoomS8
GoToLocalS6N3 PutNextLocalS6N4
"""
LEVELS, SINGLE_ROOM = tuple(_JAT.split()), tuple(_ONE_ROOM.split())
GROUPS = {"all": LEVELS, "single-room": SINGLE_ROOM}

DECISION_LIMIT = 1.0  # seconds of wall clock for one decision of the bot; the longest that ended took 0.05. JAT: 0.02
_AGAIN = 1.0  # seconds from one ring of the alarm to the next; ours
_LEVEL_LIMIT = 20.0  # seconds to make a level, which may draw many that do not fit; ours
_VIEW = 7  # cells on a side, minigrid's own
ACTIONS = len(Actions)
_UNDONE = 5  # turning, going, picking up and putting down come first: what they do can be undone, but a box that was opened is gone


def levels() -> list[str]:
    """All levels of BabyAI that minigrid has registered.

    >>> set(LEVELS + SINGLE_ROOM) <= set(levels())
    True
    """
    return sorted(
        name.removeprefix("BabyAI-").removesuffix("-v0") for name in gymnasium.registry if re.fullmatch("BabyAI-.*-v0", name)
    )


def find(names: Sequence[str]) -> list[str]:
    """Levels by their own names or by those of `GROUPS`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["GoToLocal", "single-room"])[:2]
    ['GoToLocal', 'GoToRedBallGrey']
    """
    return naming.find(names, GROUPS, levels(), "level")


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    return {
        "generator": naming.with_versions("minigrid", "gymnasium", "numpy"),
        "expert": f"minigrid.utils.baby_ai_bot.BabyAIBot, on every second seed for training a chance of {CHANCE} of another action",
    }


class Environment(NamedTuple):
    """One level as one seed makes it."""

    world: Any  # minigrid's own environment
    seed: int

    def reset(self) -> Mapping[str, Any]:
        """Begin, always the same episode. The raw observation: `image` (7, 7, 3) and `direction` as uint8, `mission` as text."""
        with contextlib.redirect_stdout(io.StringIO()):  # minigrid tells of every level that it throws away
            return _raw(self.world.reset(seed=self.seed)[0])

    def step(self, action: SupportsInt) -> Step:
        """Act. The reward is 1 at best, less the later the mission is done, and 0 until then."""
        observation, reward, terminated, truncated, _ = self.world.step(int(action))
        return Step(_raw(observation), float(reward), bool(terminated or truncated), reward > 0)


def _raw(observation: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "image": np.asarray(observation["image"], np.uint8),
        "direction": np.uint8(observation["direction"]),
        "mission": observation["mission"],
    }


def environment(level: str, seed: int) -> Environment:
    """A level to be played. Raises `ValueError` with the nearest name for an unknown level.

    >>> environment("GoToObjS4", seed=0).reset()["mission"]
    'go to the blue key'
    """
    catalog.require(level, levels(), "level")
    return Environment(gymnasium.make(f"BabyAI-{level}-v0", disable_env_checker=True).unwrapped, seed)


def record(level: str, seed: int, limit: float = DECISION_LIMIT) -> Episode | Rejected:
    """Let the bot play the level that a seed makes; equal arguments give equal episodes. Only the main thread may call it.

    A seed is rejected, with the reason, if the bot thinks for longer than `limit` seconds, fails, or earns no reward. Raises
    `ValueError` for an unknown level.
    """
    world, random, doing = environment(level, seed), disturbance(level, seed), "making the level"
    try:
        with _alarm() as within:
            observation = within(_LEVEL_LIMIT, world.reset)
            doing = "the bot"
            bot = baby_ai_bot.BabyAIBot(world.world)
            seen: list[Mapping[str, Any]] = []
            actions: list[int] = []
            rewards: list[float] = []
            end, executed = False, None
            while not end:
                # The first decision knows of no action yet; later ones are told what was done.
                actions.append(int(within(limit, functools.partial(bot.replan, executed))))
                executed = world.world.actions(replaced(actions[-1], _UNDONE, random))
                seen.append(observation)
                observation, reward, end, success = world.step(executed)
                rewards.append(reward)
    except _OutOfTimeError:
        return Rejected(seed, f"{doing} did not come to an end in time")
    except Exception as error:  # the bot breaks off with assertions and others
        return Rejected(seed, f"{doing} failed: {type(error).__name__}")
    if not success:
        return Rejected(seed, "no reward")
    stacked: Observations = {name: np.stack([one[name] for one in seen]) for name in ("image", "direction")}
    facts = {
        "seed": seed,
        "disturbed": random is not None,
        "success": True,
        "return": round(float(sum(rewards)), 6),
        "mission": seen[0]["mission"],
    }
    return Episode(stacked, np.array(actions, np.uint8), np.array(rewards, np.float32), facts)


class _OutOfTimeError(Exception):
    pass


@contextlib.contextmanager
def _alarm() -> Iterator[Callable[[float, Callable[[], Any]], Any]]:
    """Give a function that makes a call under a limit of wall-clock seconds, and raises `_OutOfTimeError` in its midst beyond it."""

    def ring(number: int, frame: object) -> None:
        raise _OutOfTimeError

    def within(seconds: float, call: Callable[[], Any]) -> Any:
        # It rings again, because an exception that is raised where Python runs a callback, as of the garbage collector, is lost.
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        result = call()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result

    old = signal.signal(signal.SIGALRM, ring)
    try:
        yield within
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


# --- three encodings -----------------------------------------------------------------------------------------------------------------


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations, with the mission at every step."""
    return dict(episode.observations) | {"mission": [episode.facts["mission"]] * len(episode.actions)}


def _checked(raw: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The view's symbols and the direction. Raises `ValueError` for what minigrid cannot show."""
    image, direction = np.asarray(raw["image"]), np.asarray(raw["direction"])
    if image.shape[-3:] != (_VIEW, _VIEW, 3) or image.dtype.kind not in "iu" or direction.dtype.kind not in "iu":
        told = f"{image.dtype} of the shape {image.shape} and {direction.dtype}"
        raise ValueError(f"image must be whole numbers of the shape ({_VIEW}, {_VIEW}, 3) and direction a whole number, not {told}")
    for what, channel, end in (("objects", 0, _OBJECTS), ("colours", 1, _COLOURS), ("states", 2, _STATES)):
        require_range(f"the {what} of image", image[..., channel], 0, end)
    require_range("direction", direction, 0, _DIRECTIONS)
    return image, direction


def _symbolic(raw: Mapping[str, Any]) -> dict[str, Any]:
    image, direction = _checked(raw)
    return {
        "direction": direction.astype(np.int32),
        "image": image.reshape(*image.shape[:-3], -1).astype(np.int32),
        "mission": raw["mission"],
    }


def _patches(raw: Mapping[str, Any]) -> dict[str, Any]:
    image, direction = _checked(raw)
    picture = render(image)
    # Padded at the right and at the bottom, so that a patch of 16 x 16 holds four whole cells.
    space = [(0, 0)] * (picture.ndim - 3) + [(0, -picture.shape[-2] % 16)] * 2 + [(0, 0)]
    return {"direction": direction.astype(np.int32), "image": np.pad(picture, space), "mission": raw["mission"]}


def render(image: UInt8[np.ndarray, "*time 7 7 3"], tile: int = 8) -> UInt8[np.ndarray, "*time height width 3"]:
    """The partial view as minigrid paints it, 7 `tile` pixels on a side, from the view's symbols alone."""
    code = np.asarray(image).astype(np.int64) @ np.array([_COLOURS * _STATES, _STATES, 1])
    code[..., _VIEW // 2, _VIEW - 1] += _CODES  # here stands the agent, and what it carries under it
    codes, where = np.unique(code, return_inverse=True)
    tiles = np.stack([_tile(int(one), tile) for one in codes])[where.reshape(code.shape)]  # (*time, column, row, y, x, 3)
    lead = tuple(range(code.ndim - 2))
    column, row, y, x, channel = range(len(lead), len(lead) + 5)
    return tiles.transpose(*lead, row, y, column, x, channel).reshape(*code.shape[:-2], _VIEW * tile, _VIEW * tile, 3)


_OBJECTS, _COLOURS, _STATES, _DIRECTIONS = len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX), 4
_CODES = _OBJECTS * _COLOURS * _STATES


@functools.cache
def _tile(code: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """One cell's picture; codes from `_CODES` on are of the cell in which the agent stands, which looks up in its own view."""
    thing, colour, state = np.unravel_index(code % _CODES, (_OBJECTS, _COLOURS, _STATES))
    seen = WorldObj.decode(int(thing), int(colour), int(state))
    agent = 3 if code >= _CODES else None
    tile = Grid.render_tile(seen, agent_dir=agent, highlight=bool(thing != OBJECT_TO_IDX["unseen"]), tile_size=size)
    return tile.astype(np.uint8)  # it has fractions, which minigrid drops when it puts tiles together


@functools.cache
def tile(thing: str, colour: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """One cell as minigrid paints it, not highlighted; a door is closed, and the thing may be "empty"."""
    state = STATE_TO_IDX["closed" if thing == "door" else "open"]
    there = WorldObj.decode(OBJECT_TO_IDX[thing], COLOR_TO_IDX[colour], state)
    return Grid.render_tile(there, tile_size=size).astype(np.uint8)


def _compact(raw: Mapping[str, Any]) -> dict[str, Any]:
    """One picture of 16 x 16 pixels a step. A cell is 2 x 2 pixels of 3 channels, twelve numbers that are 0 or 255:

    six for its colour (one of them is on), four bits of its object, two bits of its state. Row and column of a cell are as in the
    view; the direction is one of the first four numbers of the two pixels at the left below the cells.
    """
    symbols, direction = _checked(raw)
    image = symbols.swapaxes(-3, -2)  # minigrid's first axis is the column
    lead = image.shape[:-3]
    bits = lambda values, count: (values[..., None] >> np.arange(count - 1, -1, -1)) & 1
    thing, colour, state = (image[..., channel] for channel in range(3))
    numbers = np.concatenate([np.eye(_COLOURS, dtype=int)[colour], bits(thing, 4), bits(state, 2)], axis=-1)
    cells = numbers.reshape(*lead, _VIEW, _VIEW, 2, 2, 3).swapaxes(-4, -3).reshape(*lead, 2 * _VIEW, 2 * _VIEW, 3)
    picture = np.zeros((*lead, 16, 16, 3), np.uint8)
    picture[..., : 2 * _VIEW, : 2 * _VIEW, :] = 255 * cells
    picture[..., 2 * _VIEW, :2, :] = 255 * np.eye(4, 6, dtype=int)[direction].reshape(*lead, 2, 3)
    return {"image": picture, "mission": raw["mission"]}


_MISSION = spaces.Text(512, charset="abcdefghijklmnopqrstuvwxyz ,")
_DIRECTION = spaces.Discrete(_DIRECTIONS)
_SYMBOLS = np.tile([_OBJECTS, _COLOURS, _STATES], _VIEW * _VIEW)


def _picture(side: int) -> spaces.Box:
    return spaces.Box(0, 255, (side, side, 3), np.uint8)


ACTION_SPACE = spaces.Discrete(ACTIONS)
ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        # Gato's own reading: the mission and all symbols at every step, about 158 tokens.
        Encoding(
            "symbolic",
            spaces.Dict({"direction": _DIRECTION, "image": spaces.MultiDiscrete(_SYMBOLS), "mission": _MISSION}),
            ACTION_SPACE,
            1,
            True,
            _symbolic,
        ),
        # Gato's rule for images on the picture of the view: 16 patches, about 26 tokens a step.
        Encoding(
            "patches",
            spaces.Dict({"direction": _DIRECTION, "image": _picture(64), "mission": _MISSION}),
            ACTION_SPACE,
            1,
            True,
            _patches,
        ),
        # Ours: one patch a step, no separator, the mission every 64 steps. Two tokens a step.
        Encoding("compact", spaces.Dict({"image": _picture(16), "mission": _MISSION}), ACTION_SPACE, 64, False, _compact),
    )
}


def encoding(name: str, level: str) -> Encoding:
    """One of `ENCODINGS`, the same for all levels. Raises `ValueError` with the nearest name for another encoding or level."""
    found = ENCODINGS[catalog.require(name, ENCODINGS, "encoding")]
    catalog.require(level, levels(), "level")
    return found
