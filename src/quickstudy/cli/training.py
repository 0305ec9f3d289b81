"""`quickstudy train` and `quickstudy eval`."""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quickstudy import catalog
from quickstudy.cli.compile_cache import use_compile_cache
from quickstudy.cli.flags import Parser, add_config_flags, add_data_flags, count, given_config, whole_number
from quickstudy.cli.interrupt import watch
from quickstudy.cli.show_progress import show_progress, text_of

_MOST_ROWS = 12
_SHIPPED = Path("generalist")
_MOST_CHUNK = 100  # ours: a checkpoint costs milliseconds, and a hundred of them per run show enough


def train_command(arguments: Sequence[str]) -> int:
    """Train a method in new run folders, or resume the runs in existing ones."""
    method = arguments[0] if arguments and not arguments[0].startswith("-") else None
    parser = _train_parser(method)
    found = parser.read(arguments)
    if found.resume is None and method is None:
        raise ValueError("train needs the id of a method first, as in: quickstudy train maml (quickstudy list shows all)")
    if found.distributed and not (found.resume or found.out):
        raise ValueError("--distributed needs --out, a folder that all processes see: the default one is named by the time")
    from quickstudy import processes

    if found.distributed:
        processes.join()
    folders = _new_runs(found, ["train", *arguments]) if found.resume is None else _resumed(parser, found)
    use_compile_cache()
    # The first process speaks for all.
    with contextlib.nullcontext() if processes.is_first() else contextlib.redirect_stdout(io.StringIO()):
        return next((code for code in map(_train, folders) if code), 0)


def _train_parser(method: str | None) -> Parser:
    parser = Parser("train", "Meta-train a method in a run folder. Killed or interrupted at any moment, it resumes with --resume.")
    parser.add_argument("method", nargs="?", metavar="ID", help="a method's id (quickstudy list)")
    parser.add_argument("--preset", help="tasks and settings that are known to work; the first one by default")
    parser.add_argument(
        "--tasks", metavar="NAME", help="other tasks: an id of the catalogue, or gymnasium:ID as in gymnasium:CartPole-v1"
    )
    parser.add_argument("--vary", metavar="A,B", help="parameters of --tasks that differ from task to task, as in length,masspole")
    parser.add_argument("--steps", type=count, help="outer steps (the preset's by default; with --resume, how far to go)")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=whole_number, help="0 by default")
    seeds.add_argument("--seeds", type=count, help="train this many seeds, each in a folder of its own")
    parser.add_argument("--out", type=Path, help="the run folder (runs/<id>-<preset>-<time> by default)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run, or the runs of --seeds, in this folder")
    parser.add_argument("--start-from", type=Path, metavar="FILE", help="begin with the weights in this file instead of fresh ones")
    parser.add_argument(
        "--distributed",
        action="store_true",
        default=None,
        help="this is one of several processes that train one run, all started with the same command: JAX finds the others under "
        "SLURM, Open MPI, Kubernetes and on TPUs; elsewhere set QUICKSTUDY_COORDINATOR=HOST:PORT of the first one, "
        "QUICKSTUDY_PROCESSES, how many there are, and QUICKSTUDY_PROCESS, which one this is, from 0",
    )
    add_data_flags(parser)
    if method is not None:
        module = catalog.METHODS[catalog.require(method, catalog.METHODS, "method")]
        fields = catalog.defaults(module)
        group = parser.add_argument_group(f"configuration of {method}")
        config = catalog.method_module(method).Config
        add_config_flags(group, config, {field.name: f"[{field.default}] {field.source}" for field in fields})
    return parser


def _resumed(parser: Parser, found: argparse.Namespace) -> list[Path]:
    """The folders to resume, after checking that nothing else is asked of them."""
    asked = [name for name, value in vars(found).items() if value is not None]
    fixed = [name for name in asked if name not in ("method", "steps", "resume", "distributed")]
    if fixed:
        flag = fixed[0].removeprefix("config.").replace("_", "-")
        raise ValueError(f"with --resume the run keeps its own settings: leave out --{flag}")
    from quickstudy import processes, store

    several = sorted(path.parent for path in found.resume.glob(f"seed-*/{store.CONFIG}"))
    folders = several if several and not (found.resume / store.CONFIG).exists() else [found.resume]
    for folder in folders:
        settings = store.read_settings(folder)
        if found.method not in (None, settings.method):
            raise ValueError(f"{folder} holds a run of {settings.method}, not of {found.method}")
        if found.steps is not None and processes.is_first():
            store.extend(folder, found.steps)
    processes.wait_for_all("runs are extended")
    return folders


def _new_runs(found: argparse.Namespace, command: Sequence[str]) -> list[Path]:
    from quickstudy import processes, store

    module = catalog.method_module(found.method)
    name = catalog.require(found.preset, module.PRESETS, f"preset of {found.method}") if found.preset else next(iter(module.PRESETS))
    preset = module.PRESETS[name]
    config = dataclasses.replace(preset.config, **given_config(found, module.Config))
    steps = found.steps or preset.steps
    chunk = min(max(steps // 100, 1), _MOST_CHUNK)
    out = found.out or Path("runs") / f"{found.method}-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    seeds = range(found.seeds) if found.seeds else [found.seed or 0]
    folders = [out / f"seed-{seed}" if found.seeds else out for seed in seeds]
    # Build everything once before anything is written, so that a setting that does not fit leaves no folder behind.
    if found.vary and not found.tasks:
        raise ValueError("--vary needs --tasks: a preset's tasks vary as they do")
    vary = tuple(part.strip() for part in found.vary.split(",")) if found.vary else ()
    settings = [store.Settings(found.method, name, config, seed, steps, chunk, found.tasks or "", vary) for seed in seeds]
    store.try_out(module, config, store.tasks_of(settings[0]), found.start_from)
    for folder in folders:
        store.require_empty(folder)
    processes.wait_for_all("folders are empty")
    for each, folder in zip(settings, folders, strict=True):
        if processes.is_first():
            store.create(folder, each, shlex.join(["quickstudy", *command]), found.start_from)
    processes.wait_for_all("runs are created")
    return folders


def _train(folder: Path) -> int:
    from quickstudy import processes, store
    from quickstudy.failures import EnvironmentFailure
    from quickstudy.outer import NonFiniteError

    settings, start = store.read_settings(folder), store.steps_done(folder)
    ticks = _ticks_of_a_step(settings.config, store.tasks_of(settings))
    again = f"quickstudy: interrupted; resume with: quickstudy train --resume {shlex.quote(str(folder))}"
    last: dict[str, float] = {}
    with watch(again) as interrupt, show_progress(str(folder), total=settings.steps, start=start, ticks=ticks) as report:
        try:
            for progress in store.resume(folder):
                last = {name: float(values.mean()) for name, values in progress.metrics.items()}
                report(progress.step, last)
                if progress.step < settings.steps and processes.any_of_all(interrupt.asked):
                    break
        except (NonFiniteError, EnvironmentFailure) as error:
            print(f"quickstudy: {folder}: {error}", file=sys.stderr)
            return 1
    if processes.any_of_all(interrupt.asked):
        print(again, file=sys.stderr)
        return 130
    print(f"{folder} is trained: {settings.steps} steps{'  ' + text_of(last) if last else ''}")
    print(f"Next: quickstudy eval {shlex.quote(str(folder))}")
    return 0


def _ticks_of_a_step(config: Any, tasks: Any) -> int:
    """How many ticks of an environment a method lives in one outer step, 0 where its settings do not say."""
    from quickstudy.tasks.control import AbstractControl

    says = isinstance(tasks, AbstractControl) and hasattr(config, "lives") and hasattr(config, "ticks")
    return config.lives * config.ticks if says else 0


def eval_command(arguments: Sequence[str]) -> int:
    """Test a run on held-out tasks."""
    parser = Parser("eval", "Test a run on tasks never drawn in training, beside its learner before any training.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or `generalist`: the one that comes with the package")
    parser.add_argument("--split", choices=("train", "valid", "test", "out-of-range"), default="test", help="test by default")
    parser.add_argument("--n-tasks", type=count, help="1,000 by default; of a generalist 100 episodes of each task, of Meta-World 50")
    parser.add_argument(
        "--prompts", help="of a generalist: what stands before the episodes that it plays, such as none,start,end,uniform,wrong-task"
    )
    parser.add_argument("--only", metavar="A,B", help="of a generalist: these tasks or embodiments, such as babyai-compact,scenes")
    parser.add_argument("--best", action="store_true", help="of a generalist: the weights that did best on the valid split")
    parser.add_argument("--cloning", action="store_true", help="of a generalist: train plain behaviour cloning too, to play beside it")
    parser.add_argument("--greedy", action="store_true", help="of a generalist: take the likeliest actions instead of drawing them")
    parser.add_argument("--ticks", type=count, help="ticks of experience in each task (the preset's by default)")
    parser.add_argument("--seed", type=whole_number, default=0, help="draws the tasks; 0 by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_data_flags(parser)
    found = parser.read(arguments)
    use_compile_cache()
    from quickstudy import store

    comes_with_the_package = found.run == _SHIPPED and not found.run.exists()
    if comes_with_the_package or store.read_settings(found.run).method == "generalist":
        return _play(found, comes_with_the_package)
    for flag in ("prompts", "only", "best", "cloning", "greedy"):
        if getattr(found, flag):
            raise ValueError(f"--{flag} is for runs of the generalist only")
    n_tasks = found.n_tasks or 1_000
    evaluation = store.evaluate_run(found.run, split=found.split, n_tasks=n_tasks, ticks=found.ticks, seed=found.seed)
    print(json.dumps(evaluation, indent=1) if found.json else _evaluation_text(evaluation))
    return 0


def _play(found: argparse.Namespace, comes_with_the_package: bool) -> int:
    """Let a generalist play, and print its scoreboard."""
    from rich.console import Console

    from quickstudy.generalist import scoreboard

    if found.split != "test" or found.ticks:
        raise ValueError("a generalist plays whole episodes of the test split: --split and --ticks are not for it")
    options = {
        "episodes": found.n_tasks,
        "prompts": ("none" if found.prompts is None else found.prompts).split(","),
        "only": () if found.only is None else found.only.split(","),
        "seed": found.seed,
        "cloning": found.cloning,
        "greedy": found.greedy,
        "report": lambda name: print(f"{name} played", file=sys.stderr),
    }
    if comes_with_the_package and found.best:
        raise ValueError("--best is for a run: the package has one network only")
    score = scoreboard.score_shipped if comes_with_the_package else functools.partial(scoreboard.score_run, found.run, best=found.best)
    board = score(**options)
    if found.json:
        print(json.dumps(board, indent=1))
    else:
        Console().print(*scoreboard.tables(board), sep="\n")
    if not comes_with_the_package:  # after it was shown, which nothing on disk can prevent
        print(f"kept as {scoreboard.keep(found.run, board, best=found.best)}", file=sys.stderr)
    return 0


def _evaluation_text(evaluation: dict[str, Any]) -> str:
    method, step, n_tasks, split = (evaluation[name] for name in ("method", "step", "n_tasks", "split"))
    head = f"{method} after {step} outer steps, {n_tasks} tasks of the {split} split"
    curve, others = evaluation["curve"], evaluation["references"]
    lines = [head, f"{'tick':>5} {'score':>10}   {'95 % interval over tasks':24}" + "".join(f"   {name:>9}" for name in others)]
    last = evaluation["ticks"] - 1
    # A dozen rows tell a curve; --json and the report have them all.
    for tick in sorted({round(last * i / _MOST_ROWS) for i in range(_MOST_ROWS + 1)}):
        mean, low, high = (curve[name][tick] for name in ("mean", "low", "high"))
        beside = "".join(f"   {other['mean'][tick]:>{max(9, len(name))}.4g}" for name, other in others.items())
        lines.append(f"{tick:>5} {mean:>10.4g}   {f'{low:.4g} to {high:.4g}':24}{beside}")
    if last:
        mean, low, high = curve["total"]
        beside = "".join(f"   {other['total'][0]:>{max(9, len(name))}.4g}" for name, other in others.items())
        lines.append(f"{'total':>5} {mean:>10.4g}   {f'{low:.4g} to {high:.4g}':24}{beside}")
    return "\n".join(lines)
