"""Plan in, typed events out."""
