"""Files that survive a crash and tell when they were changed: JSON objects, and trees of arrays as safetensors.

Every file is written under a temporary name, flushed to the disk and renamed, and carries a SHA-256 digest of its content.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import safetensors.numpy
from jaxtyping import PyTree

Facts = dict[str, Any]
Tree = TypeVar("Tree")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a restart after a crash, finds the old content or the new, never a part.

    Raises `OSError` naming the file, for instance on a full disk; then the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with _naming(path):
        try:
            _write(temporary, "wb", data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file and flush it to the disk. Raises `OSError` naming the file; then a part of `data` may be there."""
    with _naming(path):
        _write(path, "ab", data)


def _write(path: Path, mode: str, data: bytes) -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Failed writes come without the name of their file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from None


def _sync_folder(folder: Path) -> None:
    """Make a rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises `FileNotFoundError` with a plain sentence if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None


def write_json(path: Path, facts: Facts) -> None:
    """Write a JSON object with the digest of its content, atomically."""
    text = json.dumps(facts | {"sha256": _digest(facts)}, indent=1)
    write_atomically(path, text.encode() + b"\n")


def read_json(path: Path) -> Facts:
    """Read what `write_json` wrote. Raises `OSError` naming the file if it is missing, cut short or changed."""
    try:
        facts = json.loads(read_bytes(path))
        recorded = facts.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OSError(f"{path} is damaged: it is not a complete JSON object with its digest") from None
    if recorded != _digest(facts):
        raise OSError(f"{path} was changed after it was written: its digest does not fit its content")
    return facts


def _digest(facts: Facts, arrays: Mapping[str, np.ndarray] | None = None) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, array in sorted((arrays or {}).items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# The names that the safetensors format gives to dtypes (numpy itself has no bfloat16; JAX brings it).
_DTYPES = {
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BF16": np.dtype(jnp.bfloat16),
    "BOOL": np.dtype(bool),
}


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def save_tree(path: Path, tree: PyTree, facts: Facts) -> None:
    """Write a tree's arrays as safetensors, named by their paths, with some facts and a digest over all of it in the header."""
    arrays = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if _is_array(leaf):
            arrays[jax.tree_util.keystr(where)] = np.array(jr.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    header = {"quickstudy": json.dumps(facts | {"sha256": _digest(facts, arrays)}, sort_keys=True)}
    write_atomically(path, safetensors.numpy.save(arrays, header))


def load_tree(path: Path, template: Tree) -> tuple[Tree, Facts]:
    """Read a tree like `template` (arrays or `jax.ShapeDtypeStruct`, other leaves are kept) and the facts stored with it.

    Raises `OSError` if the file is missing or damaged, `ValueError` if its arrays are not the template's.
    """
    arrays, facts = read_arrays(path)
    flat, treedef = jax.tree_util.tree_flatten_with_path(template)
    wanted = {jax.tree_util.keystr(where) for where, leaf in flat if _is_array(leaf)}
    for difference, is_in in ((wanted - arrays.keys(), "the model's"), (arrays.keys() - wanted, "the file's")):
        if difference:
            other = "the file" if is_in == "the model's" else "the model"
            raise ValueError(f"{path} belongs to another model: {is_in} array {min(difference)} is not in {other}")
    return jax.tree.unflatten(treedef, [_restore(path, where, leaf, arrays) for where, leaf in flat]), facts


def _restore(path: Path, where: Any, leaf: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not _is_array(leaf):
        return leaf
    name = jax.tree_util.keystr(where)
    array = jnp.asarray(arrays[name])
    array = jr.wrap_key_data(array) if _is_key(leaf) else array
    if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
        there, here = f"{array.dtype}{list(array.shape)}", f"{leaf.dtype}{list(leaf.shape)}"
        raise ValueError(f"{path} belongs to another model: {name} is {there} in the file and {here} in the model")
    return array


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], Facts]:
    """The arrays of a safetensors file by name, and the facts in its header. Raises `OSError` if it is missing or damaged."""
    raw = read_bytes(path)
    try:
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])
        facts = json.loads(header.pop("__metadata__")["quickstudy"])
        recorded = facts.pop("sha256")
        arrays, end = {}, start
        for name, entry in header.items():
            low, high = (start + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(raw[low:high], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            end = max(end, high)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OSError(f"{path} is damaged: it is not a complete file as quickstudy writes them") from None
    if end != len(raw) or recorded != _digest(facts, arrays):
        raise OSError(f"{path} was changed after it was written: its digest does not fit its content")
    return arrays, facts
