"""What a caller can catch: every error that a user can cause or mend."""

import difflib
from collections.abc import Iterable


class DigitwiseError(Exception):
    """Bad input: the message is one line that names the file or option, and the mend.

    Attributes:
        exit_status: what the command line ends with, 2.
    """

    exit_status = 2


class MachineError(DigitwiseError):
    """The machine refused: the disk is full, or permission is missing.

    Args:
        action: what could not be done, such as "write runs/1".
        reason: what the operating system said.

    Attributes:
        exit_status: what the command line ends with, 3.
    """

    exit_status = 3

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(f"cannot {action}: {reason}")
        self.reason = reason


class TakenError(DigitwiseError):
    """A folder's name was taken meanwhile by another process."""


class SampleDataWarning(UserWarning):
    """The data is the built-in sample of MNIST, so that figures are the sample's."""


class MissingClassWarning(UserWarning):
    """The data shows no example of a class."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> DigitwiseError:
    """Makes the error for a name that nothing goes by, with the nearest known one.

    Args:
        kind: what is named, such as "dataset".
        name: what was asked for.
        known: the names there are.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    mend = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"
    return DigitwiseError(f"unknown {kind} '{name}': {mend}")


def machine_error(action: str, error: OSError) -> MachineError:
    """Makes the error for a write or read that the machine refused.

    Args:
        action: what could not be done, such as "write runs/1".
        error: what the operating system said.
    """
    return MachineError(action, error.strerror or str(error))


def missing_extra(purpose: str, extra: str) -> DigitwiseError:
    """Makes the error for a part of the package whose extra is not installed.

    Args:
        purpose: what needs it, such as "training".
        extra: the extra's name, such as "train".
    """
    return DigitwiseError(f"{purpose} needs the extra '{extra}': pip install 'digitwise[{extra}]'")


def wrong_type(name: str, value: object, expected: str) -> DigitwiseError:
    """Create the error for an argument of the wrong type.

    Args:
        name: the argument's name.
        value: what was given for it.
        expected: what it takes, and how to get that.
    """
    return DigitwiseError(f"{name} is {type(value).__name__}; expected {expected}")
