"""Matrices: the coded blocks that workers keep, and how a product is computed from their answers."""
