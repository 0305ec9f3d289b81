"""Minari's data sets: what is exported is read back, what others recorded becomes tokens and shards, what is wrong is one sentence."""

import contextlib
import gc
import json
import warnings

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from quickstudy.cli import main
from quickstudy.generalist import embodiments
from quickstudy.generalist.data import babyai, build, metaworld, minari_files, store
from quickstudy.generalist.demonstrations import demonstrations
from quickstudy.generalist.tokens import join
from quickstudy.generalist.writing import Writer

CARTPOLE = "cartpole/three-v0"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path / "data"))


@contextlib.contextmanager
def quietly():
    """Without Minari's advice on metadata, and what it leaves to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def collect_cartpole(episodes=3):
    with quietly():
        world = minari.DataCollector(gymnasium.make("CartPole-v1"))
        for seed in range(episodes):
            world.reset(seed=seed)
            end = False
            while not end:
                *_, terminated, truncated, _ = world.step(world.action_space.sample())
                end = terminated or truncated
        made = world.create_dataset(CARTPOLE, algorithm_name="random")
        world.close()
        del world
    return made


def write(name, observations, actions, observation_space, action_space):
    """A data set of one episode for each entry of two lists."""
    with quietly():
        minari.create_dataset_from_buffers(
            name,
            [
                EpisodeBuffer(None, None, None, seen, acted, [1.0] * n, [False] * (n - 1) + [True], [False] * n)
                for seen, acted, n in zip(observations, actions, map(_steps, actions), strict=True)
            ],
            observation_space=observation_space,
            action_space=action_space,
        )


def _steps(actions):
    return len(next(iter(actions.values())) if isinstance(actions, dict) else actions)


@pytest.mark.parametrize(("domain", "task"), [(babyai, "GoToLocal"), (metaworld, "reach")])
def test_what_is_exported_is_read_back(domain, task):
    episodes = [domain.record(task, seed) for seed in range(4, 6)]
    name = domain.__name__.rpartition(".")[-1]
    assert minari_files.export(name, task, "train", episodes, f"{name}/some-v3") == f"{name}/some-v3"
    read = minari.load_dataset(f"{name}/some-v3")
    how = next(iter(domain.ENCODINGS.values()))
    told = read.storage.metadata
    assert told["encoding"] == how.name and told["last_observation"] == "repeated" and told["task"] == task
    assert told["algorithm_name"] == domain.provenance()["expert"] and "author" not in told and "code_permalink" not in told
    imported = minari_files.import_episodes(f"{name}/some-v3")
    machine, writer = minari_files.tokenizer(f"{name}/some-v3"), Writer()
    for ours, theirs, back, metadata in zip(
        episodes, read, imported, read.storage.get_episode_metadata(range(len(episodes))), strict=True
    ):
        expected = how.observe(domain.raw(ours))
        np.testing.assert_array_equal(theirs.actions, ours.actions)
        np.testing.assert_array_equal(theirs.rewards, ours.rewards)
        np.testing.assert_array_equal(back.actions, ours.actions)
        for key, values in expected.items():
            assert len(theirs.observations[key]) == len(ours.actions) + 1
            np.testing.assert_array_equal(theirs.observations[key][:-1], values)
            np.testing.assert_array_equal(theirs.observations[key][-1], values[-1])
            np.testing.assert_array_equal(back.observations[key], values)
        assert theirs.terminations.tolist() == [False] * (len(ours.actions) - 1) + [True] and not theirs.truncations.any()
        assert metadata["seed"] == ours.facts["seed"] == back.facts["seed"]
        assert metadata["success"] and metadata["return"] == ours.facts["return"]
        assert back.facts["return"] == pytest.approx(ours.facts["return"], abs=1e-6)
        tokens = minari_files.encode(machine, back)
        seen, actions = machine.decode(tokens)
        assert read.observation_space.contains({key: values[0] for key, values in seen.items()})
        if domain is babyai:  # whose numbers are discrete, and come back as they were
            np.testing.assert_array_equal(actions, ours.actions)
            np.testing.assert_array_equal(seen["image"], expected["image"])
            assert seen["mission"] == expected["mission"]
            played = embodiments.parse(f"babyai-symbolic/{task}")[0]
            assert machine.action_ids == played.tokenizer.action_ids == 1
            np.testing.assert_array_equal(tokens.ids, played.encode([ours]).ids)
    assert writer.vocabulary == machine.vocabulary


def test_what_others_recorded_is_imported_and_trained_on(capsys, tmp_path):
    collected = collect_cartpole()
    episodes = minari_files.import_episodes(CARTPOLE)
    machine = minari_files.tokenizer(CARTPOLE)
    for number, (one, theirs) in enumerate(zip(episodes, collected, strict=True)):
        np.testing.assert_array_equal(one.observations["observation"], theirs.observations[:-1])
        facts = {"number": number, "seed": number, "return": len(one.actions), "terminated": True, "truncated": False}
        assert facts.items() <= one.facts.items()
        assert one.facts["minari"]["rewards_sum"] == len(one.actions)
        seen, actions = machine.decode(minari_files.encode(machine, one))
        np.testing.assert_array_equal(actions, theirs.actions)
        np.testing.assert_allclose(seen, theirs.observations[:-1], rtol=0.011, atol=0.0005)

    assert main(["data", "import", CARTPOLE]) == 0
    assert "3 episodes imported as minari/cartpole.three-v0, 0 rejected" in capsys.readouterr().out
    folder = build.folder_of("minari")
    kept = store.Store.open(folder, tasks=["cartpole.three-v0"], split="train")
    assert len(kept) == 3
    for i, one in enumerate(episodes):
        np.testing.assert_array_equal(kept.episode(i).observations["observation"], one.observations["observation"])
        np.testing.assert_array_equal(kept.episode(i).rewards, one.rewards)
        assert kept.facts(i)["minari"] == one.facts["minari"] and kept.facts(i)["expert"] == "random"
    (read, *_), writer = minari_files.stored("cartpole.three-v0", "train", 2), Writer()
    tokens = minari_files.tokens("cartpole.three-v0", read, writer)
    np.testing.assert_array_equal(tokens.ids, minari_files.encode(machine, episodes[0]).ids)

    assert main(["data", "check", "minari"]) == 0 and main(["data", "list"]) == 0
    assert "3 episodes of 1 tasks built" in capsys.readouterr().out
    assert "| cartpole.three-v0 | train | 3 | 3 |" in (folder / "card.md").read_text()


def test_an_imported_task_is_learned_from_and_a_new_import_replaces_it():
    collect_cartpole(40)
    assert minari_files.import_into_store(CARTPOLE)[1:] == (40, 0)
    name, counts = "cartpole.three-v0", {"train": 36, "valid": 2, "test": 2}
    numbers = [one.facts["number"] for split, n in counts.items() for one in minari_files.stored(name, split, n)]
    assert numbers == list(range(40))
    made = embodiments.recorded([f"minari/{name}"], episodes=36, held_out=2, length=16)
    machine = minari_files.tokenizer(CARTPOLE)
    episodes = minari_files.import_episodes(CARTPOLE)
    by_hand = {
        split: {made.names[0]: join([minari_files.encode(machine, episodes[i]) for i in numbers])}
        for split, numbers in minari_files.splits(40).items()
    }
    assert made.names == ("minari/cartpole.three-v0",)
    assert repr(made) == repr(demonstrations(by_hand, machine.vocabulary, length=16)), "which tells a digest of all tokens"
    with pytest.raises(FileNotFoundError, match=r"there are 36 episodes of cartpole.three-v0 for train in .*, not 37: ask for fewer"):
        embodiments.recorded([f"minari/{name}"], episodes=37, held_out=2, length=16)

    minari.delete_dataset(CARTPOLE)
    collect_cartpole(1)
    assert minari_files.import_into_store(CARTPOLE)[1:] == (1, 0)
    assert len(store.Store.open(build.folder_of("minari"))) == 1


def test_nested_spaces_and_what_lies_outside_them():
    seen = spaces.Dict(eye=spaces.Box(0, 255, (16, 32, 3), np.uint8), inner=spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)]))
    acted = spaces.Dict(turn=spaces.Discrete(4, start=-1), push=spaces.Box(-2, 2, (2, 1), np.float32))
    random = np.random.default_rng(0)
    observations, actions = [], []
    for n in (3, 2, 4, 2):
        eyes = random.integers(0, 256, (n + 1, 16, 32, 3), np.uint8)
        observations.append({"eye": eyes, "inner": (random.integers(0, 3, n + 1), random.integers(0, 2, (n + 1, 2)))})
        actions.append({"turn": random.integers(-1, 3, n), "push": random.uniform(-2, 2, (n, 2, 1)).astype(np.float32)})
    observations[1]["inner"][0][0] = 7  # no member of its space
    write("nested-v1", observations, actions, seen, acted)
    machine, episodes = minari_files.tokenizer("nested-v1"), minari_files.import_episodes("nested-v1")
    for i in (0, 2, 3):
        back, acts = machine.decode(minari_files.encode(machine, episodes[i]))
        np.testing.assert_array_equal(back["eye"], observations[i]["eye"][:-1])
        for one, other in zip(back["inner"], observations[i]["inner"], strict=True):
            np.testing.assert_array_equal(one, other[:-1])
        np.testing.assert_array_equal(acts["turn"], actions[i]["turn"])
        np.testing.assert_allclose(acts["push"], actions[i]["push"], rtol=0, atol=2 / 1024 + 1e-6)

    assert minari_files.import_into_store("nested-v1")[1:] == (3, 1)
    (shard, *_) = (store.Shard.open(path) for path in store.shard_paths(build.folder_of("minari")))
    assert shard.rejected == [(1, "without values in its spaces")]
    for one, i in zip(shard.read(), (0, 2, 3), strict=True):
        np.testing.assert_array_equal(one.observations["eye"], observations[i]["eye"][:-1])
        tokens = minari_files.tokens("nested-v1", one, Writer())
        np.testing.assert_array_equal(tokens.ids, minari_files.encode(machine, episodes[i]).ids)


def test_splits_share_nothing_and_leave_nothing_out():
    for n in (1, 2, 3, 19, 20, 100, 1234):
        parts = list(minari_files.splits(n).values())
        assert [i for part in parts for i in part] == list(range(n))
        assert len(parts[0]) == max(1, round(np.ceil(0.9 * n - 1e-9))) and 0 <= len(parts[1]) - len(parts[2]) <= 1


def test_the_command_exports_and_wrong_use_is_one_sentence(capsys, tmp_path):
    export = ["data", "export", "babyai", "GoToObjS4", "--episodes", "3"]
    assert main([*export, "--to-minari", "babyai/objects-v0"]) == 0
    assert "3 episodes are the Minari data set babyai/objects-v0 in" in capsys.readouterr().out
    assert len(minari.load_dataset("babyai/objects-v0")) == 3
    assert minari_files.names() == ["babyai/objects-v0"]
    for arguments, said in (
        ([*export, "--to-minari", "babyai/objects-v0"], "already: choose another name or version"),
        ([*export, "--to-minari", "../objects-v0"], "must be like babyai/go-to-local-v0, not '../objects-v0'"),
        ([*export, "--to-minari", "objects"], "must be like babyai/go-to-local-v0, not 'objects'"),
        (export, "export needs a name: --to-minari ID"),
        (["data", "export", "babyai"], "export needs a task"),
        (["data", "export", "scenes", "caption-shapes", "--episodes", "2", "--to-minari", "x-v0"], "there are babyai, metaworld"),
        (["data", "card", "babyai", "GoToObjS4"], "there is no place for 'GoToObjS4'"),
        (["data", "import", "babyai/object-v0"], "there is no Minari data set 'babyai/object-v0'"),
        (["data", "import", "babyai/object-v0"], "there are babyai/objects-v0"),
        (["data", "import"], "import needs the name of a Minari data set: babyai/objects-v0"),
        (["data", "build", "minari"], "not built but imported"),
    ):
        assert main(arguments) == 2, arguments
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "data" / "generalist" / "minari" / "x-v0").exists()


def test_spaces_without_tokens_are_named():
    few, wild = spaces.Box(0, 1, (1,), np.float32), spaces.Box(-np.inf, np.inf, (1,), np.float32)
    numbers = np.zeros((2, 1), np.float32)
    write("wild-v0", [numbers], [numbers[:1]], few, wild)
    with pytest.raises(TypeError, match=r"wild-v0 cannot be written as tokens: action is Box\(-inf.*needs finite bounds"):
        minari_files.import_into_store("wild-v0")
    write("many-v0", [{"where": np.zeros(2, int)}], [numbers[:1]], spaces.Dict(where=spaces.Discrete(5000)), few)
    with pytest.raises(ValueError, match=r"many-v0 cannot be written as tokens: observation.where has a number with 5000 values"):
        minari_files.import_into_store("many-v0")
    write("outside-v0", [numbers + 2], [numbers[:1]], few, few)
    with pytest.raises(ValueError, match=r"no episode of the Minari data set outside-v0 can be imported: observation must lie in"):
        minari_files.import_into_store("outside-v0")
    assert not store.shard_paths(build.folder_of("minari"))


def test_what_is_damaged_is_told(tmp_path):
    collect_cartpole(1)
    folder = tmp_path / "minari" / CARTPOLE / "data"
    file, facts = folder / "main_data.hdf5", folder / "metadata.json"
    whole, told = file.read_bytes(), json.loads(facts.read_text())
    for damaged in (b"", whole[:10], whole[:-10], whole[:50] + bytes(50) + whole[100:]):
        file.write_bytes(damaged)
        with pytest.raises(store.DamagedError, match=r"cartpole.three-v0 is damaged: "):
            minari_files.import_into_store(CARTPOLE)
    file.write_bytes(whole)
    assert len(minari_files.import_episodes(CARTPOLE)) == 1
    missing = {key: value for key, value in told.items() if key != "observation_space"}
    for changed, said in (
        (json.dumps(told)[:-5], "is damaged"),
        (json.dumps(told | {"total_episodes": 2}), "is damaged"),
        (json.dumps(missing), "does not tell its spaces"),
        (json.dumps(told | {"data_format": "arrow"}), "is kept as arrow; only hdf5 is read"),
        (json.dumps(told | {"minari_version": "9.0.0"}), "does not support"),
    ):
        facts.write_text(changed)
        with pytest.raises((OSError, ValueError), match=said):
            minari_files.import_into_store(CARTPOLE)
    assert not store.shard_paths(build.folder_of("minari"))


def test_an_export_that_fails_leaves_nothing(tmp_path):
    episode = babyai.record("GoToObjS4", 0)
    broken = episode._replace(facts=episode.facts | {"what": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        minari_files.export("babyai", "GoToObjS4", "train", [episode, broken], "babyai/broken-v0")
    assert minari_files.names() == [] and not (tmp_path / "minari" / "babyai" / "broken-v0").exists()
