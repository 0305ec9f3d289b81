"""SAC finds known actions, values and the known temperature; its losses touch only the weights they are for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms.probes import DISCOUNT, climb, target_probes

from quickstudy.algorithms.rl import sac
from quickstudy.algorithms.rl.off_policy import Transition
from quickstudy.nn.policies import SquashedGaussian
from quickstudy.outer import flatten
from quickstudy.tasks import CartPole

KEY = jr.key(0)
CONFIG = sac.Config(
    lives=8, batch=64, capacity=1_024, warmup=64, updates=2, learning_rate=0.003, discount=DISCOUNT, width=16, target_rate=0.05
)
# A normal action with the entropy asked for, -1, has this variance ...
VARIANCE = np.exp(2 * (-1 - 0.5 * np.log(2 * np.pi * np.e)))
# ... and exp(-(a - target)^2 / temperature) has it at this temperature.
TEMPERATURE = 2 * VARIANCE


def read(state, learner, places):
    seen = places.observation
    actions = jax.vmap(learner.networks.policy)(seen).likeliest()
    values = sac.judge(learner.networks.critics, seen, actions)
    return actions[:, 0], values, jnp.exp(learner.networks.log_temperature)


@pytest.fixture(scope="module")
def climbed():
    return climb(lambda tasks: sac.program(CONFIG, tasks), read, 1_500, KEY, target_probes())


def test_sac_finds_the_best_action_of_each_place(climbed):
    np.testing.assert_allclose(climbed[0], [[-0.5, 0.0, 0.7]] * 2, atol=0.1)


def test_sac_finds_the_values_of_the_best_actions(climbed):
    ending, cut_off = climbed[1]
    np.testing.assert_allclose(ending, 0, atol=0.05)
    # What follows the best action are ticks that pay one, less the spread of the action, and less the entropy that was asked for.
    following = (1 - VARIANCE - TEMPERATURE) / (1 - DISCOUNT)
    np.testing.assert_allclose(cut_off, 1 + DISCOUNT * following, rtol=0.05)


def test_the_temperature_comes_to_where_the_entropy_is_the_one_asked_for(climbed):
    assert climbed[2][0] == pytest.approx(TEMPERATURE, rel=0.5)


def test_squashed_draws_have_the_density_that_they_say():
    policy = SquashedGaussian(jnp.full((4_000, 1), 0.3), jnp.zeros((4_000, 1)))
    actions, logs = eqx.filter_jit(policy.draw_and_judge)(KEY)
    assert (jnp.abs(actions) <= 1).all()
    # The mean of 1 / density over draws is the length of the range, and far tails make it noisy: cut them off at 0.95.
    inside = jnp.abs(actions[:, 0]) < 0.95
    assert float(jnp.mean(jnp.where(inside, jnp.exp(-logs), 0.0))) == pytest.approx(1.9, rel=0.05)


def test_squashed_draws_stay_finite_where_tanh_rounds_to_one():
    value, slope = jax.value_and_grad(lambda mean: SquashedGaussian(mean, jnp.zeros(1)).draw_and_judge(KEY)[1])(jnp.full(1, 50.0))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def one_batch(networks):
    keys = jr.split(KEY, 4)
    seen, after = jr.normal(keys[0], (6, 4)), jr.normal(keys[1], (6, 4))
    return Transition(seen, jr.uniform(keys[2], (6, 2), minval=-1.0), jr.normal(keys[3], (6,)), after, jnp.arange(6) < 2)


def test_each_loss_has_a_gradient_for_its_own_weights_only():
    networks = sac.networks(4, 2, 8, KEY)
    batch = one_batch(networks)

    def gradients(networks):
        critic = lambda n: sac.critic_loss(n, networks.critics, batch, 0.9, KEY)[0]
        actor = lambda n: sac.actor_loss(n, batch.seen, KEY)[0]
        temperature = lambda n: sac.temperature_loss(n, -sac.actor_loss(n, batch.seen, KEY)[1], -2.0)
        together = lambda n: sac.loss(n, networks.critics, batch, 0.9, -2.0, KEY)[0]
        return [eqx.filter_grad(of)(networks) for of in (critic, actor, temperature, together)]

    *alone, together = eqx.filter_jit(gradients)(networks)
    touched = [[float(jnp.abs(flatten(part)[0]).sum()) > 0 for part in (g.critics, g.actor, g.log_temperature)] for g in alone]
    assert touched == [[True, False, False], [False, True, False], [False, False, True]]
    assert (flatten(together)[0] != 0).mean() > 0.5


def test_what_is_seen_has_a_gradient_from_the_critics_and_none_from_the_actor():
    networks = sac.networks(4, 2, 8, KEY)
    batch = one_batch(networks)

    def gradients(seen):
        critic = lambda seen: sac.critic_loss(networks, networks.critics, batch._replace(seen=seen), 0.9, KEY)[0]
        return jax.grad(critic)(seen), jax.grad(lambda seen: sac.actor_loss(networks, seen, KEY)[0])(seen)

    critic, actor = eqx.filter_jit(gradients)(batch.seen)
    assert (np.abs(critic).sum(axis=1) > 0).all()
    assert not actor.any()


def test_nothing_follows_where_an_episode_ended():
    networks = sac.networks(4, 2, 8, KEY)
    batch = one_batch(networks)

    def loss(after):
        return sac.critic_loss(networks, networks.critics, batch._replace(after=after), 0.9, KEY)[0]

    step = eqx.filter_jit(loss)
    assert step(batch.after) == step(batch.after.at[:2].add(1.0))
    assert step(batch.after) != step(batch.after.at[2].add(1.0))


def test_discrete_actions_are_refused():
    with pytest.raises(TypeError, match="SAC is for continuous actions"):
        sac.learner(sac.Config(), CartPole(), KEY)
