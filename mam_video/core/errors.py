"""What can go wrong, as one line for the user.

Everything a user can mend is a `MamVideoError`: its text says what, where and what to do, on one line. The command
line prints it and returns `exit_code`; foreign exceptions (PyAV, torch, OSError) become one of these at the edge where
they arise. `assert` is for our own mistakes only.
"""

from __future__ import annotations

from importlib.util import find_spec


class MamVideoError(Exception):
    """Something failed that the user can do something about."""

    exit_code = 1


class UsageError(MamVideoError):
    """Asked wrongly: a prompt, a flag, a setting, a name that does not exist."""

    exit_code = 2


class SettingError(UsageError):
    """A setting has a value that it cannot have.

    key   the setting, as "smooth.strength"
    rule  what is wrong, as "must be between 0 and 1, is 5"
    """

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(f"{key} {rule}")
        self.key, self.rule = key, rule


class MediaError(MamVideoError):
    """A clip cannot be read, or a result cannot be written."""


class MissingFileError(UsageError, MediaError):
    """A file that the user named as an input does not exist."""


class WeightsError(MamVideoError):
    """Weights are missing, damaged, or not what they should be."""


class DeviceError(MamVideoError):
    """The requested device is absent, or does not support the request."""


def need_extra(module: str, extra: str, what: str) -> None:
    """Raises UsageError where `module`, of the optional dependencies `extra`, is not installed. `what` needs it."""
    if find_spec(module) is None:
        raise UsageError(f"{what} needs {module}, which is not installed: pip install 'mam-video[{extra}]'")
