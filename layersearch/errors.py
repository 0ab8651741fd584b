"""The exceptions that end a run with a message to the user instead of a traceback."""

from __future__ import annotations


class UsageError(Exception):
    """A request cannot be carried out; the message is one line that names the flag and the remedy."""


class Interrupted(KeyboardInterrupt):
    """The run was interrupted a second time, which ends it and the process at once."""
