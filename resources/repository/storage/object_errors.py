"""What an object store says no with, as an error that names the URL, the deed and a way out.

The text of obstore's errors has addresses with their queries, in which Azure's signatures are, and
whatever the server answered. So only what is known to hold no secret is taken from it: the status,
the code, and the kind of a failure on the wire.
"""

from __future__ import annotations

import re

from obstore.exceptions import (
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from resources.errors import RepositoryError, RepositoryMissing, StoreFailed, StoreFull

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_STATUS = re.compile(r"status code: ([1-5][0-9]{2})|status: ([1-5][0-9]{2}),")
_KIND = re.compile(r"kind: (Connect|Timeout|Interrupted|Request|Decode)\b")
_RETRIES = re.compile(r"after ([0-9]+) retries")
MAX_RETRIES = 6
"""How often obstore repeats a request."""
_KINDS = {
    "Connect": "no connection",
    "Timeout": "no answer in time",
    "Interrupted": "the connection was cut",
    "Request": "the request could not be sent",
    "Decode": "the answer could not be read",
}
_TRANSIENT = frozenset({"SlowDown", "InternalError", "RequestTimeout", "ServerBusy", "Throttling"})

_BUCKET = "create the bucket, or check the URL and the endpoint (AWS_ENDPOINT_URL)"
_DENIED = (
    "let these credentials list the bucket, and read and write objects in it; what a policy needs "
    "is in docs/object-stores.md"
)
_CREDENTIALS = (
    "check the credentials in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
    "GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_KEY), and which server they are for"
)
_CLOCK = "set this machine's clock right: the store refuses requests dated 15 minutes off"
_REGION = "set AWS_REGION to the bucket's region"
_BUSY = "the store is overloaded; run it again later, or with fewer connections (-parallel)"
_HINTS = {
    "NoSuchBucket": _BUCKET,
    "ContainerNotFound": _BUCKET,
    "AccessDenied": _DENIED,
    "AuthorizationPermissionMismatch": _DENIED,
    "AuthorizationFailure": _DENIED,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "AuthenticationFailed": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "ExpiredToken": "these credentials have expired; get new ones",
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "SlowDown": _BUSY,
    "ServerBusy": _BUSY,
    "Throttling": _BUSY,
    "EntityTooLarge": "the store takes no object of this size",
}
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "507"})
_MISSING = frozenset({"NoSuchBucket", "ContainerNotFound"})
_UNREACHABLE = (
    "check the network and the endpoint (AWS_ENDPOINT_URL); http:// must be written out, https:// "
    "is the default"
)
_NO_CREDENTIALS = "no credentials were found: " + _CREDENTIALS


def code_of(error: BaseException) -> str:
    """What the store called it, or the HTTP status; empty if it did not answer."""
    found = _CODE.search(str(error))
    return found[1] if found else status_of(error)


def status_of(error: BaseException) -> str:
    """The HTTP status; empty if there was no answer."""
    found = _STATUS.search(str(error))
    return (found[1] or found[2]) if found else ""


def is_about_bucket(error: BaseException) -> bool:
    """Whether not the object is missing, but the bucket."""
    return code_of(error) in _MISSING


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, NotSupportedError | PermissionDeniedError | UnauthenticatedError):
        return False
    status = status_of(error)
    if status:
        return status[0] == "5" or status in ("408", "429") or code_of(error) in _TRANSIENT
    return isinstance(error, BaseError) and not _is_about_credentials(str(error))


def was_repeated(error: BaseException) -> bool:
    """Whether obstore has tried it as often as it should."""
    found = _RETRIES.search(str(error))
    return found is not None and int(found[1]) >= MAX_RETRIES


def explained(error: BaseException, url: str, doing: str) -> RepositoryError:
    """The error to raise for `error`, which came while `doing` something at `url`."""
    text, code = str(error), code_of(error)
    kind = _KIND.search(text)
    what = f"{url}: {doing}: "
    if code in _MISSING:
        return RepositoryMissing(f"{what}there is no such bucket", hint=_BUCKET)
    if code in _FULL:
        return StoreFull(f"{what}the store is full ({code})", hint="make room or raise the quota")
    if code:
        status = status_of(error)
        named = code if code == status or not status else f"{code}, status {status}"
        return StoreFailed(f"{what}{named}", hint=_HINTS.get(code, _by_status(status)))
    if _is_about_credentials(text):
        return StoreFailed(f"{what}no credentials", hint=_NO_CREDENTIALS)
    if isinstance(error, NotSupportedError):
        return StoreFailed(f"{what}the store cannot do this")
    if kind:
        return StoreFailed(what + _KINDS[kind[1]], hint=_UNREACHABLE)
    return StoreFailed(f"{what}{type(error).__name__}", hint=_UNREACHABLE)


def _by_status(status: str) -> str:
    if status in ("401", "403"):
        return _DENIED
    if status == "301":
        return _REGION
    return _BUSY if status.startswith("5") or status == "429" else ""


def _is_about_credentials(text: str) -> bool:
    """Whether nothing was sent, since no credentials were found."""
    return any(
        word in text for word in ("169.254.169.254", "169.254.170.2", "Missing", "CredentialsFile")
    )
