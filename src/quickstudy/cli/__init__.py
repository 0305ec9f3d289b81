"""The command line: `quickstudy COMMAND ...`.

Exit codes: 0 done; 1 a claim failed or is undecided, or a loss turned non-finite; 2 wrong use; 130 interrupted (a run can be resumed).
Errors are one sentence on standard error. Nothing here imports JAX before a command needs it.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from quickstudy import catalog
from quickstudy.failures import EnvironmentFailure

# command -> (module with the function of that name, what it does)
COMMANDS = {
    "list": ("listing", "methods, tasks and claims, with their one-line ideas"),
    "show": ("listing", "one method: idea, equation, source, lineage, every default with its source, claims with their evidence"),
    "demo": ("others", "meta-train on drawn glyphs, then learn real handwritten digits from a few examples; writes a report"),
    "train": ("training", "meta-train a method in a run folder that can be killed and resumed"),
    "eval": ("training", "test a run on held-out tasks: its adaptation curve with an interval and reference lines"),
    "watch": ("watching", "play one life of a run's agent in the terminal, and write it as an animation"),
    "claim": ("claiming", "a paper's finding, checked: the verdict from stored evidence, or measured now"),
    "bench": ("others", "speed of this machine against peers"),
    "report": ("others", "one self-contained HTML page for one or more runs"),
    "data": ("data_sets", "data sets: list, fetch; demonstrations for the generalist agent: build, card, check, export, import"),
    "doctor": ("doctor", "versions, devices, caches, extras, and whether compiling works"),
}

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except SystemExit as leaving:  # argparse after --help
        return leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        print("quickstudy: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left, which is its right; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, EnvironmentFailure) as error:
        if os.environ.get("QUICKSTUDY_TRACEBACK"):
            raise
        print(f"quickstudy: {_one_sentence(error)}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from quickstudy import __version__

        print(f"quickstudy {__version__}")
        return 0
    name = catalog.require(arguments[0], COMMANDS, "command")
    module = importlib.import_module(f"quickstudy.cli.{COMMANDS[name][0]}")
    return getattr(module, f"{name}_command")(arguments[1:])


def _help() -> str:
    lines = [f"  {name:8} {text}" for name, (_, text) in COMMANDS.items()]
    head = "usage: quickstudy COMMAND [...]     (quickstudy COMMAND --help says more)\n\nLearning to learn, on JAX and Equinox.\n"
    tail = "\nExit codes: 0 done, 1 claim failed or undecided, 2 wrong use, 130 interrupted (and a run can be resumed)."
    return "\n".join([head, *lines, tail])


def _one_sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
