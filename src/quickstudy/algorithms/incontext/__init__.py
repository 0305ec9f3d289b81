"""In-context learning: sequence models that learn while they read, without changing a weight."""
