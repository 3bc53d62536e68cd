"""Pickles, carried out by a machine of our own that makes plain values only.

A pickle is a program of about sixty instructions for a machine with a stack and a memo. Python's
machine imports and calls whatever the program names. This one makes numbers, texts, lists,
dictionaries and descriptions of tensors; an object of any other class stays a `Foreign` with its
class's name, and nothing is ever imported or called. The number of instructions and the length of
whole numbers are bounded, and what could take more memory than the file has is refused.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, final

from sslens.zoo.values import Foreign, Named, Senseless, is_key

#: the most instructions of a pickle, of about a microsecond each; a training file of a thousand
#: tensors has 60,000
MOST = 4_000_000
#: bytes of the longest whole number; Python writes it in 2,466 digits, under its own limit of 4,300
WHOLE = 1024
#: what calls may make of values that are there already: so many times the pickle's bytes, and so
#: many more
COPIED, SPREAD = 8, 1 << 26
#: from how many bytes on texts of bytes are given as parts of the pickle, without a copy
LARGE = 4096


#: makes a plain value from the arguments of a call
Maker = Callable[..., Any]


@final
class Machine:
    """Carries out one pickle.

    Args:
        text: the bytes in which the pickle lies.
        makers: makes plain values in place of functions and classes, by their names.
        refer: makes a value of a reference out of the pickle (a tensor's storage).

    Attributes:
        at: the byte after the last instruction.
        called: the names of all functions and classes whose calls made a `Foreign`, in their order.
    """

    def __init__(
        self,
        text: bytes | bytearray,
        makers: Mapping[str, Maker],
        refer: Callable[[Any], Any] | None = None,
    ) -> None:
        self._text, self._view = text, memoryview(text)
        self._makers, self._refer = makers, refer
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._left = MOST
        self._room = COPIED * len(text) + SPREAD
        self.at = 0
        self.called: dict[str, None] = {}

    def run(self) -> Any:
        """Carry out the pickle that begins at byte `at`, and return its value.

        Raises:
            Senseless: the reason.
        """
        self._stack, self._marks, self._memo = [], [], {}
        try:
            return self._run()
        except Senseless:
            raise
        except IndexError as error:
            # an argument that is missing, or the end of the text
            raise Senseless(str(error)) from error
        except (ValueError, KeyError, TypeError, OverflowError, struct.error) as error:
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            raise Senseless(f"{type(error).__name__}: {reason}") from error

    def _run(self) -> Any:
        text, steps = self._text, _STEPS
        while True:
            code = text[self.at]
            self.at += 1
            if code == _STOP:
                return self._stack.pop()
            step = steps[code]
            if step is None:
                raise Senseless(f"it has no instruction {code:#04x}")
            self._left -= 1
            if self._left < 0:
                raise Senseless(f"it has more than {MOST:,} instructions")
            step(self)

    # -------------------------------------------------------------------------- reading arguments

    def _take(self, count: int) -> memoryview:
        """The next bytes."""
        end = self.at + count
        if count < 0 or end > len(self._text):
            raise Senseless("it ends in the middle")
        part = self._view[self.at : end]
        self.at = end
        return part

    def _number(self, form: str) -> int:
        """The next whole number, of a form of `struct`."""
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _line(self) -> str:
        """The text until the end of the line."""
        end = self._text.index(b"\n", self.at)
        line = bytes(self._take(end - self.at))
        self.at += 1
        return line.decode("latin1")

    def _chunk(self, form: str) -> bytes | memoryview:
        """Bytes after their length; many are a part of the pickle."""
        part = self._take(self._number(form))
        return part if len(part) >= LARGE else bytes(part)

    def _words(self, form: str) -> str:
        """A text after its length."""
        return str(self._take(self._number(form)), "utf-8", "surrogatepass")

    # -------------------------------------------------------------------------- whole numbers

    def _push_digits(self) -> None:
        line = self._line().rstrip("L")
        if len(line) > 2 * WHOLE:
            raise Senseless("a whole number has more digits than any needs")
        self._stack.append(line == "01" if line in ("00", "01") else int(line))

    def _push_long(self, form: str) -> None:
        count = self._number(form)
        if count > WHOLE:
            raise Senseless("a whole number has more digits than any needs")
        self._stack.append(int.from_bytes(self._take(count), "little", signed=True))

    # -------------------------------------------------------------------------- the stack

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._marks.pop()
        return values

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise Senseless("pop from empty list")
        self._stack[len(self._stack) - count :] = [tuple(self._stack[len(self._stack) - count :])]

    def _append(self, values: list[Any]) -> None:
        """Add to the list under them."""
        into = self._stack[-1]
        if type(into) is list:
            into.extend(values)
        elif not isinstance(into, Foreign):
            raise Senseless("it adds to what is no list")

    def _put_items(self, items: list[Any]) -> None:
        """Set keys of the dictionary under them."""
        into = self._stack[-1]
        if len(items) % 2:
            raise Senseless("it has a key without a value")
        if type(into) is dict:
            into |= _make_dict(items)
        elif isinstance(into, Foreign):
            into.items |= _make_dict(items)
        else:
            raise Senseless("it sets a key of what is no dictionary")

    # -------------------------------------------------------------------------- objects

    def _name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Senseless("it names something with what is no text")
        self._stack.append(Named(f"{module}.{name}"))

    def _call(self, function: Any, given: Any) -> None:
        """Push what a call makes."""
        if type(given) is not tuple or not isinstance(function, Named | Foreign):
            raise Senseless("it calls what is no function")
        if isinstance(function, Foreign):  # what such a call would have given
            self._stack.append(Foreign(function.name))
            return
        if function.name in _REBUILDERS and given and isinstance(given[0], Named):
            function, given = given[0], given[2] if len(given) > 2 else ()
            if type(given) is not tuple:
                given = ()
        maker = self._makers.get(function.name)
        if maker is None:
            self.called.setdefault(function.name)
            self._stack.append(Foreign(function.name))
        else:
            made = maker(*given)
            self._room -= _measure(made)
            if self._room < 0:
                raise Senseless("its calls copy values until the memory is full")
            self._stack.append(made)

    def _build(self, state: Any) -> None:
        """Give the object under it its attributes."""
        target = self._stack[-1]
        if isinstance(target, Foreign):
            target.state = state
        elif hasattr(target, "build"):  # one of ours
            target.build(state)


#: functions whose first argument is the one that makes the object, with its arguments as the third
_REBUILDERS = (
    "torch._tensor._rebuild_from_type_v2",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
)


def _measure(made: Any) -> int:
    """The bytes that a value takes which a call made, without its parts."""
    if isinstance(made, str | bytes):
        return len(made)
    if isinstance(made, list | tuple):
        return 8 * len(made)
    return 64 * len(made) if isinstance(made, dict) else 0


def _make_dict(items: list[Any]) -> dict[Any, Any]:
    """A dictionary from keys and values in turn."""
    keys = items[::2]
    for key in keys:
        if type(key) is not str and not is_key(key):
            raise Senseless("a key of a dictionary is no plain value")
    return dict(zip(keys, items[1::2], strict=True))


def _push(value: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    """An instruction that pushes a value."""

    def step(machine: Machine) -> None:
        made = value(machine)  # before the stack is looked up: a mark is undone by another stack
        machine._stack.append(made)

    return step


def _read_quoted(machine: Machine) -> str:
    """A text of protocol 0, in quotes, with the escapes of a bytes literal."""
    line = machine._line()
    if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
        raise Senseless("a text is without quotes")
    return line[1:-1].encode("latin1").decode("unicode_escape")


def _add_items(machine: Machine) -> None:
    values = machine._since_mark()
    machine._append(values)


def _obj(machine: Machine) -> None:
    function, *given = machine._since_mark()
    machine._call(function, tuple(given))


def _inst(machine: Machine) -> None:
    given = tuple(machine._since_mark())
    machine._name(machine._line(), machine._line())
    machine._call(machine._stack.pop(), given)


def _call(machine: Machine) -> None:
    given = machine._stack.pop()
    machine._call(machine._stack.pop(), given)


def _call_with_names(machine: Machine) -> None:
    """Keyword arguments are of no class of ours."""
    machine._stack.pop()
    _call(machine)


def _set_item(machine: Machine) -> None:
    value = machine._stack.pop()
    machine._put_items([machine._stack.pop(), value])


def _name_from_stack(machine: Machine) -> None:
    name = machine._stack.pop()
    machine._name(machine._stack.pop(), name)


def _refer(machine: Machine, given: Any) -> None:
    if machine._refer is None:
        what = given[:40] if type(given) is str else "a value"
        raise Senseless(f"it refers to {what}, which is not in it")
    machine._stack.append(machine._refer(given))


def _as_text(value: bytes | memoryview) -> str | memoryview:
    """A text of Python 2, whose texts were bytes; many bytes are left as such."""
    return value if isinstance(value, memoryview) else value.decode("latin1")


#: the instructions by their codes
_CODES: dict[bytes, Callable[[Machine], Any]] = {
    # what a protocol says of itself
    b"\x80": lambda m: m._take(1),
    b"\x95": lambda m: m._take(8),
    b"\x98": lambda m: None,
    # plain values
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"I": Machine._push_digits,
    b"L": Machine._push_digits,
    b"J": _push(lambda m: m._number("<i")),
    b"K": _push(lambda m: m._number("<B")),
    b"M": _push(lambda m: m._number("<H")),
    b"\x8a": lambda m: m._push_long("<B"),
    b"\x8b": lambda m: m._push_long("<i"),
    b"F": _push(lambda m: float(m._line())),
    b"G": _push(lambda m: struct.unpack(">d", m._take(8))[0]),
    b"S": _push(_read_quoted),
    b"T": _push(lambda m: _as_text(m._chunk("<i"))),
    b"U": _push(lambda m: _as_text(m._chunk("<B"))),
    b"B": _push(lambda m: m._chunk("<I")),
    b"C": _push(lambda m: m._chunk("<B")),
    b"\x8e": _push(lambda m: m._chunk("<Q")),
    b"\x96": _push(lambda m: m._chunk("<Q")),
    b"V": _push(lambda m: m._line().encode("latin1").decode("raw_unicode_escape")),
    b"X": _push(lambda m: m._words("<I")),
    b"\x8c": _push(lambda m: m._words("<B")),
    b"\x8d": _push(lambda m: m._words("<Q")),
    # collections; a set is a list here
    b"]": _push(lambda m: []),
    b"l": _push(Machine._since_mark),
    b"a": lambda m: m._append([m._stack.pop()]),
    b"e": _add_items,
    b"\x8f": _push(lambda m: []),
    b"\x90": _add_items,
    b"\x91": _push(Machine._since_mark),
    b")": _push(lambda m: ()),
    b"t": _push(lambda m: tuple(m._since_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"}": _push(lambda m: {}),
    b"d": _push(lambda m: _make_dict(m._since_mark())),
    b"s": _set_item,
    b"u": lambda m: m._put_items(m._since_mark()),
    # the stack and the memo
    b"(": Machine._mark,
    b"0": lambda m: m._stack.pop() if m._stack else m._since_mark(),
    b"1": Machine._since_mark,
    b"2": _push(lambda m: m._stack[-1]),
    b"g": _push(lambda m: m._memo[int(m._line())]),
    b"h": _push(lambda m: m._memo[m._number("<B")]),
    b"j": _push(lambda m: m._memo[m._number("<I")]),
    b"p": lambda m: m._memo.__setitem__(int(m._line()), m._stack[-1]),
    b"q": lambda m: m._memo.__setitem__(m._number("<B"), m._stack[-1]),
    b"r": lambda m: m._memo.__setitem__(m._number("<I"), m._stack[-1]),
    b"\x94": lambda m: m._memo.__setitem__(len(m._memo), m._stack[-1]),
    # objects
    b"c": lambda m: m._name(m._line(), m._line()),
    b"\x93": _name_from_stack,
    b"i": _inst,
    b"o": _obj,
    b"R": _call,
    b"\x81": _call,
    b"\x92": _call_with_names,
    b"b": lambda m: m._build(m._stack.pop()),
    b"P": lambda m: _refer(m, m._line()),
    b"Q": lambda m: _refer(m, m._stack.pop()),
}
_STOP = ord(".")
_STEPS = [_CODES.get(bytes([code])) for code in range(256)]
