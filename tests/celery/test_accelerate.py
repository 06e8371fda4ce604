"""An accelerated application writes what Celery writes, calls whom Celery calls, and fails as Celery fails."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, Task, canvas, chain, chord, group, signals
from kombu import Exchange, Queue, pools
from kombu.common import Broadcast
from kombu.compression import decompress
from kombu.exceptions import OperationalError
from kombu.serialization import loads

from fastq.celery import accelerate
from fastq.errors import SettingError
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab
from tests.fix_monitor import Monitor
from tests.fix_proxy import Proxy
from tests.fix_redis import Database, RedisServer

#: Celery 5.7 uses methods that redis-py 8 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

MOMENT = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
UUIDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Milliseconds until a day that is years away.
FAR = re.compile(r'(?<="expiration": ")\d{9,}')
SOON = re.compile(r"20[23]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00")


class Counting(Task):  # type: ignore[misc,unused-ignore]
    """A task class of an application's own, as many have one."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        headers = {**(options.pop("headers", None) or {}), "counted": 1}
        return super().apply_async(args, kwargs, headers=headers, **options)


def build(url: str, **settings: Any) -> Any:
    """An application with a bit of everything."""
    app = Celery("client", broker=url, backend="cache+memory://", set_as_current=False)
    topic = Exchange("news", type="topic")
    app.conf.update(
        task_routes={"t.routed": {"queue": "routed", "priority": 6}, "t.news.*": {"queue": "news"}},
        task_queues=[
            Queue("celery"),
            Queue("routed", Exchange("own", type="direct"), routing_key="own-key"),
            Queue("news", topic, routing_key="news.#"),
            Queue("short", expires=60),
            Broadcast("all"),
        ],
        task_create_missing_queues=True,
        accept_content=["json", "pickle", "yaml", "msgpack"],
        **settings,
    )
    for name in ("any", "routed", "news.one"):
        app.task(nothing, name=f"t.{name}")
    app.task(nothing, name="t.counted", base=Counting, ignore_result=True, time_limit=9)
    return app


def nothing(*_args: Any, **_kwargs: Any) -> None:
    """What every task does."""


def anything(app: Any) -> Any:
    """The task that takes everything."""
    return app.tasks["t.any"]


def stamped(app: Any) -> None:
    """Send a task with stamps."""
    signature = anything(app).s(1)
    signature.stamp(region="north", reasons=["a", "b"])
    signature.apply_async()


#: Everything a program may ask of Celery's sending side.
CALLS: dict[str, Callable[[Any], Any]] = {
    "delay": lambda app: anything(app).delay(1, "zwei", None, three={"x": [1.5]}),
    "odd values": lambda app: anything(app).delay(MOMENT, Decimal("1.5"), UUID(int=7), b"\xff", "é", (1,)),
    "long arguments": lambda app: anything(app).delay("x" * 3000, {"a": {"b": {"c": {"d": 1}}}}, k={1, 2}.__len__()),
    "priority": lambda app: anything(app).apply_async((1,), priority=5),
    "priorities beyond": lambda app: [anything(app).apply_async(priority=p) for p in (0, 9, 200, -1)],
    "countdown": lambda app: anything(app).apply_async((1,), countdown=60, expires=90),
    "eta": lambda app: anything(app).apply_async((1,), eta=MOMENT, expires=MOMENT + timedelta(days=1)),
    "pickle": lambda app: anything(app).apply_async(({1, 2},), serializer="pickle"),
    "yaml": lambda app: anything(app).apply_async((1,), serializer="yaml"),
    "msgpack": lambda app: anything(app).apply_async((b"x",), serializer="msgpack"),
    "compressed": lambda app: anything(app).apply_async(("x" * 999,), compression="zlib"),
    "headers": lambda app: anything(app).apply_async((1,), headers={"trace": "x", "n": {"m": MOMENT}}),
    "names": lambda app: anything(app).apply_async((1,), shadow="s", argsrepr="(?)", kwargsrepr="{?}", reply_to="me"),
    "limits": lambda app: anything(app).apply_async((1,), time_limit=3, soft_time_limit=1.5, ignore_result=True),
    "queue by name": lambda app: anything(app).apply_async((1,), queue="missing"),
    "queue object": lambda app: anything(app).apply_async((1,), queue=Queue("object", Exchange("e"), routing_key="k")),
    "routed": lambda app: app.tasks["t.routed"].delay(),
    "class of its own": lambda app: app.tasks["t.counted"].delay(),
    "unknown task": lambda app: app.send_task("no.such", (1,), {"k": 2}, queue="other"),
    "topic exchange": lambda app: app.tasks["t.news.one"].apply_async(routing_key="news.x"),
    "exchange by name": lambda app: anything(app).apply_async(exchange="own", routing_key="own-key"),
    "exchange object": lambda app: anything(app).apply_async(exchange=Exchange("news", "topic"), routing_key="news.y"),
    "queue with a lifetime": lambda app: anything(app).apply_async(queue="short"),
    "broadcast": lambda app: anything(app).apply_async(queue="all"),
    "links": lambda app: anything(app).apply_async((1,), link=anything(app).s(2), link_error=[anything(app).s(3)]),
    "stamps": stamped,
    "chain": lambda app: chain(anything(app).s(1), anything(app).si(2), group(anything(app).s(n) for n in (3, 4)))(),
    "group": lambda app: group(anything(app).s(n) for n in range(20)).apply_async(),
    "group over queues": lambda app: group(
        anything(app).s(n).set(queue=f"q{n % 3}", priority=n) for n in range(9)
    ).apply_async(),
    "group of groups": lambda app: group(anything(app).s(1), group(anything(app).s(2), anything(app).s(3)))(),
    "chord": lambda app: chord([anything(app).s(n) for n in range(3)])(anything(app).s(9)),
    "map and chunks": lambda app: (
        anything(app).map([1, 2]).apply_async(),
        anything(app).chunks(zip(range(4), range(4), strict=True), 2).apply_async(),
    ),
    "a producer of one's own": lambda app: by_hand(app),
    "a connection of one's own": lambda app: with_connection(app),
    "a policy of one's own": lambda app: anything(app).apply_async(retry=True, retry_policy={"max_retries": 1}),
    "no retries": lambda app: anything(app).apply_async(retry=False),
    "user's properties": lambda app: anything(app).apply_async((1,), message_id="m", user_id="guest"),
}


def by_hand(app: Any) -> None:
    """Send several with one producer, and inside a batch of kombu's."""
    with app.producer_or_acquire() as producer:
        anything(app).apply_async((1,), producer=producer)
        with producer.batch():
            anything(app).apply_async((2,), producer=producer)


def with_connection(app: Any) -> None:
    """Send by a connection that is in no pool."""
    with app.connection_for_write() as connection:
        anything(app).apply_async((1,), connection=connection)


@pytest.fixture
def app(db: Database) -> Iterator[Any]:
    """An application on the test's database."""
    app = build(db.url)
    yield app
    app.close()


def told(entry: bytes) -> str:
    """An envelope with its body opened, without what differs between any two sends; order and spaces as they are."""
    message = json.loads(entry)
    assert message["properties"]["body_encoding"] == "base64"
    body = b64decode(message["body"])
    if "compression" in message["headers"]:
        body = decompress(body, message["headers"]["compression"])
    message["body"] = repr(
        loads(body, message["content-type"], message["content-encoding"], accept={message["content-type"]})
    )
    message["properties"]["reply_to"] = message["properties"]["reply_to"] and "*"
    text = FAR.sub("far", SOON.sub("soon", json.dumps(message)))
    for number, found in enumerate(dict.fromkeys(UUIDS.findall(text))):
        text = text.replace(found, f"id{number}")
    return text.replace(f"gen{os.getpid()}@", "gen@")


def contents(db: Database) -> dict[str, Any]:
    """All lists of the database, next to be read first; its other keys by their size."""
    found: dict[str, Any] = {}
    for key in db.keys():
        if db.client.type(key) == b"list":
            found[key] = [told(entry) for entry in db.entries(key)]
        elif not UUIDS.search(key):
            found[key] = db.client.type(key)
    return found


@pytest.mark.parametrize("protocol", [2, 1])
@pytest.mark.parametrize("name", CALLS)
def test_it_writes_what_celery_writes(db: Database, name: str, protocol: int) -> None:
    written = []
    for wanted in (False, True):
        app = build(db.url, task_protocol=protocol)
        acceleration = accelerate(app) if wanted else None
        CALLS[name](app)  # the first for each queue is Celery's own
        CALLS[name](app)
        written.append(contents(db))
        db.client.flushdb()
        pools.reset()  # a connection remembers what it has declared
        if acceleration is not None:
            acceleration.undo()
        app.close()
    assert written[1] == written[0]
    assert any(isinstance(value, list) for value in written[0].values()) or name in (
        "broadcast",
        "exchange by name",
        "exchange object",
    )


def test_bytes_are_the_same(db: Database, app: Any) -> None:
    with accelerate(app):
        for _ in range(2):
            anything(app).apply_async((1, "é"), {"k": None}, task_id="one", priority=3)
    theirs, ours = db.entries("celery\x06\x163")
    tag = json.loads(ours)["properties"]["delivery_tag"].encode()
    assert ours.replace(tag, json.loads(theirs)["properties"]["delivery_tag"].encode()) == theirs


def test_the_fast_way_is_taken(db: Database, app: Any, redis_server: RedisServer) -> None:
    with accelerate(app):
        anything(app).delay(0)
        with Monitor(db) as monitor:
            group(anything(app).s(n) for n in range(10)).apply_async()
        assert len(monitor.told("LPUSH")) == 1
    assert db.length() == 11


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any]]]:
    """What the signals of publishing were sent with."""
    found: list[tuple[str, Any]] = []

    def before(sender: str, headers: dict[str, Any], properties: dict[str, Any], **rest: Any) -> None:
        headers["from-signal"] = "yes"
        properties["priority"] = 4
        found.append(("before", (sender, rest["exchange"], rest["routing_key"], sorted(rest))))

    def after(sender: str, headers: dict[str, Any], **rest: Any) -> None:
        found.append(("after", (sender, headers["from-signal"], rest["routing_key"], sorted(rest))))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield found
    signals.before_task_publish.disconnect(before)
    signals.after_task_publish.disconnect(after)


def test_signals_are_sent_and_heeded(db: Database, app: Any, heard: list[tuple[str, Any]]) -> None:
    anything(app).delay(1)
    group(anything(app).s(n) for n in range(2)).apply_async()
    stock = list(heard)
    with accelerate(app):
        heard.clear()
        anything(app).delay(1)
        group(anything(app).s(n) for n in range(2)).apply_async()
    assert heard == stock
    assert [word for word, _ in heard] == ["before", "after"] * 3
    assert {json.loads(entry)["headers"]["from-signal"] for entry in db.entries("celery\x06\x163")} == {"yes"}


def test_whoever_wraps_kombus_publish_is_called(db: Database, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kombu import Producer

    own, seen = Producer.publish, []

    def publish(self: Any, *args: Any, **options: Any) -> Any:
        seen.append((options["headers"]["task"], options["routing_key"], self.connection.transport.driver_type))
        return own(self, *args, **options)

    with accelerate(app):
        monkeypatch.setattr(Producer, "publish", publish)
        anything(app).delay(1)
        anything(app).delay(2)
        group(anything(app).s(n) for n in range(2)).apply_async()
    assert seen == [("t.any", "celery", "redis")] * 4
    assert db.length() == 4


def test_events_of_sending_come_after_their_message(db: Database) -> None:
    app = build(db.url, task_send_sent_event=True)
    listener = db.client.pubsub()
    listener.psubscribe(f"/{db.number}.celeryev/*")
    with accelerate(app):
        sent = [each.id for each in group(anything(app).s(n) for n in range(3)).apply_async()]
    found: list[str] = []
    while len(found) < 3 and (message := listener.get_message(timeout=5)):
        if message["type"] == "pmessage":
            found.append(json.loads(b64decode(json.loads(message["data"])["body"]))["uuid"])
    assert found == sent
    listener.close()
    app.close()


def test_eager_tasks_are_not_sent(db: Database) -> None:
    app = build(db.url, task_always_eager=True)
    with accelerate(app):
        assert anything(app).delay(1).successful()
        group(anything(app).s(n) for n in range(2)).apply_async()
    assert db.length() == 0
    app.close()


def test_a_queue_that_may_not_be_made_is_refused_as_by_celery(db: Database) -> None:
    app = build(db.url)
    app.conf.task_create_missing_queues = False
    for _ in range(2):
        with pytest.raises(Exception, match="nowhere") as caught:
            anything(app).apply_async(queue="nowhere")
        accelerate(app)
    assert type(caught.value).__name__ == "QueueNotFound"
    accelerate(app).undo()
    app.close()


def test_a_group_that_breaks_off_has_sent_what_came_before(db: Database, app: Any) -> None:
    bad = [anything(app).s(1), anything(app).s(2), anything(app).s(object()), anything(app).s(4)]
    lengths = []
    for acceleration in (None, accelerate(app)):
        with pytest.raises(Exception, match="not JSON serializable"):
            group(bad).apply_async()
        lengths.append(db.length())
        if acceleration is not None:
            acceleration.undo()
    assert lengths == [2, 4]


def test_errors_are_celerys(db: Database) -> None:
    server = RedisServer()
    server.start()
    app = Celery("client", broker=server.url(), set_as_current=False)
    task = app.task(nothing, name="t.any")
    client = server.client()
    with accelerate(app):
        task.delay()
        client.config_set("maxmemory", "1")
        with pytest.raises(OperationalError, match="out of memory"):
            task.delay()
        client.config_set("maxmemory", "0")
        client.close()
        server.kill()
        with pytest.raises(OperationalError):
            task.apply_async(retry=False)
    app.close()
    server.remove()


def test_a_lost_answer_does_not_double_a_task(db: Database, proxy: Proxy) -> None:
    app = Celery("client", broker=proxy.url(number=db.number), set_as_current=False)
    task = app.task(nothing, name="t.any")
    with accelerate(app):
        task.delay()
        proxy.cut_answer_to(b"LPUSH")
        task.delay()
    assert db.length() == 2
    app.close()


def test_children_of_a_fork_send_too(db: Database, app: Any) -> None:
    with accelerate(app):
        anything(app).delay()
        anything(app).delay()
        child = os.fork()
        if not child:
            anything(app).delay()
            anything(app).delay()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        anything(app).delay()
    assert db.length() == 5


def test_undone_it_is_as_before(db: Database, app: Any) -> None:
    own = canvas.group._apply_tasks
    first = accelerate(app)
    assert accelerate(app) is first
    assert "send_task_message" in vars(app.amqp)
    first.undo()
    first.undo()
    assert not {"send_task_message", "create_task_message"} & vars(app.amqp).keys()
    assert canvas.group._apply_tasks is own
    anything(app).delay()
    assert db.length() == 1


@pytest.mark.parametrize(
    ("broker", "settings", "reason"),
    [
        ("memory://", {}, "accelerate is for Redis"),
        ("redis://127.0.0.1:1/0", {"broker_transport_options": {"body_encoding": "utf-8"}}, "body_encoding"),
        ("sentinel://127.0.0.1:1/0", {}, "master_name"),
    ],
)
def test_what_cannot_be_accelerated_is_refused(broker: str, settings: dict[str, Any], reason: str) -> None:
    app = Celery("client", broker=broker, set_as_current=False)
    app.conf.update(settings)
    with pytest.raises(SettingError, match=reason):
        accelerate(app)
    app.close()


def test_in_a_worker_and_its_client_everything_goes_on(lab: Lab) -> None:
    lab.use("tests.apps.accelerated")
    lab.worker(concurrency=2)
    add, ret = lab.task("add"), lab.task("ret")
    with accelerate(lab.app):
        for _ in range(2):  # the first message for a queue is Celery's own
            assert add.delay(1, 2).get(timeout=RESULT_S) == 3
            assert chain(add.s(1, 1), add.s(2), add.s(3)).apply_async().get(timeout=RESULT_S) == 7
            assert group(ret.s(n) for n in range(20)).apply_async().get(timeout=RESULT_S) == list(range(20))
            assert chord([ret.s(n) for n in range(20)])(lab.task("size").s()).get(timeout=RESULT_S) == 20
            assert lab.run("replace_group", 3) == [0, 1, 2]
        sent = lab.send("spawn", 1, 2)
        assert sent.get(timeout=RESULT_S) == "spawned"
        alone, together = eventually(lambda: sent.children)
        assert alone.get(timeout=RESULT_S) == 3
        assert together.get(timeout=RESULT_S) == [2, 4]
