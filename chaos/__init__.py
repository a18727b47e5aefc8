"""Real faults on real workers: what the caller sees, what is lost, how long it takes.

``python -m chaos faults`` tries every fault alone on every engine that is installed and writes the table
of the documentation; ``python -m chaos hosts`` does the same with whole hosts and the scheduler of a Dask cluster;
``python -m chaos soak`` runs a thousand waves with faults of all kinds.
"""
