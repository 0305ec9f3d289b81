"""Asking a trained generalist for words: captions, answers about pictures, texts to go on with, and labels of few-shot characters.

What is asked is written as in training (`writing.py`), read into a key-value cache, and answered piece by piece, each of which is read
in turn. Only pieces of text are allowed, until the end of text or a limit. They are the likeliest, or are drawn where a key is given.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from gymnasium.spaces import Discrete
from jaxtyping import Int, PRNGKeyArray

from quickstudy.generalist.acting import Players, choose, empty, read
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.tokens import ACTION_PLACE, Tokenizer, Tokens
from quickstudy.generalist.writing import Given, Writer

_FIRST = 1  # the least piece that may be said: piece 0 stands for nothing
LIMIT = 64  # pieces of a caption or an answer; the longest caption of `data/scenes.py` has 31. Ours


def caption(
    network: Generalist,
    pictures: Sequence[np.ndarray],
    *,
    writer: Writer | None = None,
    tokens: int = LIMIT,
    key: PRNGKeyArray | None = None,
) -> list[str]:
    """What the network says of each picture, an array (height, width, 1 or 3) of uint8. Raises as `go_on` and `Writer.write` do."""
    writer = writer or Writer()
    return go_on(network, [writer.write(_picture(picture), end=False) for picture in pictures], writer, tokens=tokens, key=key)


def answer(
    network: Generalist,
    pictures: Sequence[np.ndarray],
    questions: Sequence[str],
    *,
    writer: Writer | None = None,
    tokens: int = LIMIT,
    key: PRNGKeyArray | None = None,
) -> list[str]:
    """What the network answers to each question about its picture. Raises as `caption`, and `ValueError` unless both are as many."""
    writer = writer or Writer()
    if isinstance(questions, str) or len(pictures) != len(questions):
        given = "one text" if isinstance(questions, str) else len(questions)
        raise ValueError(f"questions must be a list of one for each of the {len(pictures)} pictures, not {given}")
    asked = zip(questions, pictures, strict=True)
    prompts = [writer.write(_picture(picture), Given(_text("question", question))) for question, picture in asked]
    return go_on(network, prompts, writer, tokens=tokens, key=key)


def complete(
    network: Generalist,
    texts: Sequence[str],
    *,
    writer: Writer | None = None,
    tokens: int = LIMIT,
    key: PRNGKeyArray | None = None,
) -> list[str]:
    """How the network goes on with each text. Raises as `go_on` and `Writer.write` do, and `TypeError` for one text without a list."""
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, not one text")
    writer = writer or Writer()
    return go_on(network, [writer.write(_text("text", text), end=False) for text in texts], writer, tokens=tokens, key=key)


def _picture(given: object) -> np.ndarray:
    if not hasattr(given, "__array__"):
        raise TypeError(f"a picture must be an array of uint8, (height, width, 1 or 3), not {type(given).__name__}")
    return np.asarray(given)


def _text(what: str, given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{what} must be a text, not {type(given).__name__}")
    if not given:
        raise ValueError(f"{what} must have a character at least, not none")
    return given


def classify(
    network: Generalist, tokenizer: Tokenizer, support: np.ndarray, labels: np.ndarray, queries: np.ndarray
) -> Int[np.ndarray, " queries"]:
    """The likeliest label of each query picture, asked on its own after the labelled pictures of the support.

    Pictures are (n, height, width, channels) of uint8, labels whole numbers. The tokenizer observes a Dict of one `image` and acts in
    a Discrete space. Raises `ValueError` for labels that do not fit and for a support that the network cannot see at once, and as
    `Tokenizer.encode` and `Tokenizer.step` do for pictures.
    """
    support, labels = np.asarray(support), np.asarray(labels)
    if labels.shape != support.shape[:1]:
        raise ValueError(f"labels must be one for each of the {len(support)} pictures of the support, not of the shape {labels.shape}")
    assert isinstance(tokenizer.action_space, Discrete)
    if labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(tokenizer.action_space.n)).all():
        raise ValueError(f"labels must be whole numbers from 0 to {tokenizer.action_space.n - 1}, not {labels.tolist()}")
    if not len(queries):
        return np.zeros(0, np.int64)
    shown = tokenizer.encode({"image": support}, labels)
    if len(shown.ids) >= network.body.reach:
        most = (network.body.reach - 1) * len(support) // len(shown.ids)
        raise ValueError(f"support must be at most {most} pictures, which the network sees at once, not {len(support)}")
    players = Players(network, tokenizer, len(queries), prompt=shown, greedy=True)
    return np.array(players.act([{"image": query} for query in queries]), np.int64)


def go_on(
    network: Generalist, prompts: Sequence[Tokens], writer: Writer, *, tokens: int = LIMIT, key: PRNGKeyArray | None = None
) -> list[str]:
    """The text with which the network goes on after each prompt, of at most `tokens` pieces, and of fewer where places end.

    Whole examples may stand before what is asked: `join([example, asked])`, as in prompted windows of training. Raises `ValueError`
    for a network whose tokens are not those of the writer's vocabulary, and for fewer than one token.
    """
    size = network.embedding.shape[0]
    if size != writer.vocabulary.size:
        raise ValueError(f"the network has {size} tokens, the writer's vocabulary {writer.vocabulary.size}: they must be as many")
    if not isinstance(tokens, int) or tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens!r}")
    if not prompts:
        return []
    said: list[list[int]] = [[] for _ in prompts]
    begins = [int(prompt.places[-1]) + 1 for prompt in prompts]
    room = [min(tokens, ACTION_PLACE - begin) for begin in begins]
    memory = empty(network, len(prompts))
    pending: list[Tokens | None] = list(prompts)
    greedy, fresh = key is None, True
    key = jr.key(0) if key is None else key
    while any(one is not None for one in pending):
        memory, logits = read(network, memory, pending, [fresh] * len(prompts))
        key, piece_key = jr.split(key)
        chosen = choose(logits, jnp.int32(_FIRST), jnp.int32(writer.text.size), piece_key, greedy)
        going = [i for i, one in enumerate(pending) if one is not None]
        pending, fresh = [None] * len(prompts), False
        for i in going:
            piece = int(chosen[i])
            if piece != writer.text.end and len(said[i]) < room[i]:
                pending[i] = writer.following(piece, begins[i] + len(said[i]))
                said[i].append(piece)
    return [writer.text.decode(pieces) for pieces in said]
