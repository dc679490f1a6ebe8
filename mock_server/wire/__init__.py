"""Wire formats: JSON bodies, our own protobuf messages, zstd; to and from numpy."""
