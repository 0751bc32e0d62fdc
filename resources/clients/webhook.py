"""Posts messages to a webhook: Slack's, a compatible one, or any that accepts JSON.

Source: Slack's documentation, "Sending messages using incoming webhooks".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import requests
from requests.adapters import HTTPAdapter

from resources.clients.tls import Trust
from resources.errors import PeerRefused, PeerUnreachable

TIMEOUT_S = 10.0
MAX_TEXT = 3000


def post(url: str, text: str, facts: Mapping[str, str], *, style: Literal["slack", "json"]) -> None:
    """Post one message.

    Args:
        url: a secret; no error repeats it.
        text: the message.
        facts: its values for machines; sent with `json` only.

    Raises:
        PeerUnreachable: the webhook does not answer.
        PeerRefused: the webhook refuses the message.
    """
    reply = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    body = {"text": escaped(reply)} if style == "slack" else {"text": reply, **facts}
    session = _session()
    try:
        answer = session.post(url, json=body, timeout=TIMEOUT_S, allow_redirects=False, stream=True)
        status = answer.status_code
        answer.close()
    except (requests.RequestException, ValueError) as error:
        raise PeerUnreachable(
            f"a webhook could not be reached: {type(error).__name__}",
            hint="check its url under notify in shardkeeper.yaml",
        ) from None
    finally:
        session.close()
    if status >= 300:
        raise PeerRefused(f"a webhook answered {status}", hint="check its url under notify")


def _session() -> requests.Session:
    session = _Plain()
    session.trust_env = False  # no .netrc, no proxies
    session.mount("https://", _Trusting())
    return session


class _Plain(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Even with redirects turned off, requests reads a redirect's whole body, and raises on a
        # Location that is not a URL.
        return None


class _Trusting(HTTPAdapter):
    """Connects by our own trust settings."""

    def init_poolmanager(self, *args: Any, **extra: Any) -> None:
        super().init_poolmanager(*args, **extra, ssl_context=Trust().for_http())

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: requests would add certifi's authorities to our context."""
        conn.cert_reqs = "CERT_REQUIRED"


def escaped(text: str) -> str:
    """Escape a text for Slack, which reads <…> as links and as mentions of the whole channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
