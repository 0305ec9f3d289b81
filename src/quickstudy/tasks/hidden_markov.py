"""Documents of hidden Markov models: all share words and grammar, and each has one of a few concepts, which nobody names.

A hidden state is an entity and a property. Entities stay, and now and then another takes over; a *concept* is the permutation that
properties follow with some chance, while otherwise any property comes next. Every state has its word, and some words have several
states. The first property writes the delimiter. Now and then a filler is written in place of a word, and says nothing.

A prompt is made of examples of one concept, each some words long and each begun anew, joined by delimiters: no document looks like
that. The last word of an example is its label, the words before it are its input.

Source: the GINC data of Xie et al. 2021, "An Explanation of In-context Learning as Implicit Bayesian Inference", section 4 and
appendix; there a concept mixes 100 permutations, and documents have 10,240 tokens. Fillers and all sizes are ours.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import SPLITS, Split
from quickstudy.tasks.documents import AbstractDocuments, document
from quickstudy.tasks.streams import StreamTask

DELIMITER = 0  # the token, and the property that writes it
_NEVER = -1e9  # the logarithm of a chance of nothing


class Examples(NamedTuple):
    """The words of a prompt's examples, the last of each its label, and the concept that they are of."""

    words: Int[Array, "examples length"]
    concept: Float[Array, "properties properties"]


class HiddenMarkovDocuments(AbstractDocuments):
    """Documents of `length` tokens, each of one of the `concepts` of a language; `language` is the number of the language.

    Tokens are the delimiter, `words` words and `fillers` fillers, in this order. With no `concepts` every document has a new one.
    Documents of all splits are of the same concepts: splits are draws of their own. "out-of-range" documents are of as many concepts
    (or of one) that no other document has.

    Raises `ValueError` for negative numbers of concepts or fillers, fewer than 2 properties, no entities, more words than states that
    write one, fewer than 2 words, chances that do not lie between 0 and 1, or documents of fewer than 2 tokens.

    >>> HiddenMarkovDocuments(length=64).sample(jr.key(0), "test").x.shape
    (63,)
    """

    concepts: int = eqx.field(static=True, default=5)  # Xie et al. 2021
    entities: int = eqx.field(static=True, default=4)  # ours; 10 there
    properties: int = eqx.field(static=True, default=6)  # ours; 10 there
    words: int = eqx.field(static=True, default=16)  # ours; 50 and more there
    fillers: int = eqx.field(static=True, default=2)  # ours
    length: int = eqx.field(static=True, default=64)  # ours
    order: float = eqx.field(static=True, default=0.6)  # ours: the chance to follow the permutation, and not to jump
    staying: float = eqx.field(static=True, default=0.9)  # ours: the chance that an entity stays, and does not jump
    filling: float = eqx.field(static=True, default=0.02)  # ours: how often a filler is written
    language: int = eqx.field(static=True, default=0)  # ours

    def __check_init__(self) -> None:
        for name, least in (("concepts", 0), ("entities", 1), ("properties", 2), ("words", 2), ("fillers", 0), ("length", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("order", "staying", "filling"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.words > self.entities * (self.properties - 1):
            raise ValueError(f"words must be at most entities * (properties - 1), not {self.words}")

    @property
    def tokens(self) -> int:
        return 1 + self.words + self.fillers

    def lexicon(self) -> Int[Array, "entities properties"]:
        """The token that each state writes, fillers aside."""
        order = self._constants(0).permutation(self.entities * (self.properties - 1))
        written = 1 + order.reshape(self.entities, self.properties - 1) % self.words
        return jnp.asarray(np.pad(written, ((0, 0), (1, 0)), constant_values=DELIMITER), jnp.int32)

    def emission(self) -> Float[Array, "states tokens"]:
        """The chance of every token in every state; state e * properties + p is entity e with property p."""
        word = jax.nn.one_hot(self.lexicon().reshape(-1), self.tokens)
        if not self.fillers:
            return word
        filler = jnp.where(jnp.arange(self.tokens) > self.words, 1 / self.fillers, 0.0)
        return (1 - self.filling) * word + self.filling * filler[None]

    def all_concepts(self, split: Split) -> Float[Array, "concepts properties properties"]:
        """The chances of every next property after every property, in every concept that the split's documents may have."""
        which = 2 if split == "out-of-range" else 1
        # Each from a generator of its own, so that fewer concepts are some of the more.
        orders = [self._constants(which, i).permutation(self.properties) for i in range(max(self.concepts, 1))]
        return jax.vmap(self._concept)(jnp.asarray(np.stack(orders)))

    def moves(self, concept: Float[Array, "properties properties"]) -> Float[Array, "states states"]:
        """The chances of every next state after every state, in a concept."""
        return jnp.kron(self._entity_moves(), concept)

    def sample(self, key: PRNGKeyArray, split: Split) -> StreamTask:
        concept, key = self._draw(key, split)
        text_key, filler_key = jr.split(key)
        text = self._write(text_key, concept, self.length, None)
        if not self.fillers:
            return document(text, {"concept": concept})
        # What lies below the chance of a filler says which one.
        drawn = jr.uniform(filler_key, (self.length,)) * self.fillers / self.filling
        filler = 1 + self.words + drawn.astype(jnp.int32)
        return document(jnp.where(drawn < self.fillers, filler, text), {"concept": concept})

    def examples(self, key: PRNGKeyArray, split: Split, n: int, length: int) -> Examples:
        """`n` examples of one concept, each of `length` words that begin anywhere and are never the delimiter."""
        concept, key = self._draw(key, split)
        return Examples(jax.vmap(lambda k: self._write(k, concept, length, DELIMITER))(jr.split(key, n)), concept)

    def _constants(self, *which: int) -> np.random.Generator:
        """What is drawn once for a language is drawn by NumPy: a program that writes documents has it as constants."""
        return np.random.default_rng((self.language, *which))

    def _concept(self, order: Int[Array, " properties"]) -> Float[Array, "properties properties"]:
        follow = jax.nn.one_hot(order, self.properties)
        return self.order * follow + (1 - self.order) / self.properties

    def _entity_moves(self) -> Float[Array, "entities entities"]:
        return self.staying * jnp.eye(self.entities) + (1 - self.staying) / self.entities

    def _draw(self, key: PRNGKeyArray, split: Split) -> tuple[Float[Array, "properties properties"], PRNGKeyArray]:
        """The concept of a document or prompt, and the key for the rest of it: the splits never share one."""
        which_key, rest_key = jr.split(jr.fold_in(key, SPLITS.index(split)))
        if not self.concepts:
            return self._concept(jr.permutation(which_key, self.properties)), rest_key
        which = (self.concepts * jr.uniform(which_key)).astype(jnp.int32)
        return self.all_concepts(split)[which], rest_key

    def _write(self, key: PRNGKeyArray, concept: Float[Array, "properties properties"], length: int, never: int | None) -> Array:
        """So many tokens of a concept, without fillers, and without one property if `never` names it."""
        noise = jr.gumbel(key, (length, self.properties + self.entities))
        start = jnp.zeros(self.properties)
        chances = jnp.log(concept)
        if never is not None:
            start, chances = start.at[never].set(_NEVER), chances.at[:, never].set(_NEVER)
        properties = _chain(start, chances, noise[:, : self.properties])
        entities = _chain(jnp.zeros(self.entities), jnp.log(self._entity_moves()), noise[:, self.properties :])
        return self.lexicon()[entities, properties]


class HiddenMarkovPrompts(AbstractDocuments):
    """Prompts of `shots` examples of one concept and one more to complete, of `length` words each, joined by delimiters.

    Splits are those of the documents. Raises `ValueError` for negative shots or examples of fewer than two words.

    >>> prompts = HiddenMarkovPrompts(HiddenMarkovDocuments(), shots=2, length=3)
    >>> prompts.sample(jr.key(0), "test").x.shape, prompts.answers()
    ((10,), [1, 5, 9])
    """

    documents: HiddenMarkovDocuments = HiddenMarkovDocuments()
    shots: int = eqx.field(static=True, default=8)  # ours; up to 64 there
    length: int = eqx.field(static=True, default=5)  # Xie et al. 2021: 3, 5, 8 and 10

    def __check_init__(self) -> None:
        for name, least in (("shots", 0), ("length", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")

    @property
    def tokens(self) -> int:
        return self.documents.tokens

    def answers(self) -> list[int]:
        """The ticks whose target is the label of an example, that after no example first."""
        return [shots * (self.length + 1) + self.length - 2 for shots in range(self.shots + 1)]

    def sample(self, key: PRNGKeyArray, split: Split) -> StreamTask:
        drawn = self.documents.examples(key, split, self.shots + 1, self.length)
        return document(join(drawn.words), {"concept": drawn.concept})


def join(words: Int[Array, "examples length"]) -> Int[Array, " tokens"]:
    """Examples as one text, with delimiters between them.

    >>> join(jnp.array([[1, 2], [3, 4]])).tolist()
    [1, 2, 0, 3, 4]
    """
    return jnp.pad(words, ((0, 0), (0, 1)), constant_values=DELIMITER).reshape(-1)[:-1]


def _chain(start: Float[Array, " states"], chances: Float[Array, "states states"], noise: Float[Array, "length states"]) -> Array:
    """States of a Markov chain from the logarithms of its chances: the largest of logarithms plus Gumbel noise is a draw."""
    first = jnp.argmax(start + noise[0])

    def move(state, noise):
        following = jnp.argmax(chances[state] + noise)
        return following, following

    return jnp.append(first[None], jax.lax.scan(move, first, noise[1:])[1])
