"""The errors that end a run and are the user's to know about."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line that names the flag and the remedy."""


class Interrupted(KeyboardInterrupt):
    """The run was interrupted a second time: it ends at once, and the process with it."""
