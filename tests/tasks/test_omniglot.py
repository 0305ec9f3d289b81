import functools
import os
import shutil
import zipfile

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from PIL import Image

from quickstudy.tasks import Omniglot, omniglot_files
from quickstudy.tasks.omniglot import _rotate
from quickstudy.tasks.omniglot_files import read_drawings, shrink

# Alphabets of a small set in Omniglot's format: name, whether background, characters.
ALPHABETS = (("Aa", True, 9), ("Bb", True, 8), ("Cc", True, 5), ("Dd", False, 4), ("Ee", False, 8))


needs_real_data = pytest.mark.skipif(
    "QUICKSTUDY_OMNIGLOT" not in os.environ, reason="Omniglot is not here: set QUICKSTUDY_OMNIGLOT to a folder that holds it"
)


@functools.cache
def paper():
    """Every drawing of the small set: blank paper with a block that tells the character and a dot that tells the drawing."""
    images = np.ones((34, 20, 105, 105), bool)
    for character in range(34):
        row, column = 15 * (character // 7), 15 * (character % 7)
        images[character, :, row : row + 15, column : column + 15] = False
        for drawing in range(20):
            images[character, drawing, 90:105, 4 * drawing : 4 * drawing + 4] = False
    return images


def write_arrays(folder):
    background = sum(count for _, first_half, count in ALPHABETS if first_half)
    np.savez(folder / "images_background.npz", images=paper()[:background])
    np.savez(folder / "images_evaluation.npz", images=paper()[background:])
    lines, starts = ["split,first_index,last_index,alphabet"], {True: 0, False: 0}
    for name, first_half, count in ALPHABETS:
        start = starts[first_half]
        lines.append(f'{"background" if first_half else "evaluation"},{start},{start + count - 1},"{name}"')
        starts[first_half] += count
    (folder / "alphabets.csv").write_text("\n".join(lines))


def write_pictures(folder):
    character = 0
    for name, first_half, count in ALPHABETS:
        for number in range(count):
            place = folder / ("images_background" if first_half else "images_evaluation") / name / f"character{number + 1:02}"
            place.mkdir(parents=True)
            for drawing in range(20):
                Image.fromarray(paper()[character, drawing]).save(place / f"{character + 1:04}_{drawing + 1:02}.png")
            character += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("omniglot")
    write_arrays(made)
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path_factory.getbasetemp() / "cache"))


def test_arrays_pictures_and_archives_give_the_same_bits(folder, tmp_path):
    write_pictures(tmp_path)
    archived = tmp_path / "archived"
    archived.mkdir()
    for part in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(archived / f"{part}.zip", "w") as archive:
            for file in (tmp_path / part).rglob("*.png"):
                archive.write(file, file.relative_to(tmp_path))
    arrays, pictures, archives = (read_drawings(place) for place in (folder, tmp_path, archived))
    assert arrays.alphabets == pictures.alphabets == archives.alphabets
    assert [(a.name, a.background, a.characters) for a in arrays.alphabets] == list(ALPHABETS)
    np.testing.assert_array_equal(arrays.bits, pictures.bits)
    np.testing.assert_array_equal(arrays.bits, archives.bits)


def test_the_packed_bits_are_read_back_from_the_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    first = read_drawings(copied)
    (cached,) = tmp_path.glob("*.npz")
    omniglot_files._read_cached.cache_clear()
    monkeypatch.setattr(omniglot_files, "_convert", None)  # a second conversion would fail
    second = read_drawings(copied)
    np.testing.assert_array_equal(first.bits, second.bits)
    assert first.alphabets == second.alphabets and cached.stat().st_size > first.bits.size


def test_ink_is_area_above_a_fifth():
    blank = np.ones((1, 105, 105), bool)
    blank[0] = np.random.default_rng(0).random((105, 105)) > 0.2
    # Sixteenths of an old pixel: every new pixel is 15 by 15 of them.
    fine = np.kron(~blank[0], np.ones((4, 4), int))
    area = fine.reshape(28, 15, 28, 15).sum(axis=(1, 3))
    expected = area > 15 * 15 / 5
    np.testing.assert_array_equal(np.unpackbits(shrink(blank)[0]).reshape(28, 28), expected)


def episodes(tasks, split, n):
    """`n` stacked episodes."""
    return jax.jit(jax.vmap(lambda key: tasks.sample(key, split)))(jr.split(jr.key(0), n))


def classes_drawn(tasks, split, n):
    """The classes of `n` episodes; compiled, the images are never drawn."""
    return np.asarray(jax.jit(jax.vmap(lambda key: tasks.sample(key, split).latent["classes"]))(jr.split(jr.key(0), n)))


@pytest.mark.parametrize("protocol", ["pooled", "original"])
def test_splits_share_no_character(folder, protocol):
    tasks = Omniglot(way=2, query=1, protocol=protocol, rotations=False, folder=folder)
    originals = {
        np.packbits(p).tobytes(): c for c, p in enumerate(np.unpackbits(read_drawings(folder).bits, axis=-1)[:, 0, : 28 * 24])
    }
    found = {}
    for split in ("train", "valid", "test"):
        images = np.asarray(episodes(tasks, split, 60).query_x).reshape(-1, 784)
        # The rows above the dots tell the character.
        found[split] = {originals[np.packbits(image[: 28 * 24] > 0).tobytes()] for image in images}
    assert set.union(*found.values()) == set(range(34)) and sum(map(len, found.values())) == 34
    if protocol == "original":
        assert found == {"train": set(range(17)), "valid": set(range(17, 22)), "test": set(range(22, 34))}


def test_support_and_query_are_different_drawings_of_the_same_class(folder):
    tasks = Omniglot(way=3, shot=10, query=10, folder=folder, protocol="original", rotations=False)
    task = jax.jit(lambda key: tasks.sample(key, "train"))(jr.key(5))
    bits = np.unpackbits(read_drawings(folder).bits, axis=-1).reshape(34, 20, 28, 28)
    for label, character in enumerate(task.latent["classes"].tolist()):
        shown = np.concatenate([task.support_x[task.support_y == label], task.query_x[task.query_y == label]])
        # All 20 drawings, each once.
        assert {image.tobytes() for image in shown.astype(np.uint8)} == {image.tobytes() for image in bits[character]}


def test_turned_characters_are_classes_of_their_own(folder):
    tasks = Omniglot(way=2, query=1, protocol="original", folder=folder)
    assert tasks.counts == (68, 20, 48)
    bits = np.unpackbits(read_drawings(folder).bits, axis=-1).reshape(34, 20, 28, 28)
    task = episodes(tasks, "valid", 20)
    for image, glyph in zip(np.asarray(task.support_x).reshape(-1, 28, 28), np.ravel(task.latent["classes"]), strict=True):
        turn, character = divmod(int(glyph) - 68, 5)
        assert any((np.rot90(drawing, turn) == image).all() for drawing in bits[17 + character])


def test_rotation_is_counter_clockwise():
    image = jr.normal(jr.key(0), (1, 1, 5, 5))
    for turn in range(4):
        np.testing.assert_array_equal(_rotate(image, jnp.full((1, 1, 1, 1), turn)), jnp.rot90(image, turn, axes=(2, 3)))


def test_within_an_alphabet_classes_share_it_and_its_rotation(folder):
    tasks = Omniglot(way=4, query=1, protocol="original", within_alphabet=True, folder=folder)
    classes = classes_drawn(tasks, "test", 300) - 88
    turn, character = np.divmod(classes, 12)
    assert (turn == turn[:, :1]).all() and set(turn.ravel().tolist()) == {0, 1, 2, 3}
    first_alphabet = character < 4
    assert (first_alphabet == first_alphabet[:, :1]).all() and 0 < first_alphabet[:, 0].mean() < 1
    assert all(len(set(row)) == 4 for row in classes.tolist())


def test_fixed_labels_stay_with_their_class(folder):
    tasks = Omniglot(way=3, query=1, shuffle_labels=False, folder=folder)
    classes = classes_drawn(tasks, "test", 60)
    assert (classes % 3 == np.arange(3)).all() and len(set(classes.ravel().tolist())) > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"way": 5, "rotations": False}, "way must be at most the 2 classes of the valid split, not 5"),
        ({"shot": 15, "query": 6}, "shot \\+ query must be at most the 20 drawings"),
        ({"within_alphabet": True}, "within_alphabet needs protocol"),
        ({"way": 6, "protocol": "original", "within_alphabet": True}, "5 characters of the valid split's largest alphabet, not 6"),
    ],
)
def test_impossible_arguments_are_refused(folder, arguments, words):
    with pytest.raises(ValueError, match=words):
        Omniglot(**{"folder": folder, "way": 2} | arguments)


def test_absent_data_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.delenv("QUICKSTUDY_OMNIGLOT", raising=False)
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="quickstudy data fetch omniglot"):
        Omniglot()
    with pytest.raises(FileNotFoundError, match="folder must be a folder"):
        Omniglot(folder=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="must hold images_background"):
        Omniglot(folder=tmp_path)


@needs_real_data
def test_the_real_characters_are_verified_and_split_as_documented():
    tasks = Omniglot()
    assert tasks.bits.shape == (1_623, 20, 98) and tasks.counts == (4_400, 400, 1_692)
    assert Omniglot(protocol="original", rotations=False).counts == (803, 161, 659)


@needs_real_data
def test_real_drawings_of_a_character_are_alike():
    tasks = Omniglot(way=5, shot=1, query=10)
    drawn = episodes(tasks, "test", 40)
    support, query = (x.reshape(40, -1, 784) for x in (drawn.support_x, drawn.query_x))
    nearest = jnp.argmin(jnp.sum(jnp.square(query[:, :, None] - support[:, None]), axis=-1), axis=-1)
    # Pixels alone recognise well above the 20 % of chance.
    assert jnp.mean(nearest == drawn.query_y) > 0.35
