"""A run becomes one HTML page that opens offline; several runs become one page that compares them.

What the pages read from a run folder: `config.json`, `manifest.json`, `metrics.jsonl`, and, where
they exist, `scores.json`, `units.json` and `circuits/*.json`. Nothing of it is trusted: see `page.py`.
"""

from pellucid.report.comparison import write_comparison
from pellucid.report.report import write_report

__all__ = ["write_comparison", "write_report"]
