"""A Tinker server on loopback: real HTTP, a tiny real model, everything recorded."""
