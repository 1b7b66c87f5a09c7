"""`sys/internal/counters/`: how many tokens and entities there are.

Clients are not counted by month: what asks for that is answered as by a Vault whose activity log
is off. API: https://developer.hashicorp.com/vault/api-docs/system/internal-counters.
"""

from collections.abc import Sequence
from typing import Final

from strongroom.model.errors import Invalid, NotFound
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.parameters import Fields, fields

AT: Final = "internal/counters"
SETTINGS: Final[Fields] = fields(
    text="enabled", number="retention_months default_report_months billing_start_timestamp"
)
PERIOD: Final[Fields] = fields(text="start_time end_time format limit_namespaces")
OFF: Final = ("", "default", "disable")


class Counters:
    """The endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(f"{AT}/tokens", {"read": self._tokens}),
            Endpoint(f"{AT}/entities", {"read": self._entities}),
            Endpoint(f"{AT}/requests", {"read": _removed}, published=False),
            Endpoint(f"{AT}/activity", {"read": _nothing_counted}, takes=PERIOD),
            Endpoint(f"{AT}/activity/monthly", {"read": _nothing_counted}),
            Endpoint(f"{AT}/activity/export", {"read": _nothing_counted}, takes=PERIOD),
            Endpoint(f"{AT}/config", {"read": _read_config, "update": _write}, takes=SETTINGS),
        )

    def _tokens(self, call: Call) -> Result:  # noqa: ARG002 - the handler's shape
        total = self._context.view.token_count()
        return Result({"counters": {"service_tokens": {"total": total}}})

    def _entities(self, call: Call) -> Result:  # noqa: ARG002
        total = self._context.view.entity_count()
        return Result({"counters": {"entities": {"total": total}}})


def _nothing_counted(call: Call) -> None:
    """204, which is how Vault says that it has no data of the time."""


def _removed(call: Call) -> Result:  # noqa: ARG001
    raise NotFound("removed", "The functionality has been removed on this path")


def _read_config(call: Call) -> Result:  # noqa: ARG001
    return Result(
        {
            "enabled": "default-disabled",
            "queries_available": False,
            "reporting_enabled": False,
            "default_report_months": 0,
            "minimum_retention_months": 0,
            "retention_months": 0,
            "billing_start_timestamp": None,
        }
    )


def _write(call: Call) -> None:
    if call.text("enabled") not in OFF or any(name != "enabled" for name in call.data):
        raise Invalid(
            "not-served",
            "clients are not counted: the activity log is off, and has nothing to keep",
            hint="the audit log has every request",
        )
