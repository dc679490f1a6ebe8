"""Known divergences: what a subject is known to do differently, with reason and source, per `scenario:check`."""

from harness.ledger.model import Divergence, Judged, Ledger
from harness.ledger.reader import read_ledger

__all__ = ["Divergence", "Judged", "Ledger", "read_ledger"]
