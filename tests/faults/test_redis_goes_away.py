"""Redis restarts, connections are cut, the network swallows bytes: nothing is lost, work goes on in seconds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.eventually import eventually
from tests.faults.campaign import ROUNDS, Campaign
from tests.fix_lab import Lab
from tests.fix_proxy import Proxy
from tests.fix_redis import Database, RedisServer
from tests.fix_worker import WorkerProcess

pytestmark = [
    pytest.mark.fastq_only("a stock worker loses, repeats, or goes deaf for a minute"),
    pytest.mark.timeout(180 + 60 * ROUNDS),
]

#: Seconds within which work goes on after the surroundings are well again.
RESUMED_S = 10.0

TASKS = ["t.mark", "t.mark_late"]


def resumes(campaign: Campaign) -> None:
    """A task sent now is run soon."""
    campaign.load(1)
    last = campaign.sent[-1]
    eventually(lambda: campaign.lab.ledger.count("ran", last), within_s=RESUMED_S, saying="work goes on")


def exactly_once(campaign: Campaign) -> None:
    """While the worker lives there is no reason to lose or repeat anything."""
    verdict = campaign.settle()
    assert not verdict.missing, verdict
    assert not verdict.repeated, verdict


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_redis_restarts_under_load(lab: Lab, aof_server: RedisServer, task: str, how: str) -> None:
    lab.db = Database(aof_server, number=1)
    lab.use(broker=lab.db.url)
    campaign = Campaign(lab, task=task)
    worker = campaign.worker()
    for _ in range(ROUNDS):
        campaign.load()
        campaign.wait_somewhere()
        aof_server.kill() if how == "kill" else aof_server.stop()
        aof_server.start()
        resumes(campaign)
    exactly_once(campaign)
    close(lab, worker)


def close(lab: Lab, worker: WorkerProcess) -> None:
    """Stop before the server goes, so that the books can still be looked at."""
    assert worker.stop() == 0
    lab.assert_nothing_held()
    lab.close()
    lab.workers.clear()
    lab.db.client.close()


@pytest.mark.parametrize("task", TASKS)
def test_the_server_kills_all_connections(lab: Lab, task: str) -> None:
    campaign = Campaign(lab, task=task)
    campaign.worker()
    for _ in range(ROUNDS):
        campaign.load()
        campaign.wait_somewhere()
        kill_clients(lab)
        resumes(campaign)
    exactly_once(campaign)


def kill_clients(lab: Lab) -> None:
    """CLIENT KILL everybody on the lab's database but ourselves."""
    client: Any = lab.db.client
    own = client.client_id()
    for other in client.client_list():
        if int(other["db"]) == lab.db.number and int(other["id"]) != own:
            client.client_kill_filter(_id=other["id"])


@pytest.mark.parametrize("task", TASKS)
def test_connections_are_cut_in_the_middle(proxy: Proxy, lab: Lab, task: str) -> None:
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    campaign = Campaign(lab, task=task)
    campaign.worker()
    for _ in range(ROUNDS):
        campaign.load()
        campaign.wait_somewhere()
        proxy.cut()
        resumes(campaign)
    exactly_once(campaign)


def test_redis_cannot_be_reached_for_a_while(proxy: Proxy, lab: Lab) -> None:
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    campaign = Campaign(lab, task="t.mark_late")
    worker = campaign.worker()
    campaign.load()
    campaign.wait_somewhere()
    proxy.refuse()
    proxy.cut()
    worker.wait_log("(?i)connection.*(lost|closed|refused|reset)|(?i:trying again)")
    proxy.accept()
    resumes(campaign)
    exactly_once(campaign)


def test_the_network_swallows_everything_for_a_while(proxy: Proxy, lab: Lab) -> None:
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    campaign = Campaign(lab, task="t.mark_late")
    campaign.worker()
    campaign.load()
    campaign.wait_somewhere()
    proxy.blackhole()
    campaign.load()
    proxy.heal()
    resumes(campaign)
    exactly_once(campaign)


def test_a_lossy_start(proxy: Proxy, lab: Lab) -> None:
    """Connections that break while the worker starts do not end it."""
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    campaign = Campaign(lab, task="t.mark")
    worker = lab.worker(ready=False)
    seen = 0
    for _ in range(3):
        eventually(lambda seen=seen: proxy.connections > seen, within_s=20)  # type: ignore[misc]
        seen = proxy.connections  # before the cut: what it makes the worker open counts
        proxy.cut()
    worker.wait_ready()
    resumes(campaign)


def test_an_answer_that_is_cut_while_the_worker_connects_does_not_end_it(proxy: Proxy, lab: Lab) -> None:
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    proxy.cut_answer_to(b"\r\nID\r\n")
    worker = lab.worker()
    assert len(worker.log_lines("Cannot connect to .*: lost the connection")) == 1
    assert lab.run("add", 1, 2) == 3


def test_a_distant_redis_loses_nothing_either(proxy: Proxy, lab: Lab) -> None:
    proxy.delay(one_way_ms=2)
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    campaign = Campaign(lab, task="t.mark")
    campaign.worker()
    campaign.load()
    exactly_once(campaign)


def test_a_long_task_is_not_given_away_while_redis_is_gone(lab: Lab, aof_server: RedisServer) -> None:
    """The lease outlives a short absence of Redis: the task that runs is not started a second time."""
    lab.db = Database(aof_server, number=1)
    lab.use(broker=lab.db.url)
    worker, other = lab.worker(), lab.worker("-Q", "celery,other")
    sent = lab.send("hold_late", "long")
    eventually(lambda: lab.ledger.count("start", "long"))
    aof_server.kill()
    aof_server.start()
    lab.ledger.open_gate("long")
    eventually(lambda: lab.db.client.exists(f"celery-task-meta-{sent.id}"), within_s=RESUMED_S)
    assert lab.ledger.count("start", "long") == 1
    assert other.stop() == 0
    close(lab, worker)
