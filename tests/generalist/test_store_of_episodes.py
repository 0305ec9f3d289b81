"""Episodes on disk: what goes in comes out, and any damage is told in a sentence that names the file."""

import itertools

import numpy as np
import pytest

from quickstudy.generalist.data import store
from quickstudy.generalist.data.store import Episode, Rejected, Shard, Store, write_shard


def episode(seed: int, steps: int) -> Episode:
    random = np.random.default_rng(seed)
    observations = {
        "image": random.integers(0, 256, (steps, 3, 2), np.uint8),
        "speed": random.normal(size=steps),
        "words": ["go", "stop", "geh nicht über Los"][:steps] + ["go"] * (steps - 3),
    }
    facts = {"seed": seed, "return": seed / 3}
    return Episode(observations, random.integers(0, 7, steps, np.uint8), random.normal(size=(steps,)).astype(np.float32), facts)


def write(folder, task: str, split: str, *episodes: Episode):
    path = folder / task / f"{split}-{len(episodes)}.shard"
    write_shard(path, episodes, {"task": task, "split": split}, [Rejected(99, "no reward")])
    return path


def same(one: Episode, other: Episode):
    assert one.observations.keys() == other.observations.keys()
    for name, values in one.observations.items():
        np.testing.assert_array_equal(values, other.observations[name], strict=True)
        assert type(values) is type(other.observations[name])
    np.testing.assert_array_equal(one.actions, other.actions, strict=True)
    np.testing.assert_array_equal(one.rewards, other.rewards, strict=True)


def test_episodes_come_back_as_they_were(tmp_path):
    episodes = [episode(1, 4), episode(2, 1), episode(3, 9)]
    shard = Shard.open(write(tmp_path, "walk", "train", *episodes))
    assert shard.rejected == [Rejected(99, "no reward")]
    for before, after in zip(episodes, shard.read(), strict=True):
        same(before, after)
        assert after.facts == before.facts | {"task": "walk", "split": "train", "steps": len(before.actions)}


def test_a_block_without_episodes(tmp_path):
    shard = Shard.open(write(tmp_path, "walk", "train"))
    assert shard.read() == []
    assert len(Store([shard])) == 0


def test_what_does_not_fit_together_is_refused():
    short = episode(1, 4)
    with pytest.raises(ValueError, match="observations/words has 3 steps and actions has 4"):
        store.pack([short._replace(observations={"words": ["go"] * 3})], {})
    with pytest.raises(ValueError, match="same names, types and shapes"):
        store.pack([short, short._replace(actions=np.zeros((4, 2), np.uint8))], {})
    with pytest.raises(ValueError, match="actions must be an array of numbers"):
        store.pack([short._replace(actions=np.array([None] * 4))], {})


def test_any_byte_that_was_changed_is_noticed(tmp_path):
    path = write(tmp_path, "walk", "train", episode(1, 4))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(OSError, match=r"train-1\.shard (is damaged|has format version)"):
            Shard.open(path).read()


def test_a_file_cut_anywhere_is_noticed_without_reading_its_body(tmp_path):
    path = write(tmp_path, "walk", "train", episode(1, 4))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(OSError, match=r"train-1\.shard is damaged"):
            Shard.open(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(OSError, match=f"it has {len(whole) + 1} bytes where its index says {len(whole)}"):
        Shard.open(path)


def test_facts_are_read_without_bodies_and_a_broken_body_harms_only_its_own(tmp_path):
    good, bad = write(tmp_path, "a", "train", episode(1, 2)), write(tmp_path, "b", "train", episode(2, 3))
    bad.write_bytes(bad.read_bytes()[:-1] + b"?")
    opened = Store.open(tmp_path)
    assert [opened.facts(i)["seed"] for i in range(2)] == [1, 2]
    same(opened.episode(0), episode(1, 2))
    with pytest.raises(OSError, match=f"{bad} is damaged: its body"):
        opened.episode(1)
    assert store.complaints(tmp_path) == [f"{bad} is damaged: its body does not fit its digest"]
    assert good.exists()


def test_a_store_is_one_sequence_over_its_shards(tmp_path):
    write(tmp_path, "a", "train", episode(1, 2), episode(2, 3), episode(3, 5))
    write(tmp_path, "a", "valid", episode(4, 2))
    write(tmp_path, "b", "train")
    write(tmp_path, "c", "train", episode(5, 1), episode(6, 4))
    (tmp_path / "a" / "train-9.shard.damaged").write_bytes(b"")
    (tmp_path / "a" / ".train-9.shard.tmp").write_bytes(b"half")
    opened = Store.open(tmp_path)
    seeds = [1, 2, 3, 4, 5, 6]
    assert len(opened) == 6
    assert [opened.facts(i)["seed"] for i in range(6)] == seeds
    assert [opened.episode(i).facts["seed"] for i in reversed(range(6))] == seeds[::-1]
    assert [one.facts["seed"] for one in opened.iterate()] == seeds
    assert [one.facts["seed"] for one in opened.iterate("valid")] == [4]
    assert len(Store.open(tmp_path, tasks=["c"])) == 2
    assert [one.facts["seed"] for one in Store.open(tmp_path, split="train").iterate()] == [1, 2, 3, 5, 6]
    for outside in (-1, 6):
        with pytest.raises(IndexError, match="there are 6"):
            opened.facts(outside)
    with pytest.raises(FileNotFoundError, match="no episodes of b in the split valid"):
        Store.open(tmp_path, tasks=["b"], split="valid")


def test_splits_share_no_seed():
    ranges = sorted(store.SEEDS.values(), key=lambda seeds: seeds[0])
    assert all(before[-1] < after[0] for before, after in itertools.pairwise(ranges))
