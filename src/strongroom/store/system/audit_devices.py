"""`sys/audit`, `sys/audit-hash` and `sys/config/auditing/request-headers`.

Devices of the configuration are fixed; the API adds others where the configuration lets it.
API: https://developer.hashicorp.com/vault/api-docs/system/audit.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.audit.devices import TEST_LINE, Device, Enabled
from strongroom.audit.kinds import Asked, at_once, enable
from strongroom.model.errors import Invalid, Refusal, Unavailable
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.parameters import fields

MOUNT: Final = "audit"
DEVICE, HEADERS = "device", "headers"
# Recording them would put a token into the log in the clear, or under a hash of another form.
_NEVER: Final = ("x-vault-token", "authorization", "cookie")

_log = logging.getLogger(__name__)


class AuditDevices:
    """The devices of this process, and what the API says and changes of them."""

    def __init__(self, context: Context, *, allow: bool) -> None:
        self._context = context
        self._allow = allow

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        headers = "config/auditing/request-headers"
        return (
            Endpoint("audit", {"read": self._all}, sudo=True),
            Endpoint(
                "audit/{path*}",
                {"update": self._enable, "delete": self._disable},
                sudo=True,
                takes=fields(text="type description", object="options", flag="local"),
            ),
            Endpoint("audit-hash/{path*}", {"update": self._hash}, takes=fields(text="input")),
            Endpoint(headers, {"read": self._headers}, sudo=True),
            Endpoint(
                f"{headers}/{{header}}",
                {
                    "read": self._header,
                    "update": self._set_header,
                    "delete": self._delete_header,
                },
                sudo=True,
                takes=fields(flag="hmac"),
            ),
        )

    # what is in the database, in use in this process

    def reload(self) -> None:
        """Use the devices and headers that are stored now."""
        view, broker = self._context.view, self._context.broker
        headers = view.document(MOUNT, HEADERS, HEADERS) or {}
        self._context.recording.headers = {name: bool(hidden) for name, hidden in headers.items()}
        wanted = {name: view.document(MOUNT, DEVICE, name) for name in self._names()}
        have = {each.path: each for each in broker.enabled}
        keep = [
            each
            for each in broker.enabled
            if each.fixed or _as_stored(each) == wanted.get(each.path)
        ]
        kept = {each.path for each in keep}
        added = [
            _opened(path, found) for path, found in wanted.items() if found and path not in kept
        ]
        if added or len(keep) != len(broker.enabled):
            broker.replace([*keep, *added])
            for each in added:
                if isinstance(each.device, _Unopened):
                    broker.refused(each, each.device.why)
            for path in have.keys() - kept:
                have[path].device.close()

    def _names(self) -> Sequence[str]:
        return self._context.view.document_names(MOUNT, DEVICE)

    # the API

    def _all(self, call: Call) -> Result:  # noqa: ARG002
        found = {
            each.path: {
                "type": each.type,
                "description": each.description,
                "local": False,
                "options": dict(each.options),
                "path": each.path,
            }
            for each in self._context.broker.enabled
        }
        return Result(found, top_level=True)

    async def _enable(self, call: Call) -> None:
        path = _path(call)
        if not self._allow:
            raise Invalid(
                "audit-by-api",
                "cannot enable an audit device through the API",
                hint="write an audit stanza into the server's configuration, or set"
                " unsafe_allow_api_audit_creation = true there",
            )
        taken = Invalid("audit-path-taken", f"path already in use: audit device {path}")
        if any(each.path == path for each in self._context.broker.enabled):
            raise taken
        options = call.data.get("options") or {}
        if not isinstance(options, dict):
            raise Invalid("bad-parameter", "options must be an object")
        texts = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in options.items()
        }
        asked = Asked(path, call.text("type") or path.strip("/"), texts, call.text("description"))
        tried = await asyncio.to_thread(_tried, asked)  # a device may use its whole deadline

        def write(transaction: Transaction) -> None:
            # It was tried meanwhile, and another request, or node, may have been faster.
            if transaction.document(MOUNT, DEVICE, path) is not None:
                raise taken
            transaction.put_document(MOUNT, DEVICE, path, _as_stored(tried))
            _move_generation(transaction)

        await self._context.engine.transact(write)
        self.reload()

    async def _disable(self, call: Call) -> None:
        path = _path(call)
        found = next((each for each in self._context.broker.enabled if each.path == path), None)
        if found is not None and found.fixed:
            raise Invalid(
                "audit-fixed",
                f"the audit device {path} is defined in the server's configuration",
                hint="remove its stanza and restart the server",
            )

        def write(transaction: Transaction) -> None:
            transaction.delete_document(MOUNT, DEVICE, path)
            _move_generation(transaction)

        await self._context.engine.transact(write)
        self.reload()

    def _hash(self, call: Call) -> Result:
        if "input" not in call.data:
            raise Invalid("no-input", 'the "input" parameter is empty')
        path = _path(call)
        if all(each.path.strip("/") != path.strip("/") for each in self._context.broker.enabled):
            raise Invalid("no-device", f"unknown audit backend {path}")
        writer = self._context.writer
        return Result({"hash": writer.hashed(call.text("input"))}, top_level=True)

    # request headers

    def _stored_headers(self) -> dict[str, Any]:
        return self._context.view.document(MOUNT, HEADERS, HEADERS) or {}

    def _headers(self, call: Call) -> Result:  # noqa: ARG002
        headers = {name: {"hmac": each} for name, each in self._stored_headers().items()}
        return Result({"headers": headers}, top_level=True)

    def _header(self, call: Call) -> Result:
        name = call.args["header"].lower()
        headers = self._stored_headers()
        if name not in headers:
            raise Invalid("no-header", "Could not find header in config")
        # Under the name as asked, in any case: Terraform finds it by the one in its configuration.
        return Result({call.args["header"]: {"hmac": headers[name]}}, top_level=True)

    async def _set_header(self, call: Call) -> None:
        name, hidden = call.args["header"].lower(), call.flag("hmac")
        if name in _NEVER:
            raise Invalid("secret-header", f"the header {name} is never recorded")
        await self._change_headers(lambda headers: {**headers, name: hidden})

    async def _delete_header(self, call: Call) -> None:
        name = call.args["header"].lower()
        await self._change_headers(
            lambda headers: {each: value for each, value in headers.items() if each != name}
        )

    async def _change_headers(self, step: Any) -> None:  # noqa: ANN401 - headers to headers
        def write(transaction: Transaction) -> None:
            headers = transaction.document(MOUNT, HEADERS, HEADERS) or {}
            transaction.put_document(MOUNT, HEADERS, HEADERS, step(headers))
            _move_generation(transaction)

        await self._context.engine.transact(write)
        self.reload()


def _tried(asked: Asked) -> Enabled:
    """A device that took a record; closed again. Raises Invalid(`audit-test`)."""
    try:
        tried = enable(asked, fixed=False)
        try:
            tried.device.write(tried.prefixed(TEST_LINE))
        finally:
            tried.device.close()
    except Unavailable as error:
        raise Invalid("audit-test", f"sanity check failed: {error.message}") from None
    return tried


class _Unopened:
    """Stands for a device that this process could not open; each write tries again.

    It is called in a thread of its own (`blocking`), which hangs where the file system does.
    """

    def __init__(self, asked: Asked, refusal: Refusal) -> None:
        self.name = asked.path
        self.blocking = True
        self.longest = 0
        self.why = Unavailable(refusal.code, refusal.message)
        self._asked = asked
        self._device: Device | None = None

    def write(self, lines: bytes) -> None:
        if self._device is None:
            try:
                self._device = enable(self._asked, fixed=False, opening=at_once).device
            except Refusal as refusal:
                raise Unavailable(refusal.code, refusal.message) from None
        self._device.write(lines)

    def reopen(self) -> None:
        if self._device is not None:
            self._device.reopen()

    def close(self) -> None:
        if self._device is not None:
            self._device.close()


def _opened(path: str, found: Mapping[str, Any]) -> Enabled:
    asked = Asked(path, found["type"], found["options"], found["description"])
    try:
        return enable(asked, fixed=False)
    except Refusal as refusal:
        stand_in = _Unopened(asked, refusal)
    try:
        return enable(asked, fixed=False, stand_in=stand_in)
    except Refusal:  # What it asks for is not known to this version.
        return Enabled(
            path, stand_in, asked.type, options=asked.options, description=asked.description
        )


def _as_stored(each: Enabled) -> dict[str, Any]:
    return {"type": each.type, "options": dict(each.options), "description": each.description}


def _move_generation(transaction: Transaction) -> None:
    """Other processes read their devices anew when the generation moves."""
    row = transaction.cluster()
    if row is not None:
        transaction.replace_ring(row.wrapped_ring)


def _path(call: Call) -> str:
    path = call.args["path"].strip("/")
    if not path:
        raise Invalid("no-path", "the device needs a path")
    return path + "/"
