"""A trained generalist, ready for use: it acts, captions, answers, goes on with texts and classifies, all with the same weights.

    generalist = quickstudy.load("generalist")
    agent = generalist.agent("babyai-compact/GoToLocal", prompt="end")
    generalist.caption(picture)

The weights that come with the package need no data and, but for acting, no simulator. Those of a run are asked in the same way by
`Trained(quickstudy.load("runs/generalist").learner)`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Int, Integer, UInt8

from quickstudy.algorithms.imitation import generalist as method
from quickstudy.generalist import answering
from quickstudy.generalist.acting import Players
from quickstudy.generalist.data import characters
from quickstudy.generalist.embodiments import Embodiment, parse
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.prompts import prompt as prompt_of
from quickstudy.generalist.tokens import Tokenizer, Tokens
from quickstudy.persist import load_tree, read_arrays
from quickstudy.shipped import weights_of

if TYPE_CHECKING:
    from quickstudy.generalist.finetuning import Settings


_SEEDS = 2**31


class GeneralistAgent:
    """Acts in one environment at a time: `reset`, then `act` on each raw observation. `acting.Players` does so in many at once."""

    def __init__(self, players: Players, body: Embodiment | None):
        self._players, self._body = players, body

    def reset(self, seed: int = 0) -> None:
        """Begin anew, with nothing but the prompt in mind."""
        _require_seed(seed)
        self._players.reset(seed=seed)

    def act(self, observation: Any) -> Any:
        """The action for what the environment shows. Raises `ValueError` or `TypeError` for what it cannot show."""
        return self._players.act([observation if self._body is None else _observed(self._body, observation)])[0]


class Trained(NamedTuple):
    """A generalist's network with the questions that can be put to it."""

    network: Generalist

    def agent(self, task: str | Tokenizer, *, prompt: str | Tokens = "none", greedy: bool = False) -> GeneralistAgent:
        """An agent for a task named as in `babyai-compact/GoToLocal`, or for any environment's spaces as a tokenizer.

        `prompt` stands at the beginning of its context: a kind of `prompts.PROMPTS`, which takes a recorded episode of the task, or
        tokens. Actions are drawn, or are the likeliest with `greedy`. Raises `ValueError` for another task or prompt, or a tokenizer
        with another vocabulary, `ImportError` with what to install.
        """
        for what, given, kinds in (("task", task, (str, Tokenizer)), ("prompt", prompt, (str, Tokens))):
            if not isinstance(given, kinds):
                raise TypeError(f"{what} must be a name or a {kinds[1].__name__}, not {type(given).__name__}")
        if isinstance(task, str):
            body, _ = parse(task)
            tokenizer = body.tokenizer
            begin = prompt_of(prompt, task, room=self.network.body.reach // 2) if isinstance(prompt, str) else prompt
        else:
            body, tokenizer, begin = None, task, None if isinstance(prompt, str) else prompt
            if isinstance(prompt, str) and prompt != "none":
                raise ValueError(f"prompt must be tokens or 'none' where the task is a tokenizer, not {prompt!r}")
        return GeneralistAgent(Players(self.network, tokenizer, 1, prompt=begin, greedy=greedy), body)

    def fine_tune(
        self,
        task: str,
        *,
        episodes: int,
        how: "Settings | None" = None,
        seed: int = 0,
        report: Callable[[int, float], None] = lambda step, score: None,
    ) -> "Trained":
        """One that has gone on to learn from so many recorded episodes of a task, named as in `babyai-compact/OpenDoor`.

        `finetuning.Settings` says how; it takes minutes, in which `report` is told steps and mean return on valid seeds, now and then.
        Raises `ValueError` for another task or no episodes, `ImportError` with what to install, and where episodes are missing
        `FileNotFoundError` with the command that builds them.
        """
        from quickstudy.generalist import finetuning  # here, because it plays on the scoreboard's stage, which knows this module

        body, level = parse(task)
        known = finetuning.recorded(body, level, episodes)
        return Trained(finetuning.fine_tune(self.network, body, level, known, how, seed=seed, report=report).network)

    def caption(self, picture: UInt8[np.ndarray, "height width channels"]) -> str:
        """What a picture shows; its sides are multiples of 16. Raises as `Writer.write` does."""
        return answering.caption(self.network, [picture])[0]

    def answer(self, picture: UInt8[np.ndarray, "height width channels"], question: str) -> str:
        """The answer to a question about a picture. Raises as `Writer.write` does."""
        return answering.answer(self.network, [picture], [question])[0]

    def complete(self, text: str, *, tokens: int = answering.LIMIT, seed: int | None = None) -> str:
        """How it goes on with a text, by at most `tokens` pieces: the likeliest, or drawn with a seed. Raises as `answering.go_on`."""
        if seed is not None:
            _require_seed(seed)
        return answering.complete(self.network, [text], tokens=tokens, key=None if seed is None else jr.key(seed))[0]

    def classify(
        self,
        support: UInt8[np.ndarray, "support 16 16 1"],
        labels: Integer[np.ndarray, " support"],
        queries: UInt8[np.ndarray, "queries 16 16 1"],
    ) -> Int[np.ndarray, " queries"]:
        """The label, 0 to 4, of each query drawing after labelled ones; `data.characters.picture` makes such of larger drawings."""
        tokenizer = characters.tokenizer(answering.Writer().vocabulary)
        return answering.classify(self.network, tokenizer, support, labels, queries)


def _observed(body: Embodiment, raw: Any) -> Any:
    try:
        return body.observe(raw)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"observation must be what an environment of {body.domain} shows: {why}") from None


def _require_seed(seed: Any) -> None:
    if not isinstance(seed, int | np.integer) or not 0 <= seed < _SEEDS:
        raise ValueError(f"seed must be a whole number from 0 to {_SEEDS - 1}, not {seed!r}")


def shipped() -> Trained:
    """The generalist whose weights come with the package; `quickstudy.shipped.provenance("generalist")` says where from.

    >>> shipped().network.body.reach
    256
    """
    path = weights_of("generalist")
    arrays, facts = read_arrays(path)
    config, tokens = method.Config(**facts["config"]), arrays[".embedding"].shape[0]
    return Trained(load_tree(path, method.network(config, tokens, facts["reach"], jr.key(0)))[0])
