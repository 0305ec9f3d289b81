"""A run on disk: one folder that survives being killed at any moment, and says in one sentence when a file is not what was written.

* `config.json`: method, preset, settings, seed, steps, versions, commit, machine, command.
* `metrics.jsonl`: one line per chunk of outer steps: the last step, the mean of each metric, the seconds it took.
* `checkpoint.safetensors`: the slow loop's whole state. Replacing it is the one moment at which a chunk counts as done; its header
  says how many bytes of `metrics.jsonl` belong to it, so lines written just before a kill are cut when the run resumes.
* `weights.safetensors`: the learner's arrays, written when the run is complete.
* `best.safetensors`: those after the chunk that did best on the valid split, if the method's module has a function
  `validation(config, tasks)`, which gives None or a function of a learner whose number is to be small: the metric "valid loss".
* `start.safetensors`: the weights that the run began with, if not with fresh ones; `config.json` says where those came from.

Of several processes that train one run together, all read its folder and the first alone writes into it.

Nothing is ever unpickled.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from quickstudy import catalog, measure, processes
from quickstudy.acting import Agent
from quickstudy.algorithms.references import default_references
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Split
from quickstudy.evaluation import Curve, evaluate
from quickstudy.outer import Program, Progress, run
from quickstudy.persist import Facts, append, load_tree, read_arrays, read_bytes, read_json, save_tree, write_atomically, write_json

CONFIG, METRICS, CHECKPOINT, WEIGHTS = "config.json", "metrics.jsonl", "checkpoint.safetensors", "weights.safetensors"
START, BEST, VALID = "start.safetensors", "best.safetensors", "valid loss"
_FORMAT = 1


class Settings(NamedTuple):
    """What decides a run's result: the method and its configuration, the preset that its tasks come from, seed and steps.

    `named` are tasks of the catalogue, or `gymnasium:ID`, instead of the preset's, with the parameters in `vary` varied.
    """

    method: str
    preset: str
    config: Any
    seed: int
    steps: int
    chunk: int
    named: str = ""
    vary: tuple[str, ...] = ()


class Run(NamedTuple):
    """A run folder, loaded: the learner after `step` outer steps, with what is needed to test it."""

    learner: AbstractLearner
    config: Any
    tasks: AbstractTaskDistribution
    method: str
    step: int
    ticks: int

    def agent(self) -> Agent:
        """The learner as an agent with `reset` and `act`; raises `TypeError` unless its tasks are of the control kind."""
        return Agent(self.learner, self.tasks)


def require_empty(folder: Path) -> None:
    """Raise `FileExistsError` if a folder is there and holds anything."""
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose another folder, or continue the run in it with --resume")


def create(folder: Path, settings: Settings, command: str, start: Path | None = None) -> None:
    """Make the folder of a new run, with nothing trained yet, to begin with the weights in the file `start` (None: fresh ones).

    Raises `FileExistsError` if something else than an empty folder is there, `OSError` if it cannot be written or `start` not be read.
    """
    require_empty(folder)
    weights = start and read_bytes(start)
    origin = start and read_arrays(start)[1]
    folder.mkdir(parents=True, exist_ok=True)
    tasks = tasks_of(settings)
    if weights:
        write_atomically(folder / START, weights)
    facts: Facts = (
        {"format": _FORMAT} | settings._asdict() | {"config": dataclasses.asdict(settings.config), "tasks": _describe(tasks)}
    )
    head = measure.commit()
    provenance = {"commit": head[0], "changed files": head[1]} if head else {}
    facts |= {"start": origin} if origin else {}
    facts |= provenance | {"versions": measure.versions(), "machine": measure.machine(), "command": command}
    write_json(folder / CONFIG, facts | {"created": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def tasks_of(settings: Settings) -> AbstractTaskDistribution:
    """The tasks of a run. Raises `ValueError` or `ImportError` if those that are named cannot be had."""
    if settings.named:
        return catalog.named_tasks(settings.named, settings.vary)
    return catalog.method_module(settings.method).PRESETS[settings.preset].tasks()


def _describe(tasks: AbstractTaskDistribution) -> str:
    """In its own words if it has some; else all fields, also defaults, which Equinox's printing leaves out; arrays by dtype, shape."""
    if type(tasks).__repr__ is not eqx.Module.__repr__:
        return repr(tasks)
    fields = [f"{name}={eqx.tree_pformat(value, width=10_000)}" for name, value in vars(tasks).items()]
    return f"{type(tasks).__name__}({', '.join(fields)})"


def read_settings(folder: Path) -> Settings:
    """The settings of the run in a folder. Raises `OSError` if there is none or it is damaged."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    return _settings(folder / CONFIG, read_json(folder / CONFIG))


def _settings(path: Path, facts: Facts) -> Settings:
    if facts.get("format") != _FORMAT:
        raise ValueError(f"{path} has format {facts.get('format')!r}; this version reads format {_FORMAT}")
    module = catalog.method_module(facts["method"])
    if facts["preset"] not in module.PRESETS:
        raise ValueError(f"{path} names preset {facts['preset']!r}, which {facts['method']} does not have: {sorted(module.PRESETS)}")
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in facts["config"].items()}
    try:
        config = module.Config(**fields)
    except TypeError:
        raise ValueError(f"{path} has other configuration fields than this version's {facts['method']}: {sorted(fields)}") from None
    # Runs of the first versions say nothing of tasks by name.
    known = {name: facts[name] for name in Settings._fields if name in facts}
    return Settings(**known | {"config": config, "vary": tuple(facts.get("vary", ()))})


def extend(folder: Path, steps: int) -> None:
    """Let a run go on to `steps` outer steps. Raises `ValueError` if it has already done more."""
    facts, done = read_json(folder / CONFIG), steps_done(folder)
    if steps < done:
        raise ValueError(f"steps must be at least {done}, which {folder} has already done, not {steps}")
    if steps != facts["steps"]:
        write_json(folder / CONFIG, facts | {"steps": steps})


def steps_done(folder: Path) -> int:
    """How many outer steps the run's checkpoint holds."""
    return read_arrays(folder / CHECKPOINT)[1]["step"] if (folder / CHECKPOINT).exists() else 0


def _build(folder: Path, settings: Settings) -> tuple[Program, AbstractTaskDistribution, int]:
    module = catalog.method_module(settings.method)
    preset = module.PRESETS[settings.preset]
    tasks = tasks_of(settings)
    if (now := _describe(tasks)) != (then := read_json(folder / CONFIG)["tasks"]):
        name = settings.named or f"preset {settings.preset!r}"
        raise ValueError(f"{folder / CONFIG}: {name} meant {then} when the run was made, and means {now} now")
    return module.program(settings.config, tasks), tasks, preset.ticks


def resume(folder: Path) -> Iterator[Progress]:
    """Train the run in a folder from where it stands to its end; yields after each chunk, when it is safe on the disk.

    Raises `OSError` if a file of the run is missing or damaged, and `NonFiniteError` with the last good checkpoint kept.
    """
    settings = read_settings(folder)
    program, tasks, _ = _build(folder, settings)
    if "start" in read_json(folder / CONFIG):
        program = starting_from(program, folder / START)
    validation = getattr(catalog.method_module(settings.method), "validation", None)
    with _only_trainer(folder) if processes.is_first() else contextlib.nullcontext():
        yield from _train(folder, settings, program, validation(settings.config, tasks) if validation else None)


def starting_from(program: Program, weights: Path) -> Program:
    """The program whose learner begins with the weights in a file; the rest of its state begins afresh.

    Beginning raises `OSError` for a file that is missing or damaged, `ValueError` if its weights are another learner's.
    """

    def init(key: PRNGKeyArray) -> Any:
        fresh = program.init(key)
        return eqx.tree_at(program.learner, fresh, load_tree(weights, program.learner(fresh))[0])

    return program._replace(init=init)


@contextlib.contextmanager
def _only_trainer(folder: Path) -> Iterator[None]:
    """Keep a second process from training in the same folder; the lock goes with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OSError(f"{folder} is being trained by another process") from None
    finally:
        os.close(descriptor)


def _train(
    folder: Path, settings: Settings, program: Program, validate: Callable[[AbstractLearner], float] | None
) -> Iterator[Progress]:
    step, state = _restart(folder, program)
    # Nothing is written before all processes have read.
    processes.wait_for_all("a run begins")
    writes = processes.is_first()
    metrics = (folder / METRICS).read_bytes() if step and writes else b""
    best, before = _best_so_far(folder, metrics), time.perf_counter()
    for progress in run(program, steps=settings.steps, seed=settings.seed, chunk=settings.chunk, start=step, state=state):
        now, learner = time.perf_counter(), program.learner(progress.state)
        if writes:
            loss = validate(learner) if validate else math.inf
            if validate:
                progress = progress._replace(metrics=progress.metrics | {VALID: np.array([loss])})
            metrics = _append(folder / METRICS, metrics, progress, now - before)
            if loss < best:
                # Before the checkpoint: after a kill between the two, the chunk is done again and writes the same.
                best = loss
                save_tree(folder / BEST, learner, {"step": progress.step, VALID: loss})
            facts = {"step": progress.step, "metrics_bytes": len(metrics), "metrics_sha256": hashlib.sha256(metrics).hexdigest()}
            save_tree(folder / CHECKPOINT, progress.state, facts)
        step, state, before = progress.step, progress.state, now
        yield progress
    if writes:
        save_tree(folder / WEIGHTS, program.learner(state), {"step": step})


def _best_so_far(folder: Path, metrics: bytes) -> float:
    """The least loss on the valid split in a run's metrics, infinite if there is none, after checking that its weights are there."""
    losses = [line["metrics"].get(VALID, math.inf) for line in map(json.loads, metrics.splitlines())]
    best = min((loss for loss in losses if math.isfinite(loss)), default=math.inf)
    if best < math.inf:
        read_arrays(folder / BEST)
    return best


def _restart(folder: Path, program: Program) -> tuple[int, Any]:
    """The step and state of the checkpoint, with metrics cut to what belongs to it; step 0 and no state if there never was one."""
    path, checkpoint = folder / METRICS, folder / CHECKPOINT
    if not processes.is_first():
        state, facts = _checkpoint(checkpoint, program) if checkpoint.exists() else (None, {"step": 0})
        return facts["step"], state
    metrics = path.read_bytes() if path.exists() else b""
    if not checkpoint.exists():
        # Killed before its first checkpoint a run has at most one line of metrics. More means that the checkpoint was taken away.
        if metrics.count(b"\n") > 1 or (folder / WEIGHTS).exists():
            raise FileNotFoundError(f"{checkpoint} is missing")
        path.unlink(missing_ok=True)
        return 0, None
    state, facts = _checkpoint(checkpoint, program)
    check_metrics(path, facts)
    if len(metrics) > facts["metrics_bytes"]:
        os.truncate(path, facts["metrics_bytes"])
    return facts["step"], state


def _checkpoint(path: Path, program: Program) -> tuple[Any, Facts]:
    return load_tree(path, eqx.filter_eval_shape(program.init, jr.key(0)))


def check_metrics(path: Path, facts: Facts) -> bytes:
    """The metrics that belong to a checkpoint with these facts. Raises `OSError` if they are missing, cut short or changed."""
    metrics = read_bytes(path)
    if len(metrics) < facts["metrics_bytes"]:
        raise OSError(f"{path} is cut short: {len(metrics)} of {facts['metrics_bytes']} bytes are there")
    metrics = metrics[: facts["metrics_bytes"]]
    if hashlib.sha256(metrics).hexdigest() != facts["metrics_sha256"]:
        raise OSError(f"{path} was changed after it was written: its digest does not fit its content")
    return metrics


def _append(path: Path, before: bytes, progress: Progress, seconds: float) -> bytes:
    means = {name: float(np.mean(values)) for name, values in progress.metrics.items()}
    line = json.dumps({"step": progress.step, "metrics": means, "seconds": round(seconds, 4)}).encode() + b"\n"
    append(path, line)
    return before + line


def load(folder: str | Path, *, best: bool = False) -> Run:
    """Load the learner of a run folder, with its configuration and tasks; of an unfinished run, the learner of its checkpoint.

    With `best`, the learner after the chunk that did best on the valid split, where the run keeps it.

    Raises `OSError` if a file is missing or damaged, `ValueError` if the folder is of another version's method.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    program, tasks, ticks = _build(folder, settings)
    done, weights = steps_done(folder), folder / (BEST if best else WEIGHTS)
    if best and not weights.exists():
        raise FileNotFoundError(f"{weights} is missing: a run keeps its best weights if its method is scored on the valid split")
    if not done and not weights.exists():
        raise FileNotFoundError(f"{folder / CHECKPOINT} is missing: without it and {WEIGHTS} there is no learner")
    if 0 < done < settings.steps and not best:
        state, facts = _checkpoint(folder / CHECKPOINT, program)
        learner = program.learner(state)
    else:
        fresh = catalog.method_module(settings.method).learner(settings.config, tasks, jr.key(0))
        learner, facts = load_tree(weights, fresh)
        if facts["step"] < done and not best:
            raise OSError(f"{weights} is of step {facts['step']}, older than the checkpoint: resume the run to write it again")
    return Run(learner, settings.config, tasks, settings.method, facts["step"], ticks)


def read_metrics(folder: Path) -> list[Facts]:
    """The lines of a run's metrics that its checkpoint vouches for."""
    if not (folder / CHECKPOINT).exists():
        return []
    return [json.loads(line) for line in check_metrics(folder / METRICS, read_arrays(folder / CHECKPOINT)[1]).splitlines()]


def try_out(module: Any, config: Any, tasks: AbstractTaskDistribution, start: Path | None = None) -> None:
    """Trace a method's first update, so that settings that do not fit raise their `ValueError` before anything is written."""
    program = module.program(config, tasks)
    if start:
        program = starting_from(program, start)
    state = eqx.filter_eval_shape(program.init, jr.key(0))
    eqx.filter_eval_shape(program.update, state, jr.key(0))


def evaluate_run(folder: Path, *, split: Split = "test", n_tasks: int = 1_000, ticks: int | None = None, seed: int = 0) -> Facts:
    """Test a run's learner beside the untrained one and the references of its tasks, and return the result.

    It is kept in the folder as `evaluation.<split>.json`.

    Raises what `load` and `evaluate` raise.
    """
    loaded = load(folder)
    untrained = catalog.method_module(loaded.method).learner(loaded.config, loaded.tasks, jr.key(seed))
    steps = ticks or loaded.ticks
    references = {"untrained": untrained, **default_references(loaded.tasks, steps)}
    report = evaluate(loaded.learner, loaded.tasks, split=split, n_tasks=n_tasks, steps=steps, key=jr.key(seed), references=references)
    found = {"method": loaded.method, "step": loaded.step, "split": split, "n_tasks": n_tasks, "ticks": report.ticks, "seed": seed}
    curves = {name: _plain(curve) for name, curve in report.references.items()}
    found |= {"curve": _plain(report.curve), "references": curves, "seconds": round(report.seconds, 3)}
    write_json(folder / f"evaluation.{split}.json", found)
    return found


def _plain(curve: Curve) -> dict[str, list[float]]:
    return {name: [float(value) for value in values] for name, values in dataclasses.asdict(curve).items()}
