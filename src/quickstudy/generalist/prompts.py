"""Prompts: what stands at the beginning of a context, as tokens, and tells a generalist what it is to do.

    none         nothing
    start        the first tokens of a training episode of the task
    end          its last ones, from a whole time step on, which show the goal
    uniform      those from any time step on
    wrong-task   as `start`, of another task
    text         the task's name in words

Where time steps stand alone, one of them is the prompt, as in training. The tokens of any episode may be a prompt, `cut` where a time
step begins; so may those of any `Writer`. Source: Reed et al. 2022, "A Generalist Agent": they train with end and uniform (section
2.2), and deploy with start; text and wrong-task are ours.
"""

import re
from collections.abc import Sequence

import numpy as np

from quickstudy import catalog
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.tokens import Tokens
from quickstudy.generalist.writing import Writer

PROMPTS = ("none", "start", "end", "uniform", "wrong-task", "text")
_KNOWN = 50  # training episodes, of which a prompt is one; ours


def prompt(kind: str, name: str, others: Sequence[str] = (), *, room: int, seed: int = 0) -> Tokens | None:
    """At most `room` tokens to begin with for the task of a name such as `babyai-compact/GoToLocal`; None for none.

    `others` are names from which a wrong task is drawn, one of the same embodiment if there is one. Raises `ValueError` for another
    kind than those of `PROMPTS`, and for a wrong task where there are no others.
    """
    if catalog.require(kind, PROMPTS, "prompt") == "none":
        return None
    if kind == "text":
        written = Writer().write(words(name))
        return cut(written, 0, room)
    draw = np.random.default_rng(seed)
    if kind == "wrong-task":
        wrong = [other for other in others if other != name]
        if not wrong:
            raise ValueError("a prompt of a wrong task needs more than one task")
        alike = [other for other in wrong if other.partition("/")[0] == name.partition("/")[0]]
        name = str(draw.choice(alike or wrong))
    body, task = parse(name)
    episodes = body.episodes(task, "train", _KNOWN)
    tokens = body.encode([episodes[draw.integers(len(episodes))]])
    if body.tokenizer.alone:
        room = min(room, len(tokens.ids) // int(np.count_nonzero(tokens.places == 0)))
    return part(kind, tokens, room, draw)


def part(kind: str, tokens: Tokens, room: int, draw: np.random.Generator) -> Tokens:
    """At most `room` tokens of an episode: its end, or uniform ones, each from a whole time step on, or else its start."""
    starts = np.flatnonzero(tokens.places == 0)
    late = starts[starts >= len(tokens.ids) - room]
    first = {"end": late[0] if len(late) else 0, "uniform": draw.choice(starts)}.get(kind, 0)
    return cut(tokens, int(first), int(first) + room)


def words(name: str) -> str:
    """A task's name as a text.

    >>> words("babyai-compact/GoToLocalS6N3"), words("metaworld-lean/drawer-open")
    ('go to local s6 n3', 'drawer open')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.partition("/")[2]).replace("-", " ").lower()


def cut(tokens: Tokens, first: int, last: int) -> Tokens:
    """The tokens from one place on and before another, as the beginning of a context."""
    part = tokens._replace(**{name: getattr(tokens, name)[first:last] for name in ("ids", "places", "targets", "intervals")})
    nowhere = np.zeros(0, np.int64)
    return part._replace(sections=nowhere, episodes=nowhere, recorded=nowhere)
