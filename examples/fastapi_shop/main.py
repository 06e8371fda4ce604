"""The service. All requests of a process share one connection to Redis; `lifespan` closes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from examples.fastapi_shop.tasks import invoice, queue
from fastq.errors import BrokerError, ResultsUnavailable


@asynccontextmanager
async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
    """Nothing to open: the producer connects when it is first used."""
    yield
    await queue.aclose()


api = FastAPI(lifespan=lifespan)


@api.post("/orders/{order}/invoice", status_code=202)
async def start(order: int, amount: float) -> dict[str, str]:
    """Send the task; the answer says where to look."""
    try:
        handle = await invoice.adelay(order, amount)
    except BrokerError as error:
        raise HTTPException(503, "no invoices just now") from error
    return {"id": handle.id}


@api.get("/invoices/{task_id}")
async def look(task_id: str) -> dict[str, object]:
    """What became of it. An unknown id looks like one that waits: Redis knows results, not promises."""
    try:
        outcome = await queue.async_producer.handle(task_id).outcome()
    except ResultsUnavailable as error:
        raise HTTPException(503, "nobody knows just now") from error
    return {"status": outcome.status, "result": outcome.result if outcome.successful else None}
