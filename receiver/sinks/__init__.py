"""Destinations: one file for each kind, blind to each other. A sink knows its protocol, its payload and how to read a bad
answer; it knows nothing of retries, SQL or other sinks."""
