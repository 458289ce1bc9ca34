"""The fault bench: a live service under load while what it stands on fails. `python -m tests.faults.bench`."""
