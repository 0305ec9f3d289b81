"""The benchmarks' structure: what `quickstudy bench` relies on, and the verdicts that it prints. Nothing here is timed."""

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from quickstudy.algorithms.imitation.gato_packing import BLANK
from quickstudy.core import sample_tasks
from quickstudy.generalist.embodiments import parse

FOLDER = Path(__file__).parents[1] / "benchmarks"
STEMS = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def running():
    return importlib.import_module("_running")


@pytest.mark.parametrize("stem", STEMS)
def test_a_benchmark_has_a_name_targets_and_a_measurement(stem, running):
    module = importlib.import_module(stem)
    assert stem.replace("_", "-") == module.NAME
    assert module.TARGETS
    assert all(isinstance(target, running.Target) and target.value > 0 for target in module.TARGETS)
    assert len({target.figure for target in module.TARGETS}) == len(module.TARGETS)
    assert callable(module.measure)


def test_benchmarks_load_nothing_whose_loading_they_measure():
    heavy = "{'jax', 'equinox', 'optax', 'torch', 'higher', 'gymnasium', 'stable_baselines3'}"
    code = f"import sys, {', '.join(STEMS)}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_targets_bound_from_the_side_they_name(running):
    fast, short = running.Target("rate", "at least", 2.0), running.Target("seconds", "at most", 2.0)
    assert [fast.met_by(value) for value in (1.0, 2.0, 3.0)] == [False, True, True]
    assert [short.met_by(value) for value in (1.0, 2.0, 3.0)] == [True, True, False]


def test_a_result_is_stored_and_printed_with_its_verdicts(running, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(running, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["rate.py"])
    targets = [
        running.Target("rate", "at least", 2.0),
        running.Target("seconds", "at most", 2.0),
        running.Target("absent", "at least", 1),
    ]
    running.main("rate", targets, lambda: {"metrics": {"rate": 3.0, "seconds": 4.0, "other": 5.0}, "notes": ["a note"]})
    stored = json.loads((tmp_path / "results" / "rate.json").read_text())
    assert {row["figure"]: row["met"] for row in stored["targets"]} == {"rate": True, "seconds": False}
    assert {"cost", "machine", "versions", "load_average_before", "date", "commit"} <= set(stored)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["rate", "3", "at", "least", "2", "met"]
    assert lines[2].endswith("NOT met")
    assert "a note" in lines[-1] or "a note" in lines[-2]


def test_a_failed_measurement_ends_in_its_last_words(running):
    with pytest.raises(RuntimeError, match="no luck"):
        running.spawn([sys.executable, "-c", "raise SystemExit('no luck')"])


def test_a_fresh_process_reports_its_cost(running):
    text, cost = running.spawn([sys.executable, "-c", "sum(range(3_000_000)); print('done')"])
    assert text == "done\n"
    assert cost.cpu_seconds > 0
    assert cost.wall_seconds > 0


def test_without_the_extra_the_peers_are_left_out_and_the_extra_is_named(monkeypatch):
    maml_step = importlib.import_module("maml_step")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    steps, agreement, versions, notes = maml_step._peers(None, None, None)
    assert (steps, agreement, versions) == ({}, {}, {})
    assert "quickstudy[bench]" in notes[0]


def test_the_generalists_windows_are_packed_or_hold_one_episode_and_blanks(monkeypatch):
    module = importlib.import_module("generalist")
    monkeypatch.setattr(module, "EPISODES", 3)
    monkeypatch.setattr(module, "LEVELS", ("GoToObj",))
    body, _ = parse("babyai-compact/GoToObj")
    lengths = {len(body.encode([episode]).ids) for episode in module._recorded()["GoToObj"]}
    for packed in (True, False):
        windows = sample_tasks(module._demonstrations(packed=packed), jax.random.key(0), "train", 32)
        useful = np.sum(np.asarray(windows.seen.id) != BLANK, axis=1)
        assert set(useful) <= ({module.LENGTH} if packed else lengths)
