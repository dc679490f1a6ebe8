"""What is asked: scenarios, deterministic data, losses as expression graphs."""
