"""PPO climbs the probe ladder to known values and actions, and its parts obey their identities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms.probes import DISCOUNT, LADDER, Probes, ladder

from quickstudy.algorithms.rl import ppo
from quickstudy.core import End
from quickstudy.tasks.control import ControlView

KEY = jr.key(0)
CONFIG = ppo.Config(
    lives=8, ticks=16, epochs=4, minibatches=2, learning_rate=0.01, discount=DISCOUNT, decay=0.9, entropy=0.0, width=16, anneal=150
)


def trained(config, steps=150):
    """One agent for each rung, after training side by side."""

    def one(probe, key):
        program = ppo.program(config, Probes(probe))
        arrays, rest = eqx.partition(program.init(key), eqx.is_array)
        body = lambda arrays, k: (eqx.filter(program.update(eqx.combine(arrays, rest), k)[0], eqx.is_array), None)
        state = eqx.combine(jax.lax.scan(body, arrays, jr.split(key, steps))[0], rest)
        spread, centre = (state.values.deviation, state.values.mean) if config.normalise_values else (1.0, 0.0)
        places = ControlView(jnp.eye(3), jnp.zeros(3, jnp.int32), jnp.zeros(3), jnp.full(3, int(End.RUNNING), jnp.int32))
        policies, values = program.learner(state).unroll(None, places)
        return jax.nn.softmax(policies.logits), values * spread + centre

    probes = ladder()
    return eqx.filter_jit(eqx.filter_vmap(one, in_axes=(eqx.if_array(0), None)))(probes, KEY)


@pytest.fixture(scope="module")
def climbed():
    return jax.tree.map(np.asarray, trained(CONFIG))


@pytest.mark.parametrize("rung", LADDER)
def test_ppo_finds_the_known_values_and_actions(climbed, rung):
    i = list(LADDER).index(rung)
    policies, values = climbed[0][i], climbed[1][i]
    *_, known, best = LADDER[rung]
    for place, value in known.items():
        assert values[place] == pytest.approx(value, abs=0.1 * max(1.0, abs(value))), (rung, place)
    for place, action in best.items():
        assert policies[place, action] > 0.9, (rung, place)
