"""Runs that are killed, interrupted or starved in earnest: real processes, real signals."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_STEPS = 600
_TRAIN = [sys.executable, "-m", "quickstudy.cli", "train"]
_NEW = ["maml", "--preset", "smoke", "--steps", str(_STEPS)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The processes share a compile cache, so that only the first one compiles."""
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, environment) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    subprocess.run([*_TRAIN, *_NEW, "--out", str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)
    return folder


def metrics_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def lines_in(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stop_after(process: subprocess.Popen, folder: Path, lines: int, number: int, delay: float = 0.0) -> None:
    """Send a signal once the run's metrics have so many lines."""
    deadline = time.monotonic() + 120
    while lines_in(folder) < lines and process.poll() is None:
        assert time.monotonic() < deadline, "the run does not advance"
        time.sleep(0.0005)
    time.sleep(delay)
    process.send_signal(number)


def test_killed_runs_end_as_the_unbroken_one(tmp_path, environment, unbroken):
    folder, chance = tmp_path / "run", random.Random()
    arguments = [*_NEW, "--out", str(folder)]
    for lines in (1, 25, 60):
        process = subprocess.Popen([*_TRAIN, *arguments], env=environment, stdout=subprocess.DEVNULL)
        stop_after(process, folder, lines, signal.SIGKILL, chance.uniform(0, 0.01))
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
        arguments = ["--resume", str(folder)]
    assert not (folder / "weights.safetensors").exists()
    subprocess.run([*_TRAIN, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "weights.safetensors").read_bytes() == (unbroken / "weights.safetensors").read_bytes()
    assert metrics_of(folder) == metrics_of(unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_run_that_resumes_to_the_same_end(tmp_path, environment, unbroken, number):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*_TRAIN, *_NEW, "--out", str(folder)], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    stop_after(process, folder, 3, number)
    _, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint.decode() == f"quickstudy: interrupted; resume with: quickstudy train --resume {folder}\n"
    assert lines_in(folder) < lines_in(unbroken)
    subprocess.run([*_TRAIN, "--resume", str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "weights.safetensors").read_bytes() == (unbroken / "weights.safetensors").read_bytes()


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, environment, unbroken):
    folder = tmp_path / "run"
    most = (unbroken / "weights.safetensors").stat().st_size
    # No file may grow beyond the size of the weights: enough for config and metrics, too little for a checkpoint.
    script = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        "from quickstudy.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "train", *_NEW, "--out", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"quickstudy: {folder / 'checkpoint.safetensors'}: cannot be written: file too large\n"
    subprocess.run([*_TRAIN, "--resume", str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "weights.safetensors").read_bytes() == (unbroken / "weights.safetensors").read_bytes()


def test_a_signal_during_long_work_inside_a_library_leaves_within_moments():
    script = (
        "import hashlib; from quickstudy.cli.interrupt import watch\n"
        "with watch('farewell'):\n"
        "    print('ready', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, farewell = process.communicate(timeout=60)
    assert (process.returncode, farewell) == (130, "farewell\n")
