"""The driver of the official Python SDK, run by the interpreter of the SDK's own environment (`driver.py`).

Standard library, numpy, torch and `tinker` only. Modules import each other and `harness.drivers.python` relatively,
because there is no `harness` where they run.
"""
