"""The reference client: what the contract of a release says, as pure strategies and a real client over HTTP."""
