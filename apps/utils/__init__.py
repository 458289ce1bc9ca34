"""Mechanisms, one a file: none of them knows a rule about accounts."""
