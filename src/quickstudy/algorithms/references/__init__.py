"""References: strategies that need no training, to draw beside any learner of the same tasks."""
