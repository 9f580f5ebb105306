"""A key-value store in the words of nats-py: `make URL BUCKET HISTORY`, or `read URL BUCKET KEY...`,
which prints the value of each key and its history as JSON."""

import asyncio
import json
import sys

import nats


async def main(command, url, bucket, *rest):
    client = await nats.connect(url)
    context = client.jetstream()
    if command == "make":
        await context.create_key_value(bucket=bucket, history=int(rest[0]), direct=True)
    else:
        store = await context.key_value(bucket)
        read = {}
        for key in rest:
            entry = await store.get(key)
            past = [e.value.decode() for e in await store.history(key)]
            read[key] = {"value": entry.value.decode(), "history": past}
        print(json.dumps(read))
    await client.close()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
