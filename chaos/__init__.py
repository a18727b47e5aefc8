"""Faults on real workers: what the caller sees, what is lost, and how long it takes.

``python -m chaos faults`` runs every fault alone on every installed engine and writes a table of the
documentation. ``python -m chaos hosts`` does the same for whole hosts and the scheduler of a Dask cluster.
``python -m chaos soak`` runs a thousand jobs with faults of all kinds.
"""
