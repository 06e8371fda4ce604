"""A FastAPI service that hands slow work to tasks.

fastq -A examples.fastapi_shop.tasks worker
uvicorn examples.fastapi_shop.main:api

curl -X POST 'localhost:8000/orders/7/invoice?amount=12.5'
curl 'localhost:8000/invoices/ID'
"""
