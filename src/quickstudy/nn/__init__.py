"""The few layers that JAX and Equinox lack, or that are slow where meta-learning needs them."""
