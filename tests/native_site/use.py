"""What a view of the website would do; the answers, as JSON, are for a test."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402
from store import tasks  # noqa: E402
from store.models import Order  # noqa: E402


def wait_for(holds: Callable[[], bool]) -> None:
    """Until it holds. What it has been waited for in vain, the answers show."""
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)


def finished(result: Any) -> Any:
    """The result, when the task has ended."""

    def ended() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_for(ended)
    return result


def on_commit() -> dict[str, Any]:
    """Orders that are packed only if they were made."""
    with transaction.atomic():
        Order.objects.create(name="hat")
        tasks.pack.delay_on_commit("hat")
        inside = Order.objects.get(name="hat").state
    try:
        with transaction.atomic():
            Order.objects.create(name="scarf")
            tasks.pack.apply_async_on_commit(["scarf"], queue="store")
            raise RuntimeError("changed our mind")
    except RuntimeError:
        pass
    wait_for(lambda: Order.objects.get(name="hat").state == "packed")
    return {"inside": inside, "state": Order.objects.get(name="hat").state}


def connections() -> list[Any]:
    """Of three tasks one after the other."""
    return [tasks.had_connection.delay().get(timeout=20) for _ in range(3)]


def interface() -> dict[str, Any]:
    """Tasks of Django's interface."""
    Order.objects.create(name="shirt")
    shipped = tasks.ship.enqueue("shirt", by="ship")
    before = str(shipped.status)
    waits = tasks.ship.using(run_after=timezone.now() + timedelta(hours=1), queue_name="store").enqueue("hat")
    told, failed, died = tasks.attempts.enqueue(), tasks.fail.enqueue(), tasks.die.enqueue()
    return {
        "before": before,
        "shipped": [finished(shipped).return_value, Order.objects.get(name="shirt").state, shipped.attempts],
        "times": shipped.enqueued_at <= shipped.started_at <= shipped.finished_at,
        "told": [*finished(told).return_value, told.id],
        "later": finished(tasks.later.enqueue()).return_value,
        "failed": [str(finished(failed).status), failed.errors[0].exception_class.__name__, failed.errors[0].traceback],
        "died": [str(finished(died).status), died.errors[0].traceback],
        "waits": [str(waits.status), str(tasks.ship.get_result(waits.id).status)],
    }


async def asynchronous() -> list[Any]:
    """The same from a coroutine: a task that is found again by its id, with what it was sent with."""
    sent = await tasks.totals.using(priority=-100, queue_name="store").aenqueue((1, 2), by="hand")
    until = time.monotonic() + 20
    while not sent.is_finished and time.monotonic() < until:
        await asyncio.sleep(0.02)
        await sent.arefresh()
    found = await tasks.totals.aget_result(sent.id)
    return [found.return_value, found.args, found.kwargs, found.task.priority, found.task.queue_name]


def after_commit() -> list[Any]:
    """Django's way to send after the commit; and what its system checks say of the project."""
    sent: list[Any] = []
    with transaction.atomic():
        transaction.on_commit(lambda: sent.append(tasks.later.enqueue()))
        inside = len(sent)
    call_command("check", stdout=sys.stderr)
    return [inside, finished(sent[0]).return_value]


def refused() -> list[str]:
    """The errors of the interface: a result of another task, no result, a queue that the backend does not have."""
    other = tasks.later.enqueue().id
    tries: list[Any] = [
        lambda: tasks.ship.get_result(other),
        lambda: tasks.ship.get_result("none"),
        lambda: tasks.ship.using(queue_name="nowhere"),
    ]
    return [name_of_error(one) for one in tries]


def name_of_error(call: Any) -> str:
    """Of the error that the call raises."""
    try:
        return f"nothing but {call()}"
    except Exception as error:
        return type(error).__name__


def signalled() -> list[str]:
    """Which signals were sent, here and in children; the latter have told the database."""
    here: list[str] = []
    handler = here.append
    tasks.signals.task_enqueued.connect(lambda sender, task_result, **_: handler(sender.__name__), weak=False)
    finished(tasks.watched.enqueue())
    told = Order.objects.filter(state="signalled")
    wait_for(lambda: told.count() >= 2)  # the last is sent when the result is there
    return [*here, *sorted(told.values_list("name", flat=True))]


if sys.argv[1] == "migrate":
    call_command("migrate", run_syncdb=True, verbosity=0)
else:
    answers = {
        "on_commit": on_commit(),
        "connections": connections(),
        "interface": interface(),
        "asynchronous": asyncio.run(asynchronous()),
        "after_commit": after_commit(),
        "refused": refused(),
        "signalled": signalled(),
    }
    print(json.dumps(answers))
