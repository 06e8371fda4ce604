"""Measure fastq beside stock Celery: `python -m bench` for the table, `python -m bench.demo` for the tour."""
