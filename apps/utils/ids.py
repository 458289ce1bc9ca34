"""The range of the ids that the databases hand out."""

MAX_ID = 2**63 - 1  # the largest signed 64-bit integer
