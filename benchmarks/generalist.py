"""What the generalist costs on one core: training beside PyTorch, packing, acting, drawing windows, making episodes, and memory.

All on BabyAI's compact encoding, windows of 256 tokens, from episodes that are recorded at the start and kept in memory.

* `tokens_per_cpu_second_...`: tokens of training windows, of networks of about 1.5, 4 and 10 million weights. Ours is
  `run` of `generalist.program`, the drawing of windows included. The peer (`_torch_generalist.py`) is the same network in PyTorch,
  on windows drawn by ours beforehand; that loss and gradient agree, from the same weights and windows, is checked first. Both take
  turns in one process; `tokens_per_second_...` says the same by the clock on the wall.
* `packed_times_padded`: tokens of episodes per CPU-second of training with packed windows, beside windows that hold one episode each
  and blanks after it, as in JAT (Gallouedec et al. 2024).
* `acting_..._per_cpu_second`: actions of the smallest network after 256 tokens of context, from the key-value cache or by reading all
  256 again, for one environment or 50. What is seen is prepared; that both give the same logits is checked first.
* `drawn_tokens_per_cpu_second`: windows drawn alone, 16 at a time; `drawing_share` of the time of a training step.
* `..._episodes_per_cpu_second`: minigrid's bot at work in three levels.
* `gpu_update_gib`: temporary memory that the compiler plans, on a CPU, for one outer step of a network for a GPU. Nothing is run.

A rate is of the best repeat and "_median" of the median, a ratio of the best or the medians of both. Compiling includes tracing.
"""

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from _running import Target, main, spawn_here, time_turns, use_one_core

if TYPE_CHECKING:
    from quickstudy.algorithms.imitation.generalist import Config
    from quickstudy.generalist.data.store import Episode
    from quickstudy.generalist.demonstrations import Demonstrations
    from quickstudy.measure import Timing

NAME = "generalist"
TARGETS = (
    Target("times_torch_4m_median", "at least", 1),
    Target("times_torch_10m_median", "at least", 1),
    Target("packed_times_padded_median", "at least", 5),
    Target("cached_times_uncached_1_median", "at least", 20),
    Target("cached_times_uncached_50_median", "at least", 20),
)
SIZES = {"1_5m": (128, 4, 4), "4m": (192, 7, 6), "10m": (320, 7, 10)}  # width, layers, heads
LEVELS, EPISODES, LENGTH, WINDOWS = ("GoToObj", "GoToLocal", "PutNextLocal"), 100, 256, 16
REPEATS, CHUNK = 5, 4  # outer steps of a chunk: memory is asked for once in each, as it is in longer ones
PLAYERS, TICKS = (1, 50), 2  # a time step of the compact encoding is a patch and an action
GPU_LENGTH, GPU_WINDOWS = 1_024, 32
_TOLERANCE = 1e-3  # of loss, gradient and logits, relative


def measure() -> dict[str, Any]:
    parts = {f"training_{size}": spawn_here(__file__, "training", size)[0] for size in SIZES}
    parts |= {what: spawn_here(__file__, what)[0] for what in ("packing", "acting", "drawing", "episodes", "memory")}
    metrics = {name: value for part in parts.values() for name, value in part["metrics"].items()}
    setting = {"levels": LEVELS, "episodes_per_level": EPISODES, "window": LENGTH, "windows_per_step": WINDOWS, "cores": 1}
    setting |= {
        "width_layers_heads": SIZES,
        "repeats": REPEATS,
        "outer_steps_per_repeat": CHUNK,
        "gpu_window": GPU_LENGTH,
        "gpu_windows_per_step": GPU_WINDOWS,
    }
    first = parts["training_1_5m"]
    repeats = {name: part["repeats"] for name, part in parts.items() if "repeats" in part}
    return {
        "metrics": metrics,
        "setting": setting,
        "versions": first["versions"],
        "notes": first["notes"],
        "cpu_and_wall_seconds_per_call_of_each_repeat": repeats,
    }


def here(what: str, size: str = "1_5m") -> dict[str, Any]:
    """Measure in this process, which must not have imported JAX or PyTorch yet."""
    use_one_core()
    return {
        "training": lambda: _training(size),
        "packing": _packing,
        "acting": _acting,
        "drawing": _drawing,
        "episodes": _episodes,
        "memory": _memory,
    }[what]()


def _config(size: str) -> "Config":
    from quickstudy.algorithms.imitation import generalist

    width, layers, heads = SIZES[size]
    return generalist.Config(width=width, layers=layers, heads=heads, windows_per_step=WINDOWS)


def _recorded() -> "dict[str, list[Episode]]":
    """The episodes of the first seeds of each level."""
    from quickstudy.generalist.data import babyai
    from quickstudy.generalist.data.store import Episode

    tried = {level: [babyai.record(level, seed) for seed in range(EPISODES)] for level in LEVELS}
    return {level: [one for one in some if isinstance(one, Episode)] for level, some in tried.items()}


def _demonstrations(length: int = LENGTH, *, packed: bool = True) -> "Demonstrations":
    """Windows that go on with another episode where one ends; or that hold one each, not prompted, and blanks after it."""
    from quickstudy.algorithms.imitation.gato_packing import padded
    from quickstudy.generalist import embodiments
    from quickstudy.generalist.demonstrations import demonstrations

    body, _ = embodiments.parse(f"babyai-compact/{next(iter(LEVELS))}")
    tokens = {level: body.encode(episodes) for level, episodes in _recorded().items()}
    if packed:
        return demonstrations({"train": tokens}, body.tokenizer.vocabulary, length=length)
    blanks_after = {level: padded(of_level, length) for level, of_level in tokens.items()}
    return demonstrations({"train": blanks_after}, body.tokenizer.vocabulary, length=length, prompted=0.0)


def _rates(
    seconds: "Mapping[str, Sequence[Timing]]", amounts: Mapping[str, float], clock: str = "cpu_seconds"
) -> dict[str, dict[str, float]]:
    """For each suffix of a figure's name, how much of each is done in a second."""
    rates = {}
    for suffix, of in (("", np.min), ("_median", np.median)):
        spent = {name: float(of([getattr(each, clock) for each in timings])) for name, timings in seconds.items()}
        rates[suffix] = {name: amounts[name] / value for name, value in spent.items()}
    return rates


# --- training ------------------------------------------------------------------------------------------------------------------------


def _training(size: str) -> dict[str, Any]:
    from quickstudy.core import count_floats

    config, known = _config(size), _demonstrations()
    network, peer, agreement, versions, notes = _peer(config, known)
    ours, compiling = _trainer(config, known)
    seconds = time_turns({"ours": ours} | peer, repeats=REPEATS)
    amounts = dict.fromkeys(seconds, CHUNK * WINDOWS * LENGTH)
    # The first chunk was compiled and run.
    compiling -= min(each.cpu_seconds for each in seconds["ours"])
    found = {"parameters": count_floats(network), "compile_cpu_seconds": compiling} | agreement
    metrics = {f"{name}_{size}": value for name, value in found.items()}
    for suffix, rate in _rates(seconds, amounts).items():
        metrics |= {f"{_prefix(name)}tokens_per_cpu_second_{size}{suffix}": value for name, value in rate.items()}
        metrics |= {f"times_{name}_{size}{suffix}": rate["ours"] / rate[name] for name in peer}
    for suffix, rate in _rates(seconds, amounts, "wall_seconds").items():
        metrics |= {f"{_prefix(name)}tokens_per_second_{size}{suffix}": value for name, value in rate.items()}
    return {"metrics": metrics, "versions": versions, "notes": notes, "repeats": seconds}


def _prefix(name: str) -> str:
    return "" if name == "ours" else f"{name}_"


def _trainer(config: "Config", known: "Demonstrations") -> tuple[Callable[[], Any], float]:
    """A call that trains for one chunk more, and the CPU-seconds of the first, which is compiled before."""
    from quickstudy import run
    from quickstudy.algorithms.imitation import generalist

    training = run(generalist.program(config, known), steps=10**9, seed=0, chunk=CHUNK)
    began = time.process_time()
    next(training)
    return lambda: next(training), time.process_time() - began


def _peer(config: "Config", known: "Demonstrations") -> tuple[Any, dict[str, Callable], dict, dict, list[str]]:
    """Our network at its birth, what trains the peer for a chunk, how far it is from ours, its version, and what is to be said."""
    import jax.random as jr

    from quickstudy.algorithms.imitation import generalist
    from quickstudy.core import count_floats, sample_tasks

    network = generalist.learner(config, known, jr.key(0))
    if not importlib.util.find_spec("torch"):
        return network, {}, {}, {}, ["no peer measured: it needs PyTorch, from the extra quickstudy[bench]"]
    import _torch_generalist as peer
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    drawn = [sample_tasks(known, key, "train", WINDOWS) for key in jr.split(jr.key(0), CHUNK)]
    batches = [peer.as_tensors(windows) for windows in drawn]
    apart = peer.differences(network, *_loss_and_gradient(network, drawn[0], known), batches[0])
    if max(apart) > _TOLERANCE:
        raise RuntimeError(f"PyTorch computes something else: loss and gradient differ from ours by {apart[0]:.1e} and {apart[1]:.1e}")
    step, model = peer.training_step(network, config, batches)
    assert peer.count_parameters(model) == count_floats(network)
    agreement = {"loss_difference_to_torch": apart[0], "gradient_difference_to_torch": apart[1]}
    versions = {"torch": importlib.metadata.version("torch")}
    return network, {"torch": lambda: [step() for _ in range(CHUNK)]}, agreement, versions, []


def _loss_and_gradient(network: Any, windows: Any, known: "Demonstrations") -> tuple[float, Any]:
    """Those of a batch, with nothing drawn at random."""
    import equinox as eqx
    import jax

    from quickstudy.algorithms.imitation import generalist
    from quickstudy.outer.program import compile_lightly

    def mean(network, windows):
        one = lambda window: generalist.loss(network, window, None, patches=known.patches, targets=known.targets)[0]
        return jax.vmap(one)(windows).mean()

    loss, gradient = compile_lightly(eqx.filter_value_and_grad(mean), once=True)(network, windows)
    return float(loss), gradient


# --- packing -------------------------------------------------------------------------------------------------------------------------


def _packing() -> dict[str, Any]:
    import jax.random as jr

    from quickstudy.algorithms.imitation.gato_packing import useful

    config, padded = _config("1_5m"), _demonstrations(packed=False)
    steps = {"packed": _trainer(config, _demonstrations())[0], "padded": _trainer(config, padded)[0]}
    seconds = time_turns(steps, repeats=REPEATS)
    tokens = float(useful(padded, jr.key(0)))
    metrics = {"padded_useful_tokens_per_window": tokens}
    for suffix, rate in _rates(seconds, {"packed": CHUNK * WINDOWS * LENGTH, "padded": CHUNK * WINDOWS * tokens}).items():
        metrics |= {f"{name}_tokens_per_cpu_second{suffix}": value for name, value in rate.items()}
        metrics[f"packed_times_padded{suffix}"] = rate["packed"] / rate["padded"]
    return {"metrics": metrics, "repeats": seconds}


# --- acting --------------------------------------------------------------------------------------------------------------------------


def _acting() -> dict[str, Any]:
    import jax.random as jr

    from quickstudy.algorithms.imitation import generalist

    known = _demonstrations()
    network = generalist.learner(_config("1_5m"), known, jr.key(0))
    metrics, repeats = {}, {}
    for players in PLAYERS:
        steps = _actors(network, known, players)
        seconds = repeats[f"{players} environments"] = time_turns(steps, repeats=REPEATS, calls=5)
        for suffix, rate in _rates(seconds, dict.fromkeys(steps, players)).items():
            metrics |= {f"acting_{name}_{players}_per_cpu_second{suffix}": value for name, value in rate.items()}
            metrics[f"cached_times_uncached_{players}{suffix}"] = rate["cached"] / rate["uncached"]
    return {"metrics": metrics, "repeats": repeats}


def _actors(network: Any, known: "Demonstrations", players: int) -> dict[str, Callable]:
    """One action of each player after a full window: from the cache, and by reading the window again."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    from quickstudy.core import sample_tasks
    from quickstudy.generalist.acting import advance, choose

    # One sequence a window, as in a long life.
    drawn = sample_tasks(known, jr.key(players), "train", players).seen
    seen = drawn._replace(fresh=jnp.broadcast_to(jnp.arange(LENGTH)[None] == 0, (players, LENGTH)))
    memory = jax.tree.map(lambda leaf: jnp.zeros((players, *leaf.shape), leaf.dtype), network.body.start())
    pieces = [jax.tree.map(lambda leaf, t=t: np.asarray(leaf[:, t : t + TICKS]), seen) for t in range(0, LENGTH, TICKS)]
    low, high, key = jnp.int32(0), jnp.int32(7), jr.key(0)

    def read(piece):
        nonlocal memory
        # Copies, because `advance` takes what it is given for its own.
        memory, logits = advance(network, memory, jax.tree.map(jnp.array, piece), jnp.ones((players, TICKS), bool))
        return logits

    @eqx.filter_jit
    def again(network, seen):
        return network.logits(jax.vmap(lambda one: network.unroll(one, patches=known.patches)[-1])(seen))

    for piece in pieces:
        cached = read(piece)
    apart = float(jnp.abs(cached - again(network, seen)).max() / jnp.abs(cached).max())
    if apart > _TOLERANCE:
        raise RuntimeError(f"the cache gives other logits: they differ by {apart:.1e}")
    return {
        "cached": lambda: choose(read(pieces[-1]), low, high, key, False),
        "uncached": lambda: choose(again(network, seen), low, high, key, False),
    }


# --- drawing windows, making episodes, memory ----------------------------------------------------------------------------------------


def _drawing() -> dict[str, Any]:
    import jax.random as jr

    from quickstudy.core import sample_tasks
    from quickstudy.outer.program import compile_lightly

    known = _demonstrations()
    drawn = compile_lightly(lambda known, key: sample_tasks(known, key, "train", WINDOWS))
    key = jr.key(0)

    def draw():
        nonlocal key
        key, now = jr.split(key)
        return drawn(known, now)

    training = _trainer(_config("1_5m"), known)[0]
    seconds = {**time_turns({"drawing": draw}, repeats=REPEATS, calls=20), **time_turns({"training": training}, repeats=REPEATS)}
    metrics = {}
    for suffix, rate in _rates(seconds, {"drawing": WINDOWS * LENGTH, "training": CHUNK * WINDOWS * LENGTH}).items():
        metrics[f"drawn_tokens_per_cpu_second{suffix}"] = rate["drawing"]
        metrics[f"drawing_share{suffix}"] = rate["training"] / rate["drawing"]
    return {"metrics": metrics, "repeats": seconds}


def _episodes() -> dict[str, Any]:
    from quickstudy.generalist.data import babyai
    from quickstudy.generalist.data.store import Episode

    babyai.record(LEVELS[0], 0)  # minigrid and its tiles are loaded
    metrics: dict[str, float] = {}
    for level in LEVELS:
        began = time.process_time()
        played = [one for seed in range(EPISODES) if isinstance(one := babyai.record(level, seed), Episode)]
        seconds, name = time.process_time() - began, level.lower()
        metrics[f"{name}_episodes_per_cpu_second"] = len(played) / seconds
        metrics[f"{name}_steps_per_cpu_second"] = sum(len(one.actions) for one in played) / seconds
    return {"metrics": metrics}


def _memory() -> dict[str, Any]:
    from quickstudy.algorithms.fewshot.measuring import update_memory
    from quickstudy.algorithms.imitation import generalist

    config = generalist.Config(width=512, layers=8, heads=8, bfloat16=True, windows_per_step=GPU_WINDOWS)
    return {"metrics": {"gpu_update_gib": update_memory(generalist.program(config, _demonstrations(GPU_LENGTH))) / 2**30}}


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
