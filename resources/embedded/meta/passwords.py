"""Password hashes of an embedded cluster's users: bcrypt if the system's libcrypt has it.

A real server accepts such hashes with the metadata. The cost is 4, the minimum, since these are
passwords of demonstrations. Without libcrypt a salted SHA-256 replaces bcrypt; only an embedded
cluster accepts it.

Source: crypt(3); influxdb services/meta/client.go, CreateUser.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable

_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_STANDIN = "$dev$"
_lock = threading.Lock()  # crypt(3) returns a static buffer


def hashed(password: str) -> str:
    """A new hash of a password."""
    salt = "".join(secrets.choice(_ALPHABET) for _ in range(21)) + "e"
    return _bcrypt(password, f"$2a$04${salt}") or _standin(password, salt)


def fits(password: str, hash_: str) -> bool:
    """Whether a password matches a hash; False if the hash cannot be computed here."""
    if hash_.startswith(_STANDIN):
        made = _standin(password, hash_.removeprefix(_STANDIN).partition("$")[0])
    else:
        made = _bcrypt(password, hash_)
    return bool(made) and hmac.compare_digest(made.encode(), hash_.encode())


def _standin(password: str, salt: str) -> str:
    return f"{_STANDIN}{salt}${hashlib.sha256((salt + password).encode()).hexdigest()}"


def _bcrypt(password: str, setting: str) -> str:
    if not setting.startswith(("$2a$", "$2b$")) or "\0" in password or _crypt is None:
        return ""
    with _lock:
        made = _crypt(password.encode(), setting.encode()) or b""
    return made.decode() if made.startswith(b"$2") else ""


def _loaded() -> Callable[[bytes, bytes], bytes | None] | None:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            function = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        function.restype = ctypes.c_char_p
        return function
    return None


_crypt = _loaded()
