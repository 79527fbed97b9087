"""Post-hoc competitors: sparse coders fitted to a dense run, spliced into it all at once."""

from pellucid.posthoc.config import PosthocConfig
from pellucid.posthoc.make import posthoc

__all__ = ["PosthocConfig", "posthoc"]
