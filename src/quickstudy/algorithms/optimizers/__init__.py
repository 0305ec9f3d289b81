"""Learned optimisers: learners whose task is to descend an objective."""
