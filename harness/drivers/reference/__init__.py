"""The driver of the reference client: `python -m harness.drivers.reference --contract tinker-0.38.0`.

`serve(factory, hello)` answers the driver protocol with any client that has the reference's interface: a client that is
wrong on purpose is driven by the same code.
"""
