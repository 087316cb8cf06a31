"""When a schedule runs: cron as KFP has it, with six fields, seconds first; or an interval."""

import re
from dataclasses import dataclass

FIELDS = ("second", "minute", "hour", "day of the month", "month", "day of the week")
BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = {
    4: {name: number for number, name in enumerate(MONTHS, 1)},
    5: {name: number for number, name in enumerate(DAYS)},
}
SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Trigger:
    """Exactly one of the two. interval: in seconds."""

    cron: str = ""
    interval: int = 0

    def __str__(self) -> str:
        """For people."""
        if self.cron:
            return f"cron {self.cron}"
        unit = next(unit for unit in "wdhm" if self.interval % SECONDS[unit] == 0)
        return f"every {self.interval // SECONDS[unit]}{unit}"


def parse_cron(text: str) -> Trigger:
    """Cron of five fields gets second 0; one of six is taken as it is. ValueError names the field that is wrong."""
    fields = text.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise ValueError(f"cron {text!r} has {len(fields)} fields (five, as '0 2 * * 1-5', or six with seconds first)")
    for number, field in enumerate(fields):
        for part in field.split(","):
            _check_part(part, number, text)
    return Trigger(cron=" ".join(fields))


def parse_interval(text: str) -> Trigger:
    """An interval as 30m, 6h, 1d or 2w. ValueError: another text, or none at all."""
    match = re.fullmatch(r"([1-9]\d{0,3})([mhdw])", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no interval (write 30m, 6h, 1d or 2w)")
    return Trigger(interval=int(match[1]) * SECONDS[match[2]])


def _check_part(part: str, number: int, text: str) -> None:
    span, slash, step = part.partition("/")
    low, high = BOUNDS[number]
    if slash and not (step.isdecimal() and 1 <= int(step) <= high):
        raise _wrong(part, number, text)
    if span == "*" or (span == "?" and number in (3, 5)):
        return
    first, dash, last = span.partition("-")
    ends = [_value(end, number) for end in ([first, last] if dash else [first])]
    if any(end is None or not low <= end <= high for end in ends) or ends != sorted(ends):
        raise _wrong(part, number, text)


def _value(text: str, number: int) -> int | None:
    if text.isdecimal():
        return int(text)
    return NAMES.get(number, {}).get(text.lower())


def _wrong(part: str, number: int, text: str) -> ValueError:
    low, high = BOUNDS[number]
    names = {4: ", or JAN-DEC", 5: ", or SUN-SAT; Sunday is 0"}.get(number, "")
    return ValueError(f"cron {text!r}: {part!r} is no {FIELDS[number]} ({low}-{high}{names})")
