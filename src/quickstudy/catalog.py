"""What there is, as plain data: id -> where it lives. Importing this never imports JAX; what a method's file says is read as text."""

import ast
import difflib
import importlib
import inspect
import io
import re
import tokenize
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

METHODS = {
    "finetune": "quickstudy.algorithms.fewshot.finetune",
    "maml": "quickstudy.algorithms.fewshot.maml",
    "fomaml": "quickstudy.algorithms.fewshot.fomaml",
    "reptile": "quickstudy.algorithms.fewshot.reptile",
    "meta-sgd": "quickstudy.algorithms.fewshot.meta_sgd",
    "imaml": "quickstudy.algorithms.fewshot.imaml",
    "anil": "quickstudy.algorithms.fewshot.anil",
    "protonet": "quickstudy.algorithms.fewshot.protonet",
    "matching-nets": "quickstudy.algorithms.fewshot.matching_nets",
    "cnp": "quickstudy.algorithms.fewshot.cnp",
    "neural-process": "quickstudy.algorithms.fewshot.neural_process",
    "snail-fewshot": "quickstudy.algorithms.fewshot.snail_fewshot",
    "incontext-gru": "quickstudy.algorithms.incontext.incontext_gru",
    "mann": "quickstudy.algorithms.incontext.mann",
    "pfn-tabular": "quickstudy.algorithms.incontext.pfn_tabular",
    "pfn": "quickstudy.algorithms.incontext.pfn",
    "icl-regression": "quickstudy.algorithms.incontext.icl_regression",
    "icl-dual-gd": "quickstudy.algorithms.incontext.icl_dual_gd",
    "meta-bayes": "quickstudy.algorithms.incontext.meta_bayes",
    "dual-form": "quickstudy.algorithms.incontext.dual_form",
    "language-model": "quickstudy.algorithms.incontext.language_model",
    "icl-burstiness": "quickstudy.algorithms.incontext.icl_burstiness",
    "generalist": "quickstudy.algorithms.imitation.generalist",
    "a2c": "quickstudy.algorithms.rl.a2c",
    "trpo": "quickstudy.algorithms.rl.trpo",
    "ppo": "quickstudy.algorithms.rl.ppo",
    "dqn": "quickstudy.algorithms.rl.dqn",
    "soft-q": "quickstudy.algorithms.rl.soft_q",
    "sac": "quickstudy.algorithms.rl.sac",
    "diayn": "quickstudy.algorithms.rl.diayn",
    "rl2": "quickstudy.algorithms.metarl.rl2",
    "l2rl": "quickstudy.algorithms.metarl.l2rl",
    "snail": "quickstudy.algorithms.metarl.snail",
    "trmrl": "quickstudy.algorithms.metarl.trmrl",
    "maml-rl": "quickstudy.algorithms.metarl.maml_rl",
    "promp": "quickstudy.algorithms.metarl.promp",
    "emaml": "quickstudy.algorithms.metarl.emaml",
    "erl2": "quickstudy.algorithms.metarl.erl2",
    "maesn": "quickstudy.algorithms.metarl.maesn",
    "pearl": "quickstudy.algorithms.metarl.pearl",
    "task-inference": "quickstudy.algorithms.metarl.task_inference",
    "unsup-meta-rl": "quickstudy.algorithms.metarl.unsup_meta_rl",
    "lstm-optimizer": "quickstudy.algorithms.optimizers.lstm_optimizer",
    "mlp-optimizer": "quickstudy.algorithms.optimizers.mlp_optimizer",
}

# task -> module:name of the distribution, or of the function that makes one
TASKS = {
    "sinusoid": "quickstudy.tasks.sinusoid:Sinusoid",
    "sine-or-line": "quickstudy.tasks.sine_or_line:SineOrLine",
    "gaussian-process": "quickstudy.tasks.gaussian_processes:GaussianProcess",
    "random-networks": "quickstudy.tasks.random_networks:RandomNetworks",
    "glyphs": "quickstudy.tasks.glyphs:Glyphs",
    "digits": "quickstudy.tasks.digits:Digits",
    "omniglot": "quickstudy.tasks.omniglot:Omniglot",
    "from-arrays": "quickstudy.tasks.arrays:from_arrays",
    "completion": "quickstudy.tasks.completion:Completion",
    "stream": "quickstudy.tasks.streams:Stream",
    "tabular-worlds": "quickstudy.tasks.tabular_worlds:TabularWorlds",
    "linear-regression": "quickstudy.tasks.linear_regression:LinearRegression",
    "bursty-sequences": "quickstudy.tasks.bursty_sequences:BurstySequences",
    "best-arm": "quickstudy.tasks.best_arm:BestArm",
    "loaded-dice": "quickstudy.tasks.loaded_dice:LoadedDice",
    "hidden-markov-documents": "quickstudy.tasks.hidden_markov:HiddenMarkovDocuments",
    "hidden-markov-prompts": "quickstudy.tasks.hidden_markov:HiddenMarkovPrompts",
    "text-tasks": "quickstudy.tasks.text_tasks:TextTasks",
    "bernoulli-bandit": "quickstudy.tasks.bandits:BernoulliBandit",
    "gaussian-bandit": "quickstudy.tasks.bandits:GaussianBandit",
    "correlated-bandit": "quickstudy.tasks.bandits:CorrelatedBandit",
    "restless-bandit": "quickstudy.tasks.bandits:RestlessBandit",
    "unknown-arm": "quickstudy.tasks.unknown_arm:UnknownArm",
    "cartpole": "quickstudy.tasks.cartpole:CartPole",
    "pendulum": "quickstudy.tasks.pendulum:Pendulum",
    "acrobot": "quickstudy.tasks.acrobot:Acrobot",
    "mountain-car": "quickstudy.tasks.mountain_car:MountainCar",
    "point-goals": "quickstudy.tasks.point_navigation:PointGoals",
    "half-circle": "quickstudy.tasks.point_navigation:HalfCircle",
    "pushing": "quickstudy.tasks.pushing:Pushing",
    "pushing-outward": "quickstudy.tasks.pushing_outward:PushingOutward",
    "two-directions": "quickstudy.tasks.two_directions:TwoDirections",
    "hidden-goal": "quickstudy.tasks.dark_rooms:HiddenGoal",
    "dark-room": "quickstudy.tasks.dark_rooms:DarkRoom",
    "maze": "quickstudy.tasks.mazes:Maze",
    "multi-room": "quickstudy.tasks.mazes:MultiRoom",
    "random-mdps": "quickstudy.tasks.random_mdps:RandomMDPs",
    "krazy-world": "quickstudy.tasks.krazy_world:KrazyWorld",
    "two-step": "quickstudy.tasks.two_step:TwoStep",
    "harlow": "quickstudy.tasks.harlow:Harlow",
    "blind-cliff": "quickstudy.tasks.blind_cliff:BlindCliff",
    "quadratics": "quickstudy.tasks.quadratics:Quadratics",
    "small-nets": "quickstudy.tasks.small_nets:SmallNets",
}

CLAIMS = {
    "maml-sinusoid": "quickstudy.algorithms.fewshot.maml",
    "maml-omniglot": "quickstudy.algorithms.fewshot.maml",
    "reptile-sine": "quickstudy.algorithms.fewshot.reptile",
    "imaml-sine": "quickstudy.algorithms.fewshot.imaml",
    "fomaml": "quickstudy.algorithms.fewshot.fomaml",
    "meta-sgd": "quickstudy.algorithms.fewshot.meta_sgd",
    "protonet-omniglot": "quickstudy.algorithms.fewshot.protonet",
    "matching-nets": "quickstudy.algorithms.fewshot.matching_nets",
    "memorization-switch": "quickstudy.algorithms.fewshot.memorization_switch",
    "partial-adaptation": "quickstudy.algorithms.fewshot.anil",
    "cnp-regression": "quickstudy.algorithms.fewshot.cnp",
    "neural-process-vi": "quickstudy.algorithms.fewshot.neural_process",
    "completion-omniglot": "quickstudy.algorithms.fewshot.image_completion",
    "snail-fewshot": "quickstudy.algorithms.fewshot.snail_fewshot",
    "snail-omniglot": "quickstudy.algorithms.fewshot.snail_fewshot",
    "incontext-gru": "quickstudy.algorithms.incontext.incontext_gru",
    "mann-omniglot": "quickstudy.algorithms.incontext.mann",
    "mann-glyphs": "quickstudy.algorithms.incontext.mann",
    "pfn-gp": "quickstudy.algorithms.incontext.pfn_gp",
    "pfn-bnn": "quickstudy.algorithms.incontext.pfn_bnn",
    "icl-regression": "quickstudy.algorithms.incontext.icl_regression",
    "icl-depth": "quickstudy.algorithms.incontext.icl_regression",
    "icl-dual-gd": "quickstudy.algorithms.incontext.icl_dual_gd",
    "meta-bayes-optimal": "quickstudy.algorithms.incontext.meta_bayes",
    "sequential-strategies": "quickstudy.algorithms.incontext.sequential_strategies",
    "delusions": "quickstudy.algorithms.incontext.delusions",
    "dual-form": "quickstudy.algorithms.incontext.dual_form",
    "ginc-hmm": "quickstudy.algorithms.incontext.implicit_bayes",
    "rethinking-demos": "quickstudy.algorithms.incontext.demonstrations",
    "gpt3-shots": "quickstudy.algorithms.incontext.few_shot_text",
    "icl-burstiness": "quickstudy.algorithms.incontext.icl_burstiness",
    "icl-burstiness-omniglot": "quickstudy.algorithms.incontext.icl_burstiness",
    "trpo-ppo": "quickstudy.algorithms.rl.policy_steps",
    "code-level-opts": "quickstudy.algorithms.rl.policy_steps",
    "soft-q-sac": "quickstudy.algorithms.rl.two_corridors",
    "dqn-per": "quickstudy.algorithms.rl.prioritised_replay",
    "rl2-bandits": "quickstudy.algorithms.metarl.rl2_bandits",
    "rl2-mdp": "quickstudy.algorithms.metarl.rl2_mdps",
    "l2rl-harlow": "quickstudy.algorithms.metarl.l2rl",
    "l2rl-two-step": "quickstudy.algorithms.metarl.l2rl",
    "nature-nurture": "quickstudy.algorithms.metarl.nature_nurture",
    "task-inference": "quickstudy.algorithms.metarl.task_inference",
    "l2rl-dependent-arms": "quickstudy.algorithms.metarl.l2rl",
    "lstm-optimizer": "quickstudy.algorithms.optimizers.lstm_optimizer",
    "lstm-optimizer-digits": "quickstudy.algorithms.optimizers.lstm_optimizer",
    "maml-rl-nav": "quickstudy.algorithms.metarl.maml_rl",
    "promp": "quickstudy.algorithms.metarl.promp",
    "emaml-erl2": "quickstudy.algorithms.metarl.paid_exploration",
    "maesn-push": "quickstudy.algorithms.metarl.structured_exploration",
    "pearl-halfcircle": "quickstudy.algorithms.metarl.pearl_half_circle",
    "unsup-meta-rl": "quickstudy.algorithms.metarl.unsup_meta_rl",
    "gato-mini": "quickstudy.algorithms.imitation.gato_mini",
    "gato-encodings": "quickstudy.algorithms.imitation.gato_encodings",
    "gato-packing": "quickstudy.algorithms.imitation.gato_packing",
    "gato-prompts": "quickstudy.algorithms.imitation.gato_prompts",
    "gato-finetune": "quickstudy.algorithms.imitation.gato_finetune",
}

FAMILIES = {
    "rl": "learn one task by trial and error",
    "metarl": "learn a new world within one life, by learning to explore it",
    "fewshot": "learn a new task from a few examples: by optimisation, by metric, by black box",
    "incontext": "learn inside a sequence, with frozen weights",
    "optimizers": "learn the rule that learns: optimisers that were trained",
    "imitation": "learn what experts do from what they did",
}


class Default(NamedTuple):
    """One field of a method's `Config` as its source says it: name, type, default and the comment that names the default's source."""

    name: str
    type: str
    default: str
    source: str


class Card(NamedTuple):
    """What a method's docstring says: each part is text on one line, "" where the docstring does not have it."""

    name: str
    idea: str
    slow: str
    fast: str
    outer_step: str
    equation: str
    source: str
    builds_on: str
    led_to: str
    lineage: str
    presets: str


def family(module: str) -> str:
    """The family that a method's module belongs to.

    >>> family(METHODS["maml"])
    'fewshot'
    """
    return module.split(".")[2]


def require(name: str, known: Iterable[str], what: str) -> str:
    """The name itself if it is known; otherwise `ValueError` with the nearest known one.

    >>> require("mamle", METHODS, "method")
    Traceback (most recent call last):
    ValueError: there is no method 'mamle'; did you mean 'maml'?
    """
    known = list(known)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise ValueError(f"there is no {what} {name!r}; {hint}")


def method_module(method: str) -> ModuleType:
    """Import a method's file. Raises `ValueError` for an unknown id, with the nearest known one."""
    return importlib.import_module(METHODS[require(method, METHODS, "method")])


def named_tasks(name: str, vary: Iterable[str] = ()) -> Any:
    """The task distribution of the catalogue, or `gymnasium:ID`, with these parameters varied from task to task.

    Raises `ValueError` for an unknown name, or where nothing of that name can vary; `ImportError` if Gymnasium is needed and missing.
    """
    kind, colon, rest = name.partition(":")
    if kind == "gymnasium" and colon:
        adapter = importlib.import_module("quickstudy.adapters.gymnasium")
        return adapter.gymnasium_tasks(rest, vary=tuple(vary))
    module, _, symbol = TASKS[require(name, TASKS, "task")].partition(":")
    make = getattr(importlib.import_module(module), symbol)
    if not vary:
        return make()
    if "vary" not in inspect.signature(make).parameters:
        raise ValueError(f"vary must be left out for {name}, whose tasks have no parameters to vary")
    return make(vary=tuple(vary))


def source_text(module: str) -> str:
    """The source of one of the package's modules, without importing it.

    Raises `ValueError` if this installation does not have it.
    """
    path = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not path.is_file():
        raise ValueError(f"this installation has no module {module}")
    return path.read_text()


_LABELS = {
    "Slow": "slow",
    "Fast": "fast",
    "One outer step": "outer_step",
    "Source": "source",
    "Sources": "source",
    "Builds on": "builds_on",
    "Led to": "led_to",
    "Lineage": "lineage",
    "Equation": "equation",
    "Presets": "presets",
}
_LABEL = re.compile(rf"(?<!\S)({'|'.join(_LABELS)}):\s+")


def card(module: str) -> Card:
    """Read a method's docstring as a `Card`, without importing the method."""
    text = ast.get_docstring(ast.parse(source_text(module))) or ""
    # Parts may be items of a list, and a displayed equation is indented.
    lines = [line.removeprefix("* ") for line in text.splitlines()]
    equation = "\n".join(line[4:] for line in lines if line.startswith("    ")).strip()
    prose = "\n".join(line for line in lines if not line.startswith("    "))
    head, *rest = _LABEL.split(prose)
    parts = dict.fromkeys(Card._fields, "")
    for label, body in zip(rest[::2], rest[1::2], strict=True):
        # A labelled part ends with its paragraph.
        parts[_LABELS[label]] = _one_line(body.split("\n\n")[0])
    first = _one_line(head.split("\n\n")[0])
    name, colon, idea = first.partition(": ")
    parts |= {"name": name if colon else "", "idea": idea if colon else first, "equation": equation or parts["equation"]}
    return Card(**parts)


def one_line(module: str) -> str:
    """The first sentence of a module's docstring, without importing the module."""
    text = ast.get_docstring(ast.parse(source_text(module))) or ""
    return _one_line(text.split("\n\n")[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


# A method that has the settings of a sibling says so: Config = maml.Config
_BORROWED = re.compile(r"^Config = (\w+)\.Config$", re.MULTILINE)


def defaults(module: str) -> list[Default]:
    """Every field of a method's `Config` with its default and the comment on its line, read without importing the method."""
    text = source_text(module)
    if borrowed := _BORROWED.search(text):
        return defaults(f"{module.rpartition('.')[0]}.{borrowed[1]}")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}
    comment = lambda item: comments.get(item.end_lineno, "")
    return [
        Default(item.target.id, ast.unparse(item.annotation), ast.unparse(item.value), comment(item))
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == "Config"
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None
    ]


def presets(module: str) -> dict[str, str]:
    """The names of a method's `PRESETS` with the score and time to expect, read without importing the method."""
    for node in ast.parse(source_text(module)).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "PRESETS" and isinstance(value, ast.Dict):
            return {_constant(key): _expected(module, preset) for key, preset in zip(value.keys, value.values, strict=True)}
    return {}


def _constant(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _expected(module: str, preset: ast.expr) -> str:
    """The `expected` of a `Preset(...)` expression, its last argument, or of a sibling's preset, as in `maml.PRESETS["omniglot"]`."""
    if isinstance(preset, ast.Subscript) and isinstance(preset.value, ast.Attribute) and isinstance(preset.value.value, ast.Name):
        return presets(f"{module.rpartition('.')[0]}.{preset.value.value.id}").get(_constant(preset.slice), "")
    if not isinstance(preset, ast.Call):
        return ""
    named = [keyword.value for keyword in preset.keywords if keyword.arg == "expected"]
    candidates = named or preset.args
    return _constant(candidates[-1]) if candidates else ""
