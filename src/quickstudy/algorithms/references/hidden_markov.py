"""The Bayes predictor of hidden Markov documents: the forward algorithm over all concepts and states at once.

Slow: the chances of every concept's moves and of the tokens. Fast: the posterior over concept and state.

    belief(c, s) = p(concept c, next state s | tokens so far),      p(next | tokens so far) = sum over c, s of belief(c, s) p(next | s)

Source: the forward algorithm: Baum et al. 1970, "A Maximization Technique Occurring in the Statistical Analysis of Probabilistic
Functions of Markov Chains"; over a mixture of concepts: Xie et al. 2021, "An Explanation of In-context Learning as Implicit Bayesian
Inference", section 2.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTask, Split
from quickstudy.evaluation import AbstractOracle
from quickstudy.tasks.hidden_markov import HiddenMarkovDocuments


class ConceptPosterior(AbstractLearner):
    """Predicts each next token of documents whose concept is one of `moves`, all equally likely, and whose first state is any."""

    moves: Float[Array, "concepts states states"]
    emission: Float[Array, "states tokens"]

    @classmethod
    def of(cls, tasks: HiddenMarkovDocuments, split: Split = "train") -> "ConceptPosterior":
        """The posterior of who knows the language and the concepts of a split.

        >>> ConceptPosterior.of(HiddenMarkovDocuments()).moves.shape
        (5, 24, 24)
        """
        return cls(jax.vmap(tasks.moves)(tasks.all_concepts(split)), tasks.emission())

    def begin(self, view: Int[Array, ""], key: PRNGKeyArray) -> Float[Array, "concepts states"]:
        concepts, states, _ = self.moves.shape
        return jnp.full((concepts, states), 1 / (concepts * states))

    def respond(self, fast: Float[Array, "concepts states"], view: Int[Array, ""], key: PRNGKeyArray) -> Float[Array, " tokens"]:
        # A token that never follows is no logarithm's business.
        return jnp.log(jnp.sum(self._read(fast, view), axis=0) @ self.emission + 1e-30)

    def observe(
        self, fast: Float[Array, "concepts states"], view: Int[Array, ""], response: Array, feedback: Array, key: PRNGKeyArray
    ) -> Float[Array, "concepts states"]:
        return self._read(fast, view)

    def _read(self, belief: Float[Array, "concepts states"], token: Int[Array, ""]) -> Float[Array, "concepts states"]:
        """The belief about the next state once this token was read."""
        seen = belief * self.emission[:, token][None]
        return jnp.einsum("cs,cst->ct", seen / jnp.sum(seen), self.moves)


class KnowsConcept(AbstractOracle):
    """The same predictor, told the document's concept."""

    tasks: HiddenMarkovDocuments

    def informed(self, task: AbstractTask) -> ConceptPosterior:
        concept = task.latent["concept"]  # type: ignore[attr-defined]
        return ConceptPosterior(self.tasks.moves(concept)[None], self.tasks.emission())
