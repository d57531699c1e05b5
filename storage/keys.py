"""The keys of the API: what a user writes into AUDIOPHILE_API_KEYS, read. It must not know HTTP.

No key is kept as it is, so that nothing can print one.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

SCOPES: Final = ("read", "upload", "delete")
MIN_CHARACTERS: Final = 16
MAX_CHARACTERS: Final = 256

HOW: Final = "Make one with `openssl rand -hex 24`, or `python3 -c 'import secrets; print(secrets.token_hex(24))'`"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key."""

    digest: bytes  # SHA-256
    scopes: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """What logs call it."""
        return self.digest[:4].hex()


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Read keys from `key,key:scope+scope`. One without scopes may only read.

    Raises:
        ValueError: One cannot be used. The message says which by its place, and never shows it.
    """
    keys: dict[bytes, ApiKey] = {}
    for place, part in enumerate(text.split(","), 1):
        key, has_scopes, named = part.strip().partition(":")
        scopes = [scope.strip() for scope in named.split("+")] if has_scopes else ["read"]
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(f"key {place} has characters that no header may have. {HOW}")
        if not MIN_CHARACTERS <= len(key) <= MAX_CHARACTERS:
            raise ValueError(
                f"key {place} has {len(key)} characters, and needs {MIN_CHARACTERS} to {MAX_CHARACTERS}. {HOW}"
            )
        if not set(scopes) <= set(SCOPES):
            raise ValueError(f"key {place} has a scope that is unknown: after the colon, join {', '.join(SCOPES)} by +")
        digest = sha256(key.encode()).digest()
        if digest in keys:
            raise ValueError(f"key {place} is there twice: give each one all of its scopes, as key:read+upload")
        keys[digest] = ApiKey(digest, frozenset(scopes))
    return tuple(keys.values())


def find_key(keys: Iterable[ApiKey], presented: bytes) -> ApiKey | None:
    """Return the key that was presented. Every key is compared, in constant time, so that time tells nothing."""
    digest, found = sha256(presented).digest(), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found
