"""The real API over HTTP: JSON in and out, lists in pages, watches as lines.

API: https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Self
from urllib.parse import urlencode

import orjson

from strongroom.kube.api import EVERYTHING, Busy, Listing, Scope, WatchEvent
from strongroom.kube.config import KubeConfig
from strongroom.kube.nesting import decoded
from strongroom.kube.refusals import refusal_of
from strongroom.kube.resource import Object, Resource
from strongroom.model.clock import Clock
from strongroom.model.errors import NotFound, Refusal
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response, retry_after

PAGE: Final = 500
USER_AGENT: Final = "strongroom"
RETRIES: Final = 3
WATCH_SECONDS: Final = 300
_JSON: Final = "application/json"
_PARTIAL: Final = "as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class KubeClient:
    """One API server, one identity; an async context manager. Implements KubeApi.

    `page` is how many objects of a list are asked for at once; `cuts` is whether objects that are
    nested too deep to be read are cut, which takes seconds for a reply made to that end.
    """

    def __init__(
        self, config: KubeConfig, clock: Clock, page: int = PAGE, *, cuts: bool = True
    ) -> None:
        self._config = config
        self._page = page
        self._cuts = cuts
        self._clock = clock
        self._http = HttpClient(
            ca_data=config.ca_data,
            client_certificate=config.client_certificate,
            client_pem=config.client_pem,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    def _headers(self, content_type: str = "", *, accept: str = _JSON) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": USER_AGENT}
        if content_type:
            headers["Content-Type"] = content_type
        token = self._config.bearer()
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal_text()}"
        return headers

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        kind: str = _JSON,
        accept: str = _JSON,
        retries: int = RETRIES,
    ) -> Object:
        content = None if body is None else orjson.dumps(body)
        headers = self._headers(kind if content is not None else "", accept=accept)
        for attempt in range(retries + 1):
            reply = await self._http.request(
                method, self._config.server + path, headers=headers, body=content
            )
            if reply.status not in (429, 503) or attempt == retries:
                break
            await self._clock.sleep(min(10.0, _retry_after(reply)))
        if reply.status >= 300:
            raise _refused(reply, path)
        value = await self._decoded(reply.body or b"{}")
        return value if isinstance(value, dict) else {}

    async def _decoded(self, body: bytes) -> Any:  # noqa: ANN401 - JSON
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            if not self._cuts:
                raise
            # Beside the loop: whoever may write in one namespace decides how long it takes.
            return await asyncio.to_thread(decoded, body)

    async def raw(self, path: str) -> bytes:
        """GET a path that is no object, such as `/readyz`."""
        reply = await self._http.request(
            "GET", self._config.server + path, headers=self._headers(accept="*/*")
        )
        if reply.status >= 300:
            raise refusal_of(reply.status, reply.body, path)
        return reply.body

    async def serves(self, group: str) -> bool:
        try:
            await self.raw(f"/apis/{group}")
        except NotFound:
            return False
        return True

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._send("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, scope: Scope = EVERYTHING) -> Listing:
        items: list[Object] = []
        position = ""
        async for page in self.pages(resource, scope):
            items += page.items
            position = page.resource_version
        return Listing(items, position)

    async def pages(self, resource: Resource, scope: Scope = EVERYTHING) -> AsyncIterator[Listing]:
        more = ""
        while True:
            query = (
                _selectors(scope)
                | {"limit": str(self._page)}
                | ({"continue": more} if more else {})
            )
            path = f"{resource.path(scope.namespace)}?{urlencode(query)}"
            kind = f"{_PARTIAL.format('List')},{_JSON}"
            accept = f"{_JSON};{kind}" if scope.metadata_only else _JSON
            page = await self._send("GET", path, accept=accept)
            items = [_identified(resource, item) for item in page.get("items") or []]
            yield Listing(items, page["metadata"].get("resourceVersion", ""))
            more = page["metadata"].get("continue", "")
            if not more:
                return

    async def watch(
        self, resource: Resource, resource_version: str, scope: Scope = EVERYTHING
    ) -> AsyncIterator[WatchEvent]:
        query = _selectors(scope) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        path = f"{resource.path(scope.namespace)}?{urlencode(query)}"
        kind = f"{_PARTIAL.format('')},{_JSON}"
        headers = self._headers(accept=f"{_JSON};{kind}" if scope.metadata_only else _JSON)
        async for part in self._http.lines(self._config.server + path, headers=headers):
            if isinstance(part, Response):
                if part.status != 200:
                    raise _refused(part, path)
                continue
            if not part.strip():
                continue
            event = await self._decoded(part)
            if event["type"] == "ERROR":
                status = event["object"]
                raise refusal_of(int(status.get("code", 500)), orjson.dumps(status), path)
            yield WatchEvent(event["type"], _identified(resource, event["object"]))

    async def create(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        metadata = item.get("metadata", {})
        name = metadata.get("name", "") if subresource else ""
        path = resource.path(metadata.get("namespace", ""), name, subresource)
        body = item if subresource else _identified(resource, dict(item))
        return await self._send("POST", path + _managed_by(manager), body)

    async def replace(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        metadata = item["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        path += _managed_by(manager)
        return await self._send("PUT", path, _identified(resource, dict(item)))

    async def apply(
        self, resource: Resource, item: Object, manager: str, subresource: str = ""
    ) -> Object:
        metadata = item["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = urlencode({"fieldManager": manager, "force": "true"})
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **item}
        return await self._send(
            "PATCH", f"{path}?{query}", body, kind="application/apply-patch+yaml"
        )

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object,
        subresource: str = "",
        manager: str = "",
    ) -> Object:
        path = resource.path(namespace, name, subresource) + _managed_by(manager)
        return await self._send("PATCH", path, patch, kind="application/merge-patch+json")

    async def touch(self, resource: Resource, name: str, namespace: str = "") -> str:
        path = resource.path(namespace, name)
        accept = f"{_JSON};{_PARTIAL.format('')}"
        kind = "application/merge-patch+json"
        reply = await self._send("PATCH", path, {}, kind=kind, accept=accept, retries=0)
        return str(reply["metadata"]["resourceVersion"])

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", uid: str = ""
    ) -> None:
        body = {"preconditions": {"uid": uid}} if uid else None
        await self._send("DELETE", resource.path(namespace, name), body)


def _managed_by(manager: str) -> str:
    return "?" + urlencode({"fieldManager": manager}) if manager else ""


def _selectors(scope: Scope) -> dict[str, str]:
    found = {"labelSelector": scope.label_selector, "fieldSelector": scope.field_selector}
    return {name: value for name, value in found.items() if value}


def _identified(resource: Resource, item: Object) -> Object:
    """Lists leave the kind out, and custom resources are not taken without it."""
    item["apiVersion"], item["kind"] = resource.api_version, resource.kind
    return item


def _retry_after(reply: Response) -> float:
    wish = retry_after(reply)
    return 1.0 if wish is None else wish


def _refused(reply: Response, path: str) -> Refusal:
    if reply.status == 429:
        return Busy(f"{path.partition('?')[0]}: too many requests", _retry_after(reply))
    return refusal_of(reply.status, reply.body, path)
