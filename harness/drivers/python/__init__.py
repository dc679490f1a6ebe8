"""What the Python drivers share. Run by the interpreter of the SDK under test: nothing here imports `harness`."""
