"""Texts and pictures as tokens: sequences that are no control, such as a picture and its caption, as one time step without an action.

Its parts stand in the order in which they are given, text as its pieces and a picture as its patches. After each text that is said
stands an end:

    caption     picture, caption, end
    questions   picture, question, answer, end, another question, its answer, end, and so on
    text        text, end

The text that is to be said is a target, the ends among it; a question is given, and only read. The places count from 0 on through all
parts. Source: Reed et al. 2022, "A Generalist Agent", section 2.1 (picture, then text; text is predicted); the rest is ours.
"""

import functools
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from quickstudy.generalist.text import TextModel
from quickstudy.generalist.tokens import ACTION_PLACE, Tokenizer, Tokens, join
from quickstudy.generalist.vocabulary import PATCH, Vocabulary, check_image


class Given(NamedTuple):
    """Text that is read and not said, such as a question."""

    text: str


class Writer:
    """Writes texts and pictures as tokens; without arguments, with the package's own text model and its vocabulary.

    >>> writer = Writer()
    >>> tokens = writer.write(np.zeros((32, 32, 3), np.uint8), "a red ball")
    >>> tokens.is_patch.sum(), tokens.targets.tolist()
    (np.int64(4), [False, False, False, False, True, True, True, True])
    >>> writer.read(tokens)
    'a red ball'
    """

    def __init__(self, text: TextModel | None = None, vocabulary: Vocabulary | None = None):
        """Raises `ImportError` without SentencePiece, `ValueError` for a vocabulary with fewer ids of text than the model has."""
        self.text = text or TextModel()
        self.vocabulary = vocabulary or Vocabulary(self.text.size)
        if self.text.size > self.vocabulary.text:
            raise ValueError(f"the text model has {self.text.size} pieces, the vocabulary has ids for {self.vocabulary.text}")
        self._tokenizer = functools.cache(self._tokenizer_of)

    def write(self, *parts: str | Given | np.ndarray, end: bool = True) -> Tokens:
        """The tokens of texts and pictures, arrays (height, width, 1 or 3) of uint8; texts end if asked for, but those `Given` never.

        Raises `TypeError` for a picture that is not of bytes and `ValueError` for one whose sides are no multiples of 16, for parts
        that give no token, and for more than 512 tokens.
        """
        tokens = join([self._text([]), *(self._part(part, end) for part in parts)])
        count = len(tokens.ids)
        if not 0 < count <= ACTION_PLACE:
            raise ValueError(f"texts and pictures must have from 1 to {ACTION_PLACE} tokens together, not {count}: places end there")
        first = np.zeros(1, np.int64)
        return tokens._replace(places=np.arange(count, dtype=np.int16), sections=first, episodes=first, recorded=first)

    def following(self, piece: int, place: int) -> Tokens:
        """One more token of text, at a place."""
        return self._text([piece])._replace(places=np.array([place], np.int16))

    def read(self, tokens: Tokens) -> str:
        """The text among tokens that is said."""
        return self.text.decode(tokens.ids[tokens.targets & ~tokens.is_action].tolist())

    def _part(self, part: str | Given | np.ndarray, end: bool) -> Tokens:
        if isinstance(part, str):
            return self._text(self.text.encode(part) + [self.text.end] * end)
        if isinstance(part, Given):
            given = self._text(self.text.encode(part.text))
            return given._replace(targets=np.zeros_like(given.targets))
        picture = np.asarray(part)
        if picture.dtype != np.uint8 or picture.ndim != 3:
            raise TypeError(f"a picture must be an array of uint8 with three axes, not of {picture.dtype} with {picture.ndim}")
        return self._tokenizer(picture.shape).step({"image": picture}, first=False)

    def _tokenizer_of(self, shape: tuple[int, int, int]) -> Tokenizer:
        check_image(shape)
        space = spaces.Dict(image=spaces.Box(0, 255, shape, np.uint8))
        return Tokenizer(space, spaces.Discrete(1), self.vocabulary, separator=False)  # there is no action, but a space must be named

    def _text(self, ids: list[int]) -> Tokens:
        # What an action is written as, but for its place: targets, and neither patches nor sections.
        some = self._tokenizer((PATCH, PATCH, 3)).action_tokens(np.array(ids, np.int32))
        return some._replace(places=np.zeros(len(ids), np.int16))
