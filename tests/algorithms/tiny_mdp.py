"""A world of two ticks, two places and two actions: every trajectory can be listed, so every expectation is a finite sum.

The first tick is at place 0; its action is the place of the second. A policy is a table of logits, whose probabilities are quarters,
so that a batch of 16 trajectories can hold each exactly as often as it is expected.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from quickstudy.algorithms.metarl.policy_adaptation import AbstractActor, Episodes, Lesson, Plan
from quickstudy.core import End
from quickstudy.nn.policies import Categorical

FIRST = np.array([0.3, -0.7])
SECOND = np.array([[1.0, -2.0], [0.5, 3.0]])
TRAJECTORIES = list(itertools.product((0, 1), (0, 1)))
QUARTERS = np.array([[0.25, 0.75], [0.75, 0.25]])


class Table(AbstractActor):
    """One row of logits for each place."""

    logits: jax.Array

    def __call__(self, seen, plan):
        return Categorical(seen @ self.logits)

    def draw_plan(self, key):
        return jnp.zeros(0)

    def plan_log_probability(self, plan):
        return jnp.zeros(())


def quarters():
    """The policy whose probabilities are `QUARTERS`; logits are not centred, as nothing should depend on that."""
    return Table(jnp.asarray(np.log(QUARTERS) + np.array([[0.3], [-0.2]]), float))


def probability(policy, trajectory):
    first, second = trajectory
    chances = jax.nn.softmax(policy.logits)
    return chances[0, first] * chances[first, second]


def value(policy):
    """The expected return, exactly."""
    return sum(probability(policy, (a, b)) * (FIRST[a] + SECOND[a, b]) for a, b in TRAJECTORIES)


def episodes(policy, trajectories):
    """These trajectories as the policy would have lived them; the policy that acted is not differentiated."""
    seen = jnp.array([[1 - place, place] for a, _ in trajectories for place in (0, a)], float)
    responses = jnp.array(trajectories, jnp.int32).ravel()
    rewards = jnp.array([[FIRST[a], SECOND[a, b]] for a, b in trajectories]).ravel()
    ends = jnp.array([End.RUNNING, End.TERMINATED] * len(trajectories), jnp.int32)
    policies = jax.lax.stop_gradient(Categorical(seen @ policy.logits))
    return Episodes(seen, no_plans(len(seen)), responses, rewards, ends, policies, policies.log_probability(responses))


def no_plans(ticks):
    return Plan(jnp.zeros((ticks, 0)), jnp.zeros(ticks, bool))


def lesson(policy, trajectories):
    """Those episodes with what followed each action, nothing taken off."""
    lived = episodes(policy, trajectories)
    follows = lived.rewards.reshape(-1, 2)
    return Lesson(lived, jnp.stack([follows[:, 0] + follows[:, 1], follows[:, 1]], axis=1).ravel(), jnp.ones(()))


# Sixteen trajectories, each as often as the policy of `quarters` expects it.
EVERY_TRAJECTORY = [(a, b) for a, b in TRAJECTORIES for _ in range(round(16 * QUARTERS[0, a] * QUARTERS[a, b]))]
