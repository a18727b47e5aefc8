"""Timings of the library against its own lower bounds and its rivals; `python -m benchmarks`."""
