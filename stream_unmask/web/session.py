"""Whose a job is: a visitor is known by a random cookie, of which only the hash is remembered."""

import re
import secrets
from collections.abc import Mapping
from hashlib import sha256

COOKIE = "stream_unmask_visitor"
_FORM = re.compile(r"[\w-]{43}", re.ASCII)  # what `token_urlsafe` gives


def visitor_of(cookies: Mapping[str, str]) -> tuple[str, str | None]:
    """(who it is, the cookie to give to who is new)."""
    cookie = cookies.get(COOKIE, "")
    if _FORM.fullmatch(cookie):
        return _name(cookie), None
    cookie = secrets.token_urlsafe()
    return _name(cookie), cookie


def _name(cookie: str) -> str:
    return sha256(cookie.encode()).hexdigest()
