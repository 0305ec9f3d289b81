"""A ladder of tiny environments whose optimal policy and values are known in closed form, each one step harder than the last.

All have three places and two actions, so one compiled program trains on the whole ladder side by side.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Continuous, ControlView, Discrete

STOP = -1
DISCOUNT = 0.9


class Probe(AbstractEnvironment):
    """Rewards and successors of every place and action; a successor of `STOP` ends the episode; `limit` ticks cut it off."""

    starts: jax.Array
    rewards: jax.Array
    successors: jax.Array
    horizon: int = eqx.field(static=True)

    @property
    def actions(self):
        return Discrete(2)

    def begin(self, key):
        return jr.choice(key, 3, p=self.starts)

    def look(self, state):
        return jax.nn.one_hot(state, 3)

    def act(self, state, action, key):
        after = self.successors[state, action]
        return jnp.maximum(after, 0), self.rewards[state, action], after == STOP

    def text(self, world):
        return str(int(world.state))

    def image(self, world):
        return np.zeros((1, 1, 3), np.uint8)


class TargetProbe(AbstractEnvironment):
    """Stay at one of three places; a tick pays `bonus` minus the squared distance of the action from the place's target."""

    targets: jax.Array
    bonus: jax.Array
    ends: jax.Array
    horizon: int = eqx.field(static=True)

    @property
    def actions(self):
        return Continuous(1)

    def begin(self, key):
        return jr.randint(key, (), 0, 3)

    def look(self, state):
        return jax.nn.one_hot(state, 3)

    def act(self, state, action, key):
        return state, self.bonus - (action[0] - self.targets[state]) ** 2, self.ends

    def text(self, world):
        return str(int(world.state))

    def image(self, world):
        return np.zeros((1, 1, 3), np.uint8)


class Probes(AbstractControl):
    """Always the same probe."""

    probe: AbstractEnvironment

    @property
    def actions(self):
        return self.probe.actions

    def sample(self, key, split):
        return self.probe


FIRST = [1.0, 0.0, 0.0]
ALL_STOP = [[STOP, STOP]] * 3
# name -> starts, rewards, successors, the value of each place that is visited, the best action there (None: both are as good)
LADDER = {
    "a reward to expect": (FIRST, [[1, 1]] * 3, ALL_STOP, {0: 1.0}, {}),
    "rewards that differ by place": ([0.5, 0.5, 0], [[1, 1], [-1, -1], [0, 0]], ALL_STOP, {0: 1.0, 1: -1.0}, {}),
    "a reward that comes later": (FIRST, [[0, 0], [1, 1], [0, 0]], [[1, 1], [STOP] * 2, [STOP] * 2], {0: DISCOUNT, 1: 1.0}, {}),
    "an action that pays": (FIRST, [[-1, 1]] * 3, ALL_STOP, {0: 1.0}, {0: 1}),
    "an action that depends on the place": ([0.5, 0.5, 0], [[1, -1], [-1, 1], [0, 0]], ALL_STOP, {0: 1.0, 1: 1.0}, {0: 0, 1: 1}),
    "a detour that pays": (
        FIRST,
        [[0.5, 0], [1, 0], [0, 0]],
        [[STOP, 1], [STOP, STOP], [STOP] * 2],
        {0: DISCOUNT, 1: 1.0},
        {0: 1, 1: 0},
    ),
    # Reward 1 a tick without end; episodes are cut off, and a cut must not be taken for an end: 1 / (1 - discount).
    "a time limit that is no end": (FIRST, [[1, 1]] * 3, [[0, 0]] * 3, {0: 1 / (1 - DISCOUNT)}, {}),
}


def ladder(horizon=5):
    """All probes stacked along a first axis."""
    one = lambda starts, rewards, successors, *_: Probe(
        jnp.array(starts), jnp.array(rewards, jnp.float32), jnp.array(successors, jnp.int32), horizon
    )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one(*rung) for rung in LADDER.values()))


def target_probes(horizon=5):
    """One whose episodes end at once, and one that pays without end until it is cut off, stacked."""
    one = lambda bonus, ends: TargetProbe(jnp.array([-0.5, 0.0, 0.7]), jnp.array(bonus), jnp.array(ends), horizon)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), one(0.0, True), one(1.0, False))


def climb(program, read, steps, key, probes=None):
    """Train one agent on each rung, side by side; `read(state, learner, views)` gives what is to be known of the three places."""

    def one(probe):
        slow = program(Probes(probe))
        arrays, rest = eqx.partition(slow.init(key), eqx.is_array)
        body = lambda arrays, k: (eqx.filter(slow.update(eqx.combine(arrays, rest), k)[0], eqx.is_array), None)
        state = eqx.combine(jax.lax.scan(body, arrays, jr.split(key, steps))[0], rest)
        places = ControlView(jnp.eye(3), jnp.zeros(3, jnp.int32), jnp.zeros(3), jnp.full(3, int(End.RUNNING), jnp.int32))
        return read(state, slow.learner(state), places)

    return jax.tree.map(np.asarray, eqx.filter_jit(eqx.filter_vmap(one))(ladder() if probes is None else probes))


def actor_and_critic(state, learner, places):
    """What an on-policy agent makes of the places."""
    policies, values = learner.unroll(None, places)
    return jax.nn.softmax(policies.logits), values * state.values.deviation + state.values.mean


def check_rung(rung, probabilities, values):
    """A rung's known values are met within a tenth, and the best action is nearly always taken."""
    i = list(LADDER).index(rung)
    *_, known, best = LADDER[rung]
    for place, value in known.items():
        assert values[i, place] == pytest.approx(value, abs=0.1 * max(1.0, abs(value))), (rung, place)
    for place, action in best.items():
        assert probabilities[i, place, action] > 0.9, (rung, place)
