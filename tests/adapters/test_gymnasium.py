"""Our tasks pass Gymnasium's own checks, and Gymnasium's environments pass ours."""

import logging
import subprocess
import sys
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy import outer
from quickstudy.check import check_distribution, check_learner, check_task
from quickstudy.core import AbstractLearner, End, lifetime, live, sample_tasks
from quickstudy.evaluation import evaluate
from quickstudy.failures import EnvironmentFailure, plain_failures
from quickstudy.tasks import BernoulliBandit, CartPole, MountainCar, Pendulum, RestlessBandit
from quickstudy.tasks.control import Continuous, Discrete

gymnasium = pytest.importorskip("gymnasium", reason="Gymnasium is not here: pip install 'quickstudy[gymnasium]'")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from quickstudy.adapters.gymnasium import GymnasiumEnv, GymnasiumVectorEnv, gymnasium_tasks  # noqa: E402
from quickstudy.adapters.gymnasium_host import host_of  # noqa: E402
from quickstudy.adapters.gymnasium_spaces import actions_of, from_observation, observation_shape, to_action  # noqa: E402

KEY = jr.key(0)


class Guess(AbstractLearner):
    """Acts at random."""

    actions: Discrete | Continuous = eqx.field(static=True)

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        if isinstance(self.actions, Discrete):
            return jr.randint(key, (), 0, self.actions.n)
        return jr.uniform(key, (self.actions.size,), minval=-1.0, maxval=1.0)

    def observe(self, fast, view, response, feedback, key):
        return None


# --- Our tasks as Gymnasium's environments -------------------------------------------------------------------------------------------

MADE = {"cartpole": CartPole, "pendulum": Pendulum, "mountain-car": lambda: MountainCar(vary=("force",)), "bandit": BernoulliBandit}


@pytest.fixture(params=MADE)
def registered(request):
    """The id of an environment of ours that Gymnasium knows, so that its checker can make it in every render mode."""
    name = f"quickstudy-test/{request.param}-v0"
    gymnasium.register(name, entry_point=lambda render_mode=None: GymnasiumEnv(MADE[request.param](), render_mode=render_mode))
    yield name
    del gymnasium.registry[name]


def test_gymnasiums_checker_passes(registered):
    env = gymnasium.make(registered, render_mode="ansi")
    with warnings.catch_warnings():
        # What our observations are bounded by is not known.
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*imum value is.*infinity")
        warnings.filterwarnings("ignore", message=".*A Box observation space has an unconventional shape")
        check_env(env.unwrapped)


def test_an_episode_ends_with_its_last_observation_and_waits_for_reset():
    env = GymnasiumEnv(CartPole())
    env.reset(seed=0)
    steps, terminated = 0, False
    while not terminated:
        observation, reward, terminated, truncated, _ = env.step(1)
        steps += 1
        assert (reward, truncated) == (1.0, False)
        assert (abs(observation[2]) > np.radians(12)) == terminated
    assert 7 < steps < 15
    assert abs(observation[2]) > np.radians(12), "the pole has fallen: not the next episode's first observation"
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset must be called before the first step, and after"):
        env.step(1)


def test_a_time_limit_truncates():
    env = GymnasiumEnv(MountainCar(horizon=3))
    env.reset(seed=0)
    assert [env.step(1)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_reset_draws_a_new_task_or_keeps_the_last_one():
    env = GymnasiumEnv(MountainCar(vary=("force",)))
    forces = []
    for options in (None, None, {"same_task": True}, {"split": "out-of-range"}):
        env.reset(seed=None if forces else 0, options=options)
        forces.append(float(env._task.force))
    assert forces[0] != forces[1] == forces[2] != forces[3]
    assert max(forces[:3]) <= 0.002 <= forces[3]
    first, second = (env.reset(seed=7)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(env.reset()[0], second)


def test_in_the_same_task_the_world_lives_on():
    """The arms of a restless bandit move between pulls: over 60 episodes of one task both arms have been the better one."""
    env = GymnasiumEnv(RestlessBandit())
    env.reset(seed=0)
    better = set()
    for _ in range(60):
        better.add(int(np.argmax(env._world)))
        assert env.step(0)[2], "every pull is an episode"
        env.reset(options={"same_task": True})
    assert better == {0, 1}


def test_vector_environments_restart_in_the_same_step():
    envs = GymnasiumVectorEnv(MountainCar(vary=("force",), horizon=4), 3, render_mode="rgb_array")
    assert envs.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    observations, infos = envs.reset(seed=1)
    assert observations.shape == (3, 2) == envs.observation_space.shape
    assert infos == {}
    turns = [envs.step(np.array([0, 1, 2])) for _ in range(8)]
    for time, (observations, rewards, terminations, truncations, infos) in enumerate(turns, 1):
        assert rewards.tolist() == [-1.0] * 3
        assert not terminations.any()
        assert truncations.tolist() == [time % 4 == 0] * 3
        assert ("final_obs" in infos) == (time % 4 == 0)
        if "final_obs" in infos:
            assert infos["_final_obs"].all()
            assert (observations[:, 1] == 0).all(), "a new episode begins at rest"
            # Pushed left, not at all, right: the final velocities are in that order.
            last = np.stack(infos["final_obs"])[:, 1]
            assert last[0] < last[1] < last[2]
    assert [frame.shape for frame in envs.render()] == [(128, 128, 3)] * 3


def test_vector_environments_keep_or_draw_tasks_and_repeat_from_a_seed():
    envs = GymnasiumVectorEnv(Pendulum(vary=("mass",)), 4)
    actions = np.linspace(-1, 1, 4, dtype=np.float32)[:, None]
    runs = []
    for _ in range(2):
        envs.reset(seed=3)
        runs.append(np.stack([envs.step(actions)[0] for _ in range(5)]))
    np.testing.assert_array_equal(*runs)
    masses = np.asarray(envs._many.mass)
    assert len(set(masses.tolist())) == 4, "each environment has a task of its own"
    envs.reset(options={"same_task": True})
    np.testing.assert_array_equal(envs._many.mass, masses)
    envs.reset()
    assert not np.array_equal(envs._many.mass, masses)


def test_gymnasiums_vector_wrappers_count_our_episodes():
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(GymnasiumVectorEnv(MountainCar(horizon=5), 2))
    envs.reset(seed=0)
    infos = [envs.step(np.array([1, 1]))[4] for _ in range(5)][-1]
    assert infos["episode"]["l"].tolist() == [5, 5]
    assert infos["episode"]["r"].tolist() == [-5.0, -5.0]


REFUSED = [
    (lambda: GymnasiumEnv(CartPole(), split="tset"), "split must be one of train, valid, test, out-of-range, not 'tset'"),
    (lambda: GymnasiumEnv(CartPole(), render_mode="human"), "render_mode must be None, 'ansi' or 'rgb_array', not 'human'"),
    (lambda: GymnasiumVectorEnv(CartPole(), 0), "num_envs must be at least 1, not 0"),
    (lambda: GymnasiumEnv(CartPole()).reset(options={"taks": 1}), "options must be among split, same_task, not 'taks'"),
    (lambda: begun(CartPole()).step(2), "an action must be a whole number from 0 to 1, not 2"),
    (lambda: begun(CartPole()).step(0.5), "an action must be a whole number from 0 to 1, not 0.5"),
    (lambda: begun(Pendulum()).step(0.5), r"an action must be of shape \(1,\) for Continuous\(size=1\), not \(\)"),
]


@pytest.mark.parametrize(("act", "sentence"), REFUSED)
def test_wrong_use_is_told_in_one_sentence(act, sentence):
    with pytest.raises(ValueError, match=sentence):
        act()


def begun(tasks):
    env = GymnasiumEnv(tasks)
    env.reset(seed=0)
    return env


# --- Gymnasium's environments as our tasks -------------------------------------------------------------------------------------------

CARTS = ("CartPole-v1", ("length", "masspole"))


def carts():
    return gymnasium_tasks(CARTS[0], vary=CARTS[1])


@eqx.filter_jit
def lives(tasks, keys, steps):
    record = lambda tick: (tick.score, tick.end, tick.response, tick.feedback.observation, tick.view.observation)
    return jax.vmap(lambda task, key: lifetime(Guess(task.actions), task, key, steps=steps, record=record)[1])(tasks, keys)


def test_lives_on_the_host_pass_the_conformance_kit():
    tasks = carts()
    thousandth = lambda task: [int(1000 * (float(task.values[0]) / 0.5 - 0.5) / 1.5)]
    check_distribution(tasks, KEY, identity=thousandth, n=40)
    check_task(tasks.sample(KEY, "test"), Guess(tasks.actions), KEY, steps=30)
    check_learner(Guess(tasks.actions), tasks, KEY, steps=12)


def test_eight_lives_at_once_are_what_gymnasium_plays():
    """Every observation, reward and end of eight scanned lives, against environments stepped by hand."""
    drawn = sample_tasks(carts(), KEY, "train", 8)
    keys = jr.split(KEY, 8)
    scores, ends, actions, after, seen = map(np.asarray, lives(drawn, keys, 60))
    assert (ends == End.TERMINATED).sum(axis=1).min() >= 1, "each life has more than one episode"
    for i in range(8):
        env = gymnasium.make("CartPole-v1").unwrapped
        env.length, env.masspole = (float(value) for value in drawn.values[i])
        env.total_mass, env.polemass_length = env.masscart + env.masspole, env.masspole * env.length
        env.reset()
        fresh = True
        for t in range(60):
            if fresh:
                env.state, env.steps_beyond_terminated = seen[i, t].astype(np.float64), None
            observation, reward, terminated, _, _ = env.step(int(actions[i, t]))
            # An episode's first observation was rounded to float32, and an unstable system amplifies that.
            np.testing.assert_allclose(observation, after[i, t], atol=1e-4)
            assert (reward, terminated) == (scores[i, t], ends[i, t] == End.TERMINATED)
            fresh = terminated


def test_a_life_is_the_same_alone_in_company_in_groups_and_again():
    drawn, keys = sample_tasks(carts(), KEY, "train", 8), jr.split(KEY, 8)
    together, again = lives(drawn, keys, 40), lives(drawn, keys, 40)
    alone = lives(jax.tree.map(lambda leaf: leaf[3:4], drawn), keys[3:4], 40)
    in_groups = jax.tree.map(lambda leaf: leaf.reshape(2, 4, *leaf.shape[1:]), (drawn, keys))
    grouped = jax.vmap(lambda drawn, keys: lives(drawn, keys, 40))(*in_groups)
    for a, b, c, d in zip(together, again, alone, grouped, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[3:4], c)
        np.testing.assert_array_equal(a, d.reshape(a.shape))


def test_a_life_continued_twice_or_after_the_host_forgot_goes_on_alike():
    task = carts().sample(KEY, "test")
    learner = Guess(task.actions)
    both = lambda tick: (tick.view.observation, tick.end)
    begin = eqx.filter_jit(lambda key: lifetime(learner, task, key, steps=5)[0])
    go = eqx.filter_jit(lambda life, key: live(learner, task, life, key, steps=25, record=both)[1])
    life = begin(KEY)
    first, second = go(life, KEY), go(life, KEY)
    host = host_of(task.family)
    host.live.clear()
    host.waiting = 0
    third = go(life, KEY)
    for a, b, c in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_environments_are_used_again_and_the_oldest_are_given_up():
    tasks = gymnasium_tasks("CartPole-v1", vary=("gravity",))
    host = host_of(tasks.family)
    for seed in range(4):
        lives(sample_tasks(tasks, jr.key(seed), "train", 40), jr.split(jr.key(seed), 40), 6)
    assert host.waiting + len(host.idle) <= host.most == 80
    assert host.waiting == sum(map(len, host.live.values()))


def test_actions_and_observations_come_in_our_units():
    pendulum = gymnasium_tasks("Pendulum-v1", vary=("g",))
    assert pendulum.actions == Continuous(1)
    task = pendulum.sample(KEY, "out-of-range")
    assert 20 <= float(task.values[0]) <= 30, "two to three times 10"
    world, view = task.reset(KEY)
    turn = task.step(world, jnp.array([0.5]), KEY)
    env = gymnasium.make("Pendulum-v1", g=float(task.values[0])).unwrapped
    env.reset()
    env.state = np.array([np.arctan2(view.observation[1], view.observation[0]), view.observation[2]])
    np.testing.assert_allclose(turn.feedback.observation, env.step(np.array([1.0]))[0], atol=1e-4)
    lake = gymnasium_tasks("FrozenLake-v1", settings={"is_slippery": False})
    assert lake.actions == Discrete(4)
    world, view = lake.sample(KEY, "train").reset(KEY)
    assert view.observation.tolist() == [1.0] + [0.0] * 15
    down = lake.sample(KEY, "train").step(world, jnp.int32(1), KEY)
    assert int(jnp.argmax(down.view.observation)) == 4, "one row of four further"


def test_spaces_translate_at_their_bounds():
    box = gymnasium.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)
    assert to_action(box, np.array([-1.0, 0.0])).tolist() == [-2.0, 5.0]
    assert to_action(box, np.array([9.0, -9.0])).tolist() == [2.0, 0.0], "clipped"
    late = gymnasium.spaces.Discrete(3, start=5)
    assert to_action(late, np.int32(2)) in late
    assert from_observation(late, 6).tolist() == [0.0, 1.0, 0.0]
    assert observation_shape(gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8), "X") == (4, 5, 3)


def test_an_environments_text_is_its_own_and_others_are_named(recwarn):
    lake = gymnasium_tasks("FrozenLake-v1", settings={"is_slippery": False}).sample(KEY, "train")
    world, _ = lake.reset(KEY)
    there = lake.step(world, jnp.int32(1), KEY).world
    assert "Down" in lake.text(there), "the last move, which only a replayed environment knows"
    task = carts().sample(KEY, "train")
    assert task.text(task.reset(KEY)[0]).startswith("CartPole-v1 (length 0.")


def test_gradients_of_a_life_on_the_host_are_zero():
    task = gymnasium_tasks("Pendulum-v1").sample(KEY, "train")

    class Steady(Guess):
        torque: jax.Array

        def respond(self, fast, view, key):
            return jnp.tanh(self.torque) * jnp.ones(1)

    learner = Steady(actions=Continuous(1), torque=jnp.array(0.3))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda who: lifetime(who, task, KEY, steps=3)[1].sum()))(learner)
    assert float(gradient.torque) == 0.0


# --- When things go wrong -----------------------------------------------------------------------------------------------------------


class Fragile(gymnasium.Env):
    """Works until its fourth step; `how` says what happens then."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    strength = 1.0
    steps = 0

    def __init__(self, how):
        self.how = how

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        Fragile.steps += 1
        broken = self.time == 4
        if broken and self.how == "raise":
            raise KeyError("gripper")
        seen = np.full(3 if broken and self.how == "shape" else 2, np.nan if broken and self.how == "observation" else 0.1)
        return seen, float("nan") if broken and self.how == "reward" else 1.0, False, False, {}


@pytest.fixture
def fragile():
    gymnasium.register("Fragile-v0", entry_point=Fragile, max_episode_steps=10)
    yield lambda how: gymnasium_tasks("Fragile-v0", vary=("strength",), settings={"how": how})
    del gymnasium.registry["Fragile-v0"]


def test_a_life_plays_every_step_once_even_beside_its_twin(fragile):
    """Nothing is played again while nothing was forgotten: three equal lives of 25 steps take 75."""
    tasks = fragile("not at all")
    same = lambda leaf: jnp.stack([leaf] * 3)
    Fragile.steps = 0
    scores = lives(jax.tree.map(same, tasks.sample(KEY, "train")), same(KEY), 25)[0]
    np.testing.assert_array_equal(scores, 1.0)
    assert Fragile.steps == 75


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("raise", r"^Fragile-v0 raised KeyError in step 4 of an episode: 'gripper'$"),
        ("reward", r"^Fragile-v0 gave a reward of nan in step 4 of an episode; rewards must be finite$"),
        ("shape", r"^Fragile-v0 gave an observation of shape \(3,\); its observation space says \(2,\)$"),
        ("observation", r"^Fragile-v0 gave an observation with NaN in it; observations must be numbers$"),
    ],
)
def test_a_failing_environment_is_named_once_and_plainly(fragile, how, sentence, caplog, capfd):
    tasks = fragile(how)
    with pytest.raises(EnvironmentFailure, match=sentence):
        evaluate(Guess(tasks.actions), tasks, n_tasks=2, steps=6, key=KEY)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_without_the_library_around_it_jax_raises_with_the_same_sentence(fragile):
    tasks = fragile("raise")
    with pytest.raises(jax.errors.JaxRuntimeError, match="Fragile-v0 raised KeyError in step 4 of an episode: 'gripper'"):
        jax.block_until_ready(lives(sample_tasks(tasks, KEY, "train", 2), jr.split(KEY, 2), 6))
    with plain_failures(), pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018


def test_a_failing_environment_leaves_what_was_trained_before(fragile):
    """From the third outer step on lives are too long for the environment."""
    tasks = fragile("raise")

    def update(state, key):
        live_for = lambda steps: lambda: lifetime(Guess(tasks.actions), tasks.sample(key, "train"), key, steps=steps)[1].sum()
        return state + 1, {"score": jax.lax.cond(state < 2, live_for(3), live_for(6))}

    program = outer.Program(lambda key: jnp.int32(0), update, lambda state: Guess(tasks.actions))
    kept = []
    with pytest.raises(EnvironmentFailure, match="Fragile-v0 raised KeyError"):
        for progress in outer.run(program, steps=4, seed=0, chunk=1):
            kept.append((int(progress.state), progress.metrics["score"].tolist()))
    assert kept == [(1, [3.0]), (2, [3.0])]


UNFIT = [
    (lambda: gymnasium_tasks("CartPoll-v1"), ValueError, "no environment 'CartPoll-v1'; the nearest are CartPole-v1"),
    (lambda: gymnasium_tasks("qqqq"), ValueError, "no environment 'qqqq'; gymnasium.pprint_registry"),
    (lambda: gymnasium_tasks("CartPole-v1", vary=("mass",)), ValueError, r"that CartPole-v1 has \(.*masspole.*\), not 'mass'"),
    (lambda: gymnasium_tasks("MountainCar-v0", vary=("goal_velocity",)), ValueError, "not 'goal_velocity' of MountainCar-v0"),
    (lambda: gymnasium_tasks("CliffWalking-v1"), ValueError, "horizon must be given for CliffWalking-v1"),
    (lambda: gymnasium_tasks("CartPole-v1", horizon=0), ValueError, "horizon must be at least 1, not 0"),
    (lambda: gymnasium_tasks("Blackjack-v1", horizon=9), TypeError, r"observations of Blackjack-v1 are Tuple.*supported are"),
    (lambda: actions_of(gymnasium.spaces.MultiBinary(3), "X-v0"), TypeError, r"actions of X-v0 are MultiBinary\(3\); supported"),
    (lambda: actions_of(gymnasium.spaces.Box(0, np.inf, (2,)), "X-v0"), TypeError, "supported are Discrete and Box of real numbers"),
]


@pytest.mark.parametrize(("make", "error", "sentence"), UNFIT)
def test_what_does_not_fit_is_refused_in_one_sentence(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


def test_an_environment_that_cannot_be_made_says_why():
    gymnasium.register("Absent-v0", entry_point="no_such_module_anywhere:Env", max_episode_steps=10)
    try:
        with pytest.raises(EnvironmentFailure, match=r"Absent-v0 raised ModuleNotFoundError in make: No module named"):
            gymnasium_tasks("Absent-v0")
    finally:
        del gymnasium.registry["Absent-v0"]


def test_without_gymnasium_the_import_says_what_to_install():
    script = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "try: import quickstudy.adapters.gymnasium\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said == "Gymnasium is not installed: pip install 'quickstudy[gymnasium]'\n"
