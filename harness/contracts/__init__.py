"""What is right in which era: a timeline of the official SDK's client behaviour, in data."""
