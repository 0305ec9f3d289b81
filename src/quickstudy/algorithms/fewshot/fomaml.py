"""First-order MAML: MAML that forgets how the adapted weights depend on the initial ones.

Slow: the initial weights theta. Fast: the adapted weights phi. One outer step: adapt to each task of a batch, then move theta along the
query gradient *taken at phi*, as if d phi / d theta were the identity: no second derivatives, less time and memory.

    phi = theta - alpha grad L(theta, support)   (repeated),      theta <- theta - beta * mean over tasks of grad L(phi, query)

Source: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.2.
Builds on: MAML. Led to: Reptile, implicit gradients (FOMAML is iMAML with no conjugate-gradient steps).
"""

from jaxtyping import PRNGKeyArray

from quickstudy.algorithms.fewshot import maml
from quickstudy.core import AbstractTaskDistribution
from quickstudy.outer import Program

Config = maml.Config


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> maml.MAML:
    """A MAML learner: the methods differ in their outer step only."""
    return maml.learner(config, tasks, key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """MAML's program with the first-order gradient."""
    return maml.program(config, tasks, gradient="first-order")
