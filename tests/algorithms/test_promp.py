"""ProMP's gradient is that of its own objective on a world that can be listed, and its penalty is a divergence."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from algorithms import tiny_mdp

from quickstudy.algorithms.metarl import maml_rl, promp
from quickstudy.algorithms.metarl.meta_training import Trial
from quickstudy.algorithms.metarl.policy_adaptation import Player
from quickstudy.tasks.control import Discrete

RATE, WEIGHT = 0.8, 0.7


def tiny_learner(policy):
    player = Player(policy, Discrete(2), ("observation",))
    return maml_rl.MAMLRL(player=player, inner_learning_rate=RATE, ticks=32, discount=1.0, credit="low-variance")


def stacked(lesson):
    return jax.tree.map(lambda leaf: leaf[None], lesson)


@eqx.filter_jit
def estimated_gradient():
    """The expected gradient of the loss at the policy that acted, per episode (the loss is a mean over its two ticks)."""
    learner = tiny_learner(tiny_mdp.quarters())
    before = tiny_mdp.lesson(learner.player.actor, tiny_mdp.EVERY_TRAJECTORY)
    phi = learner.improve(learner.player.actor, before)

    def total(learner):
        trials = [Trial(stacked(before), tiny_mdp.lesson(phi, [t]), jnp.zeros(())) for t in tiny_mdp.TRAJECTORIES]
        weights = [jax.lax.stop_gradient(tiny_mdp.probability(phi, t)) for t in tiny_mdp.TRAJECTORIES]
        return sum(-2 * w * promp.loss(learner, trial, 0.3, WEIGHT)[0] for w, trial in zip(weights, trials, strict=True))

    return eqx.filter_grad(total)(learner).player.actor.logits


@eqx.filter_jit
def gradient_of_the_papers_objective():
    """(I + alpha H) grad V(phi), H the return's Hessian while what actions are worth, and how often each place is met, stay."""
    old = tiny_mdp.quarters()
    chances = jax.lax.stop_gradient(jax.nn.softmax(old.logits))
    worth_first = tiny_mdp.FIRST + jnp.sum(chances * tiny_mdp.SECOND, axis=1)

    def near(policy):
        new = jax.nn.softmax(policy.logits)
        return new[0] @ worth_first + chances[0] @ jnp.sum(new * tiny_mdp.SECOND, axis=1)

    def after(policy):
        return tiny_mdp.value(jax.tree.map(lambda p, g: p + RATE * g / 2, policy, jax.grad(near)(policy)))

    return jax.grad(after)(old).logits


def test_the_gradient_is_that_of_the_low_variance_objective():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(estimated_gradient(), gradient_of_the_papers_objective(), atol=1e-12)


def test_the_penalty_is_the_divergence_from_the_policy_that_acted():
    old, new = tiny_mdp.quarters(), tiny_mdp.Table(jnp.array([[0.1, 0.4], [-0.3, 0.2]]))
    batch = tiny_mdp.lesson(old, tiny_mdp.TRAJECTORIES)
    moved = promp.loss(tiny_learner(new), Trial(stacked(batch), batch, jnp.zeros(())), 0.3, WEIGHT)[1]["divergence"]
    p, q = jax.nn.softmax(old.logits), jax.nn.softmax(new.logits)
    at = jnp.sum(p * jnp.log(p / q), axis=1)
    # The first tick of each of the four episodes is at place 0; the second as often at one as at the other.
    assert float(moved) == pytest.approx(float((at[0] + at.mean()) / 2), abs=1e-6)


def test_without_an_inner_step_there_is_nothing_to_stay_near():
    with pytest.raises(ValueError, match="inner_steps must be at least 1, not 0"):
        promp.Config(inner_steps=0)
