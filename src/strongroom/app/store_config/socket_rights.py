"""Who may connect to a unix listener: `socket_mode`, `socket_user` and `socket_group`.

Without them it is whoever the umask lets, which is its owner alone as a rule.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid, Unavailable


@dataclass(frozen=True, slots=True)
class SocketRights:
    """None and "" leave what there is; a user or group is a name or a number."""

    mode: int | None = None
    user: str = ""
    group: str = ""

    def give(self, socket: Path) -> None:
        """Set them; raises Invalid(`bad-config`) or Unavailable(`socket-rights`)."""
        names = [_who(each) for each in (self.user, self.group)]
        try:
            if any(each is not None for each in names):
                shutil.chown(socket, *names)  # type: ignore[arg-type]
            if self.mode is not None:
                socket.chmod(self.mode)
        except LookupError as error:
            raise Invalid("bad-config", f"the socket {socket}: {error.args[0]}") from None
        except OSError as error:
            raise Unavailable(
                "socket-rights",
                f"the socket {socket} cannot be given away: {error.strerror}",
                hint="only root gives a socket to another user, or to a group it is not in",
            ) from error


def _who(name: str) -> int | str | None:
    number = whole_number(name)
    return (name or None) if number is None else number


def socket_rights(fields: Mapping[str, Any], place: str) -> SocketRights:
    """As a listener has them; raises Invalid(`bad-config`)."""
    text = str(fields.get("socket_mode") or "")
    try:
        mode = int(text, 8) if text else None
    except ValueError:
        mode = -1
    if mode is not None and not 0 <= mode <= 0o777:
        raise Invalid("bad-config", f"{place}: socket_mode is octal, such as 0660")
    user, group = (str(fields.get(name) or "") for name in ("socket_user", "socket_group"))
    return SocketRights(mode, user, group)
