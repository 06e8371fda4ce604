"""The tasks. The application's address is known when the factory has run; nothing connects before."""

from __future__ import annotations

from flask import current_app

from fastq import FastQ

queue = FastQ("flask_shop", task_default_queue="flask-orders")


@queue.task
def invoice(order: int, amount: float) -> str:
    """It uses the configuration of the Flask application."""
    return f"invoice for order {order}: {amount:.2f} {current_app.config['CURRENCY']}"
