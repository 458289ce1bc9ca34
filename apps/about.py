"""Facts about this package: its version and its place on disk."""

from pathlib import Path

VERSION = "0.1.0"
ROOT = Path(__file__).parent.parent
