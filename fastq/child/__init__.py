"""What runs in a forked child: take a task, run it, report, and leave in order."""
