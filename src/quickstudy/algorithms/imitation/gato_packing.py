"""Packing: windows full of episodes, against windows with one episode and blanks to their end.

The same network learns the same levels of BabyAI for equally many steps and windows. Packed windows go on with another episode where
one ends, each a sequence of its own. Padded ones begin with an episode and have blanks after it, which nothing attends to and which
have no loss. Neither is prompted. With episodes of 15 tokens in windows of 128, nine tenths of the padded ones are blank.

    share of useful tokens = 1 if packed, otherwise (tokens of an episode) / (tokens of a window)

Source: Reed et al. 2022, "A Generalist Agent", section 2.2 (windows); Gallouédec et al. 2024, "Jack of All Trades, Master of Some"
(which pads); packing with sequences kept apart: Raffel et al. 2020, "Exploring the Limits of Transfer Learning" (recalled).
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.imitation import generalist
from quickstudy.algorithms.imitation.measuring import stages, success
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import Split, sample_tasks
from quickstudy.generalist.demonstrations import Demonstrations, Window, demonstrations
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.tokens import Tokens

LEVELS = ("GoToRedBallNoDists", "GoToObj", "GoToLocalS6N3", "GoToLocal")  # ours
_EMBODIMENT = "babyai-compact"
_LENGTH = 128  # tokens of a window; ours
_RATE = 0.005  # ours: both learn with it on valid seeds, with seed 100, which is no repeat's
BLANK = 0  # the piece of text that stands for nothing


def padded(tokens: Tokens, length: int) -> Tokens:
    """The same episodes, each with blanks behind it up to so many tokens; windows begin where episodes do, and nowhere else.

    Raises `ValueError` if an episode is longer.

    >>> body, level = parse("babyai-compact/GoToObj")
    >>> one = body.encode(body.episodes(level, "train", 2))
    >>> padded(one, 64).episodes.tolist(), len(padded(one, 64).ids)
    ([0, 64], 128)
    """
    ends = np.append(tokens.episodes[1:], len(tokens.ids))
    longest = int((ends - tokens.episodes).max())
    if longest > length:
        raise ValueError(f"length must be at least {longest}, that of the longest episode, not {length}")
    of = np.repeat(np.arange(len(ends)), ends - tokens.episodes)
    at = of * length + np.arange(len(tokens.ids)) - tokens.episodes[of]
    begins = np.arange(len(ends)) * length

    def spread(values: np.ndarray, blank: int) -> np.ndarray:
        wide = np.full((len(ends) * length, *values.shape[1:]), blank, values.dtype)
        wide[at] = values
        return wide

    return tokens._replace(
        ids=spread(tokens.ids, BLANK),
        # A blank is not where a step begins, or a prompt would.
        places=spread(tokens.places, 1),
        targets=spread(tokens.targets, False),
        intervals=spread(tokens.intervals, 0),
        sections=begins,
        episodes=begins,
    )


def config(scale: Scale) -> generalist.Config:
    """The settings of both."""
    if scale == "smoke":
        return generalist.Config(8, 1, 2, channels=2, steps=2, warmup=1, drop=0.0, windows_per_step=2)
    steps = {"laptop": 80, "full": 10_000}[scale]
    return generalist.Config(32, 2, 2, channels=16, learning_rate=_RATE, steps=steps, warmup=steps // 10, drop=0.0, windows_per_step=8)


def arms(recordings: int, levels: Sequence[str]) -> dict[str, Demonstrations]:
    """Both kinds of windows, from the same recorded episodes."""
    bodies = {f"{_EMBODIMENT}/{level}": parse(f"{_EMBODIMENT}/{level}") for level in levels}
    tokens = {name: body.encode(body.episodes(level, "train", recordings)) for name, (body, level) in bodies.items()}
    vocabulary = next(iter(bodies.values()))[0].tokenizer.vocabulary
    wide = {name: padded(of_level, _LENGTH) for name, of_level in tokens.items()}
    make = lambda recorded: demonstrations({"train": recorded}, vocabulary, length=_LENGTH, prompted=0.0)
    return {"packed": make(tokens), "padded": make(wide)}


@eqx.filter_jit
def useful(tasks: Demonstrations, key: PRNGKeyArray) -> Float[Array, ""]:
    """How many tokens of a window are none of its blanks, the mean of 256 windows."""
    windows = sample_tasks(tasks, key, "train", 256)
    assert isinstance(windows, Window)
    return jnp.mean(jnp.sum(windows.seen.id != BLANK, axis=1, dtype=jnp.float32))


def measure(scale: Scale, seed: int, split: Split = "test") -> Measurements:
    """The success of either after equal steps, and the useful tokens of a window."""
    recordings, episodes = {"smoke": (4, 2), "laptop": (1_000, 25), "full": (3_000, 100)}[scale]
    levels = LEVELS[:1] if scale == "smoke" else LEVELS
    found: dict[str, float] = {}
    for arm, tasks in arms(recordings, levels).items():
        (network,) = stages(config(scale), tasks, seed, 1)
        found[arm] = success(network, tasks.names, seed, episodes, split)
        found[f"{arm}: useful tokens a window"] = float(useful(tasks, jr.fold_in(jr.key(seed), 1)))
    return found


CLAIMS = (
    Claim(
        id="gato-packing",
        statement=(
            "After equally many steps of equally large windows, a generalist plays levels of BabyAI better if its windows are packed "
            "with episodes than if each holds one and blanks."
        ),
        source="Reed et al. 2022, section 2.2 (windows); Gallouédec et al. 2024 pad them",
        reported="no comparison",
        not_answered="equally many episodes instead of steps; tasks whose episodes are as long as a window.",
        measure=measure,
        expected=(
            # Set before anything was measured.
            Expectation("packed", ">", "padded"),
        ),
    ),
)
