"""One message after the other through a stream, with nats-py alone: the median time until it is here."""

import asyncio
import statistics
import sys
import time

import nats

COUNT = 1000
COLD = 200


async def main() -> None:
    client = await nats.connect(sys.argv[1])
    stream = client.jetstream()
    await stream.add_stream(name="second", subjects=["second"])
    here: asyncio.Queue[int] = asyncio.Queue()

    async def took(_message) -> None:
        here.put_nowait(time.perf_counter_ns())

    await stream.subscribe("second", cb=took)
    took_ns = []
    for _ in range(COLD + COUNT):
        began = time.perf_counter_ns()
        await stream.publish("second", b"x" * 128)
        took_ns.append(await here.get() - began)
    print(f"{statistics.median(took_ns[COLD:]) / 1000:.0f}us")
    await client.close()


asyncio.run(main())
