"""Every error that this package raises on purpose.

UnmaskError
├── InputError      the input can't be read: missing, not a video, damaged, no picture in it
│   └── EmptyWindowError    there is no frame between the given start and end
├── OutputError     the output can't be written: exists, folder missing, codec refuses, disk full
├── OptionError     an option has a value that makes no sense
└── BackendError    no backend could open an engine, or an engine file is missing or altered

The message is always one sentence that a user can act on; the command line prints it and exits
with 2. Errors of foreign libraries are turned into these once, where that library is called.
"""


class UnmaskError(Exception):
    """Base of all errors below; its text is one sentence for the user."""


class InputError(UnmaskError):
    """The input can't be used."""


class EmptyWindowError(InputError):
    """There is no frame between the given start and end."""


class OutputError(UnmaskError):
    """The output can't be written."""


class OptionError(UnmaskError):
    """An option is out of its range."""


class BackendError(UnmaskError):
    """No backend could run an engine."""
