"""What Gatehouse costs, side by side with what it is compared with: `python -m benchmarks --help`."""
