"""Characters to be told apart after one or two drawings of each: few-shot learning as sequences for the generalist.

A sequence is drawings, each followed by its label, a number from 0 to 4 that means one class in this sequence only: first every class
once or twice, then every class once more, each part in random order. So the labels of the second part follow from the first.

Drawings are generated glyphs, or Omniglot's where that is at hand: `tasks/glyphs.py`, `tasks/omniglot.py`. They have 14 x 14 pixels,
averages of the 28 x 28 of those files, in one patch of 16 x 16, ink white. The splits share no class. Source: Vinyals et al. 2016,
"Matching Networks for One Shot Learning"; as a sequence: Santoro et al. 2016, "Meta-Learning with Memory-Augmented Neural Networks".
"""

import functools
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from gymnasium import spaces

from quickstudy import catalog
from quickstudy.core import Split
from quickstudy.generalist.data import domain, naming
from quickstudy.generalist.data.store import Episode, Facts
from quickstudy.generalist.tokens import Tokenizer, Tokens
from quickstudy.generalist.vocabulary import PATCH, Vocabulary
from quickstudy.generalist.writing import Writer
from quickstudy.tasks.omniglot_files import find_folder

TITLE = "Characters: drawings and their labels, to be told apart after one or two drawings of each"
LICENCE = "glyphs are made here; Omniglot's drawings, where there are any, are MIT"
CAVEATS = (
    "Labels of the first drawing of each class are drawn at random, so no agent can foresee them.",
    "Glyphs are generated, and no handwriting. A class of glyphs may come again within a split, with other labels.",
)

WAY = 5  # Vinyals et al. 2016
TASKS = ("characters-5-way-1-shot", "characters-5-way-2-shot", "omniglot-5-way-1-shot", "omniglot-5-way-2-shot")
OBSERVATION_SPACE = spaces.Dict(image=spaces.Box(0, 255, (PATCH, PATCH, 1), np.uint8))
ACTION_SPACE = spaces.Discrete(WAY)


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by a group's: `glyphs`, `omniglot`, or `all` that can be made here.

    Raises `ValueError` with the nearest name for an unknown one, and `FileNotFoundError` with what to do if Omniglot is missing.
    """
    groups = {"all": TASKS if _has_omniglot() else TASKS[:2], "glyphs": TASKS[:2], "omniglot": TASKS[2:]}
    found = naming.find(names, groups, TASKS)
    if any(task.startswith("omniglot") for task in found):
        find_folder()
    return found


def provenance() -> Facts:
    """Who draws, with the versions on which the drawings depend."""
    return {"generator": naming.with_versions("quickstudy", "jax", "numpy")}


def record(task: str, seed: int) -> Episode:
    """One sequence: `image` (T, 16, 16, 1), and its labels (T,) as actions. Equal arguments give equal ones.

    The facts are `support`, the number of drawings before the first that can be foreseen, and `classes`, the class of each label.
    Raises `ValueError` for an unknown task and for a seed of no split, `FileNotFoundError` if Omniglot is needed and missing.
    """
    images, classes = _drawer(catalog.require(task, TASKS, "task"), domain.split_of_seed(seed))(seed)
    shot = images.shape[1] - 1
    random = np.random.default_rng([seed, zlib.crc32(task.encode())])
    labels = np.arange(WAY)
    first = random.permutation(np.tile(labels, shot))
    order = np.concatenate([first, random.permutation(labels)])
    # Which drawing of its class each is: the first one of a label has number 0, and so on.
    number = np.array([np.sum(order[:t] == label) for t, label in enumerate(order)])
    facts = {"seed": seed, "support": len(first), "classes": classes.tolist()}
    return Episode({"image": images[order, number]}, order.astype(np.uint8), np.zeros(len(order), np.float32), facts)


def tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Writes two tokens for each drawing and its label.

    A sequence is one section: a window that began in its middle would ask for labels of classes that it does not show.
    """
    return Tokenizer(OBSERVATION_SPACE, ACTION_SPACE, vocabulary, text_every=10**6, separator=False)


def tokens(task: str, episode: Episode, writer: Writer) -> Tokens:
    """An episode as tokens."""
    return tokenizer(writer.vocabulary).encode(episode.observations, episode.actions)


def picture(drawings: np.ndarray) -> np.ndarray:
    """Drawings (..., 28, 28) in [0, 1], ink = 1, as patches (..., 16, 16, 1) of uint8: 14 x 14 averages, and a margin of one pixel."""
    *lead, height, width = drawings.shape
    averages = drawings.reshape(*lead, height // 2, 2, width // 2, 2).mean(axis=(-3, -1))
    margin = [(0, 0)] * len(lead) + [((PATCH - size // 2) // 2,) * 2 for size in (height, width)]
    return np.pad(np.rint(255 * averages).astype(np.uint8), margin)[..., None]


def _has_omniglot() -> bool:
    try:
        find_folder()
    except FileNotFoundError:
        return False
    return True


@functools.cache
def _drawer(task: str, split: Split) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """What gives for each seed the drawings (5, shots + 1, 16, 16, 1), by label, and the classes of the labels."""
    import jax  # here, because a builder whose workers draw does not need it
    import jax.random as jr

    from quickstudy.tasks.glyphs import Glyphs
    from quickstudy.tasks.omniglot import Omniglot

    found = re.fullmatch(r"(\w+)-5-way-(\d)-shot", task)
    assert found is not None
    kind, shot = Glyphs if found[1] == "characters" else Omniglot, int(found[2])
    tasks = kind(way=WAY, shot=shot, query=1)

    @jax.jit
    def sample(seed):
        return tasks.sample(jr.fold_in(jr.key(zlib.crc32(task.encode())), seed), split)

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        episode = sample(seed)
        # A split's seeds begin with it, so two splits draw from different keys and from different classes.
        by_class = [np.asarray(part).reshape(WAY, -1, 28, 28) for part in (episode.support_x, episode.query_x)]
        return picture(np.concatenate(by_class, axis=1)), np.asarray(episode.latent["classes"])

    return draw
