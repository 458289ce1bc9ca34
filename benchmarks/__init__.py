"""Benchmarks of Gatehouse and of comparable services: `python -m benchmarks --help`."""
