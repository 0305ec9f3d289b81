"""The classic tasks move exactly as Gymnasium's do, also with other physics, and end when theirs end."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from answers import Answer

from quickstudy.core import End, lifetime, sample_tasks
from quickstudy.tasks import Acrobot, CartPole, MountainCar, Pendulum
from quickstudy.tasks.acrobot import AcrobotTask, Links
from quickstudy.tasks.cartpole import Cart, CartPoleTask
from quickstudy.tasks.mountain_car import Car, MountainCarTask
from quickstudy.tasks.pendulum import PendulumTask, Rod
from quickstudy.tasks.varying import parameters

KEY = jr.key(0)
STATES = 200

# ours -> Gymnasium's id, the state of ours from a row of numbers, the range of the numbers, names of our parameters there
TWINS = {
    CartPoleTask: (
        "CartPole-v1",
        Cart,
        (2.5, 3.0, 0.22, 3.0),
        {
            "gravity": "gravity",
            "cart_mass": "masscart",
            "pole_mass": "masspole",
            "half_length": "length",
            "force": "force_mag",
            "time_step": "tau",
        },
    ),
    PendulumTask: (
        "Pendulum-v1",
        Rod,
        (8.0, 8.0),
        {"gravity": "g", "mass": "m", "length": "l", "torque": "max_torque", "speed_limit": "max_speed", "time_step": "dt"},
    ),
    AcrobotTask: (
        "Acrobot-v1",
        Links,
        (np.pi, np.pi, 4 * np.pi, 9 * np.pi),
        {
            "first_mass": "LINK_MASS_1",
            "second_mass": "LINK_MASS_2",
            "first_length": "LINK_LENGTH_1",
            "first_centre": "LINK_COM_POS_1",
            "second_centre": "LINK_COM_POS_2",
            "inertia": "LINK_MOI",
            "time_step": "dt",
        },
    ),
    MountainCarTask: ("MountainCar-v0", Car, (1.2, 0.07), {"gravity": "gravity", "force": "force", "speed_limit": "max_speed"}),
}


def gymnasium_step(environment, state, action):
    """Gymnasium's own observation, reward and end from a state that we choose."""
    environment.unwrapped.state = state.copy()
    environment.unwrapped.steps_beyond_terminated = None
    observation, reward, terminated, _, _ = environment.unwrapped.step(action)
    return np.asarray(observation, np.float64), float(reward), bool(terminated)


def set_physics(environment, values):
    for name, value in values.items():
        setattr(environment.unwrapped, name, value)
    if environment.spec.id == "CartPole-v1":  # which keeps products of what we set
        cart = environment.unwrapped
        cart.total_mass, cart.polemass_length = cart.masscart + cart.masspole, cart.masspole * cart.length


@pytest.fixture
def gymnasium():
    return pytest.importorskip("gymnasium", reason="Gymnasium is not here: pip install 'quickstudy[gymnasium]'")


def our_steps(task, state_of, states, actions):
    """Our observations, rewards and ends after one step from each state, in the precision that JAX is set to."""

    def step(state, action):
        after, reward, ended = task.act(state_of(*state), action, KEY)
        return task.look(after), reward, ended

    inputs = jnp.asarray(actions, jnp.int32 if actions.ndim == 1 else float)
    return [np.asarray(result, np.float64) for result in jax.jit(jax.vmap(step))(jnp.asarray(states, float), inputs)]


@pytest.mark.parametrize("factor", [1.0, 1.25])
@pytest.mark.parametrize("kind", TWINS, ids=lambda kind: kind.__name__)
def test_every_step_is_gymnasiums(gymnasium, kind, factor):
    name, state_of, reach, names = TWINS[kind]
    draw = np.random.default_rng(0)
    states = draw.uniform(-1, 1, (STATES, len(reach))) * reach
    environment = gymnasium.make(name)
    environment.reset(seed=0)
    discrete = hasattr(environment.action_space, "n")
    actions = draw.integers(environment.action_space.n, size=STATES) if discrete else draw.uniform(-1.2, 1.2, (STATES, 1))
    varied = {ours: float(getattr(kind(), ours)) * factor for ours in names}
    set_physics(environment, {names[ours]: value for ours, value in varied.items()})
    # Ours is the share of the largest torque.
    theirs = [gymnasium_step(environment, s, a if discrete else a * varied["torque"]) for s, a in zip(states, actions, strict=True)]
    wanted, rewards, ends = map(np.asarray, zip(*theirs, strict=True))
    for x64, close in ((True, 1e-6), (False, 1e-3)):
        with jax.enable_x64(x64):
            ours = our_steps(dataclasses.replace(kind(), **varied), state_of, states, actions)
        # Their observations are float32: 6e-8 of a value is the best there is. In float32 an acrobot's fastest step loses four digits.
        np.testing.assert_allclose(ours[0] / (1 + np.abs(wanted)), wanted / (1 + np.abs(wanted)), atol=close)
        np.testing.assert_allclose(ours[1], rewards, rtol=close, atol=close)
        np.testing.assert_array_equal(ours[2], ends)
    assert kind is PendulumTask or 0 < ends.sum() < STATES, "both kinds of step were compared"


@eqx.filter_jit
def life(task, answer, steps):
    return lifetime(Answer(answer), task, KEY, steps=steps, record=lambda tick: (tick.score, tick.end, tick.view.observation))[1]


def test_time_limits_are_gymnasiums(gymnasium):
    for kind, (name, *_) in TWINS.items():
        assert kind().horizon == gymnasium.spec(name).max_episode_steps, name


@pytest.mark.parametrize(
    ("kind", "answer"), [(PendulumTask, jnp.zeros(1)), (AcrobotTask, jnp.int32(1)), (MountainCarTask, jnp.int32(1))]
)
def test_an_idle_episode_is_cut_off_by_the_time_limit_and_begins_anew(kind, answer):
    task = kind(horizon=5)
    _, ends, seen = map(np.asarray, life(task, answer, 12))
    assert ends.tolist() == [0, 0, 0, 0, End.TRUNCATED] * 2 + [0, 0]
    begun = np.asarray(jax.vmap(lambda key: task.look(task.begin(key)))(jr.split(KEY, 2_000)))
    slack = 0.01 * np.ptp(begun, axis=0)
    assert (seen[[0, 5, 10]] >= begun.min(axis=0) - slack).all()
    assert (seen[[0, 5, 10]] <= begun.max(axis=0) + slack).all()
    assert len({tuple(row) for row in seen[[0, 5, 10]].tolist()}) == 3, "episodes begin differently"


def test_a_cart_pushed_one_way_falls_within_a_dozen_ticks():
    rewards, ends, seen = map(np.asarray, life(CartPoleTask(), jnp.int32(1), 100))
    lengths = np.diff(np.flatnonzero(ends == End.TERMINATED))
    # Pushing one way turns the pole by about 14.5 / s^2: 12 degrees take sqrt(2 x 0.21 / 14.5) s, or 8.5 ticks, from standing upright.
    assert set(lengths.tolist()) <= {8, 9, 10, 11}
    assert set(rewards.tolist()) == {1.0}
    begun = seen[np.flatnonzero(ends == End.TERMINATED)[:-1] + 1]
    assert (np.abs(begun) <= 0.05).all(), "the view after an end is the next episode's first"


def test_swinging_with_the_motion_climbs_the_mountain_and_idling_does_not():
    task = MountainCarTask()

    class Swing(Answer):
        def respond(self, fast, view, key):
            return jnp.where(view.observation[1] < 0, 0, 2).astype(jnp.int32)

    ends = eqx.filter_jit(lambda: lifetime(Swing(jnp.int32(0)), task, KEY, steps=400, record=lambda tick: tick.end)[1])()
    assert np.asarray(ends).tolist().count(End.TERMINATED) >= 2
    assert End.TERMINATED not in np.asarray(life(task, jnp.int32(1), 400)[1]).tolist()


def test_a_free_acrobot_keeps_its_energy_and_a_driven_one_does_not():
    """The integrator's error shrinks with the fourth power of the step: with a fine one, only wrong equations would lose energy."""
    task = AcrobotTask(time_step=0.005)

    def total(state):
        w1, w2 = state.first_turning, state.first_turning + state.second_turning
        cross = task.second_mass * task.first_length * task.second_centre
        kinetic = 0.5 * (task.first_mass * task.first_centre**2 + task.second_mass * task.first_length**2 + task.inertia) * w1**2
        kinetic += 0.5 * (task.second_mass * task.second_centre**2 + task.inertia) * w2**2 + cross * w1 * w2 * jnp.cos(state.second)
        down = (task.first_mass * task.first_centre + task.second_mass * task.first_length) * jnp.cos(state.first)
        return kinetic - task.gravity * (down + task.second_mass * task.second_centre * jnp.cos(state.first + state.second))

    def run(action):
        go = lambda state, _: (task.act(state, action, KEY)[0],) * 2
        return jax.lax.scan(go, Links(jnp.array(1.0), jnp.array(0.5), jnp.zeros(()), jnp.zeros(())), None, length=400)[1]

    # The book's equations have this energy: over two seconds it drifts by rounding only.
    free, driven = (np.asarray(total(jax.jit(run)(jnp.int32(action)))) for action in (1, 2))
    assert np.ptp(free) < 2e-3 * np.abs(free).max()
    assert np.ptp(driven) > 100 * np.ptp(free)


def test_a_stronger_motor_and_a_lighter_rod_turn_a_pendulum_in_proportion():
    def turned(**physics):
        return float(PendulumTask(**physics).act(Rod(jnp.zeros(()), jnp.zeros(())), jnp.ones(1), KEY)[0].turning)

    # From upright gravity does nothing: 3 x 2 / (1 x 1) x 0.05.
    assert turned() == pytest.approx(0.3)
    assert turned(torque=4.0) == pytest.approx(0.6)
    assert turned(mass=2.0) == pytest.approx(0.15)
    assert turned(length=2.0) == pytest.approx(0.075)


DISTRIBUTIONS = (CartPole, Pendulum, Acrobot, MountainCar)


@pytest.mark.parametrize("kind", [CartPole, MountainCar])
def test_only_what_is_named_varies_and_within_half_to_double(kind):
    names = parameters(kind().standard())
    tasks = kind(vary=names[:2])
    for split, (low, high) in {"train": (0.5, 2.0), "test": (0.5, 2.0), "out-of-range": (2.0, 3.0)}.items():
        drawn = eqx.filter_jit(sample_tasks)(tasks, KEY, split, 300)
        for name in names:
            factors = np.asarray(getattr(drawn, name)) / float(getattr(tasks.standard(), name))
            if name not in names[:2]:
                np.testing.assert_array_equal(factors, 1.0)
                continue
            assert low - 1e-6 <= factors.min()
            assert factors.max() <= high + 1e-6
            # The mean of 300 uniform numbers deviates by (high - low) x 0.0167.
            assert abs(factors.mean() - (low + high) / 2) < 0.07 * (high - low)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_without_variation_every_task_is_the_standard_one(kind):
    drawn = kind().sample(KEY, "test")
    assert eqx.tree_equal(drawn, kind().standard())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"vary": ("length",)}, "vary must be names among gravity, cart_mass, pole_mass, half_length, force, time_step, not 'length'"),
        ({"vary": ("gravity", "gravity")}, "vary must name each parameter once, not gravity, gravity"),
        ({"vary": ("horizon",)}, "not 'horizon'"),
        ({"horizon": 0}, "horizon must be at least 1, not 0"),
    ],
)
def test_bad_settings_are_refused_with_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        CartPole(**settings)


def test_worlds_can_be_looked_at():
    upright = CartPoleTask().reset(KEY)[0]._replace(state=Cart(*map(jnp.asarray, (0.0, 0.0, 0.0, 0.0))))
    lines = CartPoleTask().text(upright).splitlines()
    assert {line.index("|") for line in lines if "|" in line} == {24}, "the pole stands in the middle of 49 columns"
    left = upright._replace(state=Rod(jnp.array(np.pi / 2), jnp.array(0.0)))
    row = PendulumTask().text(left).splitlines()[5]
    assert set(row[:10].strip()) == {"*"}, "a quarter turn counter-clockwise points left"
    assert row[10:] == "o"
    hanging = upright._replace(state=Links(*map(jnp.asarray, (0.0, 0.0, 0.0, 0.0))))
    assert "*" in AcrobotTask().text(hanging).splitlines()[8]
    assert "+" in AcrobotTask().text(hanging).splitlines()[12]
    parked = upright._replace(state=Car(jnp.array(-0.5), jnp.array(0.0)))
    assert "@" in MountainCarTask().text(parked).splitlines()[-1], "the valley's bottom"
    for task, world in ((CartPoleTask(), upright), (PendulumTask(), left), (AcrobotTask(), hanging), (MountainCarTask(), parked)):
        picture = task.image(world)
        assert picture.dtype == np.uint8
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 3, "something is drawn"
