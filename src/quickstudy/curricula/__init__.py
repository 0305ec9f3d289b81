"""Who chooses the next tasks."""
