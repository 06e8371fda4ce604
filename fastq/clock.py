"""Read the time and draw lots: the only module that does either.

Call through the module (`clock.now()`, not `from fastq.clock import now`), so that a test can put its own clock here.
"""

from __future__ import annotations

import datetime
import os
import random
import time

#: Any hexadecimal digit, with its two high bits set to 10.
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def now() -> float:
    """Seconds since the epoch, by the wall clock: for whatever leaves this host or is shown to people."""
    return time.time()


def monotonic() -> float:
    """Seconds from an unknown start, never backwards: for deadlines and durations on this host."""
    return time.monotonic()


def monotonic_ns() -> int:
    """The same clock in nanoseconds. All processes of one boot share it, so it may be written to shared memory."""
    return time.monotonic_ns()


def utc_now() -> datetime.datetime:
    """The wall clock as an aware datetime in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def local_now() -> datetime.datetime:
    """The wall clock as an aware datetime in the zone of this host: for the banner and for the log."""
    return datetime.datetime.now().astimezone()


def set_zone(name: str) -> None:
    """Make `name` the local zone of this process and of those it starts, as Django does with its TIME_ZONE."""
    if os.environ.get("TZ") != name:
        os.environ["TZ"] = name
        time.tzset()


def utc_offset_hours() -> float:
    """Hours that this host's zone is west of UTC now: Celery's events carry it, with this sign."""
    return (time.altzone if time.localtime().tm_isdst else time.timezone) / 3600


def sleep(delay_s: float) -> None:
    """Block the calling thread. Loops wait in epoll instead; this is for start-up, retries and tests."""
    time.sleep(delay_s)


def new_uuid() -> str:
    """A random UUID (version 4) as text: uuid.uuid4() at a fraction of its cost, and as safe after a fork."""
    digits = os.urandom(16).hex()
    # The 13th digit is the version; of the 17th, two bits are the variant.
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def random_hex(count: int) -> str:
    """`count` random hexadecimal digits, for names that must not meet by chance."""
    return os.urandom((count + 1) // 2).hex()[:count]


def random_fraction() -> float:
    """A number in [0, 1): for jitter, never for secrets."""
    return random.random()
