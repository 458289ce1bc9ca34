"""Cryptography: password hashes, field encryption, signing keys, verified tokens."""
