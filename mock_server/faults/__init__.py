"""Scripted faults: what they are, which request each one hits, and how they are played on a connection."""
