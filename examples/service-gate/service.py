"""The service of this example: takes orders on `orders.create` and answers each."""

import asyncio
import json
import os
import signal

import nats

# What is done with an order, in seconds.
WORK = 0.0


async def main():
    connection = await nats.connect(os.environ["NATS_URL"])

    async def create(request):
        order = json.loads(request.data)
        await asyncio.sleep(WORK)
        await request.respond(json.dumps({"accepted": order["order"]}).encode())

    await connection.subscribe("orders.create", queue="gateway", cb=create)
    await connection.flush()
    print("ready", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await connection.drain()


asyncio.run(main())
