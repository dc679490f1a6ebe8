"""`python -m harness`, for where the `parity` script is not on the path."""

from harness.cli import main

main()
