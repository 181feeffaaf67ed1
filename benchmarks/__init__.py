"""Ours against the usual way, on one machine and the same data: `python -m benchmarks`."""
