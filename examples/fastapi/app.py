"""An orders API. Each user sees the orders of their own."""

import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from portcullis_verifier import Claims, Verifier
from portcullis_verifier.fastapi import require
from pydantic import BaseModel

verifier = Verifier(
    issuer=os.environ["PORTCULLIS_ISSUER"],
    audience="orders",
    client_id=os.environ["PORTCULLIS_CLIENT_ID"],
    client_secret=os.environ["PORTCULLIS_CLIENT_SECRET"],
    url=os.environ.get("PORTCULLIS_URL"),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await verifier.wait_until_ready_async(30)
    yield
    verifier.close()


app = FastAPI(title="Orders", lifespan=lifespan)

# For a permission as well: require(verifier, "orders:write").
Bearer = Annotated[Claims, Depends(require(verifier))]


class Order(BaseModel):
    item: str


# By `sub`: a username can change, and can belong to another account later.
orders: defaultdict[str, list[Order]] = defaultdict(list)


@app.get("/orders")
async def list_orders(bearer: Bearer) -> list[Order]:
    return orders[bearer["sub"]]


@app.post("/orders", status_code=201)
async def create_order(order: Order, bearer: Bearer) -> Order:
    orders[bearer["sub"]].append(order)
    return order


@app.get("/health")
async def health() -> dict[str, float]:
    return {"staleness": verifier.staleness()}
