"""The fault bench: a live service under load while its dependencies fail. Run `python -m tests.faults.bench`."""
