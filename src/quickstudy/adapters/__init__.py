"""Bridges to other libraries; each needs its own, and says so if it is missing."""
