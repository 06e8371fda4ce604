"""Remote control of one worker, put together: mailbox, commands, replies, and who answers for the application."""

from __future__ import annotations

from fastq import clock
from fastq.program import ProgramInfo
from fastq.transport.connect import Endpoint
from fastq.transport.redis.keys import Keys
from fastq.worker.cluster.actions import Actions
from fastq.worker.cluster.commands.state import State, View
from fastq.worker.cluster.commands.table import COMMANDS
from fastq.worker.cluster.events import Events
from fastq.worker.cluster.lamport import SharedLamport
from fastq.worker.cluster.pidbox import Pidbox
from fastq.worker.cluster.replies import Replies
from fastq.worker.cluster.subscriptions import Subscriptions
from fastq.worker.poll import Errands
from fastq.worker.processes.desk import Desk
from fastq.worker.processes.scaler import Scaler


class Control:
    """`state` is the worker as commands see it, `desk` answers what only the application knows."""

    def __init__(
        self,
        program: ProgramInfo,
        *,
        view: View,
        actions: Actions,
        events: Events,
        scaler: Scaler,
        endpoint: Endpoint,
        keys: Keys,
        subscriptions: Subscriptions,
        desk: Desk,
        errands: Errands,
    ) -> None:
        self.desk = desk
        self.state: State = State(
            node=program.node,
            program=program,
            clock=SharedLamport(view.segment),
            actions=actions,
            events=events,
            scaler=scaler,
            view=view,
            endpoint=endpoint,
            since_s=clock.monotonic(),
        )
        self._replies = Replies(
            program.control, node=program.node, endpoint=endpoint, keys=keys, errands=errands, desk=desk
        )
        self._pidbox = Pidbox(commands=COMMANDS, state=self.state, replies=self._replies, desk=desk, errands=errands)
        if program.control.enabled:
            channel = keys.channel(f"{program.control.exchange}.pidbox", db=endpoint.db)
            subscriptions.add(channel, self._pidbox.heard)

    def change(self, program: ProgramInfo) -> None:
        """Another nursery has loaded the application; what answers is forked from that one."""
        self.state.program = program
        self.desk.relieve()

    def close(self) -> None:
        """Let processes and connections go; may be called twice."""
        self.desk.close()
        self._replies.close()
