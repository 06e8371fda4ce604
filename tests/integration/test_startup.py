"""What can be wrong at start: one clear line and an exit code, or patience."""

from __future__ import annotations

import pytest

from tests.fix_lab import Lab
from tests.fix_redis import RedisServer, free_port


def test_redis_that_comes_later_is_waited_for(lab: Lab) -> None:
    server = RedisServer()
    lab.use(broker=server.url())
    worker = lab.worker(ready=False)
    try:
        worker.wait_log(r"(?i)trying again in [\d.]+ seconds", within_s=20)
        server.start()
        worker.wait_ready()
        assert lab.run("add", 1, 2) == 3
    finally:
        lab.close()
        lab.workers.clear()
        server.remove()


@pytest.mark.fastq_only("a stock worker goes on trying, or ends with a traceback")
@pytest.mark.parametrize("url", ["redis://:wrong@{}/0", "redis://nobody:wrong@{}/0", "redis://{}/0"])
def test_a_wrong_password_ends_it(lab: Lab, url: str) -> None:
    server = RedisServer(password="right")
    server.start()
    try:
        lab.use(broker=url.format(f"127.0.0.1:{server.port}"))
        worker = lab.worker(ready=False)
        assert worker.wait(within_s=20) not in (0, None)
        last = worker.log.strip().splitlines()[-1]
        assert str(server.port) in last, last
        assert "Traceback" not in worker.log
        assert "wrong" not in last.replace("wrong password", "")
    finally:
        server.remove()


@pytest.mark.fastq_only("a stock worker goes on trying, or ends with a traceback")
def test_a_database_that_does_not_exist_ends_it(lab: Lab) -> None:
    lab.use(broker=lab.db.server.url(number=99_999))
    worker = lab.worker(ready=False)
    assert worker.wait(within_s=20) not in (0, None)
    assert "99999" in worker.log.strip().splitlines()[-1]
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("app", ["nowhere.to.be.found", "tests.apps.plain:nothing", "tests.apps.empty"])
def test_no_such_application(lab: Lab, app: str) -> None:
    worker = lab.worker(ready=False, app=app)
    assert worker.wait(within_s=30) == 2
    name = app.split(":")[0]
    assert name in worker.log


@pytest.mark.fastq_only("a stock worker shows a traceback here")
@pytest.mark.parametrize("app", ["nowhere.to.be.found", "tests.apps.plain:nothing", "tests.apps.empty"])
def test_no_such_application_is_one_clear_line(lab: Lab, app: str) -> None:
    worker = lab.worker(ready=False, app=app)
    worker.wait(within_s=30)
    assert app.split(":")[-1] in worker.log.strip().splitlines()[-1]
    assert "Traceback" not in worker.log


def test_an_application_that_cannot_be_imported_says_why(lab: Lab) -> None:
    worker = lab.worker(ready=False, app="tests.apps.broken")
    assert worker.wait(within_s=30) != 0
    assert "this module is broken on purpose" in worker.log


def test_redis_that_never_comes_can_be_given_up(lab: Lab) -> None:
    lab.use(broker=f"redis://127.0.0.1:{free_port()}/0")
    worker = lab.worker(ready=False)
    worker.wait_log("(?i)connect", within_s=20)
    worker.stop()
    worker.killed = True
    lab.workers.clear()
    worker.finish()


@pytest.mark.parametrize("form", ["-A first", "worker first", "environment"])
def test_the_application_can_be_named_in_three_ways(lab: Lab, form: str) -> None:
    """`fastq -A app worker`, `fastq worker -A app`, and from the environment."""
    if lab.engine == "celery" and form == "worker first":
        pytest.skip("celery wants -A before the command")
    lab.worker(form=form)
    assert lab.run("add", 1, 1) == 2
