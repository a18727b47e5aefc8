"""Sums: what a worker computes of its parts, and how the sum is decoded from the answers."""
