"""REST with JSON and a bearer token, as Google and Azure speak it: replies or Refusals."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from strongroom.model.clock import Clock
from strongroom.model.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    Refusal,
    Throttled,
    Unavailable,
)
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response, retry_after

SENTENCE: Final = 400
_FAMILIES: Final[Mapping[int, tuple[type[Refusal], str]]] = {
    400: (Invalid, "invalid"),
    401: (Denied, "denied"),
    403: (Denied, "denied"),
    404: (NotFound, "not-found"),
    405: (Invalid, "unsupported"),
    409: (Conflict, "conflict"),
    412: (Conflict, "conflict"),
    413: (Invalid, "too-large"),
    422: (Invalid, "invalid"),
}


class RestApi:
    """One service. `name` begins its reason codes: `google-denied`."""

    def __init__(self, name: str, base: str, http: HttpClient, clock: Clock) -> None:
        self._name = name
        self._base = base.rstrip("/")
        self._http = http
        self._clock = clock

    async def call(
        self,
        method: str,
        path: str,
        token: Secret,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The reply's object, {} for none; raises the Refusal that its status means.

        `path` may be a whole address, as the next page of a list is; only below the service's
        own, so that the token goes nowhere else.
        """
        url = path if path.startswith(self._base + "/") else f"{self._base}/{path.lstrip('/')}"
        if query:
            url += f"{'&' if '?' in url else '?'}{urlencode(query)}"
        headers = {"Authorization": f"Bearer {token.reveal_text()}", "Accept": "application/json"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = orjson.dumps(body)
        reply = await self._http.request(method, url, headers=headers, body=content)
        if reply.status == 404 and not _sentence(reply):
            # Absence is said by the service, and not by whoever else answers at its address.
            raise Unavailable(
                "bad-reply",
                f"{self._name}: a page that the service does not give (status 404)",
                hint="is the address the service's own?",
            )
        if reply.status >= 300:
            raise refusal_of(reply, self._name, self._clock.now())
        return object_of(reply, self._name)


def object_of(reply: Response, name: str) -> dict[str, Any]:
    """The JSON object of a reply; raises Unavailable(`bad-reply`)."""
    try:
        found = orjson.loads(reply.body or b"{}")
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable("bad-reply", f"the reply of {name} is not a JSON object")
    return found


def refusal_of(reply: Response, name: str, now: float | None = None) -> Refusal:
    """The family of a status, with the service's own sentence.

    Both clouds say `{"error": {"code": ..., "message": ...}}`; the token endpoints say
    `{"error": "...", "error_description": "..."}`. None of them repeats a value.
    """
    text = f"{name}: {_sentence(reply) or 'refused'} (status {reply.status})"
    if reply.status == 429:
        return Throttled(f"{name}-throttled", text, retry_after=retry_after(reply, now))
    family, code = _FAMILIES.get(reply.status, (Unavailable, "unavailable"))
    return family(f"{name}-{code}", text)


def _sentence(reply: Response) -> str:
    try:
        said = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return ""
    error = said.get("error") if isinstance(said, dict) else None
    if isinstance(error, dict):
        return str(error.get("message") or error.get("code") or "")[:SENTENCE]
    if isinstance(error, str):
        return f"{error}: {said.get('error_description') or ''}".rstrip(": ")[:SENTENCE]
    return ""
