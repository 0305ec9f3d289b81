"""The estimator of images: drawings of any size and polarity, any few-shot learner, and what it refuses."""

import importlib
import pickle

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from quickstudy import store
from quickstudy.algorithms.fewshot import maml
from quickstudy.estimators import FewShotImageClassifier
from quickstudy.persist import read_arrays
from quickstudy.shipped import provenance
from quickstudy.shipping import ship
from quickstudy.tasks import Glyphs

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = IMAGES.reshape(-1, 8, 8)
SUPPORT = np.concatenate([np.flatnonzero(digit == LABELS)[:5] for digit in range(10)])
QUERY = np.setdiff1d(np.arange(300), SUPPORT)


@pytest.fixture(scope="module")
def model():
    return FewShotImageClassifier().fit(IMAGES[SUPPORT], LABELS[SUPPORT])


def test_digits_are_told_apart_from_five_of_each(model):
    assert model.score(IMAGES[QUERY], LABELS[QUERY]) > 0.75
    probabilities = model.predict_proba(IMAGES[QUERY[:70]])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_range_and_polarity_do_not_matter(model):
    expected = model.predict_proba(IMAGES[QUERY])
    for change in (lambda x: 255 - 5 * x, lambda x: x / 16 - 3):
        changed = FewShotImageClassifier().fit(change(IMAGES[SUPPORT]), LABELS[SUPPORT])
        np.testing.assert_allclose(changed.predict_proba(change(IMAGES[QUERY])), expected, atol=1e-3)


def test_a_picture_s_answer_does_not_depend_on_those_beside_it_and_survives_a_pickle(model):
    expected = model.predict_proba(IMAGES[QUERY[:3]])
    np.testing.assert_array_equal(model.predict_proba(IMAGES[QUERY])[:3], expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(IMAGES[QUERY[:3]]), expected)


def test_names_of_classes_are_kept_and_a_clone_is_not_fitted(model):
    names = np.array(["even", "odd"])[LABELS % 2]
    named = clone(model).fit(IMAGES[SUPPORT], names[SUPPORT])
    assert set(named.predict(IMAGES[:5])) <= {"even", "odd"}
    with pytest.raises(NotFittedError):
        clone(model).predict(IMAGES)


def test_a_learner_with_inner_steps_adapts_by_them(tmp_path):
    tasks = Glyphs(way=3, shot=1, query=2)
    learner = maml.learner(maml.Config("mlp", 16, inner_learning_rate=0.1), tasks, jax.random.key(0))
    few = SUPPORT[:15]
    at_birth, adapted = (FewShotImageClassifier(learner, ticks=ticks).fit(IMAGES[few], LABELS[few]) for ticks in (0, 100))
    assert adapted.score(IMAGES[few], LABELS[few]) > 0.9 > at_birth.score(IMAGES[few], LABELS[few])
    with pytest.raises(ValueError, match="y must have at most 3 classes, as many as the learner tells apart, not 10"):
        FewShotImageClassifier(learner).fit(IMAGES[SUPPORT], LABELS[SUPPORT])


def trained(folder, method, steps=2, extended=0):
    module = importlib.import_module(f"quickstudy.algorithms.fewshot.{method}")
    store.create(
        folder,
        store.Settings(method, "smoke", module.PRESETS["smoke"].config, 3, steps, 2),
        f"quickstudy train {method} --out {folder}",
    )
    for _ in store.resume(folder):
        pass
    if extended:
        store.extend(folder, extended)
    return folder


def test_a_run_s_learner_serves_and_ships_with_its_origin(tmp_path):
    folder = trained(tmp_path / "run", "protonet")
    model = FewShotImageClassifier(folder).fit(IMAGES[SUPPORT], LABELS[SUPPORT])
    np.testing.assert_array_equal(
        model.predict_proba(IMAGES[:9]),
        FewShotImageClassifier(store.load(folder).learner).fit(IMAGES[SUPPORT], LABELS[SUPPORT]).predict_proba(IMAGES[:9]),
    )
    path = ship(folder, tmp_path / "weights")
    arrays, facts = read_arrays(path)
    assert (facts["command"], facts["seed"], facts["steps"]) == ("quickstudy train protonet", 3, 2)
    assert arrays.keys() == read_arrays(folder / "weights.safetensors")[0].keys()


def test_runs_that_have_not_ended_or_of_which_nothing_is_shipped_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has done 2 of 4 steps"):
        ship(trained(tmp_path / "unfinished", "protonet", extended=4), tmp_path)
    with pytest.raises(ValueError, match="must be a run of pfn-tabular, protonet, generalist, not of maml"):
        ship(trained(tmp_path / "maml", "maml"), tmp_path)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((4, 9)), r"X must have shape \(n, height, width\), not \(4, 9\)"),
        (np.full((4, 8, 8), np.nan), "NaN"),
        (np.zeros((0, 8, 8)), "0 sample"),
        (np.array([[["ink"]]] * 4), "could not convert string to float"),
    ],
    ids=["flat", "NaN", "none", "text"],
)
def test_what_is_no_image_is_refused(model, images, said):
    with pytest.raises(ValueError, match=said):
        FewShotImageClassifier().fit(images, [0, 1, 0, 1][: len(images)])


def test_other_shapes_than_at_fit_and_strange_ticks_are_refused(model):
    with pytest.raises(ValueError, match=r"images of shape \(8, 8\), as at fit, not \(4, 4\)"):
        model.predict(np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="ticks must be an integer of at least 0, not -1"):
        FewShotImageClassifier(ticks=-1).fit(IMAGES[SUPPORT], LABELS[SUPPORT])


@pytest.mark.parametrize("method", ["pfn-tabular", "protonet"])
def test_shipped_weights_say_where_they_come_from(method):
    facts = provenance(method)
    assert facts["command"].startswith(f"quickstudy train {method} --preset ")
    assert facts["changed files"] is False
    assert len(facts["commit"]) == 40
