"""Numbers that frames carry, as the compiled core has them: for what runs tasks where there is no core, too."""

from __future__ import annotations

from typing import Final

# Outcomes of a delivery.
ACK: Final = 1
REJECT: Final = 2
REQUEUE: Final = 3
DEAD: Final = 4

#: The kind of frame that has a task.
TASK: Final = 1

#: The flag of a task that is acknowledged when it has ended.
LATE: Final = 1

# How a task ends.
SUCCEEDED: Final = 0
FAILED: Final = 1
RETRIED: Final = 2
IGNORED: Final = 3
REJECTED: Final = 4
DISCARDED: Final = 5
