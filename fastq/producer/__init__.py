"""Send tasks without importing Celery: `Producer`, `AsyncProducer`, and the handles they return."""

from __future__ import annotations

from fastq.producer.group import GroupHandle
from fastq.producer.handle import AsyncHandle, Handle
from fastq.producer.options import Buffering, ProducerSettings, Replicas, SendOptions
from fastq.producer.outcome import Outcome, Progress
from fastq.producer.producer import AsyncProducer, Producer

__all__ = [
    "AsyncHandle",
    "AsyncProducer",
    "Buffering",
    "GroupHandle",
    "Handle",
    "Outcome",
    "Producer",
    "ProducerSettings",
    "Progress",
    "Replicas",
    "SendOptions",
]
