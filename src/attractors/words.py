"""Words of messages that several rooms share."""

import difflib
from collections.abc import Iterable


def suggestion(name: object, known: Iterable[str], otherwise: str = "it has") -> str:
    """Return what follows "no such name": the known name that comes closest, or else all of them."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {close[0]}?" if close else f"; {otherwise} {', '.join(known) or 'none'}"
