"""Meta-RL as task inference: in training the task is known, so teach a network to believe in it, and let the policy read the belief.

* Slow: the weights of a recurrent network that is taught to describe the task, and of the heads that act on what it believes. Fast:
  its memory, the belief, which is wiped only when the task changes.
* One outer step: that of RL^2, PPO over whole lives in new tasks; but PPO's gradient stops at the belief, which learns from the true
  description of each life's task instead: a number of targets at every tick, where rewards say one thing at the end.

With the history h_t, the task's description d (the arms' probabilities, the goal), and the belief b, independent normal numbers:

    belief: maximise sum over t of log b(d | h_t),      policy and value: PPO with pi(a | x_t, stop(b_t)),   V(x_t, stop(b_t))

The best such belief has the mean and the deviation of the exact posterior at every tick. At test time no description is needed.

Source: Humplik et al. 2019, "Meta reinforcement learning as task inference" (off-policy SVG(0) where we use PPO).
Builds on: RL^2, PPO, learning with privileged information. Led to: variational beliefs without descriptions (VariBAD), teachers that
see more than their students.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.measuring import held_out
from quickstudy.algorithms.metarl import rl2
from quickstudy.algorithms.references.counting import Counts, posterior_mean
from quickstudy.algorithms.rl import ppo
from quickstudy.algorithms.rl.actor_critic import EVERYTHING, ActorCritic, TanhMLP, actor_critic, head, inputs, see
from quickstudy.algorithms.rl.rollouts import Batch
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTask, AbstractTaskDistribution, lifetime, sample_tasks
from quickstudy.nn.memory import GRU, AbstractMemory
from quickstudy.nn.policies import Gaussian
from quickstudy.outer import Metrics, Preset, Program, run
from quickstudy.tasks.bandits import BernoulliArms, BernoulliBandit, GaussianArms
from quickstudy.tasks.point_navigation import PointTask, ShapedPoint

# --- What a task is, told in training only ------------------------------------------------------------------------------------------


@functools.singledispatch
def description(task: AbstractTask) -> Float[Array, " numbers"]:
    """The numbers that tell a task from others of its kind; `description.register` adds a kind. Raises `TypeError` for others.

    >>> description(BernoulliArms(jnp.array([0.25, 0.75]))).tolist()
    [0.25, 0.75]
    """
    raise TypeError(f"there is no description of a {type(task).__name__}: register one with task_inference.description")


@description.register(BernoulliArms)
def _(task: BernoulliArms) -> Float[Array, " arms"]:
    return task.probabilities


@description.register(GaussianArms)
def _(task: GaussianArms) -> Float[Array, " arms"]:
    return task.means


@description.register(PointTask)
def _(task: PointTask) -> Float[Array, "2"]:
    return task.goal


@description.register(ShapedPoint)
def _(task: ShapedPoint) -> Float[Array, "2"]:
    return task.task.goal


# --- Who believes -------------------------------------------------------------------------------------------------------------------


class Belief(AbstractMemory):
    """A recurrent network that describes its task, and shows what it reads, remembers and believes; no gradient enters by what it
    shows, so that it believes what is likely, not what would be worth believing."""

    recurrent: GRU
    describe: TanhMLP

    def start(self) -> Float[Array, " hidden"]:
        return self.recurrent.start()

    def step(self, memory: Float[Array, " hidden"], x: Float[Array, " inputs"]) -> tuple[Array, Float[Array, " outputs"]]:
        after, features = self.recurrent.step(memory, x)
        return after, self._shown(x, features)

    def unroll(self, memory: Float[Array, " hidden"], xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        return jax.vmap(self._shown)(xs, self.recurrent.unroll(memory, xs))

    def believe(self, memory: Float[Array, " hidden"], xs: Float[Array, "ticks inputs"]) -> Gaussian:
        """The belief about the task's description at every tick, `(ticks, numbers)`; this has a gradient."""
        mean, log_deviation = jnp.split(jax.vmap(self.describe)(self.recurrent.unroll(memory, xs)), 2, axis=1)
        return Gaussian(mean, jnp.clip(log_deviation, -5.0, 2.0))  # ours: far outside of what a posterior's deviation can be

    def _shown(self, x: Float[Array, " inputs"], features: Float[Array, " hidden"]) -> Float[Array, " outputs"]:
        return jnp.concatenate([x, jax.lax.stop_gradient(jnp.concatenate([features, self.describe(features)]))])


def beliefs(learner: ActorCritic, batch: Batch) -> Gaussian:
    """What is believed at every tick of a batch of lives, `(sequences, ticks, numbers)`."""
    seen = jax.vmap(jax.vmap(lambda view: see(view, learner.actions, EVERYTHING)))(batch.views)
    return jax.vmap(learner.memory.believe)(batch.memories, seen)  # type: ignore[attr-defined]


def inference_loss(learner: ActorCritic, batch: Batch, tasks: AbstractTask, weight: float) -> tuple[Float[Array, ""], Metrics]:
    """How unlikely the true descriptions are to be believed, and the squared error of what is; only the belief has a gradient here."""
    believed, truth = beliefs(learner, batch), jax.vmap(description)(tasks)[:, None]
    surprise = -jnp.mean(believed.log_probability(jnp.broadcast_to(truth, believed.mean.shape)))
    return weight * surprise, {"surprise": surprise, "belief error": jnp.mean((believed.mean - truth) ** 2)}


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of `rl2`, and those of the belief."""

    width: int = 64  # as rl2: of the belief's memory, and of the heads' only hidden layer
    belief_weight: float = 1.0  # ours: PPO has no part in the weights that this is for
    lives: int = 64  # as rl2
    ticks: int = 100  # as rl2
    epochs: int = 2  # as rl2
    minibatches: int = 4  # as rl2
    learning_rate: float = 0.003  # as rl2
    anneal: int = 0  # as rl2
    discount: float = 1.0  # as rl2
    decay: float = 0.98  # as rl2
    clip: float = 0.2  # as rl2
    entropy: float = 0.01  # as rl2


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent with fresh weights. Raises `TypeError` unless these are control tasks that `description` knows."""
    memory_key, describe_key, heads_key = jr.split(key, 3)
    size, _ = inputs(tasks, EVERYTHING)
    numbers = 2 * eqx.filter_eval_shape(lambda k: description(tasks.sample(k, "train")), key).shape[0]
    describe = head((config.width, numbers), 0.01, True, key=describe_key)
    memory = Belief(GRU(size, config.width, key=memory_key), describe)
    return actor_critic(tasks, memory, size + config.width + numbers, (config.width,), reads=EVERYTHING, key=heads_key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO over whole lives, each in a new task, beside supervised learning of the belief."""
    teach = lambda learner, batch, tasks: inference_loss(learner, batch, tasks, config.belief_weight)
    return ppo.improve(rl2.over_lives(config), tasks, lambda key: learner(config, tasks, key), teach)


PRESETS = {
    "bandit": Preset(Config(), BernoulliBandit, 300, 100, "its belief comes near the exact posterior"),
    "smoke": Preset(Config(width=8, lives=4, ticks=8, minibatches=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}


@eqx.filter_jit
def belief_errors(
    learner: ActorCritic, tasks: BernoulliBandit, key: PRNGKeyArray, ticks: int, n_tasks: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean squared errors of the belief's mean and of the exact posterior's, over all ticks and arms of lives in held-out bandits.

    Both see the same: the pulls before a tick.
    """
    task_key, live_key = jr.split(key)
    drawn = sample_tasks(tasks, task_key, "test", n_tasks)
    record = lambda tick: (see(tick.view, learner.actions, EVERYTHING), tick.response, tick.score)

    def errors(task: BernoulliArms, k: PRNGKeyArray) -> tuple[Array, Array]:
        _, (seen, arms, rewards) = lifetime(learner, task, k, steps=ticks, record=record)
        pulls = jax.nn.one_hot(arms, tasks.arms)
        before = lambda counted: jnp.cumsum(counted, axis=0) - counted
        exact = jax.vmap(posterior_mean)(Counts(before(pulls), before(pulls * rewards[:, None])))
        believed = learner.memory.believe(learner.memory.start(), seen).mean  # type: ignore[attr-defined]
        return jnp.mean((believed - task.probabilities[None]) ** 2), jnp.mean((exact - task.probabilities[None]) ** 2)

    believed, exact = eqx.filter_vmap(errors)(drawn, jr.split(live_key, n_tasks))
    return jnp.mean(believed), jnp.mean(exact)


def returns_in_training(
    program: Program, tasks: AbstractTaskDistribution, seed: int, *, steps: int, chunk: int, ticks: int
) -> tuple[list[tuple[int, float]], ActorCritic]:
    """The mean reward of a whole life in held-out tasks after every chunk of outer steps, and the agent at the end."""
    curve = []
    for progress in run(program, steps=steps, seed=seed, chunk=chunk):
        agent = program.learner(progress.state)
        curve.append((progress.step, float(held_out(agent, tasks, seed, ticks=ticks, n_tasks=2_000).curve.mean.mean())))
    return curve, agent  # type: ignore[return-value]


def measure_bandits(scale: Scale, seed: int) -> Measurements:
    """Task inference and RL^2, equally long meta-trained on five arms: steps to RL^2's final return, and the belief's error."""
    tasks = BernoulliBandit()
    ticks, steps, chunk = {"smoke": (10, 2, 1), "laptop": (100, 300, 10), "full": (100, 1_200, 10)}[scale]
    config, other = Config(ticks=ticks), rl2.Config(ticks=ticks)
    ours, agent = returns_in_training(program(config, tasks), tasks, seed, steps=steps, chunk=chunk, ticks=ticks)
    theirs, _ = returns_in_training(rl2.program(other, tasks), tasks, seed, steps=steps, chunk=chunk, ticks=ticks)
    final = theirs[-1][1]
    # Who never gets there counts with twice the training: RL^2 itself gets there at the end at the latest.
    first = lambda curve: next((step for step, reached in curve if reached >= final), 2 * steps) * config.lives * ticks
    believed, exact = belief_errors(agent, tasks, jr.fold_in(jr.key(seed), 2), ticks, 2_000)
    measured = {"task inference, steps": first(ours), "RL^2, steps": first(theirs), "RL^2, final reward": final}
    measured |= {"task inference, final reward": ours[-1][1], "belief's error": believed, "exact posterior's error": exact}
    return {name: float(value) for name, value in measured.items()}


CLAIMS = (
    Claim(
        id="task-inference",
        statement=(
            "An agent whose belief is taught by the task's description reaches RL^2's final return in fewer environment steps, and "
            "its belief is nearly (within a tenth of the squared error) as good as the exact posterior."
        ),
        source="Humplik et al. 2019, sections 5 and 6",
        reported="figures only: supervised beliefs learn faster than RL^2-like agents in bandits, navigation and robots",
        not_answered=(
            "navigation and robots, off-policy learning, and descriptions that say too much or too little; one setting, chosen for "
            "RL^2, serves both."
        ),
        measure=measure_bandits,
        expected=(
            Expectation("task inference, steps", "<", "RL^2, steps"),
            Expectation("belief's error", "<", "exact posterior's error", factor=1.1),
        ),
    ),
)
