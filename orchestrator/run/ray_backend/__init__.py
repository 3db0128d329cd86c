"""Everything that touches Ray: the cluster, the driver and its workers, jobs. No other module of `run` imports ray.

Private names of Ray stand only in here, each with the release in which it was read (`tests/test_structure.py`).
"""
