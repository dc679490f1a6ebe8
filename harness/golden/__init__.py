"""Golden traces: stored once per point of the timeline where they differ, checksummed, verified."""
