"""Which arm is best? Answer with how likely you think each is; one is drawn accordingly, pulled, and you see what it paid.

Who answers with the exact posterior probability that an arm is best plays Thompson sampling. The score is the surprise at the truth,
and not the reward: nobody is told to explore. With `demonstrated`, an expert who knows the best arm pulls it every time, whatever is
answered: then what is pulled says which arm is best, as it does not when one's own answers are pulled.

Source: Ortega et al. 2019, "Meta-learning of Sequential Strategies"; demonstrations: Ortega et al. 2021, "Shaking the
foundations: delusions in sequence models for interaction and control".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Split, Turn
from quickstudy.tasks.splits import draw_in_split


class BestArmTask(AbstractTask):
    """One Bernoulli bandit. View: the last pull `(2 * arms,)`, one at the arm that paid, or, in the second half, that did not (zeros
    before the first); response: logits `(arms,)`; feedback: the pull; score: the log-probability in nats of the best arm.
    """

    chances: Float[Array, " arms"]
    demonstrated: bool = eqx.field(static=True, default=False)

    @property
    def outputs(self) -> int:
        """How many answers there are."""
        return self.chances.shape[0]

    def reset(self, key: PRNGKeyArray) -> tuple[None, Float[Array, " pull"]]:
        return None, jnp.zeros(2 * self.outputs)

    def step(self, world: None, response: Float[Array, " arms"], key: PRNGKeyArray) -> Turn:
        arm_key, pay_key = jr.split(key)
        best = jnp.argmax(self.chances)
        arm = best if self.demonstrated else jr.categorical(arm_key, response)
        paid = jr.bernoulli(pay_key, self.chances[arm])
        pull = jax.nn.one_hot(jnp.where(paid, arm, self.outputs + arm), 2 * self.outputs)
        return Turn(None, pull, pull, jax.nn.log_softmax(response)[best], jnp.asarray(End.RUNNING, jnp.int32))


class BestArm(AbstractTaskDistribution):
    """Bandits of `arms` arms that pay with uniform chances; the splits own disjoint slices of the first arm's.

    Raises `ValueError` for fewer than two arms.

    >>> BestArm(arms=3).sample(jr.key(0), "test").chances.shape
    (3,)
    """

    arms: int = eqx.field(static=True, default=3)  # ours
    demonstrated: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.arms < 2:
            raise ValueError(f"arms must be at least 2, not {self.arms}")

    def sample(self, key: PRNGKeyArray, split: Split) -> BestArmTask:
        first_key, rest_key = jr.split(key)
        first = draw_in_split(first_key, split, 0.0, 1.0, blocks=100)
        return BestArmTask(jnp.append(jr.uniform(rest_key, (self.arms - 1,)), first)[::-1], self.demonstrated)
