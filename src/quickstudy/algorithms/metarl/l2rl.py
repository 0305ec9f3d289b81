"""L2RL: train a recurrent network on many tasks by one reinforcement learner, and a second one of its own arises in its activity.

* Slow: the weights of an LSTM, improved by A2C and frozen at test time. Fast: its state, which reads the last action and reward.
* One outer step: live a whole life in each of a batch of new tasks, and take a single step up the policy gradient through all of it.

What the state does with rewards need not resemble the rule that trained the weights: A2C is model-free, what it trains may not be.

    h_t = LSTM([o_t, a_(t-1), r_(t-1)], h_(t-1)),      gradient = mean of  grad log pi(a_t | h_t) (R_t - V(h_t)),  R_t the return

Source: Wang et al. 2016, "Learning to reinforcement learn"; Harlow's task: Wang et al. 2018, "Prefrontal cortex as a
meta-reinforcement learning system".
Builds on: A2C, in-context learning of recurrent networks (Hochreiter, Younger and Conwell 2001). Led to: theories of the prefrontal
cortex as a learned learner; its twin is RL^2, which takes TRPO and also reads the end.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl.measuring import expected_reward
from quickstudy.algorithms.references import UCB1, CorrelatedGreedy, ModelBased, ModelFree, Thompson, TwoStepOptimal, gittins
from quickstudy.algorithms.rl import a2c
from quickstudy.algorithms.rl.actor_critic import ActorCritic, Feature, actor_critic, inputs
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Tick, lifetime
from quickstudy.evaluation import evaluate
from quickstudy.factorisations import orthogonal
from quickstudy.nn.memory import LSTM
from quickstudy.outer import Preset, Program, shared_settings, train
from quickstudy.tasks.bandits import AbstractBandit, BernoulliBandit, CorrelatedBandit
from quickstudy.tasks.harlow import Harlow
from quickstudy.tasks.two_step import TwoStep, stay_probabilities, step_record, trials

_READS: tuple[Feature, ...] = ("observation", "action", "reward")  # Wang et al. 2016, who add the time step for bandits


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of Wang et al. 2016 and 2018, but for many lives side by side, and therefore larger steps."""

    width: int = 48  # Wang et al. 2016: 48 LSTM units
    lives: int = 32  # ours: Wang et al. 2016 take one life at a time in bandits, 32 in larger tasks
    ticks: int = 100  # of a whole life; Wang et al. 2016: 100 pulls
    learning_rate: float = 0.007  # ours; Wang et al. 2018: 7e-4, with smaller batches
    anneal: int = 0  # outer steps after which the learning rate has fallen to zero; 0: it does not fall
    discount: float = 0.9  # Wang et al. 2018
    decay: float = 1.0  # Wang et al. 2016: plain returns
    entropy: float = 0.05  # Wang et al. 2018; 2016: falling from 1 to 0
    value_weight: float = 0.05  # Wang et al. 2016
    normalise_advantages: bool = True  # ours: one rate then fits tasks whose returns differ


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """A recurrent agent with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    memory_key, heads_key = jr.split(key)
    size, _ = inputs(tasks, _READS)
    return actor_critic(tasks, long_memory(size, config.width, key=memory_key), config.width, (), reads=_READS, key=heads_key)


def long_memory(inputs: int, hidden: int, *, key: PRNGKeyArray) -> LSTM:
    """An LSTM that reads loudly and recalls at full length: with Equinox's small weights, actions and rewards are never multiplied in
    the gates, and A2C stays at chance for thousands of outer steps.

    >>> long_memory(3, 8, key=jax.random.key(0)).start()[0].shape
    (8,)
    """
    reading_key, recurrence_key = jr.split(key)
    reading = jr.normal(reading_key, (4 * hidden, inputs)) / inputs**0.5
    recurrence = jnp.concatenate(orthogonal(recurrence_key, 4, hidden, hidden))
    cell = eqx.nn.LSTMCell(inputs, hidden, key=key)
    return LSTM(eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, (reading, recurrence, jnp.zeros(4 * hidden))))


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """A2C over whole lives, each in a new task."""
    return a2c.improve(over_lives(config), tasks, lambda key: learner(config, tasks, key))


def over_lives(config: Config) -> a2c.Config:
    """A2C's settings for lives of `config.ticks` ticks, which count as one episode."""
    return shared_settings(a2c.Config, config, horizon=config.ticks, across_episodes=True)


# Lives of Wang et al. 2016 and 2018: 100 pulls, 100 trials of two ticks, 6 trials. Outer steps are ours.
_TWO_STEP = Config(ticks=200)
# With fewer units, or with eight features, it stayed at 0.73 from the second trial on.
_HARLOW = Config(ticks=6, lives=256, width=96, learning_rate=0.003, entropy=0.01)

PRESETS = {
    "correlated": Preset(Config(), CorrelatedBandit, 3_000, 100, "regret below that of Gittins"),
    "two-step": Preset(_TWO_STEP, TwoStep, 2_000, 200, "about 0.7 reward a trial, as model-based players"),
    "harlow": Preset(
        _HARLOW, lambda: Harlow(features=4), 5_000, 6, "0.97 from the second trial on with two seeds of three, else 0.73"
    ),
    "smoke": Preset(Config(width=8, lives=4, ticks=8), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}


# --- Claims -------------------------------------------------------------------------------------------------------------------------


def missed(bandit: AbstractBandit, tick: Tick) -> Float[Array, ""]:
    """By how much the pulled arm pays less than the best one, on average: what a life adds up to regret."""
    return jnp.max(bandit.worth()) - bandit.worth()[tick.response]


@eqx.filter_jit
def habits(who: AbstractLearner, key: PRNGKeyArray, ticks: int, n_tasks: int) -> tuple[Float[Array, "2 2"], Float[Array, ""]]:
    """The stay probabilities `[rewarded, common]` over held-out two-step lives, and the mean reward of a trial."""

    def one(key: PRNGKeyArray) -> tuple[Array, ...]:
        task_key, life_key = jr.split(key)
        return lifetime(who, TwoStep().sample(task_key, "test"), life_key, steps=ticks, record=step_record)[1]

    played = trials(*jax.vmap(one)(jr.split(key, n_tasks)))
    return stay_probabilities(played), jnp.mean(played.reward)


def _trained(name: str, scale: Scale, seed: int) -> AbstractLearner:
    """The learner of a preset, its rate falling to zero; a little of that at smoke scale."""
    preset = PRESETS[name]
    steps = {"smoke": 30, "laptop": preset.steps, "full": 10 * preset.steps}[scale]
    return train(program(dataclasses.replace(preset.config, anneal=steps), preset.tasks()), steps=steps, seed=seed)


def measure_arms(scale: Scale, seed: int) -> Measurements:
    """The regret on correlated arms of L2RL, of rules that believe in independent ones, and of exact belief."""
    key = jr.fold_in(jr.key(seed), 1)
    pulls, n_tasks = PRESETS["correlated"].ticks, 100 if scale == "smoke" else 5_000
    agent = _trained("correlated", scale, seed)
    players: dict[str, AbstractLearner] = {
        "L2RL": agent,
        "Gittins": gittins(2, pulls),
        "UCB1": UCB1(2),
        "Thompson": Thompson(2),
        "Bayes-optimal": CorrelatedGreedy(),
    }
    if scale == "smoke":  # which only looks whether it runs: one program is compiled for all parts
        players = dict.fromkeys(players, agent)
    return {
        f"regret, {name}": float(expected_reward(who, CorrelatedBandit(), missed, key, pulls, n_tasks))
        for name, who in players.items()
    }


def measure_two_step(scale: Scale, seed: int) -> Measurements:
    """What makes L2RL stay in the two-step task, beside players of known kind, and what a trial earns."""
    key = jr.fold_in(jr.key(seed), 1)
    agent = _trained("two-step", scale, seed)
    players: dict[str, AbstractLearner] = {
        "L2RL": agent,
        "model-free": ModelFree(),
        "model-based": ModelBased(),
        "optimal": TwoStepOptimal(),
    }
    if scale == "smoke":  # which only looks whether it runs: one program is compiled for all parts
        players = dict.fromkeys(players, agent)
    measured: dict[str, float] = {}
    for name, who in players.items():
        stay, reward = habits(who, key, PRESETS["two-step"].ticks, 50 if scale == "smoke" else 1_000)
        rare, common = stay[1] - stay[0]
        measured |= {f"reward makes {name} stay, {way}": float(effect) for way, effect in (("rare", rare), ("common", common))}
        measured[f"reward a trial, {name}"] = float(reward)
    return measured


def measure_harlow(scale: Scale, seed: int) -> Measurements:
    """How often L2RL takes the right one of two new objects, by trial."""
    key = jr.fold_in(jr.key(seed), 1)
    preset = PRESETS["harlow"]
    report = evaluate(
        _trained("harlow", scale, seed), preset.tasks(), n_tasks=100 if scale == "smoke" else 5_000, steps=preset.ticks, key=key
    )
    curve = report.curve.mean
    return {"Harlow, trial 1": float(curve[0]), "Harlow, trial 2": float(curve[1]), "Harlow, trials 2 to 6": float(curve[1:].mean())}


CLAIMS = (
    Claim(
        id="l2rl-two-step",
        statement=(
            "With frozen weights the LSTM plays the two-step task as a model-based player does: a reward makes it stay only if it "
            "came the common way, and it earns more than a model-free player."
        ),
        source="Wang et al. 2016, section 3.2.1",
        reported="figures only: the stay pattern of a model-based player, from a model-free rule of training",
        not_answered="whether its activity computes as the model-based player does, rather than acting like it.",
        measure=measure_two_step,
        expected=(
            Expectation("reward makes L2RL stay, common", ">", 0.0),
            # A model-free player would stay after any reward, also one that came the rare way.
            Expectation("reward makes L2RL stay, rare", "<", 0.0),
            Expectation("reward a trial, L2RL", ">", "reward a trial, model-free"),
        ),
    ),
    Claim(
        id="l2rl-dependent-arms",
        statement="With frozen weights the LSTM has less regret on two dependent arms than rules that take them as independent.",
        source="Wang et al. 2016, section 3.1.2",
        reported="figures only: regret below Gittins, UCB and Thompson on dependent arms",
        not_answered="dependences that are weak, or others than the one it was trained on.",
        measure=measure_arms,
        expected=tuple(Expectation("regret, L2RL", "<", f"regret, {rule}") for rule in ("Gittins", "UCB1", "Thompson")),
    ),
    Claim(
        id="l2rl-harlow",
        statement="With frozen weights the LSTM learns in one trial which of two new objects is right.",
        source="Wang et al. 2018, simulation 5",
        reported="figures only: chance in the first trial, near 1 from the second on",
        not_answered="images instead of features.",
        measure=measure_harlow,
        expected=(Expectation("Harlow, trials 2 to 6", ">", 0.9),),
    ),
)
