"""Where the driver looks for what a client can do."""

from tinker import Client as TrainingClient

__all__ = ["TrainingClient"]
