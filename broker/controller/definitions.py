"""What a config is: name, default, type, meaning, and which values can be meant (pure).

Values travel as text, as they do in Kafka.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1


class ConfigType(IntEnum):
    """How DescribeConfigs v3+ names a value's type (KIP-569)."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Definition:
    """One config of a topic or a group."""

    name: str
    default: str
    type: ConfigType
    valid: str
    """The valid form, in words that finish the sentence "must be …"."""
    check: Check
    documentation: str
    synonym: str
    """The broker-wide config whose default this one inherits, as Kafka names it."""


def whole(name: str, default: int, low: int, high: int, about: str, synonym: str) -> Definition:
    def check(value: str) -> bool:
        number = _parse_int(value)
        return number is not None and low <= number <= high

    type_ = ConfigType.INT if high <= INT_MAX else ConfigType.LONG
    valid = f"a whole number from {low} to {high}"
    return Definition(name, str(default), type_, valid, check, about, synonym)


def ratio(name: str, default: str, about: str, synonym: str) -> Definition:
    def check(value: str) -> bool:
        try:
            return 0 <= float(value) <= 1
        except ValueError:
            return False

    return Definition(
        name, default, ConfigType.DOUBLE, "a number from 0 to 1", check, about, synonym
    )


def flag(name: str, default: str, about: str, synonym: str) -> Definition:
    def check(value: str) -> bool:
        return value.strip().lower() in {"true", "false"}

    return Definition(name, default, ConfigType.BOOLEAN, "true or false", check, about, synonym)


def one_of(name: str, default: str, words: tuple[str, ...], about: str, synonym: str) -> Definition:
    valid = f"one of {', '.join(words)}"
    return Definition(
        name, default, ConfigType.STRING, valid, lambda value: value in words, about, synonym
    )


def list_of(
    name: str, default: str, words: tuple[str, ...], about: str, synonym: str
) -> Definition:
    def check(value: str) -> bool:
        return all(word in words for word in words_of(value))

    valid = f"a comma-separated list of {', '.join(words)}"
    return Definition(name, default, ConfigType.LIST, valid, check, about, synonym)


def free_list(name: str, about: str, synonym: str) -> Definition:
    return Definition(name, "", ConfigType.LIST, "a list", lambda _: True, about, synonym)


def _parse_int(value: str) -> int | None:
    text = value.strip()
    digits = text[1:] if text[:1] in {"-", "+"} else text
    # Twenty characters hold every 64-bit number; `isdecimal` alone would also take Arabic digits.
    if not (digits.isascii() and digits.isdecimal() and len(text) <= 20):
        return None
    return int(text)


def is_true(value: str) -> bool:
    return value.strip().lower() == "true"


def words_of(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]
