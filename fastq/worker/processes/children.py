"""Keep the number of children: fork, notice deaths at once, say what ran, replace."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable

import msgspec

from fastq import _core, clock
from fastq.config import memory
from fastq.ipc.messages import Exited, Forked
from fastq.ipc.segment import SharedSegment, stack_path
from fastq.program import Verdict
from fastq.wire.deadletter import Death
from fastq.worker.poll import Poller, Timers
from fastq.worker.processes import posix

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds before a child that died while it started is replaced, doubled each time up to the last.
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 30.0

#: Children beyond the number that is wanted while some are being replaced: what it costs in memory.
AT_A_TIME = 1

#: Characters of a stack that are kept: all threads of most programs.
STACK_CHARACTERS = 8000

#: What is said of a task whose process was killed because of another.
INNOCENT = "Its process was killed: another task in it held up the event loop beyond its hard time limit."

#: Exit codes of children that leave as agreed: 0, and Celery's for one that has run its number of tasks.
AGREED = frozenset({0, 155})


#: (entry, kind, task, flags, payload, started_ns) of a task whose process has died.
Victim = tuple[int, int, int, int, bytes, int]


class Child(msgspec.Struct, kw_only=True):
    """A slot's present owner."""

    slot: int
    #: The nursery it was forked from.
    parent: object = None
    pid: int = 0
    pidfd: int | None = None
    #: Since when it is there, by the monotonic clock; after how many tasks it leaves by itself.
    born_s: float = 0.0
    max_tasks: int | None = None
    #: It gets no task for now: as many as are wanted are at work.
    benched: bool = False
    #: It is to leave as soon as another is ready in its place.
    relieved: bool = False
    #: It was told to leave.
    dismissed: bool = False
    #: Tasks that it may have in flight; 0: one at a time. Then it also has an eventfd by which it is woken.
    berths: int = 0
    waker: int | None = None
    #: What it ran when it died, until its exit status is known.
    victims: list[Victim] = []
    #: Its death has been noticed.
    buried: bool = False
    #: What is known of its death, if that is the task's fault.
    death: Death | None = None
    #: What the engine killed it for.
    sentence: Verdict | None = None
    #: With several tasks in flight: those that it was killed for, by the time at which they began. The others are
    #: `innocent`.
    guilty: frozenset[int] = frozenset()


class Children:
    """All children, by slot. `fork` asks the present nursery for a child and returns that nursery; `lost` places a
    verdict for what a dead child ran."""

    def __init__(
        self,
        segment: SharedSegment,
        ledger: _core.Ledger,
        *,
        poller: Poller,
        timers: Timers,
        fork: Callable[[int, int | None], object],
        max_tasks: Callable[[], int | None],
        berths: Callable[[], int],
        collect: Callable[[], None],
        lost: Callable[[Child, Victim, Verdict], None],
        name: Callable[[bytes], str],
        node: str,
    ) -> None:
        self._segment, self._core, self._ledger = segment, segment.core, ledger
        self._poller, self._timers = poller, timers
        self._fork, self._collect, self._lost, self._name = fork, collect, lost, name
        self._max_tasks, self._berths = max_tasks, berths
        self._children: dict[int, Child] = {}
        self._wanted = 0
        #: Whether somebody is benched, or may have to be.
        self.unsettled: bool = False
        self._has_parent = True
        #: Whether `relieve` may have something to do.
        self.needs_relief: bool = False
        self._delay_s = FIRST_DELAY_S
        self._jobs = 0
        self._node = node
        #: As counted when a child died last.
        self._oom_kills = memory.oom_kills()

    def __len__(self) -> int:
        return len(self._children)

    @property
    def slots(self) -> list[int]:
        return list(self._children)

    @property
    def ready(self) -> int:
        """Children that take tasks."""
        at_work = [child.slot for child in self._children.values() if not child.buried and not child.benched]
        return sum(self._core.state(slot) == _core.READY for slot in at_work)

    def living(self) -> list[Child]:
        """All that are not known to be dead."""
        return [child for child in self._children.values() if not child.buried]

    def state(self, slot: int) -> int:
        """What the child of a slot says of itself."""
        return self._core.state(slot)

    @property
    def in_doubt(self) -> bool:
        """Whether a child is dead, and how it died not known yet."""
        return any(child.victims for child in self._children.values())

    def pidfd(self, slot: int) -> int | None:
        child = self._children.get(slot)
        return None if child is None or child.buried else child.pidfd

    def pid(self, slot: int) -> int:
        child = self._children.get(slot)
        return 0 if child is None else child.pid

    def berths(self, slot: int) -> int:
        """Tasks that the child of a slot may have in flight; 0: one at a time."""
        child = self._children.get(slot)
        return 0 if child is None else child.berths

    # Growing

    def keep(self, count: int) -> None:
        """Have this many children from now on. Surplus ones get no new tasks, and leave when they are idle."""
        self._wanted = count
        self.unsettled = True
        self.fill()

    @property
    def wanted(self) -> int:
        """How many children there are to be."""
        return self._wanted

    @property
    def most(self) -> int:
        """How many children there can be; half the slots, for a slot is needed for a while after its child."""
        return self._core.slots // 2

    def shrink(self, count: int) -> None:
        """Have so many fewer from now on. Idle ones leave at once; if there are not enough, others after their task."""
        self._wanted = max(0, self._wanted - count)
        staying = sorted(self._staying(), key=lambda child: (self._busy(child), -child.slot))
        for child in staying[: max(0, len(staying) - self._wanted)]:
            self.send_away(child.slot)

    def fill(self) -> None:
        """Fork what is missing. Children that leave are replaced before they are gone."""
        if not self._has_parent:
            return
        for slot in self._free_slots()[: max(0, self._missing())]:
            berths = self._berths()
            self._segment.reserve(slot, berths=berths)
            self._ledger.open_child(slot, berths)
            child = Child(slot=slot, born_s=clock.monotonic(), max_tasks=self._max_tasks(), berths=berths)
            self._children[slot] = child
            child.parent = self._fork(slot, child.max_tasks)
        self.unsettled = self.unsettled or len(self._children) > self._wanted
        if self.unsettled:
            self.balance()

    def _missing(self) -> int:
        """How many to fork now. Those that are relieved get their replacements one after the other."""
        present = self._staying()
        missing = self._wanted - sum(not child.relieved for child in present)
        return min(missing, self._wanted + AT_A_TIME - len(present))

    def _leaving(self, child: Child) -> bool:
        return child.dismissed or child.buried or self._core.state(child.slot) == _core.RETIRING

    # Shrinking

    def balance(self) -> None:
        """Let no more children work than are wanted: a replacement waits until the one before it is through with its
        task, and a surplus child leaves when it is idle. To be called while `unsettled`."""
        finishing = sum(map(self._is_finishing, self._children.values()))
        # Those that are relieved work until they are told to leave; then come those that are busy, and those that were
        # at work before.
        order = sorted(self._staying(), key=lambda c: (not c.relieved, not self._busy(c), c.benched, c.born_s))
        places = self._wanted - finishing
        for number, child in enumerate(order):
            self._bench(child, waits=number >= places)
        surplus = sum(not child.relieved for child in order) - self._wanted
        idle = [child for child in reversed(order) if child.benched and not self._busy(child)]
        for child in idle[: max(0, surplus)]:
            self.send_away(child.slot)
        self.unsettled = finishing > 0 or len(order) > self._wanted or any(child.benched for child in order)

    def _is_finishing(self, child: Child) -> bool:
        """Whether its replacement waits. Nobody waits for a child that has many tasks in flight: one of them may take
        very long. One that died in a task is through with it when there is a verdict, which comes before other tasks:
        behind a long one, the task's result would be that late."""
        if child.buried:
            return bool(child.victims)
        return self._leaving(child) and not child.berths and self._ledger.load(child.slot)[1]

    def _busy(self, child: Child) -> bool:
        return any(self._ledger.load(child.slot)[:2])

    def _staying(self) -> list[Child]:
        return [child for child in self._children.values() if not self._leaving(child)]

    def _bench(self, child: Child, *, waits: bool) -> None:
        if child.benched != waits:
            child.benched = waits
            self._ledger.bench(child.slot, waits)
            if waits:
                self._ledger.recall(child.slot)

    def send_away(self, slot: int) -> None:
        """Tell a child to leave after the task that it runs; what it has not started goes to others."""
        child = self._children[slot]
        if not child.dismissed and not child.buried:
            child.dismissed = True
            self.unsettled = True
            self._ledger.dismiss(slot)

    # Replacing

    def replace(self, slot: int) -> None:
        """Have another child in this one's place: it leaves after the task that it runs, once the other is ready."""
        child = self._children.get(slot)
        if child is not None and not self._leaving(child):
            child.relieved = self.needs_relief = self.unsettled = True
            self.fill()

    @property
    def replacing(self) -> bool:
        """Whether a child still waits for its replacement."""
        return any(child.relieved for child in self._staying())

    def relieve(self) -> None:
        """Let those go whose replacement is ready, idle ones first; for when children may have become ready."""
        waiting = [child for child in self._staying() if child.relieved]
        if not waiting:
            self.needs_relief = False
            return
        surplus = self._fit() + len(waiting) - self._wanted
        for child in sorted(waiting, key=lambda each: self._ledger.load(each.slot)[:2])[: max(0, surplus)]:
            self.send_away(child.slot)
        self.fill()

    def _fit(self) -> int:
        """Children that take tasks and are to stay."""
        return sum(self.state(child.slot) == _core.READY for child in self._staying() if not child.relieved)

    def born_of(self, parent: object) -> list[int]:
        """Slots of the children that this nursery has forked and not yet seen the end of."""
        return [slot for slot, child in self._children.items() if child.parent is parent]

    def _free_slots(self) -> list[int]:
        return [s for s in range(self._core.slots) if s not in self._children and self._ledger.reusable(s)]

    def forked(self, message: Forked, *, waker: int | None) -> None:
        """The nursery has forked a child."""
        child = self._children.get(message.slot)
        if child is None:
            if waker is not None:
                os.close(waker)
            return
        if waker is not None:
            child.waker = waker
            self._ledger.set_waker(child.slot, waker)
        self._segment.board.add("forks")
        child.pid, child.pidfd = message.pid, posix.open_pidfd(message.pid)
        if child.pidfd is not None:
            self._poller.watch(child.pidfd, lambda _events: self._died(child))

    # Dying

    def _died(self, child: Child) -> None:
        """A child is dead: its results are collected, what it had not started goes to others."""
        if child.buried:
            return
        child.buried = True
        if child.pidfd is not None:
            self._poller.forget(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = None
        started = self._core.state(child.slot) != _core.BOOTING
        self._delay_s = FIRST_DELAY_S if started else min(LAST_DELAY_S, self._delay_s * 2)
        self._collect()  # what it has written counts, and was written before it died
        child.victims = self._ledger.bury(child.slot)
        if child.waker is not None:
            os.close(child.waker)
            child.waker = None
        if started:
            self.fill()

    def exited(self, message: Exited) -> None:
        """The nursery knows how a child ended."""
        child = self._children.get(message.slot)
        if child is None or child.pid not in (0, message.pid):
            return
        self._died(child)
        self._explain(child, message.status, message.maxrss_kib)
        self._forget(child)

    def orphaned(self, parent: object, *, present: bool) -> None:
        """A nursery is gone, and its children with it (PR_SET_PDEATHSIG). If it was `present`, `adopted` follows."""
        self._has_parent = self._has_parent and not present
        for child in [self._children[slot] for slot in self.born_of(parent)]:
            if child.pidfd is not None:
                posix.send(child.pidfd, signal.SIGKILL)
            self._died(child)
            self._explain(child, signal.SIGKILL, 0, guilty=False)
            self._forget(child)

    def adopted(self) -> None:
        """Another nursery is ready to fork."""
        self._has_parent = True
        self.fill()

    def _forget(self, child: Child) -> None:
        self._children.pop(child.slot, None)
        if self._core.state(child.slot) == _core.BOOTING and not child.dismissed:
            self._timers.set("fill", self._delay_s, self.fill)
        else:
            self.fill()

    def _explain(self, child: Child, status: int, maxrss_kib: int, *, guilty: bool = True) -> None:
        self._jobs += 1
        note = posix.death_note(status, number=self._jobs)
        stack = self._take_stack(child)
        if child.victims and guilty:
            reason = child.sentence.reason if child.sentence is not None else ""
            child.death = Death(
                at=clock.now(),
                node=self._node,
                pid=child.pid,
                reason=reason or note,
                peak_kib=maxrss_kib,
                oom_kills=self._new_oom_kills(),
                stack=stack,
            )
        agreed = os.WIFEXITED(status) and os.WEXITSTATUS(status) in AGREED
        self._segment.board.add(self._cause(child, status, agreed=agreed))
        if child.sentence is None and (child.victims or not (agreed or child.dismissed)):
            logger.error("%s", self._obituary(child, status, maxrss_kib))
            if stack and child.victims:
                logger.error("It was at:\n%s", stack)
        for victim in child.victims:
            self._lost(child, victim, self._sentence(child, victim, note))

    @staticmethod
    def _sentence(child: Child, victim: Victim, note: str) -> Verdict:
        """What becomes of a task that it had not ended."""
        task = _task_number(victim[2])
        if child.sentence is None:
            return Verdict(kind="lost", reason=note, started=True, pid=child.pid, task=task)
        if child.guilty and victim[5] not in child.guilty:
            return Verdict(kind="lost", reason=INNOCENT, started=True, pid=child.pid, task=task)
        return msgspec.structs.replace(child.sentence, task=task) if child.berths else child.sentence

    def _cause(self, child: Child, status: int, *, agreed: bool) -> str:
        """The figure that its end is counted with."""
        if child.sentence is not None:
            return "ends_limit" if child.sentence.kind in ("timeout", "lost") else "ends_stopped"
        if child.dismissed or agreed:
            return "ends_dismissed" if child.dismissed else "ends_agreed"
        if self._core.state(child.slot) == _core.BOOTING:
            return "ends_starting"
        return "ends_signal" if os.WIFSIGNALED(status) else "ends_exit"

    def _take_stack(self, child: Child) -> str:
        """What faulthandler has written in the child, if its end was a fatal error."""
        path = stack_path(str(self._segment.path), child.slot)
        try:
            text = path.read_text(errors="replace")[:STACK_CHARACTERS]
            path.unlink()
        except OSError:
            return ""
        return text.strip()

    def _new_oom_kills(self) -> int:
        """How often the kernel has killed in our control group since the last death."""
        before, self._oom_kills = self._oom_kills, memory.oom_kills()
        return max(0, (self._oom_kills or 0) - (before or 0))

    def _obituary(self, child: Child, status: int, maxrss_kib: int) -> str:
        how = (
            f"was killed by {posix.signal_name(os.WTERMSIG(status))}"
            if os.WIFSIGNALED(status)
            else f"exited with code {os.waitstatus_to_exitcode(status)}"
        )
        peak = f", peak memory {maxrss_kib / 1024:.1f} MiB" if maxrss_kib else ""
        if child.death is not None and child.death.oom_kills:
            peak += f"; the control group was out of memory ({child.death.oom_kills} killed)"
        return f"Process ForkPoolWorker-{child.slot + 1} pid:{child.pid} {how} {self._when(child)}{peak}"

    def _when(self, child: Child) -> str:
        if not child.victims:
            return "while it started" if self._core.state(child.slot) == _core.BOOTING else "between two tasks"
        if len(child.victims) > 1:
            return f"with {len(child.victims)} tasks in flight"
        _entry, kind, _task, _flags, payload, _began = child.victims[0]
        what = self._name(payload) if kind == _core.TASK else "the end of a message"
        return f"after {self._ran_s(child):.3f}s in {what}"

    @staticmethod
    def _ran_s(child: Child) -> float:
        began = child.victims[0][5]
        return (clock.monotonic_ns() - began) / 1e9 if began else 0.0

    # Leaving

    def dismiss(self) -> None:
        """Tell all children to leave after what they run."""
        self._wanted = 0
        for slot in self._children:
            self.send_away(slot)

    def kill(self, slot: int, sentence: Verdict, *, guilty: frozenset[int] = frozenset()) -> None:
        """End a child at once; `sentence` is what becomes of the task that it runs; of several, of those that began at
        the times in `guilty`, if there are any."""
        child = self._children.get(slot)
        if child is not None and child.pidfd is not None:
            child.sentence, child.guilty = sentence, guilty
            posix.send(child.pidfd, signal.SIGKILL)

    def terminate(self, slot: int, number: int, sentence: Verdict) -> None:
        """Send a child a signal that should end it; it gets nothing more to do, and is replaced now. `sentence` is what
        becomes of the task that it runs, unless the task ends by itself."""
        child = self._children.get(slot)
        if child is None or child.pidfd is None:
            return
        child.sentence, child.dismissed = sentence, True
        self._ledger.dismiss(slot, ending=True)
        posix.send(child.pidfd, number)
        self.fill()

    def interrupt(self, slot: int) -> None:
        """Send a child the signal of a limit: `aim_soft_limit` or `aim_memory_limit` has said which and for what."""
        child = self._children.get(slot)
        if child is not None and child.pidfd is not None:
            posix.send(child.pidfd, signal.SIGUSR1)

    def close(self) -> None:
        for child in self._children.values():
            if child.waker is not None:
                os.close(child.waker)
            if child.pidfd is not None:
                self._poller.forget(child.pidfd)
                with contextlib.suppress(OSError):
                    os.close(child.pidfd)
        self._children.clear()


def _task_number(number: int) -> int | None:
    return None if number == _core.NO_TASK else number
