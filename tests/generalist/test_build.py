"""Building: killed, damaged or enlarged, the result is the one of an unbroken build."""

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quickstudy.cli import main
from quickstudy.generalist.data import build, card, store
from quickstudy.generalist.data.store import Store

TOY = """
import os
import time

import numpy as np

from quickstudy import catalog
from quickstudy.generalist.data.store import Episode, Rejected

TITLE, LICENCE, CAVEATS = "Toys", "free", ("They are toys.",)
GROUPS = {"all": ("easy", "hard")}


def find(names):
    found = [task for name in names for task in GROUPS.get(name, (name,))]
    return [catalog.require(task, ("easy", "hard", "slow", "deadly", "faulty"), "task") for task in found]


def provenance():
    return {"generator": "toy 1", "expert": "nobody"}


def record(task, seed):
    if task == "slow":
        time.sleep(0.02)
    if task == "deadly" and seed == 7:
        os._exit(3)
    if task == "faulty" and seed == 7:
        raise RuntimeError("its bot is lost")
    if seed % 5 == 3:
        return Rejected(seed, "no reward")
    random = np.random.default_rng(seed)
    steps = 1 + seed % 4
    observations = {"image": random.integers(0, 9, (steps, 5), np.uint8)}
    return Episode(observations, np.arange(steps), np.ones(steps), {"seed": seed, "return": 1.0})
"""


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toys.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setitem(build.DOMAINS, "toys", build.Domain("toys", "toys"))
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path / "data"))
    monkeypatch.delitem(sys.modules, "toys", raising=False)
    return tmp_path / "code"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in store.shard_paths(folder)}


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in store.shard_paths(folder)}


def test_a_build_again_larger_and_after_damage(tmp_path):
    told = []
    folder = tmp_path / "out"
    options = {"folder": folder, "block": 4, "report": lambda done, numbers: told.append((done, dict(numbers)))}
    built = build.build("toys", episodes=7, **options)
    assert (built.kept, built.made) == (0, 4)
    assert told[0] == (0, {})
    assert told[-1] == (16, {"mean length": 16 / 7, "rejected": 2})
    opened = Store.open(folder, tasks=["easy"])
    assert [opened.facts(i)["seed"] for i in range(len(opened))] == [0, 1, 2, 4, 5, 6, 7]
    assert opened.facts(3) == opened.episode(3).facts
    assert opened.facts(3)["task"] == "easy"

    before = times(folder)
    assert build.build("toys", episodes=8, **options)[1:3] == (4, 0)
    assert times(folder) == before

    whole = content(folder)
    broken = folder / "hard" / "train-000001.shard"
    broken.write_bytes(whole["hard/train-000001.shard"][:-9])
    built = build.build("toys", ["hard"], episodes=12, **options)
    assert (built.kept, built.made) == (1, 2)
    assert built.set_aside == [folder / "hard" / "train-000001.shard.damaged"]
    assert built.set_aside[0].read_bytes() == whole["hard/train-000001.shard"][:-9]
    assert content(folder) == whole | {"hard/train-000002.shard": (folder / "hard" / "train-000002.shard").read_bytes()}
    assert {name: time for name, time in times(folder).items() if name in before and "hard/train-000001" not in name} == {
        name: time for name, time in before.items() if "hard/train-000001" not in name
    }
    described = card.card("toys", folder)
    assert "| easy | train | 8 | 7 | 16 | 1.000 | 2.3 |" in described
    assert described.count("1 no reward") == 1
    assert "toy 1; expert: nobody (5 shards)" in described
    with pytest.raises(ValueError, match="blocks of another size"):
        build.build("toys", episodes=8, folder=folder, block=2)


SCRIPT = """
import sys
from pathlib import Path
from quickstudy.generalist.data import build

if __name__ == "__main__":
    build.DOMAINS["toys"] = build.Domain("toys", "toys")
    build.build("toys", ["slow"], episodes=60, jobs=2, folder=Path(sys.argv[1]), block=6)
"""


def test_a_killed_build_goes_on_where_it_stopped(tmp_path, toys):
    (toys / "script.py").write_text(SCRIPT)
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    command = [sys.executable, str(toys / "script.py"), str(killed)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while len(store.shard_paths(killed)) < 3 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        # The pipe is closed when its last holder leaves: so the workers, too, are gone, and without a word.
        assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == -signal.SIGKILL
    left = content(killed)
    assert 3 <= len(left) < 10
    before = times(killed)
    built = build.build("toys", ["slow"], episodes=60, folder=killed, block=6)
    assert (built.kept, built.made) == (len(left), 10 - len(left))
    assert times(killed).items() >= before.items()
    build.build("toys", ["slow"], episodes=60, jobs=2, folder=unbroken, block=6)
    assert content(killed) == content(unbroken)


def test_a_lost_worker_is_told_and_costs_no_block(tmp_path):
    with pytest.raises(OSError, match=r"the worker that made deadly/train-000001\.shard was lost"):
        build.build("toys", ["deadly"], episodes=12, folder=tmp_path / "out", block=4)
    assert list(content(tmp_path / "out")) == ["deadly/train-000000.shard"]


def test_an_episode_that_cannot_be_made_is_told_with_its_seed_and_costs_no_block(tmp_path):
    why = r"seed 7 of faulty cannot be made \(RuntimeError: its bot is lost\): what is built stays"
    with pytest.raises(OSError, match=why):
        build.build("toys", ["faulty"], episodes=12, folder=tmp_path / "out", block=4)
    assert list(content(tmp_path / "out")) == ["faulty/train-000000.shard"]


def test_what_is_not_damage_stops_the_build_and_stays(tmp_path):
    build.build("toys", ["easy"], episodes=4, folder=tmp_path, block=4)
    path = tmp_path / "easy" / "train-000000.shard"
    later = path.read_bytes()[:16] + b"\x02" + path.read_bytes()[17:]
    path.write_bytes(later)
    with pytest.raises(OSError, match="has format version 2; this version of quickstudy reads version 1"):
        build.build("toys", ["easy"], episodes=4, folder=tmp_path, block=4)
    assert path.read_bytes() == later


def test_a_folder_has_one_domain(tmp_path):
    build.build("toys", ["easy"], episodes=4, folder=tmp_path, block=4)
    with pytest.raises(ValueError, match="has episodes of toys: build scenes into another folder"):
        build.build("scenes", ["caption-shapes"], episodes=4, folder=tmp_path, block=4)
    assert list(content(tmp_path)) == ["easy/train-000000.shard"]


def test_two_builds_in_one_folder(tmp_path):
    with (tmp_path / ".building").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another build is at work"):
            build.build("toys", ["easy"], episodes=4, folder=tmp_path, block=4)
    assert build.build("toys", ["easy"], episodes=4, folder=tmp_path, block=4).made == 1


def test_splits_and_blocks_share_no_seed():
    works = [work for split in store.SEEDS for work in build.plan("toys", ["easy"], episodes=20, split=split, block=8)]
    seeds = [seed for work in works for seed in work.seeds]
    assert len(works) == 9
    assert len(seeds) == len(set(seeds)) == 9 * 8
    assert len({work.place for work in works}) == 9


def test_what_cannot_be_built_is_told():
    with pytest.raises(ValueError, match="did you mean 'babyai'"):
        build.build("babyia", episodes=1)
    with pytest.raises(ValueError, match="did you mean 'hard'"):
        build.build("toys", ["hart"], episodes=1)
    with pytest.raises(ValueError, match="from 1 to 1000000"):
        build.build("toys", episodes=1_000_001)


def test_the_command_builds_babyai_and_tells_of_it(tmp_path, capsys):
    command = ["data", "build", "babyai", "--levels", "GoToObjS4", "--episodes", "1"]
    folder = tmp_path / "data" / "generalist" / "babyai"
    assert main(command) == 0
    assert "babyai train  100/100" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 blocks made, 1 were there" in capsys.readouterr().out
    assert len(Store.open(folder)) == 100

    assert main(["data", "card", "babyai"]) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "card.md").read_text()
    assert "| GoToObjS4 | train | 100 | 100 |" in printed
    assert "minigrid 3." in printed

    assert main(["data", "list"]) == 0
    assert "100 episodes of 1 tasks built" in capsys.readouterr().out
    assert main(["data", "check", "babyai"]) == 0
    assert "1 shards are whole" in capsys.readouterr().out
    shard = folder / "GoToObjS4" / "train-000000.shard"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert main(["data", "check", "babyai"]) == 2
    assert f"{shard} is damaged" in capsys.readouterr().out
    assert main(["data", "card", "babyai"]) == 2
    assert f"{shard} is damaged" in capsys.readouterr().err
    assert main(command) == 0
    assert "damaged one is kept" in capsys.readouterr().out
    assert main(["data", "check", "babyai"]) == 0


def test_wrong_use_is_one_sentence(capsys):
    for arguments, said in (
        (["build"], "build needs the name of a domain: babyai"),
        (["build", "babyai", "--levels", "GoToLokal"], "did you mean 'GoToLocal'"),
        (["build", "babyai", "--episodes", "0"], "--episodes"),
        (["build", "--mixture", "smoke", "--tasks", "GoToObj"], "leave out the domain, --out, --tasks, --episodes, --split"),
        (["card", "babyai"], "there are no episodes in"),
        (["check", "metaworld"], "there are no shards in"),
    ):
        assert main(["data", *arguments]) == 2
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1
