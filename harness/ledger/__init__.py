"""Known divergences: what a subject is known to do differently, with reason and source, per `scenario:check`."""

from harness.ledger.model import Account, Divergence, Judged, Ledger
from harness.ledger.reader import Known, Subject, read_ledger

__all__ = ["Account", "Divergence", "Judged", "Known", "Ledger", "Subject", "read_ledger"]
