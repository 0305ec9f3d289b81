"""PPO in PyTorch over Gymnasium's environments, as one writes it: plain loops, without memory and with one, and Stable-Baselines3.

The plain loops take their settings from our `Config` and do what ours does, but that their critic counts in rewards, not in normalised
values. Arrays are `(ticks, lives, ...)`. Needs the `[bench]` extra.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import stable_baselines3
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn
from torch.nn import functional

from quickstudy.algorithms.rl.ppo import Config

Step = Callable[[], float]  # makes one outer step and returns the mean reward of its ticks


class Batch(NamedTuple):
    """What a policy learns from: `(ticks, sequences, ...)`."""

    inputs: Tensor
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    targets: Tensor


class Reacting(nn.Module):
    """Two networks with two hidden layers of tanh, for the policy and for the value."""

    def __init__(self, inputs: int, actions: int, width: int):
        super().__init__()
        layers = lambda outputs, last: nn.Sequential(
            _linear(inputs, width, 2**0.5), nn.Tanh(), _linear(width, width, 2**0.5), nn.Tanh(), _linear(width, outputs, last)
        )
        self.actor, self.critic = layers(actions, 0.01), layers(1, 1.0)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.actor(inputs), self.critic(inputs)[..., 0]


class Remembering(nn.Module):
    """A gated recurrent unit, and one layer for the policy and one for the value on what it remembers."""

    def __init__(self, inputs: int, actions: int, width: int):
        super().__init__()
        self.memory = nn.GRU(inputs, width)
        self.actor, self.critic = _linear(width, actions, 0.01), _linear(width, 1, 1.0)

    def forward(self, inputs: Tensor, remembered: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.read(inputs, remembered)[:2]

    def read(self, inputs: Tensor, remembered: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        features, remembered = self.memory(inputs, remembered)
        return self.actor(features), self.critic(features)[..., 0], remembered


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def draw(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Actions, and the logarithms of their probabilities."""
    logs = functional.log_softmax(logits, dim=-1)
    actions = torch.multinomial(logs.exp(), 1)
    return actions[:, 0], logs.gather(-1, actions)[:, 0]


def judge(config: Config, rewards: Tensor, values: Tensor, after: Tensor, goes_on: Tensor) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and value targets."""
    errors = rewards + config.discount * after - values
    gain, gains = torch.zeros_like(errors[0]), torch.empty_like(errors)
    for tick in reversed(range(len(errors))):
        gain = errors[tick] + config.discount * config.decay * goes_on[tick] * gain
        gains[tick] = gain
    return gains, gains + values


def improve(config: Config, agent: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """Some epochs of minibatch steps on the clipped surrogate."""
    for _ in range(config.epochs):
        for chosen in torch.randperm(batch.actions.shape[1]).chunk(config.minibatches):
            loss = surrogate(config, agent, Batch(*(leaf[:, chosen] for leaf in batch)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), config.largest_gradient)
            optimizer.step()


def surrogate(config: Config, agent: nn.Module, few: Batch) -> Tensor:
    logits, values = agent(few.inputs)
    logs = functional.log_softmax(logits, dim=-1)
    ratio = (logs.gather(-1, few.actions[..., None])[..., 0] - few.log_probabilities).exp()
    gains = (few.advantages - few.advantages.mean()) / (few.advantages.std() + 1e-8)
    actor = -torch.min(ratio * gains, ratio.clamp(1 - config.clip, 1 + config.clip) * gains).mean()
    critic = ((values - few.targets) ** 2).mean() / 2
    entropy = -(logs.exp() * logs).sum(dim=-1).mean()
    return actor + config.value_weight * critic - config.entropy * entropy


def plain_cartpole(config: Config) -> Step:
    """PPO on Gymnasium's own vectorised CartPole, which computes all poles at once: faster than one environment after another."""
    envs = gymnasium.make_vec("CartPole-v1", config.lives, vectorization_mode="vector_entry_point")
    agent = Reacting(4, 2, config.width)
    optimizer = torch.optim.Adam(agent.parameters(), lr=config.learning_rate, eps=1e-5)
    seen = envs.reset(seed=0)[0]
    begins = np.zeros(config.lives, bool)  # where this tick only begins an episode: Gymnasium's "next step" mode

    def step() -> float:
        nonlocal seen, begins
        ticks: list[tuple[Any, ...]] = []
        with torch.no_grad():
            for _ in range(config.ticks):
                inputs = torch.from_numpy(seen)
                logits, values = agent(inputs)
                actions, logs = draw(logits)
                seen, rewards, terminated, truncated, _ = envs.step(actions.numpy())
                over = terminated | truncated
                ticks.append((inputs, actions, logs, values, *map(torch.from_numpy, (rewards, terminated, over, begins))))
                begins = over
            inputs, actions, logs, values, rewards, terminated, over, idle = map(torch.stack, zip(*ticks, strict=True))
            following = torch.cat([values[1:], agent(torch.from_numpy(seen))[1][None]])
            gains, targets = judge(config, rewards, values, following * ~terminated, 1.0 - over.float())
        batch = Batch(inputs, actions, logs, gains, targets)
        improve(config, agent, optimizer, Batch(*(leaf[~idle][None] for leaf in batch)))
        return float((~idle).sum() / over.sum().clamp(min=1))

    return step


def stable_baselines(config: Config) -> Step:
    """Stable-Baselines3's PPO, with its own networks: two hidden layers of 64, as ours."""
    envs = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * config.lives)
    size = config.lives * config.ticks
    agent = stable_baselines3.PPO(
        "MlpPolicy",
        envs,
        n_steps=config.ticks,
        batch_size=size // config.minibatches,
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        gamma=config.discount,
        gae_lambda=config.decay,
        ent_coef=config.entropy,
        seed=0,
        device="cpu",
    )

    def step() -> float:
        agent.learn(size, reset_num_timesteps=False)
        return size / max(float(agent.rollout_buffer.episode_starts.sum()), 1.0)

    return step


class HiddenGoal(gymnasium.Env):
    """Ours in Gymnasium: a room of 5 by 5, the agent's place one-hot, an unseen goal that pays 1 and ends the episode."""

    SIZE, HORIZON = 5, 20
    MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (SIZE * SIZE,), np.float32)
    action_space = gymnasium.spaces.Discrete(len(MOVES))

    def __init__(self) -> None:
        self.choose_goal()

    def choose_goal(self) -> None:
        """Another task: any cell but the middle."""
        cell = int(self.np_random.integers(self.SIZE**2 - 1))
        self.goal = divmod(cell + (cell >= self.SIZE**2 // 2), self.SIZE)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.row = self.column = self.SIZE // 2
        self.time = 0
        return self._look(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        down, right = self.MOVES[action]
        self.row = min(max(self.row + down, 0), self.SIZE - 1)
        self.column = min(max(self.column + right, 0), self.SIZE - 1)
        self.time += 1
        found = (self.row, self.column) == self.goal
        return self._look(), float(found), found, self.time >= self.HORIZON, {}

    def _look(self) -> np.ndarray:
        seen = np.zeros(self.SIZE**2, np.float32)
        seen[self.row * self.SIZE + self.column] = 1.0
        return seen


def plain_rl2(config: Config) -> Step:
    """RL^2 in the hidden-goal room: lives of several episodes, one memory through each, PPO over whole lives."""
    envs = SyncVectorEnv([HiddenGoal] * config.lives, autoreset_mode=AutoresetMode.SAME_STEP)
    actions_n = len(HiddenGoal.MOVES)
    # What ours reads: the place, the last action, its reward, the reward at the place of the action, and whether the episode ended.
    agent = Remembering(HiddenGoal.SIZE**2 + 2 * actions_n + 2, actions_n, config.width)
    optimizer = torch.optim.Adam(agent.parameters(), lr=config.learning_rate, eps=1e-5)

    def step() -> float:
        envs.call("choose_goal")
        seen = torch.from_numpy(envs.reset()[0])
        last, remembered = torch.zeros(config.lives, 2 * actions_n + 2), None
        ticks: list[tuple[Any, ...]] = []
        with torch.no_grad():
            for _ in range(config.ticks):
                inputs = torch.cat([seen, last], dim=1)
                logits, values, remembered = agent.read(inputs[None], remembered)
                actions, logs = draw(logits[0])
                observed, paid, terminated, truncated, _ = envs.step(actions.numpy())
                seen, rewards = torch.from_numpy(observed), torch.from_numpy(paid).float()
                ticks.append((inputs, actions, logs, values[0], rewards))
                did = functional.one_hot(actions, actions_n).float()
                over = torch.from_numpy(terminated | truncated).float()
                last = torch.cat([did, rewards[:, None], rewards[:, None] * did, over[:, None]], dim=1)
            inputs, actions, logs, values, rewards = map(torch.stack, zip(*ticks, strict=True))
            # The life is the episode, and nothing comes after it.
            following = torch.cat([values[1:], torch.zeros_like(values[:1])])
            gains, targets = judge(config, rewards, values, following, torch.ones_like(rewards))
        improve(config, agent, optimizer, Batch(inputs, actions, logs, gains, targets))
        return float(rewards.mean())

    return step
