"""The one kind of error that is the input's fault; the command line tells it from our own."""


class InputError(ValueError):
    """Something that was given is wrong. The message says what was given, what is allowed and what
    to do."""
