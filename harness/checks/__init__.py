"""What is judged: one file per family of checks. Checks see traces and contracts, nothing else."""
