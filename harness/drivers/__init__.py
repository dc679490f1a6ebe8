"""How an SDK is driven: the protocol, the driver process, its environment, one folder per SDK."""
