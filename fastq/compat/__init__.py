"""Applications of other task queues, behind the port of `fastq.program`."""
