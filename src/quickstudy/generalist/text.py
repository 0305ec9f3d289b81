"""Text as the ids of SentencePiece's pieces and back, without loss.

The model is small and our own: `train_text.py` learns it from the package's texts and from sentences about coloured objects. What it
has not seen is written as bytes, so every text has ids. It knows no beginning, no padding and no normalisation; piece 0 stands for
nothing, piece 1 may mark the end of a text. Source: Kudo and Richardson 2018, "SentencePiece", https://arxiv.org/abs/1808.06226.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

MODEL = Path(__file__).parent / "text.model"
_SPACE = "\u2581"  # what SentencePiece writes for a space, and reads as one even where it was itself meant


def sentencepiece() -> Any:
    """The library. Raises `ImportError` with the command that installs it."""
    try:
        import sentencepiece
    except ImportError:
        raise ImportError("text tokens need SentencePiece: pip install 'quickstudy[generalist]'") from None
    return sentencepiece


class TextModel:
    """The pieces of a SentencePiece model: `size` of them.

    >>> text = TextModel()
    >>> ids = text.encode("go to the red ball")
    >>> text.pieces(ids)
    ['go', ' to', ' the', ' red', ' ball']
    >>> text.decode(ids)
    'go to the red ball'
    """

    end = 1  # the id that may mark the end of a text; `encode` does not write it

    def __init__(self, model: bytes | Path = MODEL):
        """`model` is a trained model, or the file of one; by default the package's own. Raises `ImportError` without SentencePiece."""
        data = model.read_bytes() if isinstance(model, Path) else model
        self._model = sentencepiece().SentencePieceProcessor(model_proto=data)
        self.size = int(self._model.get_piece_size())
        self._space_itself = [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE.encode()]
        self._encode = lru_cache(4096)(self._encode_anew)  # a mission is written at every step

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises `ValueError` for half of a surrogate pair."""
        return list(self._encode(text))

    def _encode_anew(self, text: str) -> tuple[int, ...]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text must be Unicode that can be written, not half of a surrogate pair at place {error.start}"
            ) from None
        first, *rest = (self._model.encode(part) for part in text.split(_SPACE))
        return (*first, *(piece for part in rest for piece in (*self._space_itself, *part)))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that make no character become U+FFFD. Raises `ValueError` for an id that is no piece."""
        return str(self._model.decode(self._known(ids)))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each id stands for; a byte is written as `<0x0A>`."""
        return [self._model.id_to_piece(piece).replace(_SPACE, " ") for piece in self._known(ids)]

    def _known(self, ids: Sequence[int]) -> list[int]:
        for piece in (ids := [int(piece) for piece in ids]):
            if not 0 <= piece < self.size:
                raise ValueError(f"ids of text must lie in [0, {self.size}), not {piece}")
        return ids
