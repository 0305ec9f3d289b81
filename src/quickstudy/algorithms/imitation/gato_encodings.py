"""Gato's levels in three encodings: with equal tokens, the fewer a step takes, the more is learned.

The same network reads the same levels of BabyAI, whose observation is written as one patch of symbols (compact), as sixteen patches
of a picture (patches, Gato's rule for images), or symbol by symbol (symbolic, Gato's rule for numbers). What is equal: the episodes,
the layers of the transformer, the windows of a step, their length and the steps, so the tokens. A step of an episode takes, in the
mean over those that are recorded here,

    compact: 1 patch + 1 action, and the mission once an episode: 3.0 tokens
    patches: the mission + 16 patches + 1 direction + 1 separator + 1 action: 24.0
    symbolic: the mission + 147 symbols + 1 direction + 1 separator + 1 action: 155.0

So equal tokens of compact show 8 times as many actions as those of patches, and these 6.5 times as many as those of symbolic. What is
not equal: a patch passes a residual block, and a mission that is said again is predicted again. So the processor's time for the second
half of each training is measured too.

Source: Reed et al. 2022, "A Generalist Agent", section 2.1; compact is ours.
"""

import time

from quickstudy.algorithms.imitation import generalist
from quickstudy.algorithms.imitation.measuring import stages, success
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import Split
from quickstudy.generalist.embodiments import recorded

ENCODINGS = ("compact", "patches", "symbolic")
LEVELS = ("GoToRedBallNoDists", "GoToObj")  # the two that are learned first; ours
_LENGTH = 256  # tokens of a window: one whole step of `symbolic`, and what is seen before the next action; ours
_RATE = 0.004  # ours: all three learn well with it in 300 steps, on valid seeds, with seed 100, which is no repeat's


def config(scale: Scale) -> generalist.Config:
    """The settings of all three."""
    if scale == "smoke":
        return generalist.Config(8, 1, 2, channels=2, steps=2, warmup=1, drop=0.0, windows_per_step=2)
    steps = {"laptop": 80, "full": 10_000}[scale]
    return generalist.Config(32, 2, 2, channels=16, learning_rate=_RATE, steps=steps, warmup=steps // 10, drop=0.0, windows_per_step=8)


def measure(scale: Scale, seed: int, split: Split = "test") -> Measurements:
    """The success of each encoding after equally many tokens, and the processor's seconds for the second half of the training."""
    recordings, episodes = {"smoke": (4, 2), "laptop": (1_000, 25), "full": (3_000, 100)}[scale]
    levels = LEVELS[:1] if scale == "smoke" else LEVELS
    found: dict[str, float] = {}
    # At smoke scale one encoding stands for all, which saves the compiler's time.
    for encoding in ENCODINGS[:1] if scale == "smoke" else ENCODINGS:
        names = [f"babyai-{encoding}/{level}" for level in levels]
        tasks = recorded(names, episodes=recordings, held_out=2, length=_LENGTH)
        halves = stages(config(scale), tasks, seed, 2)
        next(halves)  # with the compiler's time
        began = time.process_time()
        network = next(halves)
        found[f"{encoding}: seconds of the second half"] = time.process_time() - began
        found[encoding] = success(network, names, seed, episodes, split)
    return {key.replace(ENCODINGS[0], encoding): value for encoding in ENCODINGS for key, value in found.items()} | found


CLAIMS = (
    Claim(
        id="gato-encodings",
        statement=(
            "From equally many tokens of levels of BabyAI the same network learns more if a step is one patch of symbols than if it "
            "is sixteen patches of a picture, and more from these than symbol by symbol."
        ),
        source="Reed et al. 2022, section 2.1, whose encodings are two of the three",
        reported="no comparison",
        not_answered="equal steps of experts, or equal processor time; what no single patch can hold; training to the end.",
        measure=measure,
        expected=(
            # Set before anything was measured, by the number of actions that the same tokens show.
            Expectation("compact", ">", "patches"),
            Expectation("patches", ">", "symbolic"),
        ),
    ),
)
