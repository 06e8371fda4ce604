"""The loop: wait, collect, decide, deal, claim, settle. Everything else is called from here, in this order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fastq import _core, clock
from fastq.config.settings import WorkerOptions
from fastq.errors import FastqError, ProcessLost, SurroundingsError
from fastq.ipc.messages import AsideExited, AsideForked, Exited, Failed, Forked, ToEngine
from fastq.ipc.segment import SharedSegment
from fastq.program import ProgramInfo, Verdict
from fastq.worker.cluster.lease import BEAT_S, LEASE_S, LOOK_S, SWEEP_S, Look, Welcome
from fastq.worker.lifecycle import STOPPING, Event, State, after
from fastq.worker.observe.notes import Notes
from fastq.worker.parts import Hooks, Loop, Parts, assemble, rate_limits
from fastq.worker.pipeline.deal import HORIZON_S
from fastq.worker.pipeline.returning import return_messages
from fastq.worker.pipeline.settle import log_refusals
from fastq.worker.poll import Errands, Poller, Timers
from fastq.worker.processes import beat
from fastq.worker.processes.beat import BeatProcess
from fastq.worker.processes.children import Child, Victim
from fastq.worker.processes.desk import Desk
from fastq.worker.processes.nursery import NurseryProcess
from fastq.worker.processes.recycle import ChildLimits
from fastq.worker.processes.reload import Reload, unmovable
from fastq.worker.processes.scaler import Wish
from fastq.worker.service import Service

logger: logging.Logger = logging.getLogger(__name__)

#: Bytes of results that may wait for a result store before nothing more is dealt.
RESULT_BACKLOG_BYTES = 64 << 20

#: Frames per child beyond which the engine lets results pile up for a moment instead of waking for each.
PLENTY = 8

#: Seconds of that moment.
PILE_UP_S = 0.001

#: Seconds before a nursery that could not load the application is tried again, times the number of tries.
NURSERY_RETRY_S = 2.0

#: Tries before the worker gives up: half a minute, in which a deployment should have put all files in place.
MOST_NURSERIES = 5

#: Messages given back between two heartbeats at most.
GIVE_BACK = 10_000

#: Seconds that killed tasks may take to be told to result store and broker.
COLD_S = 10.0


class Engine(Parts):
    """A worker, from the moment its application is known. `run` returns the reason it stopped for."""

    def __init__(
        self,
        program: ProgramInfo,
        *,
        options: WorkerOptions,
        worker: str,
        segment: SharedSegment,
        nursery: NurseryProcess,
        poller: Poller,
        timers: Timers,
        errands: Errands,
        start_nursery: Callable[[Sequence[str]], NurseryProcess],
        restart: Callable[[], None],
        service: Service,
    ) -> None:
        self.program: ProgramInfo = program
        self.worker: str = worker
        self.segment: SharedSegment = segment
        self.nursery: NurseryProcess = nursery
        self.poller: Poller = poller
        self.timers: Timers = timers
        self.errands: Errands = errands
        self.options: WorkerOptions = options
        self._start_nursery, self._restart = start_nursery, restart
        self._service = service
        self.state: State = State.RUNNING
        self.failure: FastqError | None = None
        self.given_back: int = 0
        self.abandoned: int = 0
        self._announced = False
        #: Until when, by the monotonic clock, nobody else can take this worker for dead.
        self._lease_until_s = 0.0
        self._up_since_s = 0.0
        self._failed_nurseries = 0
        self._dismissed = False
        self._looking = self._sweeping = False
        self._returning: list[tuple[int, int, int, int]] = []
        self._adopt(
            assemble(
                program,
                options=options,
                worker=worker,
                segment=segment,
                loop=Loop(poller=poller, timers=timers, errands=errands),
                hooks=Hooks(
                    credit=self._credit,
                    round_trip=self._measure_round_trip,
                    fork=self._fork,
                    nursery_pid=lambda: self.nursery.pid,
                    expecting=lambda: self.reload.under_way,
                    notify=lambda signal, arguments: self.nursery.notify(signal, arguments),
                    aside=lambda number: self.nursery.aside(number),
                    beat=lambda: self.nursery.aside(beat.NUMBER, kind="beat"),
                    collect=self._collect,
                    lost_child=self._lost_child,
                    broker_came=self._broker_came,
                    broker_went=self._broker_went,
                    failed=self._fail,
                    shut_down=lambda: self.stop(Event.TERM),
                    reload=lambda: self.reload.begin(),
                    remember=lambda ids: self.nursery.remember(ids),
                ),
            )
        )

        self.notes: Notes = Notes(segment.board, timers=timers, wanted=lambda: self.children.wanted)
        self.notes.state(self.state)
        self.notes.program(program.tasks, nursery=nursery.pid)

    def _adopt(self, parts: Parts) -> None:
        vars(self).update(vars(parts))
        self.reload: Reload = Reload(
            children=parts.children,
            start=self._another_nursery,
            change=self._change,
            settled=self._reloaded,
            service=self._service,
            ended=lambda well: self.notes.reloaded(well=well),
        )

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Work until stopped."""
        self.broker.dial()
        if self.result_link is not None:
            self.result_link.dial()
        self.scaler.start()
        self.recycler.start()
        self.beat.start()
        while self.state is not State.STOPPED:
            self._wait()
            self.timers.run_due()
            self.turn()

    def _wait(self) -> None:
        """Sleep until something happens. Children wake the engine for what it can use now."""
        timeout_s = self.timers.until_next_s()
        plenty = self.ledger.unstarted() > PLENTY * max(1, len(self.children))
        if plenty and not self.settler.flying:
            timeout_s = PILE_UP_S if timeout_s is None else min(timeout_s, PILE_UP_S)
        if self.ledger.sleep(self.settler.flying or plenty):
            timeout_s = 0.0
        self.poller.wait(timeout_s)
        self.ledger.awake()

    def turn(self) -> None:
        """One round: what came in goes on."""
        self._collect()
        for entry, raw in self.ledger.take_odd():
            self.admission.admit(entry, raw)
        if self.ledger.log_received:
            self._log_received()
        if self.state in STOPPING:
            self._withdraw()
        if self._holds_its_lease() and self.ledger.result_backlog < RESULT_BACKLOG_BYTES:
            self.dealer.deal(self.children.slots)
        self.limits.pump()
        if self.broker.up:
            self.broker.pump(self.waiting.pump, self.intake.pump, self.settler.pump)
        if self.result_link is not None:
            self.result_link.pump()
        self.events.turn(self.broker.pump)
        self._care_for_children()
        if self.children.needs_relief:
            self.children.relieve()
        if self.reload.needs_pump:
            self.reload.pump()
        if self.dealer.needs_watching:
            self.timers.sooner("unstick", HORIZON_S, _nothing)
        if self.state in STOPPING:
            self._go_on_stopping()
        self.ledger.note_turn()

    def _care_for_children(self) -> None:
        if self.recycler.limits.any and self.ledger.busy():
            self.recycler.nudge()
        if self.scaler.on and self.ledger.pending and self.state is State.RUNNING:
            self.scaler.nudge()
        if self.children.unsettled:
            self.children.balance()
        if self.broker.up:
            self.quarantine.watch()

    def _log_received(self) -> None:
        received, self.ledger.log_received = self.ledger.log_received, []
        for name, identity in received or ():
            which = {"task_name": name.decode(), "task_id": identity.decode()}
            logger.info("Task %(task_name)s[%(task_id)s] received", which, extra=which)

    def _credit(self) -> int:
        ready = self.children.ready if self.recycler.approves() else 0
        if not ready:
            return 0
        turns, limit = len(self.admission.buckets), self.program.eta_task_limit
        credit = self.dealer.credit(ready, turns=turns)
        # Any message may turn out to be one with an ETA.
        return min(credit, limit - self.ledger.waiting + turns) if limit else credit

    def _measure_round_trip(self, took_s: float) -> None:
        self.notes.round_trip(took_s)
        self.dealer.round_trip_s += 0.2 * (took_s - self.dealer.round_trip_s)

    # ------------------------------------------------------------------ the broker

    def _broker_came(self, welcome: Welcome) -> None:
        if welcome.dispossessed:
            self._dispossess()
        self.notes.connected(again=self._announced)
        if not self._announced:
            self._announced = True
            logger.info("Connected to %s", self.endpoint.masked())
            # Celery's own words and level; scripts and tests wait for them.
            logger.info("%s ready.", self.program.node)
            self._service.ready("working")
            self.nursery.notify("worker_ready", {})
        self.pulse.start()
        self.events.came()
        self._up_since_s = clock.monotonic()
        self._lease_until_s = self._up_since_s + LEASE_S
        self.timers.set("beat", BEAT_S, self._beat)
        self.timers.set("look", 0.0, self._look)
        if "sweep" not in self.timers:
            self.timers.set("sweep", 0.0, self._sweep)

    def _broker_went(self) -> None:
        self.notes.disconnected()
        self.waiting.lost()
        self.pulse.stop()
        self.events.went()
        self.timers.cancel("beat")

    def _beat(self) -> None:
        self.broker.check()
        if self.broker.up:
            data, replies = self.lease.beat()
            sent_at_s = clock.monotonic()
            self.broker.pump(lambda: self.settler.ask(data, replies, lambda errors: self._beaten(errors, sent_at_s)))
            self.timers.set("beat", BEAT_S, self._beat)

    def _beaten(self, errors: list[bytes], sent_at_s: float) -> None:
        log_refusals(errors)
        if not errors:
            self._lease_until_s = sent_at_s + LEASE_S
            self.notes.lease()

    def _holds_its_lease(self) -> bool:
        """Whether what this worker holds is certainly its own. If not, nothing more is started until the broker has
        been asked: others may have it."""
        if clock.monotonic() < self._lease_until_s:
            return True
        if self._lease_until_s:
            self._lease_until_s = 0.0
            for slot in self.children.slots:
                self.ledger.recall(slot)
            self.broker.lost(SurroundingsError(f"no heartbeat has got through for {LEASE_S} s"))
        return False

    def _dispossess(self) -> None:
        """Others have what this worker held and had not started: it must not start it."""
        for slot in self.children.slots:
            self.ledger.recall(slot)
        dropped = self.ledger.withdraw(0xFFFFFFFF)  # as many as there are
        for entry, *_ in dropped:
            self.admission.buckets.forget(entry)
            self.ledger.quit(entry)
        logger.warning(
            "This worker was silent for longer than its lease: others took over %d messages that it held.", len(dropped)
        )

    def _look(self) -> None:
        if self.state is State.RUNNING:
            self.timers.set("look", LOOK_S, self._look)
            if self.broker.up and not self._looking:
                self._looking = True
                # After an outage of the broker every heartbeat is late; workers on other hosts get time to come back.
                far = clock.monotonic() - self._up_since_s > LEASE_S
                slots = self.program.slots
                self.errands.run(lambda: self.janitor.look(far=far, slots=slots), self._looked, name="fastq-restore")

    def _looked(self, outcome: object) -> None:
        self._looking = False
        if isinstance(outcome, Exception):
            self._janitor_failed(outcome)
        elif isinstance(outcome, Look):
            self.notes.looked(outcome)
            for restored in outcome.restored:
                self.quarantine.restored(restored)

    def _sweep(self) -> None:
        if self.state is State.RUNNING:
            self.timers.set("sweep", SWEEP_S, self._sweep)
            if self.broker.up and not self._sweeping:
                self._sweeping = True
                self.errands.run(self.janitor.sweep, self._swept, name="fastq-sweep")

    def _swept(self, outcome: object) -> None:
        self._sweeping = False
        if isinstance(outcome, Exception):
            self._janitor_failed(outcome)
        elif isinstance(outcome, int) and outcome:
            self.notes.restored(outcome)
            logger.warning("Restored %s messages that stock workers held beyond the visibility timeout", outcome)

    def _janitor_failed(self, error: Exception) -> None:
        logger.warning("Could not look after other workers' messages now: %s", self.endpoint.explain(error))

    def _fail(self, error: FastqError) -> None:
        self.failure = error
        if self.state is not State.STOPPED:
            self._enter(Event.FAILED)

    # ------------------------------------------------------------------ nursery and children

    def said(self, nursery: NurseryProcess, message: ToEngine) -> None:
        """A message of the nursery."""
        if isinstance(message, Forked):
            self.children.forked(message, waker=nursery.take_fd() if message.waker else None)
        elif isinstance(message, Exited):
            self.children.exited(message)
        elif isinstance(message, AsideForked):
            self._aside(message).forked(message, fd=nursery.take_fd())
        elif isinstance(message, AsideExited):
            self._aside(message).exited(message)
        elif isinstance(message, Failed):
            logger.error("%s", message.message)

    def _aside(self, message: AsideForked | AsideExited) -> Desk | BeatProcess:
        return self.beat if message.number == beat.NUMBER else self.control.desk

    def _collect(self) -> None:
        for entry, message in self.ledger.collect():
            self.ledger.requeue(entry, message)
        self.quarantine.collect()

    def _lost_child(self, child: Child, victim: Victim, verdict: Verdict) -> None:
        """A child died in a task."""
        entry, kind, _task, flags, payload, began_ns = victim
        late = bool(flags & _core.LATE)
        if self.state is State.COLD and late and self.ledger.where(entry) is not None:
            if kind == _core.TASK:
                self.admission.count_verdict(verdict)
            self._returning.append((entry, *_place_of(self.ledger, entry)))
        elif kind != _core.TASK:
            if self.state is State.COLD or not self.admission.judge_again(entry, payload):
                logger.error("A child died while it carried out a verdict; its message is dropped.")
                self.ledger.settle(entry)
        elif child.guilty and began_ns not in child.guilty and late and self.ledger.where(entry) is not None:
            self.ledger.requeue(entry, payload)  # it was killed because of another
        else:
            self.quarantine.lost(entry, payload, verdict, late=late, death=child.death)

    def nursery_ended(self, nursery: NurseryProcess) -> None:
        """A nursery is gone."""
        if self._dismissed or self.reload.refused(nursery) or nursery is not self.nursery:
            return
        code = nursery.process.returncode
        logger.error("The nursery pid:%s ended with code %s; starting another.", nursery.pid, code)
        self.children.orphaned(nursery, present=True)
        self.control.desk.orphaned()
        self._failed_nurseries += 1
        if self._failed_nurseries > MOST_NURSERIES:
            self._fail(
                ProcessLost(f"the application could not be loaded again {MOST_NURSERIES} times; see the log above")
            )
        else:
            # One that was killed is replaced at once; one that could not load the application may later.
            self.timers.set("nursery", 0.0 if code < 0 else NURSERY_RETRY_S * self._failed_nurseries, self._new_nursery)

    def _new_nursery(self) -> None:
        self.nursery = self._another_nursery()

    def _another_nursery(self) -> NurseryProcess:
        """Have the application loaded again, its tasks numbered as they are."""
        return self._start_nursery([task.name for task in self.program.tasks])

    def _fork(self, slot: int, max_tasks: int | None) -> NurseryProcess:
        self.nursery.fork(slot, max_tasks)
        return self.nursery

    def new_program(self, nursery: NurseryProcess, program: ProgramInfo) -> None:
        """Another nursery has loaded the application."""
        if self.reload.is_coming(nursery):
            self.reload.loaded(program, present=self.nursery)
            return
        self._failed_nurseries = 0
        if self._change(nursery, program):
            self._know_tasks()
            self.children.adopted()
            self.control.desk.adopted()
            self.beat.start()

    def _change(self, nursery: NurseryProcess, program: ProgramInfo) -> bool:
        """Work with this nursery and what it has loaded from now on; False if that takes another engine."""
        if changed := unmovable(self.program, program):
            logger.warning("Changed, and not to be changed in a running engine: %s.", ", ".join(changed))
            self._restart()
            return False
        self.nursery = nursery
        self.program = program
        self.control.change(program)
        self.beat.relieve(wanted=program.beat)
        self.notes.program(program.tasks, nursery=nursery.pid)
        self.dealer.change(program)
        if self._announced:
            nursery.notify("worker_ready", {})
        self.recycler.change(ChildLimits.of(program, self.options))
        self.scaler.change(Wish.of(program, self.options))
        return True

    def _reloaded(self) -> None:
        self._know_tasks()
        logger.info("%s ready.", self.program.node)  # Celery's word, also after its restart

    def _know_tasks(self) -> None:
        """All children know the program's tasks: take their messages."""
        self.events.know(self.program.tasks)
        released = self.admission.buckets.adopt(rate_limits(self.program))
        self.admission.know(self.program.tasks)
        self.ledger.hasten(released, clock.now())
        self.broadcasts.hasten(released)

    # ------------------------------------------------------------------ stopping

    def stop(self, event: Event) -> None:
        """Somebody wants the worker to stop."""
        if self.state is not State.STOPPED:
            self._enter(event)

    def _enter(self, event: Event) -> None:
        before, self.state = self.state, after(self.state, event)
        self.notes.state(self.state)
        if before is State.RUNNING:
            self._close_doors()
            self.timers.cancel("autoscale")
        if self.state is before:
            return
        if self.state is State.WARM and self.options.shutdown_timeout is not None:
            self.timers.set("shutdown", self.options.shutdown_timeout, self._out_of_time)
        if self.state is State.SOFT:
            self._wait_a_while()
        if self.state is State.COLD:
            self._kill_running()

    def _out_of_time(self) -> None:
        if self.state is State.WARM:
            logger.warning(
                "Ending what still runs %g s after the stop (--shutdown-timeout).", self.options.shutdown_timeout
            )
            self._enter(Event.LATE)

    def _close_doors(self) -> None:
        """Take nothing more, and nothing that has been taken any further."""
        self._service.stopping()
        self.events.leave()
        self.beat.stop()
        self.ledger.holding = True
        self.broker.pump(self.intake.quiet)
        for slot in self.children.slots:
            self.ledger.recall(slot)

    def _wait_a_while(self) -> None:
        wanted = self.ledger.busy() > 0 or self.program.soft_shutdown_on_idle
        wait_s = self.program.soft_shutdown_timeout_s if wanted else 0.0
        self.timers.set("soft", wait_s, lambda: self._enter(Event.LATE) if self.state is State.SOFT else None)
        if wait_s:
            logger.warning("Initiating Soft Shutdown, terminating in %s seconds", wait_s)

    def _kill_running(self) -> None:
        for slot in self.children.slots:
            running = self.ledger.all_running(slot)
            if running:
                self.abandoned += len(running)
                pid = self.children.pid(slot)
                self.children.kill(slot, Verdict(kind="cancelled", started=True, pid=pid, task=running[0][3]))
        self.timers.set("cold", COLD_S, lambda: self._enter(Event.DRAINED))

    def _withdraw(self) -> None:
        """What no child has started is not dealt any more, only returned."""
        self.broadcasts.drop()
        for entry in self.waiting.abandon():
            self._returning.append((entry, *_place_of(self.ledger, entry)))
        if len(self._returning) < GIVE_BACK:
            self._returning += self.ledger.withdraw(GIVE_BACK)

    def _go_on_stopping(self) -> None:
        """Take the next steps of stopping that are possible now."""
        if self.broker.up and self.intake.drained and self._returning:
            # All at once, now that no more can arrive: so they keep their order.
            returning, self._returning = self._returning, []
            self._return(returning)
            self.timers.set("return", 0.0, _nothing)
            return
        if self._is_drained():
            self._enter(Event.DRAINED)

    def _is_drained(self) -> bool:
        if not self.broker.up and (self.failure is not None or self.state is State.COLD):
            return not self.ledger.busy()
        return not (
            self.ledger.busy()
            or self.children.in_doubt
            or self.quarantine.counting
            or (self._looking and self.broker.up)  # it may bring failures that are to be stored
            or self.ledger.pending
            or self.ledger.waiting
            or self._returning
            or not self.settler.clean
            or not self.events.clean
            or not self.intake.drained
            or (self.results is not None and not self.results.clean)
        )

    def _return(self, withdrawn: Sequence[tuple[int, int, int, int]]) -> None:
        for entries in return_messages(withdrawn, keys=self.intake.keys, endpoint=self.endpoint):
            self.given_back += len(entries)
            for entry in entries:
                self.admission.buckets.forget(entry)
                self.ledger.quit(entry)

    def close(self) -> None:
        """Say goodbye: children, nursery, broker, segment. May be called twice."""
        self._dismissed = True
        self.reload.close()
        self.pulse.stop()
        self.control.close()
        self._send_children_away()
        self.beat.close()
        self.nursery.kill()
        self.children.close()
        if self.broker.up and not self.ledger.size:
            self._leave()
        self.broker.close()
        if self.result_link is not None:
            self.result_link.close()
        self.janitor.close()
        if not self.ledger.size:
            self.segment.remove()

    def _leave(self) -> None:
        client = self.endpoint.client(timeout_s=5.0)
        try:
            self.lease.leave(client)
        except Exception as error:
            logger.warning("Could not leave the registry: %s", error)
        finally:
            client.close()

    def _send_children_away(self) -> None:
        """Children flush what applications want flushed, then the nursery says goodbye to the application."""
        self.beat.stop()
        self.children.dismiss()
        until = clock.monotonic() + 5.0
        while (len(self.children) or self.beat.alive) and self.nursery.alive and clock.monotonic() < until:
            self.poller.wait(0.1)
        if self.program.state_db:
            self.nursery.remember(self.admission.revoked.ids)
        self.nursery.stop()
        while self.nursery.alive and clock.monotonic() < until:
            self.poller.wait(0.1)


def _nothing() -> None:
    """A timer that only ends a wait."""


def _place_of(ledger: _core.Ledger, entry: int) -> tuple[int, int, int]:
    place = ledger.where(entry)
    assert place is not None, "a message in the caller's hands has a place on the broker"
    return place
