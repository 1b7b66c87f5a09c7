"""Sprintf: the format string, its flags, widths, indexes, and Go's way of telling mistakes.

Source: https://pkg.go.dev/fmt (Printing, Format errors).
"""

from collections.abc import Sequence
from typing import Final

from strongroom.template.budget import Budget
from strongroom.template.formatting import Flags, Printer
from strongroom.template.values import Value, is_integer, type_name

_FLAGS: Final = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}
LARGEST: Final = 1_000_000  # width or precision, as in Go


def sprintf(template: bytes, values: Sequence[Value], budget: Budget) -> bytes:
    """Format values; mistakes come out as text such as %!d(string=hi), never as an error."""
    return _Format(template, values, budget).run()


class _Format:
    def __init__(self, template: bytes, values: Sequence[Value], budget: Budget) -> None:
        self.text = template.decode("utf-8", "surrogateescape")
        self.values = values
        self.printer = Printer(budget)
        self.at = 0
        self.argument = 0
        self.reordered = False
        self.good = True
        self.after_index = False

    def run(self) -> bytes:
        while self.at < len(self.text):
            percent = self.text.find("%", self.at)
            literal = self.text[self.at : percent if percent >= 0 else len(self.text)]
            self._write(literal)
            if percent < 0:
                break
            self.at = percent + 1
            self.good, self.after_index = True, False
            if not self._directive():
                break
        self._extra()
        return self.printer.result()

    def _write(self, text: str) -> None:
        self.printer.write(text.encode("utf-8", "surrogateescape"))

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _directive(self) -> bool:
        flags = self.printer.flags = Flags()
        while self._peek() in _FLAGS and self._peek():
            setattr(flags, _FLAGS[self._peek()], True)
            self.at += 1
        self._index()
        self._width(flags)
        self._precision(flags)
        if not self.after_index:
            self._index()
        verb = self._peek()
        if not verb:
            self._write("%!(NOVERB)")
            return False
        self.at += 1
        self._operand(verb, flags)
        return True

    def _operand(self, verb: str, flags: Flags) -> None:
        if verb == "%":
            self._write("%")
        elif not self.good:
            self._write(f"%!{verb}(BADINDEX)")
        elif self.argument >= len(self.values):
            self._write(f"%!{verb}(MISSING)")
        else:
            value = self.values[self.argument]
            self.argument += 1
            if verb == "v":
                flags.sharp_v, flags.sharp = flags.sharp, False
                flags.plus_v, flags.plus = flags.plus, False
            if verb == "p":
                # Addresses are nobody's business; a template can only be wrong to want one.
                self.printer.bad_verb(value, verb)
            else:
                self.printer.value(value, verb)

    def _index(self) -> None:
        """An argument index such as [2]."""
        self.after_index = False
        if self._peek() != "[":
            return
        self.reordered = True
        closing = self.text.find("]", self.at + 1)
        if len(self.text) - self.at < 3 or closing < 0:
            self.at += 1
            self.good = False
            return
        number = self.text[self.at + 1 : closing]
        self.at = closing + 1
        known = number.isascii() and number.isdigit() and int(number) <= LARGEST
        self.after_index = known
        if known and 1 <= int(number) <= len(self.values):
            self.argument = int(number) - 1
        else:
            self.good = False

    def _number(self) -> int | None:
        start = self.at
        while "0" <= self._peek() <= "9":
            self.at += 1
        if start == self.at:
            return None
        number = int(self.text[start : self.at][:8])
        return number if number <= LARGEST else None

    def _star(self) -> int | None:
        """A width or precision taken from the arguments."""
        self.at += 1
        self.after_index = False
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument]
        self.argument += 1
        return int(value) if is_integer(value) and abs(value) <= LARGEST else None

    def _width(self, flags: Flags) -> None:
        if self._peek() == "*":
            flags.width = self._star()
            if flags.width is None:
                self._write("%!(BADWIDTH)")
            elif flags.width < 0:
                flags.width, flags.minus, flags.zero = -flags.width, True, False
            return
        flags.width = self._number()
        if self.after_index and flags.width is not None:
            self.good = False

    def _precision(self, flags: Flags) -> None:
        if self._peek() != "." or self.at + 1 >= len(self.text):
            return
        self.at += 1
        if self.after_index:
            self.good = False
        self._index()
        if self._peek() == "*":
            given = self._star()
            flags.precision = given if given is not None and given >= 0 else None
            if flags.precision is None:
                self._write("%!(BADPREC)")
            return
        flags.precision = self._number() or 0

    def _extra(self) -> None:
        if self.reordered or self.argument >= len(self.values):
            return
        self.printer.flags = Flags()
        self._write("%!(EXTRA ")
        for place, value in enumerate(self.values[self.argument :]):
            if place:
                self._write(", ")
            if value is None:
                self._write("<nil>")
            else:
                self._write(f"{type_name(value)}=")
                self.printer.value(value, "v")
        self._write(")")
