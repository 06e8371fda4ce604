"""Every exception of fastq, sorted by whose fault it is.

    FastqError
    ├── OperatorError              a setting or an option; correct it and start again
    │   ├── OptionError            on the command line or in the environment
    │   ├── SettingError           in the application's configuration
    │   ├── UrlError               a broker or result store address that cannot be read
    │   ├── ApplicationError       the application cannot be found or imported
    │   ├── ScheduleError          an entry of the application's schedule
    │   └── PidfileHeld            another live process owns the pidfile
    ├── PeerError                  a message or a reply that breaks its format
    │   ├── EnvelopeError          what was on the queue is no message
    │   ├── HeaderError            a header is missing or of the wrong type
    │   ├── BodyError              the body cannot be decoded
    │   │   └── ContentRefused     its content type is not in `accept_content`
    │   └── ReplyError             a server said something that its protocol does not allow
    ├── SurroundingsError          the broker, the result store, the operating system
    │   ├── BrokerUnavailable      not reachable now; trying again may help
    │   ├── BrokerRefused          reachable, but it refuses us: password, database, permission
    │   ├── ResultsUnavailable     the result store, likewise
    │   └── ProcessLost            the nursery is gone, or cannot be started
    ├── TaskError                  a task's own
    │   ├── UnknownTask            nobody registered that name
    │   ├── MemoryLimitExceeded    its process has grown over the limit; a MemoryError, too
    │   └── ChildLost              the process that ran it is gone
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


class BrokerUnavailable(SurroundingsError):
    """The broker cannot be reached now. Trying again may help."""


class BrokerRefused(SurroundingsError):
    """The broker answers, and refuses: password, database, permission. Trying again does not help."""


class ResultsUnavailable(SurroundingsError):
    """The result store cannot be reached, or refuses."""


class ProcessLost(SurroundingsError):
    """The nursery is gone, or cannot be started."""


# ---------------------------------------------------------------------------- the task's


class TaskError(FastqError):
    """A single task cannot be carried out."""


class UnknownTask(TaskError):
    """No task of that name is registered in the application."""


class MemoryLimitExceeded(TaskError, MemoryError):
    """Raised in a task, wherever it is, when its process has more memory of its own than --max-memory-hard."""


class ChildLost(TaskError):
    """The process that ran the task is gone."""


# ---------------------------------------------------------------------------- ours


class Bug(FastqError):
    """fastq broke a rule of its own. Please report it."""

    #: EX_SOFTWARE.
    exit_code = 70


class ImpossibleEvent(Bug):
    """A state met an event that its table does not know."""


class RingBroken(Bug):
    """Shared memory holds what no writer could have written."""
