"""What a constant becomes where a type is wanted. Go's constants have no type of their own."""

from strongroom.template.durations import Duration
from strongroom.template.syntax import Constant, NumberTerm
from strongroom.template.values import ANY, Literal, Uint32, Value


def constant(node: Constant | NumberTerm, wanted: str) -> Value:
    """The value; raises ValueError where it does not fit."""
    if isinstance(node, NumberTerm):
        return _number(node, wanted)
    is_string = isinstance(node.value, bytes)
    if wanted not in (ANY, "value", "string" if is_string else "bool"):
        raise ValueError(_mismatch(wanted))
    return Literal(node.value) if isinstance(node.value, bytes) else node.value


def _number(node: NumberTerm, wanted: str) -> Value:
    number = node.number
    if wanted in (ANY, "value"):
        return _ideal(node)
    if wanted == "float64" and number.real is not None:
        return number.real
    if wanted == "int" and number.int64 is not None:
        return number.int64
    if wanted == "time.Duration" and number.int64 is not None:
        return Duration(number.int64)
    if wanted == "uint32" and number.uint64 is not None:
        return Uint32.wrap(number.uint64)
    raise ValueError(_mismatch(wanted))


def _ideal(node: NumberTerm) -> Value:
    number, text = node.number, node.number.text
    if number.imaginary is not None:
        return number.imaginary
    is_hex = text[:2].lower() == "0x" and len(text) > 2 and not set(text) & set("pP")
    looks_real = not is_hex and text[0] != "'" and set(text) & set(".eEpP")
    if number.real is not None and looks_real:
        return number.real
    if number.int64 is None:
        raise ValueError(f"{text} overflows int")
    return number.int64


def _mismatch(wanted: str) -> str:
    found = {
        "int": "integer",
        "time.Duration": "integer",
        "uint32": "unsigned integer",
        "float64": "float",
    }.get(wanted, wanted)
    return f"expected {found}; found another constant"
