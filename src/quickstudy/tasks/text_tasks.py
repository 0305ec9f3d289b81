"""Small tasks written as text: demonstrations of one way to rewrite words, one after another.

    ab>ba;ca>ac;bb>bb;...

A task puts the letters of a word in an `order` and then takes every letter `shift` places further in the alphabet, round and round.
Some orders and shifts are never put together in training: the test asks for them.

Source: demonstrations as text: Brown et al. 2020, "Language Models are Few-Shot Learners", section 3.9 (words with shuffled letters);
these tasks are ours.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from quickstudy.core import SPLITS, Split
from quickstudy.tasks.documents import AbstractDocuments, document
from quickstudy.tasks.streams import StreamTask

ORDERS = ("as they are", "reversed", "sorted", "sorted and reversed")


class TextTasks(AbstractDocuments):
    """Texts of `examples` demonstrations of one task, with words of `length` letters out of `letters`.

    Tokens are the letters, then ">" and ";". The splits own disjoint pairs of an order and a shift: the test has those whose shift is
    the order's number, validation those whose shift is one more, each modulo `letters`.

    Raises `ValueError` for fewer than 4 letters, or for empty words or texts.

    >>> TextTasks().text(jnp.array([0, 1, 6, 1, 0, 7]))
    'ab>ba;'
    """

    letters: int = eqx.field(static=True, default=6)  # ours
    length: int = eqx.field(static=True, default=2)  # ours
    examples: int = eqx.field(static=True, default=9)  # ours: eight, and one to answer

    def __check_init__(self) -> None:
        for name, least in (("letters", 4), ("length", 1), ("examples", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")

    @property
    def tokens(self) -> int:
        return self.letters + 2

    @property
    def size(self) -> int:
        """Tokens of one demonstration."""
        return 2 * self.length + 2

    def answers(self) -> Int[Array, "examples length"]:
        """The ticks whose targets are the letters of each answer."""
        return self.size * jnp.arange(self.examples)[:, None] + self.length + jnp.arange(self.length)[None]

    def rewrite(self, words: Int[Array, "words length"], order: Int[Array, ""], shift: Int[Array, ""]) -> Int[Array, "words length"]:
        """What words of letters from 0 on become; `order` is a place in `ORDERS`."""
        rising = jnp.sort(words, axis=1)
        return (jnp.stack([words, words[:, ::-1], rising, rising[:, ::-1]])[order] + shift) % self.letters

    def sample(self, key: PRNGKeyArray, split: Split) -> StreamTask:
        if split == "out-of-range":
            raise ValueError("split must be one of ['test', 'train', 'valid'] here, not 'out-of-range'")
        order_key, shift_key, words_key = jr.split(jr.fold_in(key, SPLITS.index(split)), 3)
        order = jr.randint(order_key, (), 0, len(ORDERS))
        beyond = {"test": (0, 1), "valid": (1, 2), "train": (2, self.letters)}[split]
        shift = (order + jr.randint(shift_key, (), *beyond)) % self.letters
        words = jr.randint(words_key, (self.examples, self.length), 0, self.letters)
        mark = lambda token: jnp.full((self.examples, 1), token, words.dtype)
        parts = [words, mark(self.letters), self.rewrite(words, order, shift), mark(self.letters + 1)]
        return document(jnp.concatenate(parts, axis=1).reshape(-1), {"order": order, "shift": shift})

    def text(self, tokens: Int[Array, " ticks"]) -> str:
        """Tokens as readable text."""
        return "".join(">;"[token - self.letters] if token >= self.letters else chr(ord("a") + token) for token in tokens.tolist())
