"""A request as the call that engines see."""

from typing import Any, Final, cast

from strongroom.model.errors import TooLarge
from strongroom.store.call import Call
from strongroom.store.normalise import Canonical, body_of
from strongroom.store.recording import LEFT_OUT
from strongroom.store.request_headers import wrap_seconds
from strongroom.store.routing import Route
from strongroom.store.sessions import Session
from strongroom.wire.http import Request

# Of a body that is read before, or without, its token: reading one of 24 MB takes half a second, in
# which nobody is served. No login is as long.
MOST_BYTES_OF_STRANGERS: Final = 1024 * 1024


def body_from(
    line: Canonical, route: Route | None, session: Session | None, request: Request
) -> tuple[dict[str, Any], bytes]:
    """The data of a request, and its body where that is a file; raises Invalid.

    A stranger's long body is not read: what needs a token is refused for that. What needs none
    takes no long one from anybody, which raises TooLarge.
    """
    if _is_long(request) and line.operation in ("update", "patch"):
        if route is not None and route.endpoint.public:
            raise TooLarge(
                "body-too-large",
                f"where no token is needed a body has at most {MOST_BYTES_OF_STRANGERS:,} bytes",
            )
        if session is None:
            return dict(LEFT_OUT), b""
    return body_of(line, request.body, request.headers.get("content-type", ""))


def role_in(line: Canonical, request: Request) -> object:
    """The role that a body names, before anybody knows whose it is; None in a long one.

    `body_from` lets nobody log in with that. Raises Invalid.
    """
    if _is_long(request):
        return None
    return body_of(line, request.body, request.headers.get("content-type", ""))[0].get("role")


def _is_long(request: Request) -> bool:
    return len(request.body) > MOST_BYTES_OF_STRANGERS


def call_of(
    asked: tuple[Canonical, dict[str, Any], bytes],
    route: Route | None,
    session: Session | None,
    request: Request,
    *,
    there: bool = False,
) -> Call:
    """`asked` are the line of a request, its data, and its body where that is a file.

    `there` says that the secret it is about is known to exist.
    """
    line, data, raw = asked
    call = Call(
        operation=line.operation,
        path=route.path if route else line.path,
        asked_path=line.path,
        lowered=route.lowered if route else 0,
        data=data,
        mount=cast(Any, route.mount if route else None),
        rest=route.rest if route else "",
        session=session,
        args=route.args if route else {},
        peer=request.peer,
        port=request.port,
        wrap_seconds=wrap_seconds(request.headers),
        certificate=request.client_certificate,
        chain=request.client_chain,
        headers=request.headers,
        body=raw,
        file=request.file,
    )
    if route and call.operation == "update" and not there and _may_learn(call, route):
        call.operation = "update" if route.backend.exists(call) else "create"
    return call


def _may_learn(call: Call, route: Route) -> bool:
    """Whether what is there is looked at for a write.

    For whoever may neither create nor update there it is not: how long it takes to be refused
    would tell what is there.
    """
    if route.endpoint.public:
        return True
    return call.session is not None and call.session.may_write(call.path, call.lowered)
