"""URLs and paths. Source: https://masterminds.github.io/sprig/url.html and paths.html."""

from typing import Final

from strongroom.template.errors import CallFailed
from strongroom.template.registry import Table
from strongroom.template.urls import Url, parse_url
from strongroom.template.values import Map, Value, any_map, kind_name

URLS: Final = Table("URLs and paths")


@URLS("urlParse", "string")
def _url_parse(text: bytes) -> Value:
    """A map with scheme, host, hostname, path, query, opaque, fragment, userinfo."""
    try:
        url = parse_url(text)
    except ValueError as error:
        raise CallFailed(f"unable to parse url: {error}") from None
    return any_map(
        {
            b"scheme": url.scheme,
            b"host": url.host,
            b"hostname": url.hostname,
            b"path": url.path,
            b"query": url.query,
            b"opaque": url.opaque,
            b"fragment": url.fragment,
            b"userinfo": url.userinfo,
        }
    )


def _part(value: Map, key: bytes) -> bytes:
    found = value.items.get(key, b"")
    if not isinstance(found, bytes):
        raise CallFailed(f"{key.decode()} must be a string, not a {kind_name(found)}")
    return found


@URLS("urlJoin", "map")
def _url_join(value: Map) -> bytes:
    """A URL of the parts that urlParse gives."""
    url = Url(
        scheme=_part(value, b"scheme"),
        opaque=_part(value, b"opaque"),
        host=_part(value, b"host"),
        path=_part(value, b"path"),
        query=_part(value, b"query"),
        fragment=_part(value, b"fragment"),
    )
    userinfo = _part(value, b"userinfo")
    if userinfo:
        try:
            parsed = parse_url(b"proto://" + userinfo + b"@host")
        except ValueError:
            raise CallFailed("unable to parse userinfo in dict") from None
        url.user, url.password = parsed.user, parsed.password
    return url.text()


@URLS("clean osClean", "string")
def _clean(path: bytes) -> bytes:
    """The shortest path that means the same."""
    rooted = path.startswith(b"/")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b".." and parts and parts[-1] != b"..":
            parts.pop()
        elif part == b".." and rooted:
            continue
        elif part not in (b"", b"."):
            parts.append(part)
    return (b"/" if rooted else b"") + b"/".join(parts) or b"."


@URLS("base osBase", "string")
def _base(path: bytes) -> bytes:
    """The last element of a path."""
    if not path:
        return b"."
    return path.rstrip(b"/").rpartition(b"/")[2] or b"/"


@URLS("dir osDir", "string")
def _dir(path: bytes) -> bytes:
    """All but the last element of a path."""
    before, slash, _ = path.rpartition(b"/")
    return _clean(before + slash)


@URLS("ext osExt", "string")
def _ext(path: bytes) -> bytes:
    """The file name's extension."""
    _, dot, extension = path.rpartition(b"/")[2].rpartition(b".")
    return dot + extension if dot else b""


@URLS("isAbs osIsAbs", "string")
def _is_abs(path: bytes) -> bool:
    """Whether a path is absolute."""
    return path.startswith(b"/")
