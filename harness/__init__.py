"""Cross-SDK conformance and parity harness for the Tinker training API."""
