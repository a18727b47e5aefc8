import os

# Before NumPy is imported. Several processes whose BLAS uses all cores take up to ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
