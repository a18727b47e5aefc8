"""Timings of the library against lower bounds and other libraries; `python -m benchmarks`."""
