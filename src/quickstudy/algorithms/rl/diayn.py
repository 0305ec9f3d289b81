"""DIAYN: without any reward, learn skills that differ so much that one can tell from where the agent is which skill it follows.

* Slow: a policy that is told which skill z to follow, and a discriminator D that guesses z from the state. Fast: the skill, which is
  drawn anew for each episode.
* One outer step: many lives follow a skill for an episode, rewarded for states that give it away, and PPO improves the policy; then
  the discriminator learns from new episodes. Both want the same thing: they cooperate.

    r_z(s) = log D(z | s) - log p(z),      whose mean bounds the mutual information I(z; s) from below

Source: Eysenbach et al. 2019, "Diversity is All You Need: Learning Skills without a Reward Function" (SAC where we use PPO).
Builds on: variational intrinsic control, maximum-entropy policies. Led to: unsupervised meta-RL, whose tasks are these rewards.
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.algorithms.rl import ppo, rollouts
from quickstudy.algorithms.rl.actor_critic import ActorCritic, TanhMLP, head, reacting
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, End, Split, lifetime, sample_tasks
from quickstudy.outer import Metrics, Preset, Program, apply_gradient
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Actions, ControlView, Episode, control_shapes
from quickstudy.tasks.dark_rooms import DarkRoom
from quickstudy.tasks.point_navigation import HalfCircle


class ProposedTask(AbstractEnvironment):
    """An environment with the reward log D(z | s) - log p(z) in place of its own; `shown` says whether the agent is told z."""

    world: AbstractEnvironment
    discriminator: TanhMLP
    skill: Int[Array, ""]
    skills: int = eqx.field(static=True)
    shown: bool = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Actions:
        return self.world.actions

    def begin(self, key: PRNGKeyArray) -> Any:
        return self.world.begin(key)

    def look(self, state: Any) -> Float[Array, " inputs"]:
        seen = jnp.ravel(self.world.look(state))
        return with_skill(seen, self.skill, self.skills) if self.shown else seen

    def act(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Float[Array, ""], Bool[Array, ""]]:
        after, _, ended = self.world.act(state, action, key)
        guess = jax.nn.log_softmax(self.discriminator(jnp.ravel(self.world.look(after))))
        return after, guess[self.skill] + jnp.log(float(self.skills)), ended

    def text(self, world: Episode) -> str:
        return self.world.text(world)

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        return self.world.image(world)


class Proposals(AbstractControl):
    """Tasks that a discriminator proposes: a world of `tasks`, whose reward is not asked for, and a skill drawn uniformly.

    Raises `TypeError` for tasks without a time limit, such as bandits.
    """

    tasks: AbstractControl
    discriminator: TanhMLP
    skills: int = eqx.field(static=True)
    shown: bool = eqx.field(static=True)

    @property
    def actions(self) -> Actions:
        return self.tasks.actions

    def sample(self, key: PRNGKeyArray, split: Split) -> ProposedTask:
        world_key, skill_key = jr.split(key)
        world = self.tasks.sample(world_key, split)
        if not isinstance(world, AbstractEnvironment):
            raise TypeError(f"skills need an environment with episodes, not {type(world).__name__}")
        skill = jr.randint(skill_key, (), 0, self.skills)
        settled: dict[str, Any] = {"skills": self.skills, "shown": self.shown, "horizon": world.horizon}
        return ProposedTask(world=world, discriminator=self.discriminator, skill=skill, **settled)


def with_skill(seen: Float[Array, " inputs"], skill: Int[Array, ""], skills: int) -> Float[Array, " more"]:
    """What is seen, and the skill as one-hot.

    >>> with_skill(jnp.zeros(1), jnp.array(1), 3).tolist()
    [0.0, 0.0, 1.0, 0.0]
    """
    return jnp.concatenate([seen, jax.nn.one_hot(skill, skills)])


class Skilled(AbstractLearner):
    """Follows a skill for an episode, then draws another; `discriminator` guesses it, from an observation to `skills` logits."""

    player: ActorCritic
    discriminator: TanhMLP
    skills: int = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return jr.randint(key, (), 0, self.skills)

    def respond(self, fast: Int[Array, ""], view: ControlView, key: PRNGKeyArray) -> Array:
        told = view._replace(observation=with_skill(jnp.ravel(view.observation), fast, self.skills))
        return self.player.respond(None, told, key)

    def observe(
        self, fast: Int[Array, ""], view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray
    ) -> Int[Array, ""]:
        return jnp.where(feedback.end == End.RUNNING, fast, self.begin(view, key))


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours where no source is named: for small worlds, and PPO."""

    skills: int = 8  # ours: Eysenbach et al. 2019 take 50 for bodies with legs
    width: int = 64  # ours: Eysenbach et al. 2019 take 300
    lives: int = 64  # ours: episodes of an outer step
    learning_rate: float = 0.003  # ours: PPO's; with 64 lives, ten times that for 8
    entropy: float = 0.01  # ours; Eysenbach et al. 2019: 0.1, with actions that are squashed instead of clipped
    discriminator_learning_rate: float = 0.003  # ours; Eysenbach et al. 2019: 3e-4
    discriminator_steps: int = 4  # ours: as many as PPO has epochs


class State(NamedTuple):
    """The state of the slow loop: PPO's, and the discriminator with its optimiser."""

    policy: rollouts.State
    discriminator: TanhMLP
    optimizer: optax.OptState


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> Skilled:
    """Untrained skills. Raises `TypeError` unless the tasks are environments with episodes."""
    player_key, discriminator_key = jr.split(key)
    discriminator = new_discriminator(config, tasks, key=discriminator_key)
    player = reacting(Proposals(tasks, discriminator, config.skills, True), config.width, "observation", True, player_key)  # type: ignore[arg-type]
    return Skilled(player, discriminator, config.skills)


def new_discriminator(config: Config, tasks: AbstractTaskDistribution, *, key: PRNGKeyArray) -> TanhMLP:
    """A discriminator that was not trained: it splits the states at random. Raises `TypeError` unless these are control tasks."""
    size = control_shapes(tasks).observation.size
    return head((size, config.width, config.skills), 1.0, True, key=key)


def program(config: Config, tasks: AbstractControl) -> Program:
    """Skills for the worlds of the training tasks, whatever is rewarded there."""
    optimizer = optax.adam(config.discriminator_learning_rate)
    horizon = tasks.sample(jr.key(0), "train").horizon  # type: ignore[attr-defined]
    settings = ppo.Config(
        lives=config.lives, ticks=horizon, horizon=horizon, learning_rate=config.learning_rate, entropy=config.entropy
    )
    propose = lambda discriminator: Proposals(tasks, discriminator, config.skills, True)
    policy = lambda discriminator, key: ppo.improve(settings, propose(discriminator), lambda _: learner(config, tasks, key).player)

    def init(key: PRNGKeyArray) -> State:
        discriminator = learner(config, tasks, key).discriminator
        return State(policy(discriminator, key).init(key), discriminator, optimizer.init(eqx.filter(discriminator, eqx.is_array)))

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        policy_key, live_key = jr.split(key)
        improved, metrics = policy(state.discriminator, key).update(state.policy, policy_key)
        seen, skills = visited(improved.window.slow[0], propose(state.discriminator), live_key, config.lives, horizon)

        def step(carry: tuple[TanhMLP, optax.OptState], _: None) -> tuple[tuple[TanhMLP, optax.OptState], Metrics]:
            discriminator, optimizer_state = carry
            gradient, watched = eqx.filter_grad(guessing_loss, has_aux=True)(discriminator, seen, skills)
            return apply_gradient(optimizer, gradient, optimizer_state, discriminator), watched

        (discriminator, optimizer_state), watched = jax.lax.scan(
            step, (state.discriminator, state.optimizer), None, length=config.discriminator_steps
        )
        return State(improved, discriminator, optimizer_state), metrics | {"guessed": watched["guessed"][-1]}

    return Program(init, update, lambda state: Skilled(state.policy.window.slow[0], state.discriminator, config.skills))


def visited(
    player: ActorCritic, proposals: Proposals, key: PRNGKeyArray, episodes: int, horizon: int
) -> tuple[Float[Array, "states inputs"], Int[Array, " states"]]:
    """The states that new episodes lead to, and the skill that was followed at each."""
    task_key, live_key = jr.split(key)
    drawn: Any = sample_tasks(proposals, task_key, "train", episodes)
    see = lambda tick: tick.feedback.observation[: -proposals.skills]
    live = lambda task, k: lifetime(player, task, k, steps=horizon, record=see)[1]
    seen = jax.vmap(live)(drawn, jr.split(live_key, episodes))
    return seen.reshape(episodes * horizon, -1), jnp.repeat(drawn.skill, horizon)


def guessing_loss(
    discriminator: TanhMLP, seen: Float[Array, "states inputs"], skills: Int[Array, " states"]
) -> tuple[Float[Array, ""], Metrics]:
    """The discriminator's cross-entropy, and how often its best guess is right."""
    logits = jax.vmap(discriminator)(seen)
    right = jnp.argmax(logits, axis=-1) == skills
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, skills))
    return loss, {"guessed": jnp.mean(right.astype(jnp.float32))}


PRESETS = {
    "point": Preset(Config(), HalfCircle, 300, 20, "the skill is guessed from most states"),
    "dark-room": Preset(Config(), lambda: DarkRoom(size=5), 300, 20, "the skill is guessed from most states"),
    "smoke": Preset(Config(skills=3, width=8, lives=4), lambda: HalfCircle(horizon=4), 4, 8, "it runs"),
}
