"""The demonstration refuses bad folders before it trains, and writes one page that needs nothing else."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

from quickstudy import demo
from quickstudy.algorithms.fewshot import protonet
from quickstudy.algorithms.metarl import rl2
from quickstudy.demo import bandits, characters, tables
from quickstudy.outer import Preset
from quickstudy.tasks import EpisodeTask, Glyphs


@pytest.fixture
def tiny(monkeypatch):
    """The whole demonstration, but hardly any training and few episodes."""
    preset = Preset(protonet.Config("mlp", 8), lambda: Glyphs(way=3, shot=1, query=1), 3, 1, "")
    monkeypatch.setitem(protonet.PRESETS, "glyphs", preset)
    monkeypatch.setattr(characters, "EPISODES", 4)
    monkeypatch.setattr(demo.bandits, "show", lambda say: say("the second stop") or [])
    monkeypatch.setattr(demo.tables, "show", lambda say: say("the third stop") or [])
    monkeypatch.setattr(demo.generalist, "show", lambda say: say("the fourth stop") or [])


@pytest.fixture
def few_bandits(monkeypatch):
    """The second stop, but hardly any training and few bandits."""
    small = rl2.PRESETS["demo"]._replace(config=rl2.Config(tied=True, width=4, lives=4, ticks=8, minibatches=2), steps=7, ticks=8)
    monkeypatch.setitem(rl2.PRESETS, "demo", small)
    monkeypatch.setattr(bandits, "BANDITS", 50)


@pytest.fixture
def untrained(monkeypatch):
    """Fails as soon as training begins."""
    monkeypatch.setattr(characters, "meta_train", lambda say: pytest.fail("it trained before it had looked at the material"))


def draw_pictures(folder, name, count):
    """Bars of one direction per class, at random places."""
    (folder / name).mkdir(parents=True)
    places = np.random.default_rng(len(name)).integers(4, 18, count)
    for number, place in enumerate(places.tolist()):
        picture = Image.new("L", (28, 28), 255)
        box = (place, 3, place + 4, 24) if name.startswith("up") else (3, place, 24, place + 4)
        ImageDraw.Draw(picture).rectangle(box, fill=0)
        picture.save(folder / name / f"{number}.png")


def make_missing(folder):
    pass


def make_empty(folder):
    folder.mkdir()


def make_one_class(folder):
    draw_pictures(folder, "up", 6)


def make_too_few(folder):
    draw_pictures(folder, "up", 6)
    draw_pictures(folder, "flat", 5)


def make_unreadable(folder):
    draw_pictures(folder, "up", 6)
    draw_pictures(folder, "flat", 6)
    (folder / "flat" / "notes.png").write_text("no picture")


def make_empty_class(folder):
    draw_pictures(folder, "up", 6)
    (folder / "flat").mkdir()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (make_missing, NotADirectoryError, "must be a folder with one sub-folder of pictures per class, not"),
        (make_empty, ValueError, "has no sub-folders"),
        (make_one_class, ValueError, "must hold at least two classes"),
        (make_too_few, ValueError, "every class of images must have at least 6 pictures, but the smallest has 5"),
        (make_unreadable, ValueError, r"notes\.png' cannot be read as a picture"),
        (make_empty_class, ValueError, "flat' is empty"),
    ],
    ids=["missing", "empty", "one class", "too few", "unreadable", "empty class"],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence_before_training(make, error, words, tmp_path, untrained):
    make(tmp_path / "pictures")
    with pytest.raises(error, match=words) as caught:
        demo.main(str(tmp_path / "pictures"), str(tmp_path / "out"), say=lambda line: None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "index.html").exists()


def test_a_report_that_cannot_be_written_is_refused_before_training(tmp_path, untrained):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        demo.main(out=str(tmp_path / "file" / "out"), say=lambda line: None)


def shown(text):
    """The lines of the table: learner, shots and accuracy in percent."""
    return [
        (name.strip(), int(shot), float(accuracy)) for name, shot, accuracy in re.findall(r"^(.+?)\s+(\d+)\s+([\d.]+) %", text, re.M)
    ]


def require_self_contained(page):
    assert not re.search(
        r"""(?:src|href|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import|<link|<script[^>]+src""", page
    )
    assert all(name in page for name in (characters.LEARNED, characters.NEIGHBOUR, characters.LOGISTIC))


def test_the_digits_give_a_table_and_a_page(tmp_path, tiny):
    said = []
    assert demo.main(out=str(tmp_path), say=said.append) == 0
    rows = shown("\n".join(said))
    names = (characters.LEARNED, characters.NEIGHBOUR, characters.LOGISTIC)
    assert [(name, shot) for name, shot, _ in rows] == [(name, shot) for shot in characters.SHOTS for name in names]
    accuracy = {(name, shot): value for name, shot, value in rows}
    # Chance is 10 %; pixels are far above it, and better with ten examples of each digit than with one.
    for name in names[1:]:
        assert 30 < accuracy[name, 1] < accuracy[name, 10]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    require_self_contained(page)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert f"{accuracy[characters.NEIGHBOUR, 1]:.1f} %" in page
    assert said.index("the second stop") < said.index("the third stop")


def test_the_second_stop_lists_the_agent_beside_the_strategies_best_first(few_bandits):
    said = []
    sections = bandits.show(said.append)
    table = re.findall(r"^(\S.*?)\s+([\d.]+)   \[([\d.]+), ([\d.]+)\]$", "\n".join(said), re.M)
    totals = [float(total) for _, total, _, _ in table]
    assert {name for name, *_ in table} == {bandits.LEARNED, bandits.GITTINS, "UCB1", "Thompson", "epsilon-greedy", "random"}
    assert totals == sorted(totals, reverse=True)
    assert all(float(low) <= float(total) <= float(high) for _, total, low, high in table)
    assert [section.heading for section in sections] == ["New bandits", "One life", "Meta-training on bandits"]


def test_a_folder_of_pictures_gives_as_many_shots_as_it_has_and_its_name_is_shown_as_text(tmp_path, tiny):
    folder = tmp_path / "a & <b>"
    draw_pictures(folder, "up", 8)
    draw_pictures(folder, "flat", 7)
    said = []
    assert demo.main(str(folder), str(tmp_path / "out"), say=said.append) == 0
    rows = shown("\n".join(said))
    assert {shot for _, shot, _ in rows} == {1, 2}
    assert {name: value for name, shot, value in rows if shot == 2}[characters.LOGISTIC] > 60
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    require_self_contained(page)
    assert "a &amp; &lt;b&gt;" in page
    assert "a & <b>" not in page


def test_neighbour_and_regression_answer_what_is_plain():
    """Queries that are support pictures have their own label."""
    pictures = np.zeros((1, 3, 28, 28), np.float32)
    for i in range(3):
        pictures[0, i, 9 * i : 9 * i + 9] = 1
    labels = np.array([[0, 1, 2]], np.int32)
    x, y = jnp.asarray(pictures), jnp.asarray(labels)
    episode = jax.tree.map(np.asarray, EpisodeTask(x, y, x, y, {}, outputs=3))
    np.testing.assert_array_equal(characters.answer_by_neighbour(episode), labels)
    np.testing.assert_array_equal(characters.answer_by_regression(episode), labels)


def test_the_third_stop_reads_a_table_beside_two_classifiers():
    said = []
    (section,) = tables.show(said.append)
    rows = re.findall(r"^(\S.*?)\s+([\d.]+)%\s+([\d.]+)\s+([\d.]+)\s+[\d.]+$", "\n".join(said), re.M)
    assert [name for name, *_ in rows] == [tables.LEARNED, tables.FOREST, tables.LOGISTIC]
    # Always saying "benign" is right in 63 of a hundred cases, and costs 0.66 nats.
    assert all(float(right) > 88 and float(loss) < 0.4 and float(error) < 0.15 for _, right, loss, error in rows)
    assert section.heading == "A new table"
    assert "Reliability on the new table" in section.body


def test_answers_are_judged_by_their_definitions():
    found = tables.Answers(np.array([[[0.9, 0.1], [0.2, 0.8]]]), np.array([[0, 0]]), np.array([1.0]))
    np.testing.assert_allclose(found.right(), [0.5])
    np.testing.assert_allclose(found.log_loss(), [-(np.log(0.9) + np.log(0.2)) / 2])
