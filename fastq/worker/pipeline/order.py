"""In which order queues are read: Celery's `queue_order_strategy`, within its priority steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastq.errors import SettingError

Shares = list[tuple[int, int]]

#: Messages to claim up to which queues take turns one by one: tasks that long are worth a round trip each.
FEW = 16


class Turns:
    """Key numbers by priority step (0 is read first), and within a step by strategy.

    `round_robin` serves all queues of a step that have messages alike; `sorted` and `priority` empty one before the
    next.
    """

    def __init__(self, keys: Sequence[tuple[str, int]], *, strategy: str = "round_robin") -> None:
        if strategy not in _STRATEGIES:
            raise SettingError(
                f"broker_transport_options['queue_order_strategy'] is {strategy!r}; it can be {', '.join(_STRATEGIES)}"
            )
        self._shared = strategy == "round_robin"
        names = _STRATEGIES[strategy](list(dict.fromkeys(queue for queue, _ in keys)))
        place = {queue: number for number, queue in enumerate(names)}
        by_step: dict[int, list[int]] = {}
        for number in sorted(range(len(keys)), key=lambda n: place[keys[n][0]]):
            by_step.setdefault(keys[number][1], []).append(number)
        self._steps = [by_step[step] for step in sorted(by_step)]

    def __call__(self, lengths: Sequence[int], want: int) -> Shares:
        """Which keys to claim how many from, at most `want` together; nothing if all are empty."""
        for step in self._steps:
            waiting = [key for key in step if lengths[key] > 0]
            if waiting:
                return (
                    self._share(waiting, lengths, want)
                    if self._shared
                    else [(waiting[0], min(want, lengths[waiting[0]]))]
                )
        return []

    def _share(self, waiting: list[int], lengths: Sequence[int], want: int) -> Shares:
        # One from each in turn while there are few to take, as Celery; equal parts when there are many.
        share = 1 if want <= FEW else max(1, want // len(waiting))
        served = waiting[:want]
        for step in self._steps:
            if served[0] in step:  # those who were not served come first next time
                step.sort(key=lambda key: key in served)
        return [(key, min(share, lengths[key])) for key in served]


_STRATEGIES: dict[str, Callable[[list[str]], list[str]]] = {
    "round_robin": list,
    "sorted": sorted,
    "priority": list,
}
