"""Imitation: learn what experts do from what they did."""
