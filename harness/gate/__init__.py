"""A run held against an earlier one, and parts of a run put together: all from JSON reports, nothing is run."""
