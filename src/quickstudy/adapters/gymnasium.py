"""Gymnasium, both ways: our tasks as its environments, and its environments as our tasks.

Outward: `GymnasiumEnv` and `GymnasiumVectorEnv` are environments over any control distribution of ours, for whoever trains or tests
with another library. Inward: `gymnasium_tasks("CartPole-v1", vary=("length", "masspole"))` is a task distribution whose environments
run on the host, for any method here.

>>> from quickstudy.tasks import CartPole
>>> env = GymnasiumEnv(CartPole(vary=("half_length",)), split="test")
>>> observation, info = env.reset(seed=0)
>>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
>>> reward, terminated
(1.0, False)
"""

from quickstudy.adapters.gymnasium_environments import GymnasiumEnv, GymnasiumVectorEnv
from quickstudy.adapters.gymnasium_tasks import GymnasiumTask, GymnasiumTasks, gymnasium_tasks

__all__ = ["GymnasiumEnv", "GymnasiumTask", "GymnasiumTasks", "GymnasiumVectorEnv", "gymnasium_tasks"]
