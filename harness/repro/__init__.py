"""A scenario as something a person can run without the harness: a script, or the lines a driver is given."""
