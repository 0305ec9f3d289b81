"""Reinforcement learning in one task: what meta-reinforcement-learning is built from."""
