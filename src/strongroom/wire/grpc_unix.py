"""Unary gRPC on unix sockets with messages as bytes: a server for plugins and a client for them."""

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable

MAX_MESSAGE_BYTES: Final = 1024 * 1024
STOP_SECONDS: Final = 2.0
MAX_CALLS: Final = 256
Method = Callable[[bytes], Awaitable[bytes]]
# Who listens and says nothing: a process that hangs. Whoever must know what it does has no answer.
SILENT: Final = "grpc-silent"
_CODES: Final = (
    (Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (Denied, grpc.StatusCode.PERMISSION_DENIED),
    (NotFound, grpc.StatusCode.NOT_FOUND),
)


class UnixServer:
    """Serves one service on a socket that its owner alone may use (0600)."""

    def __init__(
        self, service: str, methods: Mapping[str, Method], max_calls: int = MAX_CALLS
    ) -> None:
        self._service = service
        self._methods = methods
        self._max_calls = max_calls
        self._server: Any = None
        self._path: Path | None = None
        self._lock = -1

    async def start(self, path: Path) -> None:
        """Listen; a socket that was left behind is replaced, a live one never. Raises Unavailable.

        The folder must be ours alone to write, or anybody could put another socket in its place.
        """
        _check_folder(path.parent)
        self._lock = _lock(path)
        _remove_dead_socket(path)
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        # Beyond this many at once gRPC itself answers RESOURCE_EXHAUSTED.
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=self._max_calls)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_handler(method))
            for name, method in self._methods.items()
        }
        generic = grpc.method_handlers_generic_handler(self._service, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{path}")
            await self._server.start()
        except RuntimeError as error:
            raise Unavailable("socket-path", f"cannot listen on {path}") from error
        finally:
            os.umask(before)
        self._path = path

    async def stop(self) -> None:
        """Finish calls under way, then close and remove the socket."""
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _check_folder(folder: Path) -> None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        raise Unavailable(
            "socket-folder", f"there is no folder {folder}", hint=f"install -d -m 0750 {folder}"
        ) from None
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    if found.st_uid != os.geteuid() or shared:
        raise Unavailable(
            "socket-folder",
            f"{folder} belongs to another user, or others may write to it",
            hint=f"chown it to the plugin's user and chmod 0750 {folder}",
        )


def _lock(path: Path) -> int:
    name = path.with_name(path.name + ".lock")
    try:
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable("socket-path", f"cannot write {name}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise _in_use(path) from None
    return handle


def _remove_dead_socket(path: Path) -> None:
    """gRPC would take over a live socket without a word."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable("socket-path", f"cannot use {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise Unavailable("socket-path", f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise _in_use(path)


def _in_use(path: Path) -> Unavailable:
    return Unavailable(
        "socket-in-use", f"another process serves {path}", hint="stop it, or choose another path"
    )


def _handler(method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def handle(request: bytes, context: Any) -> bytes:  # noqa: ANN401 - grpc has no types
        try:
            return await method(request)
        except Refusal as refusal:
            code = next(
                (code for kind, code in _CODES if isinstance(refusal, kind)),
                grpc.StatusCode.UNAVAILABLE,
            )
            await context.abort(code, f"{refusal.message} [{refusal.code}]")
            raise

    return handle


async def call_unix(path: Path, method: str, message: bytes, *, seconds: float = 3.0) -> bytes:
    """One unary call, `method` as `/package.Service/Name`; raises Unavailable with its status.

    Its code is `SILENT` for no answer in time, and `grpc-failed` for any other.
    """
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        try:
            reply: bytes = await channel.unary_unary(method)(message, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Unavailable(
                    SILENT, f"{method} on {path}: no answer in {seconds:g} s",
                    hint="the plugin hangs, or the machine is too busy; a restart ends the first",
                ) from None  # fmt: skip
            raise Unavailable(
                "grpc-failed",
                f"{method} on {path}: {error.code().name.lower()}: {error.details()}",
                hint="is the plugin running?",
            ) from None
    return reply
