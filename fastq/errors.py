"""Every exception of fastq, sorted by whose fault it is.

    FastqError
    ├── OperatorError              a setting or an option; correct it and start again
    │   ├── OptionError            on the command line or in the environment
    │   ├── SettingError           in the application's configuration
    │   ├── UrlError               a broker or result store address that cannot be read
    │   ├── ApplicationError       the application cannot be found or imported
    │   ├── ScheduleError          an entry of the application's schedule
    │   ├── PidfileHeld            another live process owns the pidfile
    │   └── CoreMissing            a worker, where there is no Linux or no compiled core
    ├── PeerError                  a message or a reply that breaks its format
    │   ├── EnvelopeError          what was on the queue is no message
    │   ├── HeaderError            a header is missing or of the wrong type
    │   ├── BodyError              the body cannot be decoded
    │   │   └── ContentRefused     its content type is not in `accept_content`
    │   └── ReplyError             a server said something that its protocol does not allow
    ├── SurroundingsError          the broker, the result store, the operating system
    │   ├── BrokerError            the broker; of messages being sent, it says which were and which were not
    │   │   ├── BrokerUnavailable  not reachable now; trying again may help
    │   │   │   └── ConnectionCut  lost after something was written: it may have been carried out
    │   │   ├── BrokerRefused      reachable, but it refuses us
    │   │   │   ├── AccessDenied    user, password, or what this user may do
    │   │   │   ├── BrokerFull      it has no memory left for more messages
    │   │   │   └── BrokerReadOnly  it is a replica
    │   │   ├── NotConfirmed       it took the messages, and too few replicas have them
    │   │   └── BufferFull         a producer's buffer has no room; the message was not taken
    │   ├── ResultsUnavailable     the result store, likewise
    │   └── ProcessLost            the nursery is gone, or cannot be started
    ├── TaskError                  a task's own
    │   ├── TaskFailed             it raised, elsewhere; what it raised, in words
    │   ├── TaskRevoked            it was revoked and will not run
    │   ├── ResultTooLarge         it has returned more than is stored
    │   ├── UnknownTask            nobody registered that name
    │   ├── MemoryLimitExceeded    its process has grown over the limit; a MemoryError, too
    │   ├── SoftTimeLimitExceeded  raised in it: it should come to an end now
    │   ├── TimeLimitExceeded      it was ended for it
    │   ├── ArgumentError          an argument does not fit its annotation; a TypeError, too
    │   ├── MaxRetriesExceeded     it has asked for one more attempt than it may have
    │   ├── ChordError             a task of a chord's header did not return, so its body does not run
    │   └── ChildLost              the process that ran it is gone
    ├── Decision                   raised by a native task to say how it ends
    │   ├── Retry                  run it again
    │   ├── Ignore                 it has ended, and no result is stored
    │   └── Reject                 refuse the message
    └── Bug                        ours; please report it with the message
        ├── ImpossibleEvent        an event that the state table does not know
        └── RingBroken             shared memory holds what nobody could have written

A message names the thing, the value that was got, and the next step. Evidence (bytes, tags, causes) is in `evidence`.
"""

from __future__ import annotations

from typing import ClassVar


class FastqError(Exception):
    """The root of all: catch this to catch whatever fastq raises on purpose."""

    #: What the command line exits with when nobody catches it.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.evidence = evidence

    @property
    def message(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        evidence = "".join(f", {name}={value!r:.200}" for name, value in self.evidence.items())
        return f"{type(self).__name__}({self.message!r}{evidence})"


# ---------------------------------------------------------------------------- the operator's


class OperatorError(FastqError):
    """A setting, an option or a file that the operator has to correct."""

    #: Of a usage error, with Celery and with click.
    exit_code = 2


class OptionError(OperatorError):
    """An option or an environment variable has a value that cannot be used."""


class SettingError(OperatorError):
    """A setting of the application has a value that cannot be used."""


class UrlError(OperatorError):
    """A broker or result store URL cannot be read. Its message never shows the password."""


class ApplicationError(OperatorError):
    """The application cannot be found, or importing it failed."""


class ScheduleError(OperatorError, ValueError):
    """An entry of the application's schedule cannot be used: its time, its name, its zone."""


class PidfileHeld(OperatorError):
    """Another live process owns the pidfile."""

    #: EX_CANTCREAT, as Celery.
    exit_code = 73


class CoreMissing(OperatorError):
    """Workers run on Linux, on the compiled core: not on this system, or not in this installation."""


# ---------------------------------------------------------------------------- the peer's


class PeerError(FastqError):
    """A message or a reply does not keep to its format. The worker logs it and goes on."""


class EnvelopeError(PeerError):
    """What was on the queue is no message at all."""


class HeaderError(PeerError):
    """A header that is needed is missing, or has the wrong type."""


class BodyError(PeerError):
    """The body cannot be decoded."""


class ContentRefused(BodyError):
    """The content type is not among those that the application accepts."""


class ReplyError(PeerError):
    """A server's reply is none that its protocol allows here."""


# ---------------------------------------------------------------------------- the surroundings'


class SurroundingsError(FastqError):
    """Something that fastq needs is not there, or does not work."""


class BrokerError(SurroundingsError):
    """The broker cannot be used. Raised by a send, it says what is known of each message by the ids of the tasks."""

    def _ids(self, which: str) -> tuple[str, ...]:
        found = self.evidence.get(which, ())
        return found if isinstance(found, tuple) else ()

    @property
    def sent_ids(self) -> tuple[str, ...]:
        """Tasks that the broker has for certain."""
        return self._ids("sent_ids")

    @property
    def unsent_ids(self) -> tuple[str, ...]:
        """Tasks that the broker does not have for certain; sending them again cannot double them."""
        return self._ids("unsent_ids")

    @property
    def unknown_ids(self) -> tuple[str, ...]:
        """Tasks that were written to a connection which was lost before an answer came."""
        return self._ids("unknown_ids")


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached now. Trying again may help."""


class ConnectionCut(BrokerUnavailable):
    """The connection was lost between a command and its answer: nobody knows whether it was carried out."""


class BrokerRefused(BrokerError):
    """The broker answers, and refuses: password, database, permission. Trying again does not help."""


class AccessDenied(BrokerRefused):
    """The broker does not know this user and password, or does not let this user do what is needed."""


class BrokerFull(BrokerRefused):
    """The broker has reached its `maxmemory` and takes nothing more until there is room."""


class BrokerReadOnly(BrokerRefused):
    """The broker is a replica, which takes no messages: the address is wrong, or a failover is going on."""


class NotConfirmed(BrokerError):
    """The broker has the messages, and fewer replicas than asked for have confirmed them in time."""


class BufferFull(BrokerError):
    """A producer's buffer has reached its bounds, because the broker is too slow or away. The message was not taken."""

    @property
    def taken_ids(self) -> tuple[str, ...]:
        """Tasks of the same call that the buffer had taken before: it sends them, they are not to be sent again."""
        return self._ids("taken_ids")


class ResultsUnavailable(SurroundingsError):
    """The result store cannot be reached, or refuses."""


class ProcessLost(SurroundingsError):
    """The nursery is gone, or cannot be started."""


# ---------------------------------------------------------------------------- the task's


class TaskError(FastqError):
    """A single task cannot be carried out."""


class TaskFailed(TaskError):
    """A task raised in its worker. The exception itself stays there; here is what was stored of it."""

    @property
    def task_id(self) -> str:
        return str(self.evidence.get("task_id", ""))

    @property
    def exc_type(self) -> str:
        """Name of the exception's class, without its module."""
        return str(self.evidence.get("exc_type", ""))

    @property
    def exc_module(self) -> str:
        """Name of the module that the class is from."""
        return str(self.evidence.get("exc_module", ""))

    @property
    def exc_args(self) -> tuple[object, ...]:
        """The exception's arguments, as far as they could be stored."""
        found = self.evidence.get("exc_args", ())
        return found if isinstance(found, tuple) else (found,)

    @property
    def traceback(self) -> str:
        """The traceback in the worker, as text; empty if none was stored."""
        return str(self.evidence.get("traceback") or "")


class ChordError(TaskError):
    """A task of a chord's header did not return, or its body could not be sent: the body does not run."""


class TaskRevoked(TaskError):
    """A task was revoked: it did not run, or was ended."""


class ResultTooLarge(TaskError):
    """A task has returned more than the result store is to take (`result_max_bytes`)."""


class UnknownTask(TaskError):
    """No task of that name is registered in the application."""


class MemoryLimitExceeded(TaskError, MemoryError):
    """Raised in a task, wherever it is, when its process has more memory of its own than --max-memory-hard."""


class SoftTimeLimitExceeded(TaskError):
    """Raised in a task when its soft time limit is over, so that it can end in order."""


class TimeLimitExceeded(TaskError):
    """The hard time limit of a task was over; its process was killed, or its coroutine cancelled."""


class ArgumentError(TaskError, TypeError):
    """An argument of a native task is missing, too many, or does not fit its annotation."""


class MaxRetriesExceeded(TaskError):
    """A native task asked for another attempt, and has had all that it may have (`max_retries`)."""


class ChildLost(TaskError):
    """The process that ran the task is gone."""


# ---------------------------------------------------------------------------- said by a task


class Decision(FastqError):
    """Raised by a native task: no failure, but how it ends."""


class Retry(Decision):
    """Run it again: after `countdown` seconds, or at `eta`; `cause` is the error that made it necessary, if any."""

    def __init__(
        self, message: str = "", *, cause: BaseException | None = None, countdown: float | None = None
    ) -> None:
        super().__init__(message or (f"Retry in {countdown:g}s" if countdown is not None else "Retry"))
        self.cause: BaseException | None = cause
        self.countdown: float | None = countdown


class Ignore(Decision):
    """It has ended, and no result is stored."""

    def __init__(self, message: str = "ignored") -> None:
        super().__init__(message)


class Reject(Decision):
    """Refuse the message. With `requeue`, and under late acknowledgement, it goes back to its queue."""

    def __init__(self, reason: object = "", *, requeue: bool = False) -> None:
        super().__init__(str(reason))
        self.requeue = requeue


# ---------------------------------------------------------------------------- ours


class Bug(FastqError):
    """fastq broke a rule of its own. Please report it."""

    #: EX_SOFTWARE.
    exit_code = 70


class ImpossibleEvent(Bug):
    """A state met an event that its table does not know."""


class RingBroken(Bug):
    """Shared memory holds what no writer could have written."""
