"""Training on MNIST digits with late workers: ``python -m examples.training``."""
