"""LeNet-5 on real digits over workers that are late or die: ``python -m examples.demo``."""
