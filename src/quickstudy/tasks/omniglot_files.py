"""Reading Omniglot from any of the forms it comes in, down to 28x28 bits.

Characters are numbered as their authors number the files (0001 to 1623, the background alphabets first), drawings 1 to 20.
"""

import contextlib
import csv
import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from quickstudy.data import cache_folder, folder_of, is_fetched, replacing

DRAWINGS = 20
SIZE = 28
_PAPER = 105  # the side of an original drawing, in pixels
_PARTS = ("images_background", "images_evaluation")
_CHARACTERS = 1_623
# SHA-256 of all pixels, True for paper, characters and drawings in their order, eight to a byte (numpy.packbits).
_PIXELS_SHA256 = "aa53f27e879e57ce9d0788d05aa99e972d01cc6b14a2e9224127b8403413ed02"


class Alphabet(NamedTuple):
    """An alphabet is a range of characters."""

    name: str
    background: bool
    first: int
    characters: int


class Drawings(NamedTuple):
    """Every drawing as 784 bits, 1 for ink, eight to a byte, and the alphabets in the order of their characters."""

    bits: UInt8[np.ndarray, "characters 20 98"]
    alphabets: tuple[Alphabet, ...]


def find_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder given, or that of the environment variable `QUICKSTUDY_OMNIGLOT`, or the fetched one.

    Raises `FileNotFoundError` with what to do if there is none.
    """
    given = folder or os.environ.get("QUICKSTUDY_OMNIGLOT")
    if given is not None:
        if not Path(given).is_dir():
            raise FileNotFoundError(f"folder must be a folder that holds Omniglot, not {str(given)!r}")
        return Path(given)
    if not is_fetched("omniglot"):
        raise FileNotFoundError(
            "Omniglot is not here: run `quickstudy data fetch omniglot`, or set QUICKSTUDY_OMNIGLOT to a folder that holds it"
        )
    return folder_of("omniglot")


def read_drawings(folder: Path) -> Drawings:
    """Read a folder of Omniglot in any of its forms.

    Either `images_background` and `images_evaluation`, folders of PNG files or zip archives of them (the official form), or
    `images_background.npz` and `images_evaluation.npz` (`images`, bool `(characters, 20, 105, 105)`, True for paper) with
    `alphabets.csv` (split, first_index, last_index, both inclusive, alphabet).

    The result is kept in the cache folder, so that only the first reading takes seconds. Raises `OSError` or `ValueError` for a
    folder without Omniglot, and `ValueError` if it holds 1,623 characters whose pixels are not the published ones.
    """
    sources = _sources(folder)
    return _read_cached(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in sources))


def _sources(folder: Path) -> list[Path]:
    for names in ([f"{part}.npz" for part in _PARTS] + ["alphabets.csv"], [f"{part}.zip" for part in _PARTS], list(_PARTS)):
        if all((folder / name).exists() for name in names):
            return [folder / name for name in names]
    raise FileNotFoundError(
        f"{folder} must hold images_background and images_evaluation as folders of PNG files, as .zip or as .npz with alphabets.csv"
    )


@functools.cache
def _read_cached(sources: tuple[tuple[Path, int, int], ...]) -> Drawings:
    key = hashlib.sha256(repr(sources).encode()).hexdigest()[:16]
    cached = cache_folder() / f"omniglot-{SIZE}-{key}.npz"
    # A missing or damaged cache file is made again.
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        return _load(cached)
    drawings = _convert([path for path, _, _ in sources])
    with contextlib.suppress(OSError), replacing(cached) as out:  # a read-only home is no reason to fail
        _save(out, drawings)
    return drawings


def _load(path: Path) -> Drawings:
    with np.load(path) as stored:
        columns = [stored[name].tolist() for name in Alphabet._fields]
        return Drawings(stored["bits"], tuple(Alphabet(*row) for row in zip(*columns, strict=True)))


def _save(out: BinaryIO, drawings: Drawings) -> None:
    name, background, first, characters = (np.array(column) for column in zip(*drawings.alphabets, strict=True))
    np.savez(out, bits=drawings.bits, name=name, background=background, first=first, characters=characters)


def _convert(sources: list[Path]) -> Drawings:
    parts, alphabets = _read_arrays(sources) if sources[0].suffix == ".npz" else _read_pictures(sources)
    if any(part.shape[1:] != (DRAWINGS, _PAPER, _PAPER) for part in parts):
        raise ValueError(f"images must be (characters, 20, 105, 105), not {' and '.join(str(part.shape) for part in parts)}")
    _verify(parts)
    return Drawings(np.concatenate([shrink(character) for part in parts for character in part]).reshape(-1, DRAWINGS, 98), alphabets)


def _verify(parts: list[np.ndarray]) -> None:
    if sum(map(len, parts)) != _CHARACTERS:
        return
    found = hashlib.sha256(np.packbits(np.concatenate(parts).ravel()).tobytes()).hexdigest()
    if found != _PIXELS_SHA256:
        raise ValueError(f"folder holds 1,623 characters but not Omniglot's pixels: their SHA-256 is {found}, not {_PIXELS_SHA256}")


def _read_arrays(sources: list[Path]) -> tuple[list[np.ndarray], tuple[Alphabet, ...]]:
    parts = []
    for path in sources[:2]:
        with np.load(path) as stored:
            parts.append(stored["images"])
    with open(sources[2], newline="") as file:
        rows = list(csv.DictReader(file))
    alphabets = []
    for row in rows:
        background = row["split"] == "background"
        first, last = int(row["first_index"]), int(row["last_index"])
        alphabets.append(Alphabet(row["alphabet"], background, first + (0 if background else len(parts[0])), last - first + 1))
    return parts, tuple(sorted(alphabets, key=lambda alphabet: alphabet.first))


def _read_pictures(sources: list[Path]) -> tuple[list[np.ndarray], tuple[Alphabet, ...]]:
    parts: list[np.ndarray] = []
    alphabets: list[Alphabet] = []
    for source, background in zip(sources, (True, False), strict=True):
        drawings, names = [], []
        # Files are called <character>_<drawing>.png, in one folder per character in one folder per alphabet.
        for name, data in sorted(_pictures(source), key=lambda item: item[0].stem):
            drawings.append(_decode(data, name))
            names.append(name.parts[-3])
        if len(drawings) % DRAWINGS or not drawings:
            raise ValueError(f"{source} must hold {DRAWINGS} drawings of each character, not {len(drawings)} in all")
        start = sum(map(len, parts))
        parts.append(np.stack(drawings).reshape(-1, DRAWINGS, _PAPER, _PAPER))
        alphabets += _ranges(names[::DRAWINGS], background, start)
    return parts, tuple(alphabets)


def _ranges(names: list[str], background: bool, start: int) -> list[Alphabet]:
    firsts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return [Alphabet(names[i], background, start + i, end - i) for i, end in zip(firsts, [*firsts[1:], len(names)], strict=True)]


def _pictures(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                # Archives made on a Mac hold a shadow of every file.
                if name.endswith(".png") and not name.startswith("__MACOSX"):
                    yield PurePosixPath(name), archive.read(name)
    else:
        for path in source.rglob("*.png"):
            yield PurePosixPath(path.as_posix()), path.read_bytes()


def _decode(data: bytes, name: PurePosixPath) -> Bool[np.ndarray, "105 105"]:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("reading Omniglot's pictures needs Pillow: pip install quickstudy[tasks]") from None
    try:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("1"))
    except OSError as error:
        raise OSError(f"could not read the picture {name}: {error}") from error
    if pixels.shape != (_PAPER, _PAPER):
        raise ValueError(f"{name} must be {_PAPER}x{_PAPER} pixels, not {pixels.shape[1]}x{pixels.shape[0]}")
    return pixels


def _overlaps() -> Shaped[np.ndarray, "28 105"]:
    """By how many quarters of a pixel each new pixel, 105 / 28 = 3.75 wide, covers each old one."""
    start = 15 * np.arange(SIZE)[:, None]
    old = 4 * np.arange(_PAPER)[None]
    return np.clip(np.minimum(start + 15, old + 4) - np.maximum(start, old), 0, None).astype(np.float32)


def shrink(paper: Bool[np.ndarray, "n 105 105"]) -> UInt8[np.ndarray, "n 98"]:
    """Average over areas down to 28x28 and call ink whatever is covered by more than a fifth, packed eight pixels to a byte.

    A fifth (ours) keeps thin strokes connected. Areas are counted in sixteenths of a pixel: whole numbers, so no rounding.
    """
    weights = _overlaps()
    covered = weights @ (~paper).astype(np.float32) @ weights.T
    return np.packbits((covered > 15 * 15 / 5).reshape(len(paper), SIZE * SIZE), axis=-1)
