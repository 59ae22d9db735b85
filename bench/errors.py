"""Mistakes of a user or of their data: reported as one line, never as a traceback."""


class UserError(Exception):
    """What is wrong, what was got, what to do. The command line prints it and exits with 2."""


class UnknownNameError(UserError, KeyError):
    """A name that no registry holds. The message lists the names that it does hold."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message in quotes


class DamagedFileError(UserError):
    """A file that is truncated, altered or not what its name says."""
