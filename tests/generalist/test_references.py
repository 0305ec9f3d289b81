"""The scoreboard's constants: what they say is what is measured, of whoever plays."""

import numpy as np
import pytest

from quickstudy.generalist import mixtures, references
from quickstudy.generalist.data import babyai, bandits, metaworld
from quickstudy.generalist.data.store import SEEDS
from quickstudy.persist import read_json

TASKS = read_json(references.FILE)["tasks"]


@pytest.mark.parametrize(("name", "domain"), [("babyai-symbolic/GoToLocalS6N3", babyai), ("bandits-plain/bernoulli-5", bandits)])
def test_an_expert_is_measured_over_the_first_valid_seeds(name, domain):
    task = name.partition("/")[2]
    found = references.measure(name, 5)
    episodes = [domain.record(task, seed) for seed in SEEDS["valid"][:5]]
    np.testing.assert_allclose(found["expert"]["return"], np.mean([episode.rewards.sum() for episode in episodes]), rtol=1e-5)
    assert found["expert"]["success"] == np.mean([episode.facts["success"] for episode in episodes])
    assert found == references.measure(name, 5)
    assert found["expert"]["return"] > found["random"]["return"]


@pytest.mark.parametrize("name", ["bandits-plain/bernoulli-2", "babyai-compact/GoToRedBallNoDists"])
def test_what_is_kept_is_what_is_measured(name):
    kept, found = references.find(name), references.measure(name, 100)
    for who in ("expert", "random"):
        # Of another version of a generator the draws may be others: the standard error of each is below half of this.
        np.testing.assert_allclose(found[who]["return"], kept[who]["return"], rtol=0.1, atol=0.1)
        np.testing.assert_allclose(found[who]["success"], kept[who]["success"], atol=0.15)


def test_experts_are_better_than_random_everywhere():
    for task, constants in TASKS.items():
        assert constants["expert"]["return"] > constants["random"]["return"], task
        assert constants["expert"]["success"] > constants["random"]["success"], task


@pytest.mark.parametrize(
    ("body", "tasks"),
    [
        ("babyai-compact", babyai.LEVELS),
        ("metaworld-relative", metaworld.GROUPS["all"]),
        ("control-plain", mixtures.CONTROL),
        ("toytext-plain", mixtures.TOYS),
        ("box2d-plain", mixtures.BOX2D),
    ],
)
def test_what_is_trained_on_and_played_has_constants(body, tasks):
    for task in tasks:
        assert references.find(f"{body}/{task}") is not None, task


def test_constants_belong_to_tasks_in_any_encoding_and_others_have_none():
    assert references.find("babyai-patches/GoToLocal") == references.find("babyai-compact/GoToLocal") is not None
    assert references.find("minari/babyai.go-to-local-v0") is None


def test_a_file_is_written_anew_or_added_to(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "FILE", tmp_path / "references.json")
    monkeypatch.setattr(references, "_MANY", 2)
    references.main(["bandits/bernoulli-5"])
    references.main(["bandits/bernoulli-2"])
    written = read_json(references.FILE)
    assert written["split"] == "valid"
    assert [*written["tasks"]] == ["bandits/bernoulli-2", "bandits/bernoulli-5"]
    assert written["tasks"]["bandits/bernoulli-5"] == references.measure("bandits-plain/bernoulli-5", 2)


def test_only_domains_that_are_played_are_measured():
    bandits_and_a_robot = [*(f"bandits-plain/{task}" for task in bandits.GROUPS["all"]), "metaworld-full/assembly"]
    assert list(references.names(["bandits", "metaworld/assembly"])) == bandits_and_a_robot
    with pytest.raises(ValueError, match="domain that is played"):
        next(references.names(["scenes"]))
