"""Blocks of a matrix on workers, and what their products come to."""
