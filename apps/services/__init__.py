"""The rules: plain functions in the verbs of the domain, values in, rows or small structs out, one transaction each."""
