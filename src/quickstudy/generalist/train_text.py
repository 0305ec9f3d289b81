"""Learn the package's text model anew: `python -m quickstudy.generalist.train_text`, in a checkout of the repository.

The text is our own: missions in the words of BabyAI's language (Chevalier-Boisvert et al. 2019, https://arxiv.org/abs/1810.08272),
captions and questions about coloured objects, the documentation, and the docstrings of the package. The same text gives the
same model, byte by byte. A new model gives every text new ids: networks that were trained with the old one cannot read them.
"""

import argparse
import ast
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from quickstudy.generalist.text import MODEL, sentencepiece

PIECES = 2048  # ours: 32,000 would be most of a small network's parameters, and a mission has 32 different words

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
THINGS = ("ball", "box", "key", "door")
PLACES = ("", " in front of you", " behind you", " on your left", " on your right")
RELATIONS = ("left of", "right of", "above", "below", "next to")
ROUNDS = 3  # how often missions and captions are repeated, so that their words become pieces; ours, not tuned


def missions() -> Iterator[str]:
    """Sentences of the language of BabyAI's missions, joined in each of its ways."""
    things = [
        f"{article}{colour} {thing}{place}"
        for article, colour, thing, place in itertools.product(
            ("the", "a"), ("", *(f" {colour}" for colour in COLOURS)), (*THINGS, "object"), PLACES
        )
    ]
    for number, thing in enumerate(things):
        other = things[(17 * number + 5) % len(things)]  # some other thing: 17 shares no factor with their number
        clauses = (f"go to {thing}", f"pick up {other}", f"open {thing}", f"put {thing} next to {other}")
        yield from clauses
        first, second = clauses[number % 4], clauses[(number + 1) % 4]
        yield f"{first}, then {second}"
        yield f"{first} after you {second}"
        yield f"{first} and {second}"


def captions() -> Iterator[str]:
    """Captions of two coloured objects, and questions about them with their answers."""
    things = list(itertools.product(COLOURS, THINGS))
    for number, (colour, thing) in enumerate(things):
        other_colour, other = things[(7 * number + 3) % len(things)]
        for relation in RELATIONS:
            yield f"a {colour} {thing} {relation} a {other_colour} {other}"
            yield f"Is there a {colour} {thing} {relation} a {other_colour} {other}? yes"
        yield f"What colour is the {thing}? {colour}"
        yield f"How many {colour} {thing}s are there? one"
        yield f"What is next to the {other_colour} {other}? a {colour} {thing}"
        yield f"Is the {thing} {colour}? no, it is {other_colour}"


def documents(root: Path) -> Iterator[str]:
    """The lines of the repository's documentation and of the docstrings in its package."""
    for text in texts(root):
        yield from text.splitlines()


def texts(root: Path) -> Iterator[str]:
    """Each file of the repository's documentation, then each docstring in its package."""
    for file in [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]:
        yield file.read_text(encoding="utf-8")
    yield from docstrings(root / "src")


def docstrings(folder: Path) -> Iterator[str]:
    """Each docstring of modules, classes and functions below a folder."""
    for file in sorted(folder.glob("**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def corpus(root: Path) -> Iterator[str]:
    """Every line that the model learns from."""
    for _ in range(ROUNDS):
        yield from missions()
        yield from captions()
    yield from documents(root)


def train(lines: Iterable[str], pieces: int = PIECES) -> bytes:
    """A model of `pieces` byte pairs. Raises `ImportError` without SentencePiece, `RuntimeError` where the text is too short."""
    model = io.BytesIO()
    sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in lines if line.strip()]),
        model_writer=model,
        model_type="bpe",
        vocab_size=pieces,
        byte_fallback=True,  # every other character is its UTF-8 bytes
        normalization_rule_name="identity",  # nothing is lost: neither case nor spaces
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        unk_id=0,
        eos_id=1,
        bos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def main() -> None:
    """Write the model to the package's folder, or to `--out`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--pieces", type=int, default=PIECES)
    arguments = parser.parse_args()
    root = Path(__file__).parents[3]
    if not (root / "pyproject.toml").is_file():
        raise SystemExit(f"the text to learn from is in a checkout of the repository, and {root} is none")
    arguments.out.write_bytes(train(corpus(root), arguments.pieces))


if __name__ == "__main__":
    main()
