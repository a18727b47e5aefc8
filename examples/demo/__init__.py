"""LeNet-5 on MNIST digits with late and crashing workers: ``python -m examples.demo``."""
