"""Training on real digits over workers that are late: ``python -m examples.training``."""
