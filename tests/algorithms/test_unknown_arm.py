"""The sure and the unknown arm: what it pays, exact play against closed forms, and where exploring begins to pay."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.references import UnknownArmOptimal
from quickstudy.algorithms.references.unknown_arm import Belief, least_spread, solve_unknown_arm, worth_of_exploring
from quickstudy.check import check_learner
from quickstudy.core import lifetime
from quickstudy.tasks import UnknownArm
from quickstudy.tasks.unknown_arm import SureAndUnknownArm

KEY = jr.key(0)


def test_the_sure_arm_pays_nothing_and_the_other_what_it_says():
    task = SureAndUnknownArm(jnp.array(-2.0), jnp.array(0.5))
    pay = jax.jit(jax.vmap(lambda arm, key: task.step(task.worth(), arm, key).score, in_axes=(None, 0)))
    keys = jr.split(KEY, 4_000)
    assert set(pay(jnp.int32(0), keys).tolist()) == {0.0}
    unknown = np.asarray(pay(jnp.int32(1), keys))
    # The deviation of the mean of 4,000 is 0.008, that of their deviation 0.006.
    assert abs(unknown.mean() + 2) < 0.04
    assert abs(unknown.std() - 0.5) < 0.03


@pytest.mark.parametrize("spread", [2.0, 5.0, 10.0])
def test_with_two_pulls_exploring_once_and_then_choosing_is_all_there_is(spread):
    assert solve_unknown_arm(spread, 1.5, 2)[1] == pytest.approx(max(0.0, worth_of_exploring(spread, 1.5, 2, 1)), abs=1e-3 * spread)


def test_who_may_stop_at_any_time_earns_more_than_who_explores_for_a_fixed_time_and_less_than_who_knows():
    best = solve_unknown_arm(1.5, 1.0, 20)[1]
    fixed = max(worth_of_exploring(1.5, 1.0, 20, explored) for explored in range(20))
    knowing = worth_of_exploring(1.5, 0.0, 21, 1) + 1  # one free look without noise
    assert 0 < fixed < best < knowing


def test_the_value_is_what_the_player_earns():
    spread, pulls, n = 1.5, 10, 20_000
    player = UnknownArmOptimal.solve(spread, 1.0, pulls)

    @eqx.filter_jit
    def earned(player):
        means = -1 + spread * jr.normal(KEY, (n,))
        live = lambda mean, key: lifetime(player, SureAndUnknownArm(mean, jnp.array(1.0)), key, steps=pulls)[1].sum()
        return jax.vmap(live)(means, jr.split(KEY, n))

    totals = np.asarray(earned(player))
    assert abs(totals.mean() - solve_unknown_arm(spread, 1.0, pulls)[1]) < 4 * totals.std() / n**0.5


def test_the_boundary_falls_with_longer_lives_and_rises_with_noise():
    assert least_spread(1.0, 10) < least_spread(1.0, 5) < least_spread(2.0, 5)
    boundary = least_spread(1.0, 5)
    assert solve_unknown_arm(0.9 * boundary, 1.0, 5)[1] == 0 < solve_unknown_arm(1.1 * boundary, 1.0, 5)[1]


def test_what_is_believed_is_the_posterior_mean_and_giving_up_is_for_good():
    player = UnknownArmOptimal.solve(2.0, 1.0, 4)
    view = UnknownArm().sample(KEY, "test").reset(KEY)[1]
    rewards = [0.5, 2.0]
    fast = player.begin(view, KEY)
    for reward in rewards:
        fast = player.observe(fast, view, jnp.int32(1), view._replace(reward=jnp.asarray(reward)), KEY)
    # Precisions add up: 1/4 for the prior's -1, 1 for each reward.
    assert float(player._believed(fast)) == pytest.approx((-1 / 4 + sum(rewards)) / (1 / 4 + 2), rel=1e-6)
    assert int(player.respond(fast, view, KEY)) == 1
    fast = player.observe(fast, view, jnp.int32(0), view._replace(reward=jnp.zeros(())), KEY)
    assert isinstance(fast, Belief)
    assert int(player.respond(fast, view, KEY)) == 0


def test_the_optimal_player_conforms():
    check_learner(UnknownArmOptimal.solve(2.0, 1.0, 4), UnknownArm(), KEY, steps=3)


def test_a_spread_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"spread must be positive, not 0\.0"):
        UnknownArm(spread=0.0)
