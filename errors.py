"""Every mistake a user can make is a `UserError`: one sentence, no traceback, exit code 2."""

EXIT_OK, EXIT_USER, EXIT_NONFINITE, EXIT_RESUME = 0, 2, 3, 75


class UserError(ValueError):
    """One sentence that names the field or file, the value, and what would be accepted."""


class ConfigError(UserError):
    """A configuration field that is unknown, of the wrong type, or out of range."""


class DataError(UserError):
    """A corpus, a tokenizer or a token cache that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is incomplete, damaged, or does not fit the model."""


class RunError(UserError):
    """A run folder that is missing, in use, or belongs to another configuration."""


class NonFiniteError(RunError):
    """A loss that is no number: a lower rate is accepted."""
