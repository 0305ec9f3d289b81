"""Data sets that are fetched from their official homes, verified and cached.

The cache folder is `QUICKSTUDY_DATA`, or `~/.cache/quickstudy/data`. A file is written under a temporary name, verified, then renamed:
nothing half-downloaded or altered is ever found under its own name.
"""

import contextlib
import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_BLOCK = 1 << 16
_TIMEOUT = 60  # seconds without a byte; ours


class RemoteFile(NamedTuple):
    """A file on the web, and the SHA-256 (hexadecimal) that it must have."""

    url: str
    sha256: str
    size: int  # bytes

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rsplit("/", 1)[-1]


class DataSet(NamedTuple):
    """A data set: what it is, its licence, the files it is made of."""

    description: str
    licence: str
    files: tuple[RemoteFile, ...]


_OMNIGLOT = "https://github.com/brendenlake/omniglot/raw/master/python/"

DATA_SETS = {
    "omniglot": DataSet(
        "1,623 handwritten characters of 50 alphabets, 20 drawings each (Lake, Salakhutdinov and Tenenbaum 2015)",
        "MIT",
        # Checksums and sizes as TensorFlow Datasets publishes them for the same addresses.
        (
            RemoteFile(
                _OMNIGLOT + "images_background.zip", "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640", 9_464_212
            ),
            RemoteFile(
                _OMNIGLOT + "images_evaluation.zip", "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee", 6_462_886
            ),
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched data lives: the environment variable `QUICKSTUDY_DATA`, or `~/.cache/quickstudy/data`."""
    return Path(os.environ.get("QUICKSTUDY_DATA") or "~/.cache/quickstudy/data").expanduser()


def folder_of(name: str) -> Path:
    """The cache folder of one data set. Raises `ValueError` for an unknown name.

    >>> folder_of("omniglot").name
    'omniglot'
    """
    if name not in DATA_SETS:
        raise ValueError(f"name must be one of {sorted(DATA_SETS)}, not {name!r}")
    return cache_folder() / name


def is_fetched(name: str) -> bool:
    """Whether every file of the data set is in the cache."""
    return all((folder_of(name) / file.name).is_file() for file in DATA_SETS[name].files)


def fetch(name: str) -> Path:
    """Fetch what is missing of a data set, verify it, and return its folder.

    Raises `ValueError` for an unknown name and `OSError` if a file cannot be had or is not the published one; then nothing of that
    file is kept.
    """
    folder = folder_of(name)
    for file in DATA_SETS[name].files:
        if not (folder / file.name).is_file():
            download(file, folder)
    return folder


def download(file: RemoteFile, folder: Path) -> Path:
    """Download one file into a folder and verify its SHA-256. Raises `OSError`, keeping nothing, if that fails."""
    target = folder / file.name
    try:
        with replacing(target) as out, urllib.request.urlopen(file.url, timeout=_TIMEOUT) as response:
            found = _copy(iter(lambda: response.read(_BLOCK), b""), out)
            if found != file.sha256:
                raise OSError(f"its SHA-256 is {found}, not the published {file.sha256}")
    except OSError as error:
        raise OSError(f"could not fetch {file.url}: {error}") from error
    return target


def _copy(blocks: Iterator[bytes], out: BinaryIO) -> str:
    """Write all blocks and return their SHA-256."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        out.write(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name `target` once the block ends well, and is removed if it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
