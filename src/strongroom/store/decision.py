"""May this call be made: the one answer, enforced by the pipeline, shown by `sys/explain`. Pure."""

from typing import TYPE_CHECKING, Final

from strongroom.model.decision import Decision

if TYPE_CHECKING:
    from strongroom.store.call import Call, Endpoint
    from strongroom.store.sessions import Session

_PUBLIC: Final = Decision(True, "the path needs no token")
_HELP: Final = Decision(True, "every token may ask what a path is for")
_UNGOVERNED: Final = Decision(True, "every token may ask; the answer holds what it may see")


def decide(session: "Session | None", endpoint: "Endpoint | None", call: "Call") -> Decision:
    """Allow or deny a call that has been routed; `endpoint` None is a path that leads nowhere.

    A session is there unless the endpoint is public.
    """
    if endpoint is not None and endpoint.public:
        return _PUBLIC
    if endpoint is not None and endpoint.ungoverned:
        return _UNGOVERNED
    if session is None:
        return Decision(False, "there is no valid token")
    if call.operation == "help" and endpoint is not None:
        return _HELP
    # What a listing is asked with says where to go on, not what to do.
    parameters = None if call.operation in ("list", "scan") else call.data
    decision = session.decide(
        call.path,
        call.operation,
        parameters,
        wrap_seconds=call.wrap_seconds,
        lowered=call.lowered,
    )
    if decision.allowed and endpoint is not None and endpoint.sudo:
        return session.decide(call.path, "sudo", lowered=call.lowered)
    return decision
