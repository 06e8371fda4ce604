"""A Flask application with a factory, whose tasks have its context.

fastq -A examples.flask_shop.worker worker
flask --app examples.flask_shop run

curl -X POST 'localhost:5000/orders/7/invoice?amount=12.5'
curl 'localhost:5000/invoices/ID'
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, abort, request

from examples.flask_shop.tasks import invoice, queue
from fastq.errors import BrokerError, ResultsUnavailable

REDIS = os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0")


def create_app(**config: Any) -> Flask:
    """Make the Flask application, and give its settings to the queue."""
    flask = Flask(__name__)
    flask.config.update(CURRENCY="EUR", FASTQ={"broker_url": REDIS, "result_backend": REDIS})
    flask.config.update(config)
    queue.config_from_object(flask.config["FASTQ"])

    @flask.post("/orders/<int:order>/invoice")
    def start(order: int) -> Any:
        try:
            handle = invoice.delay(order, float(request.args["amount"]))
        except BrokerError:
            abort(503, "no invoices just now")
        return {"id": handle.id}, 202

    @flask.get("/invoices/<task_id>")
    def look(task_id: str) -> dict[str, Any]:
        try:
            outcome = queue.AsyncResult(task_id).outcome()
        except ResultsUnavailable:
            abort(503, "nobody knows just now")
        return {"status": outcome.status, "result": outcome.result if outcome.successful else None}

    return flask
