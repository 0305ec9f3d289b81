"""Objectives: a function to descend, from a starting point. One tick is one step of an optimiser.

The view is the parameters, their loss and its gradient; the response is an update, a tree like the parameters that is *added* to them.
The score is minus the loss after the update, so the sum of the scores is minus the summed loss of the trajectory, which Andrychowicz
et al. 2016 train on. The score and the next view come from one evaluation of the loss, on one minibatch where the loss has any.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from quickstudy.core import AbstractTask, End, Turn

Parameters = PyTree[Float[Array, "..."]]


class ObjectiveView(eqx.Module):
    """What an optimiser sees: where it stands, the loss there and the loss's gradient, a tree like the parameters."""

    parameters: Parameters
    loss: Float[Array, ""]
    gradient: Parameters


class AbstractObjective(AbstractTask):
    """A function of a tree of parameters and the point to start from; the world of a life in it is the parameters."""

    @abc.abstractmethod
    def initial(self, key: PRNGKeyArray) -> Parameters:
        """The parameters to start from."""

    @abc.abstractmethod
    def loss(self, parameters: Parameters, key: PRNGKeyArray) -> Float[Array, ""]:
        """The loss to be made small; the key draws its minibatch, if it has one."""

    def view(self, parameters: Parameters, key: PRNGKeyArray) -> ObjectiveView:
        """The loss and the gradient at a point."""
        loss, gradient = jax.value_and_grad(self.loss)(parameters, key)
        return ObjectiveView(parameters, loss, gradient)

    def reset(self, key: PRNGKeyArray) -> tuple[Parameters, ObjectiveView]:
        initial_key, view_key = jax.random.split(key)
        parameters = self.initial(initial_key)
        return parameters, self.view(parameters, view_key)

    def step(self, world: Parameters, response: Parameters, key: PRNGKeyArray) -> Turn:
        view = self.view(jax.tree.map(jnp.add, world, response), key)
        return Turn(view.parameters, view, None, -view.loss, jnp.asarray(End.RUNNING, jnp.int32))
