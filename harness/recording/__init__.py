"""Recordings: real traffic, decoded, free of secrets, kept to be judged later."""
