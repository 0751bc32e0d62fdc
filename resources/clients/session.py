"""requests, without what it does unasked: redirects, proxies, credentials of the environment."""

from __future__ import annotations

import requests


def plain_session(verify: bool | str) -> requests.Session:
    """A session that sends what it is told, where it is told.

    Args:
        verify: whether an https certificate must be good, or a file of authorities to trust.
    """
    session = _Plain()
    session.trust_env = False  # no .netrc, no proxies
    session.verify = verify
    return session


class _Plain(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Even when told not to follow, requests reads a redirect's body, however long, and
        # trips over a Location that is no URL.
        return None
