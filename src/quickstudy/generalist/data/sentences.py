"""Sentences: plain text for the generalist, from this package's own documentation and from a small grammar about coloured objects.

A document is a paragraph of the documentation or of a docstring, or a part of a long one. The grammar tells where objects are and what
follows from it, or asks: "The red ball is left of the blue key. So the blue key is right of the red ball." What is told is consistent,
so the last words can be foreseen by who has understood the others.

A text belongs to one split by a hash of it. In a checkout, documents are those of the repository; in an installed package only its
docstrings. They change with the package, so the card names a digest of them all.
"""

import functools
import hashlib
import importlib.metadata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from quickstudy import catalog
from quickstudy.core import Split
from quickstudy.generalist import train_text
from quickstudy.generalist.data import domain, naming
from quickstudy.generalist.data.store import Episode, Facts
from quickstudy.generalist.tokens import Tokens
from quickstudy.generalist.train_text import COLOURS, THINGS
from quickstudy.generalist.writing import Writer

TITLE = "Sentences: the package's documentation, and sentences about coloured objects"
LICENCE = "made here (Apache-2.0)"
CAVEATS = (
    "There are few documents, so those of training come again and again: this is no corpus to learn English from.",
    "The splits share no document; a paragraph may resemble one of another split.",
)

TASKS = ("sentences",)
GROUPS = {"all": TASKS}
LONGEST = 400  # characters of a document, some 130 tokens, so that a short window has whole ones; ours
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_GRAMMAR = 0.5  # the share of texts that the grammar makes; ours


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or `all`. Raises `ValueError` with the nearest name for an unknown one."""
    return naming.find(names, GROUPS, TASKS)


def provenance() -> Facts:
    """The versions on which texts depend, and a digest of all documents."""
    digest = hashlib.sha256("\0".join(documents()).encode()).hexdigest()[:12]
    return {"generator": f"quickstudy {importlib.metadata.version('quickstudy')}, documents {digest}"}


def record(task: str, seed: int) -> Episode:
    """One text: `text`, a list of one string. Equal arguments give equal ones, as long as the documents are the same.

    Raises `ValueError` for an unknown task and for a seed that belongs to no split.
    """
    catalog.require(task, TASKS, "task")
    split = domain.split_of_seed(seed)
    random = np.random.default_rng([seed, zlib.crc32(task.encode())])
    if random.random() < _GRAMMAR:
        text, source = domain.draw_within(split, lambda: sentences(random), str), "grammar"
    else:
        text, source = str(random.choice(_of_split(split))), "documents"
    return Episode({"text": [text]}, np.zeros((1, 0), np.uint8), np.zeros(1, np.float32), {"seed": seed, "source": source})


def tokens(task: str, episode: Episode, writer: Writer) -> Tokens:
    """An episode as tokens: its text, and the end."""
    return writer.write(episode.observations["text"][0])


@functools.cache
def documents() -> tuple[str, ...]:
    """Every document, each once."""
    package = Path(train_text.__file__).parents[1]
    root = package.parents[1]
    texts = train_text.texts(root) if (root / "pyproject.toml").is_file() else train_text.docstrings(package)
    return tuple(dict.fromkeys(part for text in texts for paragraph in text.split("\n\n") for part in cut(paragraph)))


@functools.cache
def _of_split(split: Split) -> list[str]:
    return [document for document in documents() if domain.split_of_content(document) == split]


def cut(paragraph: str, longest: int = LONGEST) -> Iterator[str]:
    """A paragraph in parts of at most `longest` characters: whole lines, as many as fit. A longer line is cut, an empty part left out.

    >>> list(cut("one\\ntwo\\nthree", 8))
    ['one\\ntwo', 'three']
    """
    part = ""
    for line in paragraph.strip().splitlines():
        for piece in (line[start : start + longest] for start in range(0, len(line), longest)):
            if part and len(part) + 1 + len(piece) > longest:
                yield part
                part = ""
            part = f"{part}\n{piece}" if part else piece
    if part:
        yield part


# --- the grammar ---------------------------------------------------------------------------------------------------------------------


def sentences(random: np.random.Generator) -> str:
    """Two to four sentences about different things in different colours, of which the last follows from the others."""
    things = random.choice(THINGS, 3, replace=False).tolist()
    colours = random.choice(COLOURS, 3, replace=False).tolist()
    one, two, three = (f"{colour} {thing}" for colour, thing in zip(colours, things, strict=True))
    words = str(random.choice(list(_OPPOSITE)))
    back = _OPPOSITE[words]
    asked, which = int(random.integers(3)), int(random.integers(2))
    there = f"There is a {one}, a {two} and a {three}."
    patterns = (
        f"The {one} is {words} the {two}. So the {two} is {back} the {one}.",
        f"The {one} is {words} the {two}. The {two} is {words} the {three}. So the {one} is {words} the {three}.",
        f"The {one} is {words} the {two}. The {two} is {words} the {three}. So the {three} is {back} the {one}.",
        f"The {one} is {words} the {two}. What is {back} the {one}? the {two}",
        f"{there} What colour is the {things[asked]}? {colours[asked]}",
        f"{there} What is {colours[asked]}? the {things[asked]}",
        f"{there} Is the {things[asked]} {colours[asked - which]}? {'no' if which else 'yes'}",
        f"Go to the {one}, then pick up the {two}. What comes first? the {one}",
    )
    return str(random.choice(patterns))
