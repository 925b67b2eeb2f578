"""How an error text repeats what a user wrote: clipped, quoted, and with the nearest word that is known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

# Control characters, C1 among them, line and paragraph separators, and halves of surrogate pairs (which is
# how Python shows an argument that was not UTF-8).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,15}://"  # so short that a long line takes no long time
_START = re.compile(r".*?(?:://|\bhttps?:/*)", re.IGNORECASE | re.DOTALL)
_CHECKSUM = re.compile(r"#sha256=[0-9A-Fa-f]{64}$")
# A user with a password that ought to be quoted, and cannot be a host with a port.
_UNQUOTED = re.compile(r"[^/?#@\[\]:]*:(?![0-9]+(?:[/?#]|$))[^/?#@]*[/?#][^@]*@")
# To a space, or to where the next one begins: a password may hold any other character.
_URL = re.compile(rf"{_SCHEME}(?:(?!{_SCHEME})\S)+")
# Of one that is told without its host, the path and the query.
_QUERY = re.compile(r"((?:^|[\s'\"(])/[^\s?'\"(]*)\?[^\s'\")]*")


def has_control(text: str) -> bool:
    """Whether `text` holds a character that ends a line, steers a terminal, or is no character at all."""
    return _CONTROL.search(text) is not None


def quoted(text: str, limit: int = 60) -> str:
    """`text` in double quotes on one line, control characters escaped, cut to `limit` characters."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return json.dumps(shown, ensure_ascii=not shown.isprintable())


def listed(words: Iterable[str], limit: int = 20) -> str:
    """The words with commas between, the first `limit` of them, and how many were left out."""
    every = list(words)
    rest = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + rest


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is most likely a slip of; None when none is near."""
    from difflib import get_close_matches

    # The case and the choice between - and _ are the commonest slips, and difflib counts them fully.
    plain = {name.lower().replace("-", "_"): name for name in known}
    close = get_close_matches(word[:100].lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def without_secrets(url: str) -> str:
    """A URL without user, password, query (it may be signed) and fragment; any other text as it is.

    A URL of the web counts as one with too few slashes, too. A checksum in the fragment stays.
    """
    match = _START.match(url)
    if not match:
        return url
    rest = url[match.end() :]
    if _UNQUOTED.match(rest):
        rest = rest.rpartition("@")[2]
    place, *_ = re.split(r"[?#]", rest, maxsplit=1)
    authority, slash, path = place.partition("/")
    checksum = _CHECKSUM.search(url)
    return match[0] + authority.rpartition("@")[2] + slash + path + (checksum[0] if checksum else "")


def without_url_secrets(text: str) -> str:
    """A text of somebody else's, with each URL in it as `without_secrets` leaves it."""
    return _QUERY.sub(r"\1", _URL.sub(lambda match: without_secrets(match[0]), text))
