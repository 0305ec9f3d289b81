"""Strictness that only tests pay for: no silent promotion of ranks or types; shapes are checked at run time (see pyproject.toml)."""

import os

# Compiling for speed is wasted on tests: each program runs once, on tiny inputs. Not level 0: there XLA's exponential of very negative
# numbers is NaN inside the gradient of a softmax (seen with jaxlib 0.10.2).
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
