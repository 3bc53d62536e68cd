"""Training: the one loop, its optimiser and schedule, its processes."""
