"""What was seen: one scenario run, free of ids, ports and times, in a form two runs can be compared in."""
