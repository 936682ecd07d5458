"""Who may connect: what a request to upgrade has to show."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from picows import WSUpgradeRequest

from iii_state.settings import Settings


def repair(request: WSUpgradeRequest) -> None:
    """Change what picows cannot take in a request.

    `Connection` may hold more than one word; that of Firefox is `keep-alive, Upgrade`. And picows
    stumbles over a version that is not ASCII when it refuses it.
    """
    words = request.headers.get("connection", "").lower().split(",")
    if "upgrade" in (word.strip() for word in words):
        request.headers["connection"] = "upgrade"
    if not request.headers.get("sec-websocket-version", "").isascii():
        request.headers["sec-websocket-version"] = "?"


def origin_is_allowed(request: WSUpgradeRequest, settings: Settings) -> bool:
    """Only browsers send an origin; a page of another site must not reach a local server."""
    origins = request.headers.getall("origin", [])
    if not origins:
        return True
    origin = origins[0]
    if len(origins) > 1:
        return False
    allowed = settings.allowed_origins
    return "*" in allowed or origin in allowed or _is_own(origin, request.headers.get("host"))


def token_is_right(request: WSUpgradeRequest, settings: Settings) -> bool:
    """Whether a request shows the token, if there is one."""
    if settings.token is None:
        return True
    given = request.headers.get("authorization", "")
    # picows keeps bytes that are no ASCII as surrogates.
    given_bytes = given.encode("utf-8", "surrogateescape")
    return secrets.compare_digest(given_bytes, f"Bearer {settings.token}".encode())


def _is_own(origin: str, host: str | None) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False
