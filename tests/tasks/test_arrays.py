import jax
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from quickstudy.tasks import from_arrays, from_image_folder


def labelled(classes=10, examples=4):
    """Vectors whose first number is the class and whose second is the example."""
    rows = [(c, e) for c in range(classes) for e in range(examples)]
    return np.array(rows, float), [f"class {c}" for c, _ in rows]


def test_an_episode_holds_distinct_examples_of_the_classes_it_names():
    tasks = from_arrays(*labelled(), way=3, shot=1, query=3, splits=(0.4, 0.3, 0.3))
    task = jax.jit(lambda key: tasks.sample(key, "valid"))(jr.key(0))
    names = [tasks.names[i] for i in task.latent["classes"].tolist()]
    for x, y in ((task.support_x, task.support_y), (task.query_x, task.query_y)):
        assert [f"class {int(value)}" for value in x[:, 0]] == [names[label] for label in y.tolist()]
    rows = {tuple(row) for x in (task.support_x, task.query_x) for row in x.tolist()}
    assert len(rows) == 12


def test_splits_share_no_class_and_leave_none_out():
    tasks = from_arrays(*labelled(), way=2, shot=1, query=1, splits=(0.5, 0.2, 0.3))
    seen = {}
    for split in ("train", "valid", "test"):
        drawn = jax.vmap(lambda key, split=split: tasks.sample(key, split).support_x[:, 0])(jr.split(jr.key(0), 100))
        seen[split] = set(np.ravel(drawn).tolist())
    assert [len(classes) for classes in seen.values()] == [5, 2, 3]
    assert set.union(*seen.values()) == set(range(10))


def test_classes_of_different_sizes_are_drawn_whole():
    x = np.array([[0.0], [1.0], [10.0], [11.0], [12.0], [13.0]])
    tasks = from_arrays(x, [0, 0, 1, 1, 1, 1], way=2, shot=1, query=1, splits=(0, 0, 1))
    drawn = jax.vmap(lambda key: tasks.sample(key, "test").query_x)(jr.split(jr.key(0), 200))
    assert set(np.ravel(drawn).tolist()) == {0.0, 1.0, 10.0, 11.0, 12.0, 13.0}


def test_a_split_without_enough_classes_is_refused_when_it_is_drawn_from():
    tasks = from_arrays(*labelled(), way=5, shot=1, query=1, splits=(0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="way must be at most the 0 classes of the train split, not 5"):
        tasks.sample(jr.key(0), "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.array([[1.0], [np.nan]] * 4)}, "x must be finite, but example 1"),
        ({"x": [["a"], ["b"]] * 4}, "x must be an array of numbers"),
        ({"x": np.zeros(8)}, "x must have shape"),
        ({"y": [0, 1, 2]}, "y must have one label for each of the 8 examples"),
        ({"y": [np.nan] * 8}, "y must not hold NaN"),
        ({"y": ["same"] * 8}, "at least two classes, not 1"),
        ({"y": ["few"] + ["many"] * 7}, "1 examples of the smallest class, 'few'"),
        ({"way": 3}, "way must be at most 2"),
        ({"way": 1}, "way must be at least 2"),
        ({"shot": 0}, "shot must be at least 1"),
        ({"splits": (0.5, 0.6, -0.1)}, "splits must be three shares"),
        ({"splits": (0.5, 0.5)}, "splits must be three shares"),
    ],
)
def test_bad_arguments_are_named(change, words):
    good = {"x": np.zeros((8, 1)), "y": [0, 1] * 4, "way": 2, "shot": 1, "query": 1, "splits": (0, 0, 1)}
    from_arrays(**good)
    with pytest.raises(ValueError, match=words):
        from_arrays(**good | change)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    way=st.integers(0, 6),
    shot=st.integers(0, 3),
    query=st.integers(0, 3),
    test=st.floats(0, 1),
)
def test_arguments_either_give_episodes_of_their_shape_or_a_sentence(sizes, way, shot, query, test):
    y = np.repeat(np.arange(len(sizes)), sizes)
    possible = len(sizes) >= 2 and way >= 2 and shot >= 1 and query >= 1 and min(sizes) >= shot + query
    try:
        tasks = from_arrays(np.zeros((len(y), 2)), y, way=way, shot=shot, query=query, splits=(0, 1 - test, test))
    except ValueError as error:
        assert not possible or "way must be at most" in str(error)
        assert "\n" not in str(error)
        return
    assert possible
    split = "test" if tasks.counts.test >= way else "valid"
    task = jax.eval_shape(lambda key: tasks.sample(key, split), jr.key(0))
    assert task.support_x.shape == (way * shot, 2) and task.query_y.shape == (way * query,)


def draw_bar(file, size, box, paper, ink):
    picture = Image.new("L", size, paper)
    ImageDraw.Draw(picture).rectangle(box, fill=ink)
    file.parent.mkdir(exist_ok=True)
    picture.save(file)


def test_pictures_become_ink_on_nothing_whatever_their_paper(tmp_path):
    draw_bar(tmp_path / "upright" / "1.png", (60, 60), (25, 5, 35, 55), paper=255, ink=0)
    draw_bar(tmp_path / "upright" / "2.png", (60, 60), (25, 5, 35, 55), paper=0, ink=255)
    draw_bar(tmp_path / "lying" / "1.jpg", (60, 30), (5, 10, 55, 20), paper=250, ink=10)
    (tmp_path / "lying" / ".hidden").write_text("not a picture")
    x, y, names = from_image_folder(tmp_path)
    assert x.shape == (3, 28, 28) and names == ["lying", "upright"] and y.tolist() == [0, 1, 1]
    np.testing.assert_allclose(x[1], x[2])
    assert x[1][14, 14] == 1 and x[1][0, 0] == 0
    lying = x[0] > 0.5
    height, width = lying.any(axis=1).sum(), lying.any(axis=0).sum()
    assert 4 <= width / height <= 6.5, "proportions are not kept"


def test_transparent_paper_is_white(tmp_path):
    picture = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((10, 4, 17, 23), fill=(0, 0, 0, 255))
    (tmp_path / "a").mkdir()
    picture.save(tmp_path / "a" / "1.png")
    x, _, _ = from_image_folder(tmp_path)
    assert x[0, 14, 14] == 1 and x[0, 0, 0] == 0


def test_folders_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        from_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no sub-folders"):
        from_image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="is empty"):
        from_image_folder(tmp_path)
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        from_image_folder(tmp_path)
