"""`sys/internal/specs/openapi`: the API described by the table that answers it.

Form: OpenAPI 3.0.3, with Vault's extensions `x-vault-sudo`, `x-vault-unauthenticated` and
`x-vault-createSupported`. https://developer.hashicorp.com/vault/api-docs/system/internal-specs-openapi
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import MountRow
from strongroom.store.parameters import PAGE, Kind, fields
from strongroom.store.routing import backend_name, full_path

OPENAPI: Final = "3.0.3"
# Descriptions that are remembered, of 400 KB or more each.
KEPT: Final = 8
_VERBS: Final = {
    "get": ("read", "list", "scan"),
    "post": ("update", "create"),
    "patch": ("patch",),
    "delete": ("delete",),
}
_NAMED: Final = re.compile(r"\{(\w+)\*?\}")
_SINGLE: Final = frozenset({"system", "identity", "cubbyhole", "token"})

Tables = Callable[[MountRow], Sequence[Endpoint]]


class OpenApi:
    """The endpoint; `tables` gives the endpoints of a mount."""

    def __init__(self, context: Context, tables: Tables, program_version: str) -> None:
        self._context = context
        self._tables = tables
        self._version = program_version
        # Anybody may ask for it, and making one takes longer than most of what else is asked.
        self._made: dict[tuple[object, ...], bytes] = {}

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "internal/specs/openapi",
                {"read": self._read, "update": self._read},
                public=True,
                takes=fields(flag="generic_mount_paths", text="context"),
            ),
        )

    def _read(self, call: Call) -> Result:
        rows = self._context.view.mounts()
        if call.session is None:
            # Without a token nothing is said of what is mounted where.
            rows = [row for row in rows if row.type in _SINGLE]
        else:
            session = call.session
            rows = [
                row
                for row in rows
                if session.is_root or session.acl.touches(full_path(row)) or row.type in _SINGLE
            ]
        generic = call.flag("generic_mount_paths")
        # All that a description is made of, besides what this program is.
        key = generic, tuple((each.kind, each.path, each.type, backend_name(each)) for each in rows)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= KEPT:
                self._made.clear()
            described = document(rows, self._tables, self._version, generic=generic)
            made = self._made[key] = orjson.dumps(described)
        return Result(raw=made)


def document(
    rows: Iterable[MountRow], tables: Tables, version: str, *, generic: bool = False
) -> dict[str, Any]:
    """The whole description of these mounts."""
    paths: dict[str, Any] = {}
    for row in rows:
        prefix = full_path(row)
        if generic and row.type not in _SINGLE:
            prefix = ("auth/" if row.kind == "auth" else "") + f"{{{row.type}_mount_path}}/"
        for endpoint in tables(row):
            if endpoint.published:
                path = "/" + _NAMED.sub(r"{\1}", prefix + endpoint.pattern).rstrip("/")
                paths.setdefault(path, _path_item(path, endpoint, row))
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Strongroom API",
            "description": "HTTP API of the secret store; compatible with HashiCorp Vault 1.16.",
            "version": version or "0",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": [{"url": "/v1"}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Vault-Token"},
            },
            "schemas": {"Envelope": _ENVELOPE, "Errors": _ERRORS},
        },
    }


def _path_item(path: str, endpoint: Endpoint, row: MountRow) -> dict[str, Any]:
    item: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _NAMED.findall(path)
        ],
    }
    if endpoint.sudo:
        item["x-vault-sudo"] = True
    if endpoint.public:
        item["x-vault-unauthenticated"] = True
    if "create" in endpoint.handlers:
        item["x-vault-createSupported"] = True
    for verb, operations in _VERBS.items():
        served = [name for name in operations if name in endpoint.handlers]
        if served:
            item[verb] = _operation(path, verb, served, endpoint, row)
    return item


def _operation(
    path: str, verb: str, served: Sequence[str], endpoint: Endpoint, row: MountRow
) -> dict[str, Any]:
    name = re.sub(r"\W+", "-", _NAMED.sub(r"\1", path)).strip("-")
    said: dict[str, Any] = {
        "operationId": f"{verb}-{name}",
        "tags": ["system" if row.type == "system" else "auth" if row.kind == "auth" else "secrets"],
        "responses": {**_RESPONSES, **(_HEALTH if path == "/sys/health" else {})},
    }
    if not endpoint.public:
        said["security"] = [{"token": []}]
    if verb == "get":
        flags = [each for each in served if each in ("list", "scan")]
        said["parameters"] = [
            {
                "name": each,
                "in": "query",
                "required": served == [each],
                "schema": {"type": "string", "enum": ["true"]},
            }
            for each in flags
        ]
        # Where there is a body, the parameters are the body's, but for those of a listing's page.
        if not {"update", "create"} & endpoint.handlers.keys():
            said["parameters"] += [
                {"name": name, "in": "query", "required": False, "schema": _SCHEMAS[kind]}
                for name, kind in sorted(
                    {**(PAGE if "list" in served else {}), **(endpoint.takes or {})}.items()
                )
            ]
    if verb in ("post", "patch"):
        kind = "application/merge-patch+json" if verb == "patch" else "application/json"
        said["requestBody"] = {"content": {kind: {"schema": _body(endpoint)}}}
    return said


def _body(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.takes is None:
        return {"type": "object", "additionalProperties": True}
    properties = {name: _SCHEMAS[kind] for name, kind in sorted(endpoint.takes.items())}
    return {"type": "object", **({"properties": properties} if properties else {})}


# What each kind of parameter is; the server also reads numbers and truth values written as text.
_SCHEMAS: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "text": {"type": "string"},
    "number": {"type": "integer"},
    "flag": {"type": "boolean"},
    "seconds": {"type": "string", "format": "duration", "example": "30m"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "object": {"type": "object"},
    "objects": {"type": "array", "items": {}},
}


_ENVELOPE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": [
        "request_id", "lease_id", "renewable", "lease_duration",
        "data", "wrap_info", "warnings", "auth", "mount_type",
    ],
    "properties": {
        "request_id": {"type": "string"},
        "lease_id": {"type": "string"},
        "renewable": {"type": "boolean"},
        "lease_duration": {"type": "integer"},
        "data": {"type": "object", "nullable": True},
        "wrap_info": {"type": "object", "nullable": True},
        "warnings": {"type": "array", "items": {"type": "string"}, "nullable": True},
        "auth": {"type": "object", "nullable": True},
        "mount_type": {"type": "string"},
    },
}  # fmt: skip
_ERRORS: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["errors"],
    "properties": {"errors": {"type": "array", "items": {"type": "string"}}},
}


def _reply(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


_DONE: Final = {"application/json": {"schema": {"type": "object"}}}
# All that a request may be answered with; 500 is a bug of the server, and no part of its API.
_RESPONSES: Final[Mapping[str, Any]] = {
    "200": {"description": "done", "content": _DONE},
    "202": {"description": "begun; it goes on in the background", "content": _DONE},
    "204": {"description": "done; nothing to say"},
    "400": _reply("the request is not one that can be done", "Errors"),
    "403": _reply("no token, or its policies do not allow it", "Errors"),
    "404": {"description": "nothing there; a deleted version is described", "content": _DONE},
    "405": _reply("the path has no such operation", "Errors"),
    "413": _reply("the body is too large or too complex", "Errors"),
    "415": _reply("PATCH without application/merge-patch+json", "Errors"),
    "429": _reply("a quota is used up; Retry-After says for how long", "Errors"),
    "503": _reply("sealed, or something that is needed is away", "Errors"),
}
_HEALTH: Final[Mapping[str, Any]] = {
    "429": {"description": "standby", "content": _DONE},
    "472": {"description": "disaster recovery secondary", "content": _DONE},
    "473": {"description": "performance standby", "content": _DONE},
    "501": {"description": "not initialised", "content": _DONE},
    "503": {"description": "sealed", "content": _DONE},
}
