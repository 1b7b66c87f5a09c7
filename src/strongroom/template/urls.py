"""URLs as Go's net/url takes them apart and puts them together. Source: https://pkg.go.dev/net/url."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_PORT: Final = re.compile(rb"(:[0-9]*)?")
_USERINFO: Final = re.compile(rb"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
)
# What each part leaves unescaped besides.
_PLAIN: Final = {
    "path": _UNRESERVED | frozenset(b"$&+,/:;=@"),
    "fragment": _UNRESERVED | frozenset(b"$&+,/:;=?@!()*"),
    "user": _UNRESERVED | frozenset(b"$&+,;="),
    "host": _UNRESERVED | frozenset(b"!$&'()*+,;=:[]<>\""),
}
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


@dataclass(slots=True)
class Url:
    """A URL's parts; `path` and `fragment` are unescaped, `query` is not."""

    scheme: bytes = b""
    opaque: bytes = b""
    user: bytes | None = None
    password: bytes | None = None
    host: bytes = b""
    path: bytes = b""
    query: bytes = b""
    fragment: bytes = b""

    @property
    def userinfo(self) -> bytes:
        """user:password, escaped."""
        if self.user is None or (not self.user and self.password is None):
            return b""
        text = escape(self.user, "user")
        return text if self.password is None else text + b":" + escape(self.password, "user")

    @property
    def hostname(self) -> bytes:
        """The host without port and brackets."""
        host, colon, port = self.host.rpartition(b":")
        if not colon or not _PORT.fullmatch(colon + port):
            host = self.host
        return host[1:-1] if host.startswith(b"[") and host.endswith(b"]") else host

    def text(self) -> bytes:
        """The URL as one."""
        out = self.scheme + b":" if self.scheme else b""
        if self.opaque:
            out += self.opaque
        else:
            out += self._authority()
            path = self.path if self.path == b"*" else escape(self.path, "path")
            if path and not path.startswith(b"/") and self.host:
                out += b"/"
            if not out and b":" in path.partition(b"/")[0]:
                out += b"./"
            out += path
        if self.query:
            out += b"?" + self.query
        return out + (b"#" + escape(self.fragment, "fragment") if self.fragment else b"")

    def _authority(self) -> bytes:
        if not (self.scheme or self.host or self.user is not None):
            return b""
        out = b"//" if self.host or self.path or self.user is not None else b""
        if self.user is not None:
            out += self.userinfo + b"@"
        return out + escape(self.host, "host")


def escape(text: bytes, part: str) -> bytes:
    """Percent-encoding for one part."""
    plain = _PLAIN[part]
    return b"".join(bytes([c]) if c in plain else b"%%%02X" % c for c in text)


def unescape(text: bytes, part: str) -> bytes:
    """The bytes behind percent-encoding; raises ValueError."""
    out, at = bytearray(), 0
    while at < len(text):
        byte = text[at]
        if byte != 0x25:
            if part == "host" and byte < 0x80 and byte not in _PLAIN["host"]:
                raise ValueError("invalid character in host name")
            out.append(byte)
            at += 1
            continue
        digits = text[at + 1 : at + 3]
        if len(digits) < 2 or not set(digits) <= _HEX:
            raise ValueError("invalid URL escape")
        code = int(digits, 16)
        if part == "host" and code < 0x80 and code != 0x25:
            raise ValueError("invalid URL escape in host name")
        out.append(code)
        at += 3
    return bytes(out)


def parse_url(text: bytes) -> Url:
    """url.Parse; raises ValueError."""
    rest, _, fragment = text.partition(b"#")
    if any(byte < 0x20 or byte == 0x7F for byte in rest):
        raise ValueError("invalid control character in URL")
    url = Url(fragment=unescape(fragment, "fragment"))
    if rest == b"*":
        url.path = b"*"
        return url
    if rest.startswith(b":"):
        raise ValueError("missing protocol scheme")
    scheme = _SCHEME.fullmatch(rest)
    if scheme:
        url.scheme, rest = scheme[1].lower(), scheme[2]
    rest, _, url.query = rest.partition(b"?")
    if not rest.startswith(b"/"):
        if url.scheme:
            url.opaque = rest
            return url
        if b":" in rest.partition(b"/")[0]:
            raise ValueError("first path segment in URL cannot contain colon")
    if rest.startswith(b"//") and (url.scheme or not rest.startswith(b"///")):
        authority, slash, rest = rest[2:].partition(b"/")
        rest = slash + rest
        _set_authority(url, authority)
    url.path = unescape(rest, "path")
    return url


def _set_authority(url: Url, authority: bytes) -> None:
    userinfo, at, host = authority.rpartition(b"@")
    url.host = _host(host)
    if not at:
        return
    if not _USERINFO.fullmatch(userinfo):
        raise ValueError("invalid userinfo")
    user, colon, password = userinfo.partition(b":")
    url.user = unescape(user, "user")
    url.password = unescape(password, "user") if colon else None


def _host(host: bytes) -> bytes:
    if b"[" in host[1:] and not host.startswith(b"["):
        raise ValueError("invalid IP-literal")
    if host.startswith(b"["):
        inside, bracket, port = host[1:].rpartition(b"]")
        if not bracket or not _PORT.fullmatch(port):
            raise ValueError("invalid host")
        address, percent, zone = inside.partition(b"%25")
        try:
            ipaddress.IPv6Address(address.decode("latin-1"))
        except ValueError:
            raise ValueError("invalid host") from None
        shown = address + (b"%" + unescape(zone, "zone") if percent else b"")
        return b"[" + shown + b"]" + port
    before, colon, port = host.rpartition(b":")
    if colon and (not _PORT.fullmatch(colon + port) or b":" in before):
        raise ValueError("invalid port after host")
    return unescape(host, "host")
