"""Errors of the decoder: one class, with the kinds of format-spec/container.md, section 10."""

COMPATIBILITY = "Compatibility"
CORRUPTION = "Corruption"
INSUFFICIENT_DATA = "InsufficientData"
INVALID_ARGUMENT = "InvalidArgument"
LIMIT = "Limit"
UNSUPPORTED = "Unsupported"
IO = "Io"


class BenbenError(Exception):
    """A refusal: `kind` is what callers act on, `message` says what was found."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message

    def within(self, place):
        """The same error, with the place (a tensor, a file) in front of the message."""
        return BenbenError(self.kind, f"{place}: {self.message}")


def corruption(message):
    """An error of kind Corruption: bytes contradict themselves."""
    return BenbenError(CORRUPTION, message)


def require(condition, message):
    """Raises Corruption with `message` unless `condition` holds."""
    if not condition:
        raise BenbenError(CORRUPTION, message)
