"""A learner for tests that are about tasks."""

import jax

from quickstudy.core import AbstractLearner


class Answer(AbstractLearner):
    """Gives one answer, whatever it sees."""

    answer: jax.Array

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return self.answer

    def observe(self, fast, view, response, feedback, key):
        return None
