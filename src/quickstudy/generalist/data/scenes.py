"""Scenes: pictures with captions, and questions about pictures, all of them made here.

A scene is one to three coloured objects in 4 x 4 cells; its picture has 64 x 64 pixels, so that a patch of the generalist is a cell.
In the gridworld, cells are painted by minigrid; shapes are of our own drawing, of varying sizes, on a plain background.

The words follow from the objects alone. "Left of" compares columns, "above" compares rows, however far apart. A caption names objects
in reading order, and how each lies to the next: "a red ball left of a blue key, which is above and right of a green box". A question
has exactly one answer; "nothing", "zero" and "no" are among the answers, and yes is as frequent as no. Some pictures are asked about
how their objects lie to each other and nothing else: of all questions these are learned last, and among the others they are few.

A combination of objects and cells belongs to one split, for all tasks, so no scene of a test has been seen in training. Source of the
kind of data: Johnson et al. 2017, "CLEVR", https://arxiv.org/abs/1612.06890; that a generalist learns from captioned pictures and
questions about pictures: Reed et al. 2022, "A Generalist Agent", section 3.
"""

import functools
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from quickstudy import catalog
from quickstudy.generalist.data import babyai, domain, naming
from quickstudy.generalist.data.store import Episode, Facts
from quickstudy.generalist.tokens import Tokens
from quickstudy.generalist.train_text import COLOURS
from quickstudy.generalist.vocabulary import PATCH, from_patches
from quickstudy.generalist.writing import Given, Writer

TITLE = "Scenes: pictures of coloured objects with captions, and questions about them"
LICENCE = "made here, the gridworld with minigrid's tiles (Apache-2.0)"
CAVEATS = (
    "Scenes of one object are few, at most 576 in a style, so those of training come again and again.",
    "Captions and questions are made from patterns: they measure seeing and naming, not language.",
    "Who does not look answers two in five questions, and half of those about how things lie, by the commonest answer to a question.",
)

KINDS = {
    "gridworld": ("ball", "box", "key", "door"),
    "shapes": ("ball", "box", "triangle", "cross", "ring", "diamond"),
}
TASKS = tuple(f"{what}-{style}" for what in ("caption", "question", "relation") for style in KINDS)
GROUPS = {"all": TASKS, "captions": TASKS[:2], "questions": TASKS[2:4], "relations": TASKS[4:]}

SIDE = 4  # cells
NUMBERS = ("zero", "one", "two", "three")
_HOW_MANY = (0.2, 0.4, 0.4)  # how often there are one, two and three objects; ours, not tuned
_ALIKE = 0.25  # how often an object has the colour of another, and how often its kind, beyond chance; ours: else counts are 0 and 1
_QUESTIONS = 4  # about a picture, of which equal ones are left out; ours: one took as many tokens for its picture as four now
_RELATIONS = 8  # questions about how objects lie in a picture, of which equal ones are left out; ours
_NOTHING = 0.25  # how often the answer to what is beside an object is nothing, where it can be; ours
_NOTHING_BESIDE = 0.5  # the same where only relations are asked about; ours: what is beside an object must be looked for, not guessed
_INKS = {
    "red": (230, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 230),
    "purple": (150, 50, 190),
    "yellow": (240, 210, 40),
    "grey": (128, 128, 128),
}


class Object(NamedTuple):
    """A coloured object, and its cell counted in reading order."""

    cell: int
    colour: str
    kind: str

    @property
    def name(self) -> str:
        """Its colour and its kind."""
        return f"{self.colour} {self.kind}"


class Question(NamedTuple):
    """A question, and its one answer."""

    question: str
    answer: str


# Objects, the kinds of their style and a source of chance give a question, or None where none of this pattern fits.
Pattern = Callable[[Sequence[Object], Sequence[str], np.random.Generator], Question | None]


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by those of `GROUPS`. Raises `ValueError` with the nearest name for an unknown one."""
    return naming.find(names, GROUPS, TASKS)


def provenance() -> Facts:
    """Who paints the pictures, with the versions on which they depend."""
    return {"generator": babyai.provenance()["generator"]}


def record(task: str, seed: int) -> Episode:
    """One picture, (1, 64, 64, 3), with its caption or with questions: equal arguments give equal ones. There are no actions.

    The facts are `objects`, and `caption`, or `question` and `answer` and `more` of both. Raises `ValueError` for an unknown task,
    and for a seed that belongs to no split.
    """
    what, style = catalog.require(task, TASKS, "task").split("-")
    random = np.random.default_rng([seed, zlib.crc32(task.encode())])
    draw = _draw_related if what == "relation" else _draw
    objects = domain.draw_within(domain.split_of_seed(seed), lambda: draw(KINDS[style], random), _content)
    image = _PAINTERS[style](objects, random)
    facts: Facts = {"seed": seed, "objects": objects}
    if what == "caption":
        facts["caption"] = caption(objects)
    else:
        patterns, count = (_OF_RELATIONS, _RELATIONS) if what == "relation" else (_PATTERNS, _QUESTIONS)
        first, *more = dict.fromkeys(ask(objects, KINDS[style], random, patterns) for _ in range(count))
        facts |= first._asdict() | {"more": more}
    return Episode({"image": image[None]}, np.zeros((1, 0), np.uint8), np.zeros(1, np.float32), facts)


def tokens(task: str, episode: Episode, writer: Writer) -> Tokens:
    """An episode as tokens: picture and caption, or picture and questions with their answers.

    Raises `ValueError` for one that an older version built.
    """
    image, facts = episode.observations["image"][0], episode.facts
    if "caption" in facts:
        return writer.write(image, facts["caption"])
    if "more" not in facts:
        raise ValueError(f"these scenes of {task} were built when a picture had one question: remove their folder and build them anew")
    asked = [(facts["question"], facts["answer"]), *facts["more"]]
    return writer.write(image, *(part for question, answer in asked for part in (Given(question), answer)))


def _draw(kinds: Sequence[str], random: np.random.Generator) -> list[Object]:
    """Objects in reading order."""
    cells = sorted(random.choice(SIDE**2, 1 + random.choice(len(_HOW_MANY), p=_HOW_MANY), replace=False).tolist())
    colours: list[str] = []
    chosen: list[str] = []
    for _ in cells:
        for values, before in ((COLOURS, colours), (kinds, chosen)):
            before.append(str(random.choice(before if before and random.random() < _ALIKE else values)))
    return [Object(*one) for one in zip(cells, colours, chosen, strict=True)]


def _draw_related(kinds: Sequence[str], random: np.random.Generator) -> list[Object]:
    """Objects in reading order, at least two of which no other one has the name of."""
    while len(_unlike(objects := _draw(kinds, random))) < 2:
        pass
    return objects


def _content(objects: Sequence[Object]) -> str:
    return ", ".join(f"{one.cell} {one.name}" for one in objects)


# --- words ---------------------------------------------------------------------------------------------------------------------------

RELATIONS: dict[str, Callable[[Object, Object], bool]] = {
    "above": lambda one, other: one.cell // SIDE < other.cell // SIDE,
    "below": lambda one, other: one.cell // SIDE > other.cell // SIDE,
    "left of": lambda one, other: one.cell % SIDE < other.cell % SIDE,
    "right of": lambda one, other: one.cell % SIDE > other.cell % SIDE,
}


def relation(one: Object, other: Object) -> str:
    """How one object lies to another.

    >>> relation(Object(0, "red", "ball"), Object(5, "blue", "key"))
    'above and left of'
    """
    return " and ".join(words for words, holds in RELATIONS.items() if holds(one, other))


def caption(objects: Sequence[Object]) -> str:
    """What a scene shows, in reading order.

    >>> caption([Object(0, "red", "ball"), Object(2, "blue", "key"), Object(6, "red", "box")])
    'a red ball left of a blue key, which is above a red box'
    """
    links = [f"{relation(one, other)} a {other.name}" for one, other in itertools.pairwise(objects)]
    return ", which is ".join([" ".join([f"a {objects[0].name}", *links[:1]]), *links[1:]])


def ask(objects: Sequence[Object], kinds: Sequence[str], random: np.random.Generator, patterns: Sequence[Pattern]) -> Question:
    """A question about a scene, of a pattern that fits it. Raises `ValueError` if none does."""
    for pattern in random.permutation(len(patterns)):
        asked = patterns[pattern](objects, kinds, random)
        if asked is not None:
            return asked
    raise ValueError(f"no pattern of a question fits {_content(objects)}")


def _ask_colour(objects: Sequence[Object], kinds: Sequence[str], random: np.random.Generator) -> Question | None:
    count = Counter(one.kind for one in objects)
    once = [one for one in objects if count[one.kind] == 1]
    if not once:
        return None
    one = _any(once, random)
    return Question(f"What colour is the {one.kind}?", one.colour)


def _ask_beside(
    objects: Sequence[Object], kinds: Sequence[str], random: np.random.Generator, often: float = _NOTHING
) -> Question | None:
    """Of one object alone nothing would be asked but whether it is alone, so there must be two."""
    found: dict[bool, list[Question]] = {True: [], False: []}
    for one, (words, holds) in itertools.product(_unlike(objects), RELATIONS.items()):
        there = [other for other in objects if holds(other, one)]
        if len(objects) > 1 and len(there) < 2:
            answer = f"a {there[0].name}" if there else "nothing"
            found[not there].append(Question(f"What is {words} the {one.name}?", answer))
    nothing = bool(random.random() < often)
    choices = found[nothing] or found[not nothing]
    return _any(choices, random) if choices else None


def _ask_number(objects: Sequence[Object], kinds: Sequence[str], random: np.random.Generator) -> Question:
    counts = {"things": len(objects)}
    counts |= {f"{colour} things": sum(one.colour == colour for one in objects) for colour in COLOURS}
    counts |= {_plural(kind): sum(one.kind == kind for one in objects) for kind in kinds}
    number = _any(sorted(set(counts.values())), random)  # so that zero, of which there is most, is not the answer to most
    what = _any([what for what, count in counts.items() if count == number], random)
    return Question(f"How many {what} are there?", NUMBERS[number])


def _ask_existence(objects: Sequence[Object], kinds: Sequence[str], random: np.random.Generator) -> Question:
    """Whether there is an object; one that is not there has the colour or the kind of one that is."""
    there = {(one.colour, one.kind) for one in objects}
    if random.random() < 0.5:
        return Question(f"Is there a {' '.join(_any(sorted(there), random))}?", "yes")
    near = [
        (colour, kind)
        for colour, kind in itertools.product(COLOURS, kinds)
        if (colour, kind) not in there and any(colour == one.colour or kind == one.kind for one in objects)
    ]
    return Question(f"Is there a {' '.join(_any(near, random))}?", "no")


def _ask_relation(objects: Sequence[Object], kinds: Sequence[str], random: np.random.Generator) -> Question | None:
    pairs = list(itertools.permutations(_unlike(objects), 2))
    if not pairs:
        return None
    one, other = _any(pairs, random)
    truth = bool(random.random() < 0.5)
    words = _any([words for words, holds in RELATIONS.items() if holds(one, other) == truth], random)
    return Question(f"Is the {one.name} {words} the {other.name}?", "yes" if truth else "no")


_PATTERNS: tuple[Pattern, ...] = (_ask_colour, _ask_beside, _ask_number, _ask_existence, _ask_relation)
_OF_RELATIONS: tuple[Pattern, ...] = (functools.partial(_ask_beside, often=_NOTHING_BESIDE), _ask_relation)


def _unlike(objects: Sequence[Object]) -> list[Object]:
    """Objects that no other one has the name of."""
    count = Counter(one.name for one in objects)
    return [one for one in objects if count[one.name] == 1]


def _any(choices: Sequence[Any], random: np.random.Generator) -> Any:
    return choices[int(random.integers(len(choices)))]


def _plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith(("s", "x")) else f"{kind}s"


# --- pictures ------------------------------------------------------------------------------------------------------------------------


def paint_gridworld(objects: Sequence[Object], random: np.random.Generator) -> UInt8[np.ndarray, "64 64 3"]:
    """The scene as a corner of a gridworld, with minigrid's tiles."""
    cells = np.stack([babyai.tile("empty", COLOURS[0], PATCH)] * SIDE**2)
    for one in objects:
        cells[one.cell] = babyai.tile(one.kind, one.colour, PATCH)
    return _together(cells)


def paint_shapes(objects: Sequence[Object], random: np.random.Generator) -> UInt8[np.ndarray, "64 64 3"]:
    """The scene as shapes of varying sizes, a little beside the middles of their cells, on a dark or a light plain background."""
    background = random.integers(40, size=3) + (215 if random.random() < 0.5 else 0)
    cells = np.broadcast_to(background.astype(np.uint8), (SIDE**2, PATCH, PATCH, 3)).copy()
    for one in objects:
        mask = shape(one.kind, radius=float(random.choice([4.5, 5.5, 6.5])), shift=tuple(random.integers(-1, 2, size=2).tolist()))
        cells[one.cell][mask] = _INKS[one.colour]
    return _together(cells)


def shape(kind: str, radius: float, shift: tuple[int, int] = (0, 0)) -> Bool[np.ndarray, "16 16"]:
    """Which pixels of a cell a shape covers; radius and shift (down, across) in pixels."""
    y, x = (np.mgrid[:PATCH, :PATCH] - (PATCH - 1) / 2) - np.reshape(shift, (2, 1, 1))
    far, near, around = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y)), np.hypot(x, y)
    masks = {
        "ball": around <= radius,
        "box": far <= 0.85 * radius,
        "triangle": (abs(y) <= radius) & (2 * abs(x) <= y + radius),
        "cross": (far <= radius) & (near <= radius / 3),
        "ring": (around <= radius) & (around >= radius / 2),
        "diamond": abs(x) + abs(y) <= radius,
    }
    return masks[kind]


_PAINTERS = {"gridworld": paint_gridworld, "shapes": paint_shapes}


def _together(cells: UInt8[np.ndarray, "16 16 16 3"]) -> UInt8[np.ndarray, "64 64 3"]:
    return from_patches(cells[None], (SIDE * PATCH, SIDE * PATCH, 3))[0]
