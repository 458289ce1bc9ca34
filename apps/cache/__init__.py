"""The cache in front of the database: Redis, or the memory of one process."""
