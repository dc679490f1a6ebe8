"""Event handlers: what a run looks like on a terminal, as JSON and as JUnit XML. They see events, nothing else."""

from harness.reports.tally import Report, Tally

__all__ = ["Report", "Tally"]
