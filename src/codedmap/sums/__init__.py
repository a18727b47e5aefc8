"""What runs in a worker for `sum`, and what its answers add up to."""
