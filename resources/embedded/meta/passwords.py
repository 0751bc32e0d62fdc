"""Password hashes of a dev cluster's users: bcrypt where the system's libcrypt has it.

A real server takes such hashes over with the metadata. Cost 4, the least there is: these are
passwords of demonstrations. Without libcrypt a salted SHA-256 stands in, which only a dev
cluster understands.

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
_lock = threading.Lock()  # crypt(3) answers in a buffer of its own


def hashed(password: str) -> str:
    """A new hash of a password."""
    salt = "".join(secrets.choice(_ALPHABET) for _ in range(21)) + "e"
    return _bcrypt(password, f"$2a$04${salt}") or _standin(password, salt)


def fits(password: str, hash_: str) -> bool:
    """Whether this is the password of a hash; never, of a hash we cannot compute."""
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
