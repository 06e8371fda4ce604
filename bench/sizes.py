"""How much is measured: by `make bench`, with --quick, with --long."""

from __future__ import annotations

import msgspec


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Of one round. Celery gets smaller samples of the same work: it would take hours otherwise."""

    name: str
    rounds: int
    #: Rounds that would end later than this are left out; 0: none.
    within_s: float = 0.0
    drain: int
    drain_celery: int
    calls: int
    wakes: int
    idle_s: float
    flat: int
    flat_celery: int
    eta: int
    eta_celery: int


QUICK = Sizes(
    name="quick", rounds=1, drain=20_000, drain_celery=1_000, calls=200, wakes=20, idle_s=3.0,
    flat=20_000, flat_celery=1_000, eta=10_000, eta_celery=1_000,
)  # fmt: skip

#: Ten minutes at most, whatever the machine; about eight on two cores.
NORMAL = Sizes(
    name="normal", rounds=5, within_s=570, drain=100_000, drain_celery=2_500, calls=500, wakes=30, idle_s=5.0,
    flat=300_000, flat_celery=6_000, eta=100_000, eta_celery=10_000,
)  # fmt: skip

LONG = Sizes(
    name="long", rounds=5, within_s=0, drain=500_000, drain_celery=10_000, calls=3_000, wakes=100, idle_s=30.0,
    flat=1_000_000, flat_celery=20_000, eta=1_000_000, eta_celery=20_000,
)  # fmt: skip
