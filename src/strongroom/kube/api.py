"""What a controller may ask of the Kubernetes API; the real client and the fake keep to it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.kube.resource import Object, Resource
from strongroom.model.errors import Refusal, Unavailable


class Gone(Refusal):
    """The watch position is too old (410): list again."""


class Busy(Unavailable):
    """The server's priority and fairness refuses for now (429); `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__("kube-busy", message, hint="it asks for fewer requests at once")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list, and the position to watch from."""

    items: Sequence[Object]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK (which has a resourceVersion alone)."""

    type: str
    object: Object


@dataclass(frozen=True, slots=True)
class Scope:
    """What a list or watch covers. `metadata_only` leaves spec, data and status on the server."""

    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False


EVERYTHING: Final = Scope()


class KubeApi(Protocol):
    """Objects are plain dictionaries as the API's JSON has them.

    Raises NotFound, Conflict, Denied, Invalid or Unavailable with the server's message.
    """

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """One object."""

    async def list(self, resource: Resource, scope: Scope = EVERYTHING) -> Listing:
        """All objects in scope, page by page."""

    async def serves(self, group: str) -> bool:
        """Whether there is an API group; who has no rights in one is Denied there or not."""

    def pages(self, resource: Resource, scope: Scope = EVERYTHING) -> AsyncIterator[Listing]:
        """The same page by page, so that no more than one is held at a time.

        In the order of `namespace/name`; raises Gone when the server forgot where it was.
        """

    def watch(
        self, resource: Resource, resource_version: str, scope: Scope = EVERYTHING
    ) -> AsyncIterator[WatchEvent]:
        """Changes after a position until the server ends the watch; raises Gone."""

    async def create(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        """POST; with a subresource (`token`) the object's name is its metadata's.

        `manager` is who managedFields name; here and below "" is this program.
        """

    async def replace(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        """PUT; raises Conflict when the resourceVersion is not the current one."""

    async def apply(
        self, resource: Resource, item: Object, manager: str, subresource: str = ""
    ) -> Object:
        """Server-side apply, forced: fields of `item` become the manager's."""

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object,
        subresource: str = "",
        manager: str = "",
    ) -> Object:
        """RFC 7396; a resourceVersion in the patch must be the current one, else Conflict."""

    async def touch(self, resource: Resource, name: str, namespace: str = "") -> str:
        """A patch that changes nothing, and has stale values written anew.

        Returns the resourceVersion after it; the object itself does not come back. Is not tried
        again by itself: raises Busy when the server asks for patience.
        """

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", uid: str = ""
    ) -> None:
        """Delete; raises NotFound, or Conflict when the object has another uid."""
