"""Nature or nurture: where nothing can be gained by learning, meta-learning makes agents that do not learn.

Slow: the weights of L2RL's network. Fast: its state, in so far as the slow weights let it matter. One outer step: one of L2RL's, for
each agent of a sweep over worlds that differ in how uncertain they are.

An unknown arm is expected to pay -1 a pull, give or take a `spread`, a sure one nothing. Finding out pays if the spread is wide and
life long enough: the boundary is where the optimal player's value V_0 leaves zero (see `references.unknown_arm`),

    learn  if and only if  -1 + E V_1(m_1) > 0,      V_n(m) = max(0, m + E V_(n+1)(m_(n+1)))

Source: Lange and Sprekeler 2020, "Learning not to Learn: Nature versus Nurture in Silico", whose player explores for a fixed number of
pulls; ours may stop at any time, which is optimal.
Builds on: L2RL, optimal stopping. Led to: the question which priors meta-learning should hard-wire.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl import l2rl
from quickstudy.algorithms.references.unknown_arm import UnknownArmOptimal, least_spread
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, lifetime
from quickstudy.outer import Metrics, Program, State, member, train
from quickstudy.tasks.unknown_arm import UnknownArm

FACTORS = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)  # ours: spreads of the sweep, in units of the boundary's
PULLS = 20  # ours: of a life


def sweep(config: l2rl.Config, spreads: Float[Array, " agents"]) -> Program:
    """L2RL in a world of each spread, side by side: one program for all agents, whose learner is a stack of them."""
    one = lambda spread: l2rl.program(config, UnknownArm(spread=spread))
    keys = lambda key: jr.split(key, spreads.shape[0])

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        state, metrics = eqx.filter_vmap(lambda spread, s, k: one(spread).update(s, k))(spreads, state, keys(key))
        return state, jax.tree.map(jnp.mean, metrics)

    init = lambda key: eqx.filter_vmap(lambda spread, k: one(spread).init(k))(spreads, keys(key))
    return Program(init, update, one(spreads[0]).learner)


@eqx.filter_jit
def conduct(
    who: AbstractLearner, spread: Float[Array, ""], key: PRNGKeyArray, pulls: int, n_tasks: int
) -> tuple[Float[Array, " pulls"], Float[Array, ""]]:
    """How often the unknown arm is taken at each pull, over held-out tasks; and what a whole life earns, on average."""

    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        task_key, life_key = jr.split(key)
        task = UnknownArm(spread=spread).sample(task_key, "test")
        arms = lifetime(who, task, life_key, steps=pulls, record=lambda tick: tick.response)[1]
        return arms.astype(jnp.float32), jnp.sum(task.worth()[arms])

    arms, earned = jax.vmap(one)(jr.split(key, n_tasks))
    return jnp.mean(arms, axis=0), jnp.mean(earned)


def measure(scale: Scale, seed: int) -> Measurements:
    """Agents meta-trained on both sides of the boundary, beside the optimal player."""
    steps, n_tasks = {"smoke": (20, 100), "laptop": (1_500, 5_000), "full": (10_000, 20_000)}[scale]
    deviation = float(UnknownArm().deviation)
    boundary = least_spread(deviation, PULLS)
    spreads = boundary * np.array(FACTORS, np.float32)
    config = dataclasses.replace(l2rl.Config(), ticks=PULLS, anneal=steps)
    agents = train(sweep(config, jnp.asarray(spreads)), steps=steps, seed=seed)
    measured = {"boundary": boundary}
    for place, (factor, spread) in enumerate(zip(FACTORS, spreads.tolist(), strict=True)):
        agent = member(agents, place)
        for name, who in (("agent", agent), ("optimal", UnknownArmOptimal.solve(spread, deviation, PULLS))):
            taken, earned = conduct(who, jnp.asarray(spread), jr.fold_in(jr.key(seed), 1), PULLS, n_tasks)
            where = f"{name}, {factor:g} x boundary"
            measured |= {f"first pull unknown, {where}": float(taken[0]), f"earned, {where}": float(earned)}
    return measured


CLAIMS = (
    Claim(
        id="nature-nurture",
        statement=(
            "Meta-trained agents leave the unknown arm alone below a boundary of uncertainty, and learn about it above: the boundary"
            " is that of the Bayes-optimal player, within a factor of two on either side."
        ),
        source="Lange and Sprekeler 2020, figures 2 and 3",
        reported="figures only: a sharp boundary for meta-trained LSTMs, near the analytic one",
        not_answered="how sharp the boundary is within that factor of two, and whether richer worlds have one.",
        measure=measure,
        expected=(
            Expectation("first pull unknown, agent, 0.5 x boundary", "<", 0.5),
            Expectation("first pull unknown, agent, 2 x boundary", ">", 0.5),
            Expectation("earned, agent, 2 x boundary", ">", "earned, optimal, 2 x boundary", factor=0.7),
            Expectation("earned, agent, 4 x boundary", ">", "earned, optimal, 4 x boundary", factor=0.7),
        ),
    ),
)
