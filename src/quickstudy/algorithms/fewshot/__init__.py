"""Few-shot learning: by optimisation, by metric, and by black box."""
