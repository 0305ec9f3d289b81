"""Evolution strategies as pairs of pure functions, ask and tell."""
