"""Tell a team's webhook: Slack, what speaks like it, or anything that takes JSON.

Source: Slack's documentation, "Sending messages using incoming webhooks".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

from resources.clients.address import HostPort
from resources.clients.plain_http import Broken, PlainHTTP
from resources.errors import PeerRefused, PeerUnreachable

TIMEOUT_S = 10.0
PORTS = {"http": 80, "https": 443}
MOST_TEXT = 3000


def post(url: str, text: str, facts: Mapping[str, str], *, style: Literal["slack", "json"]) -> None:
    """Post one message.

    Args:
        url: a secret; no error repeats it.
        text: for people.
        facts: the same for machines; only `json` has them.

    Raises:
        PeerUnreachable: nobody took it.
        PeerRefused: it was refused.
    """
    said = text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"
    body = {"text": said} if style == "slack" else {"text": said, **facts}
    try:
        where = urlsplit(url)
        if where.scheme not in PORTS or not where.hostname:
            raise ValueError("no http or https URL")
        address = HostPort(where.hostname, where.port or PORTS[where.scheme])
        target = (where.path or "/") + (f"?{where.query}" if where.query else "")
        http = PlainHTTP(where.scheme, address, timeout_s=TIMEOUT_S)
        headers = {"Content-Type": "application/json"}
        if where.username:
            pair = f"{unquote(where.username)}:{unquote(where.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        with http.ask("POST", target, body=json.dumps(body).encode(), headers=headers) as answer:
            status = answer.status
    except (Broken, ValueError) as error:
        kind = error.trouble if isinstance(error, Broken) else type(error).__name__
        raise PeerUnreachable(
            f"a webhook could not be told: {kind}",
            hint="look at its url under notify in shardkeeper.yaml",
        ) from None
    if status >= 300:
        raise PeerRefused(f"a webhook answered {status}", hint="look at its url under notify")
