"""Strings: cut, pad, search, replace, wrap. Source: https://masterminds.github.io/sprig/strings.html."""

from typing import Final

from strongroom.template.casting import to_text, to_texts
from strongroom.template.errors import CallFailed
from strongroom.template.printf import sprintf
from strongroom.template.quoting import quote
from strongroom.template.registry import BY_BYTES, BY_CHARACTERS, Run, Table
from strongroom.template.unicode_case import is_space
from strongroom.template.values import Map, Value, string_list

STRINGS: Final = Table("Strings")


@STRINGS("trim", "string")
def _trim(value: bytes) -> bytes:
    """Without white space at both ends."""
    text = value.decode("utf-8", "surrogateescape")
    start, end = 0, len(text)
    while start < end and is_space(text[start]):
        start += 1
    while end > start and is_space(text[end - 1]):
        end -= 1
    return text[start:end].encode("utf-8", "surrogateescape")


@STRINGS("trimAll trimall", "string, string")
def _trim_all(cutset: bytes, value: bytes) -> bytes:
    """Without any of the given characters at both ends."""
    text = value.decode("utf-8", "surrogateescape")
    return text.strip(cutset.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


@STRINGS("trimSuffix", "string, string")
def _trim_suffix(suffix: bytes, value: bytes) -> bytes:
    """Without the suffix."""
    return value.removesuffix(suffix)


@STRINGS("trimPrefix", "string, string")
def _trim_prefix(prefix: bytes, value: bytes) -> bytes:
    """Without the prefix."""
    return value.removeprefix(prefix)


@STRINGS("contains", "string, string")
def _contains(part: bytes, value: bytes) -> bool:
    """Whether the value holds the part."""
    return part in value


@STRINGS("hasPrefix", "string, string")
def _has_prefix(prefix: bytes, value: bytes) -> bool:
    """Whether the value begins with it."""
    return value.startswith(prefix)


@STRINGS("hasSuffix", "string, string")
def _has_suffix(suffix: bytes, value: bytes) -> bool:
    """Whether the value ends with it."""
    return value.endswith(suffix)


@STRINGS("replace", "string, string, string")
def _replace(run: Run, old: bytes, new: bytes, value: bytes) -> bytes:
    """Every occurrence replaced."""
    return replaced(run, value, old, new)


def replaced(run: Run, value: bytes, old: bytes, new: bytes) -> bytes:
    """strings.Replace: an empty `old` stands before each rune and at the end."""
    if old:
        run.budget.produce(value.count(old) * len(new))
        return value.replace(old, new)
    runes = value.decode("utf-8", "surrogateescape")
    run.budget.produce((len(runes) + 1) * len(new))
    pieces = [char.encode("utf-8", "surrogateescape") for char in runes]
    return new + b"".join(piece + new for piece in pieces)


@STRINGS("repeat", "int, string")
def _repeat(run: Run, count: int, value: bytes) -> bytes:
    """The value so many times."""
    if count < 0:
        raise CallFailed("negative Repeat count")
    run.budget.produce(count * len(value))
    return value * count


@STRINGS("substr", "int, int, string")
def _substr(start: int, end: int, value: bytes) -> bytes:
    """From byte `start` up to byte `end`; negative means to the edge."""
    if start < 0:
        start = 0
        if not 0 <= end <= len(value):
            raise CallFailed("slice bounds out of range")
    elif end < 0 or end > len(value):
        end = len(value)
    if start > end:
        raise CallFailed("slice bounds out of range")
    return value[start:end]


@STRINGS("trunc", "int, string")
def _trunc(size: int, value: bytes) -> bytes:
    """The first bytes, or the last ones for a negative size."""
    if size < 0:
        return value[size:] if len(value) + size > 0 else value
    return value[:size]


@STRINGS("indent", "int, string")
def _indent(run: Run, spaces: int, value: bytes) -> bytes:
    """Every line indented."""
    if spaces < 0:
        raise CallFailed("negative Repeat count")
    run.budget.produce(spaces * (value.count(b"\n") + 1))
    pad = b" " * spaces
    return pad + value.replace(b"\n", b"\n" + pad)


@STRINGS("nindent", "int, string")
def _nindent(run: Run, spaces: int, value: bytes) -> bytes:
    """A newline, then every line indented."""
    return b"\n" + _indent(run, spaces, value)


@STRINGS("quote", "any...", bytes_in_a_step=BY_BYTES)
def _quote(run: Run, *values: Value) -> bytes:
    """Each value between double quotes, escaped as in Go; nil is left out."""
    return b" ".join(quote(to_text(each, run.budget)) for each in values if each is not None)


@STRINGS("squote", "any...", bytes_in_a_step=BY_BYTES)
def _squote(run: Run, *values: Value) -> bytes:
    """Each value between single quotes; nil is left out."""
    return b" ".join(sprintf(b"'%v'", [each], run.budget) for each in values if each is not None)


@STRINGS("cat", "any...")
def _cat(run: Run, *values: Value) -> bytes:
    """The values with a space between; nil is left out."""
    kept = [each for each in values if each is not None]
    return sprintf(b" ".join([b"%v"] * len(kept)), kept, run.budget)


@STRINGS("toString", "any")
def _to_string(run: Run, value: Value) -> bytes:
    """The value as it prints."""
    return to_text(value, run.budget)


@STRINGS("toStrings", "any")
def _to_strings(run: Run, value: Value) -> Value:
    """A list's elements as strings."""
    return string_list(to_texts(value, run.budget))


@STRINGS("join", "string, any")
def _join(run: Run, separator: bytes, value: Value) -> bytes:
    """A list's elements as strings with a separator between."""
    parts = to_texts(value, run.budget)
    run.budget.produce(len(separator) * len(parts) + sum(len(part) for part in parts))
    return separator.join(parts)


def _cut(separator: bytes, value: bytes, limit: int = -1) -> list[bytes]:
    """strings.SplitN; an empty separator cuts between runes."""
    if limit == 0:
        return []
    if separator:
        return value.split(separator, limit - 1 if limit > 0 else -1)
    text = value.decode("utf-8", "surrogateescape")
    size = len(text) if limit < 0 else min(limit, len(text))
    pieces = list(text[: max(size - 1, 0)]) + ([text[size - 1 :]] if text else [])
    return [piece.encode("utf-8", "surrogateescape") for piece in pieces]


@STRINGS("split", "string, string", bytes_in_a_step=BY_BYTES)
def _split(separator: bytes, value: bytes) -> Value:
    """Parts in a map with the keys _0, _1, ..."""
    parts = _cut(separator, value)
    return Map("string", {b"_%d" % at: part for at, part in enumerate(parts)})


@STRINGS("splitn", "string, int, string", bytes_in_a_step=BY_BYTES)
def _splitn(separator: bytes, limit: int, value: bytes) -> Value:
    """At most so many parts in a map with the keys _0, _1, ..."""
    parts = _cut(separator, value, limit)
    return Map("string", {b"_%d" % at: part for at, part in enumerate(parts)})


@STRINGS("splitList", "string, string", bytes_in_a_step=BY_BYTES)
def _split_list(separator: bytes, value: bytes) -> Value:
    """Parts as a list."""
    return string_list(_cut(separator, value))


@STRINGS("plural", "string, string, int")
def _plural(one: bytes, many: bytes, count: int) -> bytes:
    """The first for one, else the second."""
    return one if count == 1 else many


def _abbreviated(value: bytes, offset: int, width: int) -> bytes:
    if len(value) <= width:
        return value
    offset = min(offset, len(value))
    if len(value) - offset < width - 3:
        offset = len(value) - (width - 3)
    if offset <= 4:
        return value[: width - 3] + b"..."
    if offset + width - 3 < len(value):
        rest = value[offset:]
        shorter = _abbreviated(rest, 0, width - 3) if width >= 7 and rest else b""
        return b"..." + shorter
    return b"..." + value[len(value) - (width - 3) :]


@STRINGS("abbrev", "int, string")
def _abbrev(width: int, value: bytes) -> bytes:
    """Cut to a width, with an ellipsis."""
    return value if width < 4 else _abbreviated(value, 0, width)


@STRINGS("abbrevboth", "int, int, string")
def _abbrev_both(left: int, right: int, value: bytes) -> bytes:
    """Cut on both sides, with ellipses."""
    if right < 4 or (left > 0 and right < 7):
        return value
    return _abbreviated(value, left, right)


@STRINGS("initials", "string", bytes_in_a_step=BY_CHARACTERS)
def _initials(value: bytes) -> bytes:
    """The first letter of each word."""
    out, gap = [], True
    for char in value.decode("latin-1"):
        if not is_space(char) and gap:
            out.append(char)
        gap = is_space(char)
    return "".join(out).encode()


@STRINGS("nospace", "string", bytes_in_a_step=BY_BYTES)
def _nospace(value: bytes) -> bytes:
    """Without any white space."""
    text = value.decode("latin-1")
    kept = "".join(char for char in text if not is_space(char))
    return value if len(kept) == len(text) else kept.encode()


def _wrapped(run: Run, value: bytes, width: int, newline: bytes, *, breaks_words: bool) -> bytes:
    out, at, width = [], 0, max(width, 1)
    while len(value) - at > width:
        run.budget.step()
        if value[at] == 0x20:
            at += 1
            continue
        space = value.rfind(b" ", at, at + width + 1)
        if space < 0 and breaks_words:
            out += [value[at : at + width], newline]
            at += width
            continue
        if space < 0:
            space = value.find(b" ", at + width)
            if space < 0:
                break
        out += [value[at:space], newline]
        at = space + 1
    run.budget.produce(sum(len(piece) for piece in out))
    return b"".join(out) + value[at:]


@STRINGS("wrap", "int, string", bytes_in_a_step=BY_BYTES)
def _wrap(run: Run, width: int, value: bytes) -> bytes:
    """Lines of at most a width, broken at spaces."""
    return _wrapped(run, value, width, b"\n", breaks_words=False)


@STRINGS("wrapWith", "int, string, string", bytes_in_a_step=BY_BYTES)
def _wrap_with(run: Run, width: int, newline: bytes, value: bytes) -> bytes:
    """Lines of at most a width with a separator of one's own; long words are broken."""
    return _wrapped(run, value, width, newline or b"\n", breaks_words=True)


@STRINGS("hello")
def _hello() -> bytes:
    """Hello!"""
    return b"Hello!"
