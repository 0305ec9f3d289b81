"""Demonstrations for the generalist agent: who makes them (one module a domain) and how they are kept on disk."""
