"""Fine-tuning: train one network on everything at once, then fine-tune it on each new task. The baseline that must be beaten.

Slow: the pre-trained weights theta. Fast: the fine-tuned weights phi. One outer step: descend the loss of theta itself, without any
adaptation, over all examples of a batch of tasks. At test time: gradient descent on the support set, as MAML does.

    min over theta of sum over tasks of L(theta, support and query)       (regression: joint training)

Classification tasks shuffle their labels, so joint training there is supervised pre-training on the *class ids* with one output per
training class; a new task starts with a fresh, all-zero head.
Source: the practice compared against by Finn, Abbeel and Levine 2017 ("pretrained"); Huh, Agrawal and Efros 2016, "What Makes ImageNet
Good for Transfer Learning?". Builds on: supervised learning. Led to: everything in this folder.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import predict, step_against, support_loss
from quickstudy.claims import Claim
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind, WithHead, with_head
from quickstudy.outer import Metrics, Preset, Program, descend
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, episode_shapes, is_classification, prediction_loss, prediction_score
from quickstudy.tasks.sinusoid import Sinusoid


class FineTuner(AbstractLearner):
    """A pre-trained network that takes one gradient step on the support set per tick; `fresh_head` starts from an all-zero head."""

    model: WithHead
    inner_learning_rate: float
    fresh_head: bool = eqx.field(static=True)

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> WithHead:
        if not self.fresh_head:
            return self.model
        return WithHead(self.model.body, jnp.zeros((self.model.weight.shape[0], view.outputs)), jnp.zeros(view.outputs))

    def respond(self, fast: WithHead, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return predict(fast, view.query_x)

    def observe(self, fast: WithHead, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> WithHead:
        return step_against(fast, eqx.filter_grad(support_loss)(fast, view), self.inner_learning_rate)


@dataclasses.dataclass(frozen=True)
class Config:
    """The pre-training baseline of Finn et al. 2017, section 5.1."""

    network: Kind = "mlp"  # Finn et al. 2017
    width: int = 40  # Finn et al. 2017: two hidden layers of 40
    classes: int = 0  # classification: the number of class ids of the training split and all others; 0 for regression
    inner_learning_rate: float = 0.01  # Finn et al. 2017: the rate of the adapted network
    outer_learning_rate: float = 0.001  # Finn et al. 2017: Adam
    tasks_per_step: int = 25  # Finn et al. 2017


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> FineTuner:
    """A fine-tuning learner with fresh weights; raises `ValueError` if `classes` does not suit the tasks."""
    episode = episode_shapes(tasks)
    classification = is_classification(episode.query_y)
    if classification != (config.classes > 0):
        raise ValueError(f"classes must be positive for classification and 0 for regression, not {config.classes}")
    outputs = config.classes if classification else episode.outputs
    model = with_head(config.network, episode.query_x.shape[1:], config.width, outputs, key=key)
    return FineTuner(model, config.inner_learning_rate, classification)


def joint_loss(learner: FineTuner, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """The loss of the unadapted network over all of a task's examples; labels become class ids."""
    x = jnp.concatenate([task.support_x, task.query_x])
    y = jnp.concatenate([task.support_y, task.query_y])
    y = task.latent["classes"][y] if is_classification(y) else y
    prediction = predict(learner.model, x)
    return prediction_loss(prediction, y), {"score": prediction_score(prediction, y)}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Pre-train on all training tasks at once."""
    return descend(
        joint_loss,
        tasks,
        optax.adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )


PRESETS = {
    "sinusoid": Preset(
        Config(), lambda: Sinusoid(shot=10), 20_000, 11, "about 2.5 squared error after one step: it must be beaten, 15 s"
    ),
    "smoke": Preset(Config(tasks_per_step=4), lambda: Sinusoid(shot=5), 20, 3, "a few seconds: it runs"),
}

CLAIMS: tuple[Claim, ...] = ()  # it is an arm of maml-sinusoid, reptile-sine and imaml-sine
