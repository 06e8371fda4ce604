"""Send tasks without importing Celery: `Producer`, `AsyncProducer`, and the handles they return."""

from __future__ import annotations

from fastq.producer.handle import AsyncHandle, Handle, Outcome
from fastq.producer.options import SendOptions
from fastq.producer.producer import AsyncProducer, Producer

__all__ = ["AsyncHandle", "AsyncProducer", "Handle", "Outcome", "Producer", "SendOptions"]
