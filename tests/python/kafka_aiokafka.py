"""The log in the words of aiokafka. Usage: kafka_aiokafka.py ADDRESS:PORT; the last line is `ok N`."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

ADDRESS = sys.argv[1]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


async def topic(name, partitions=1, **configs):
    admin = AIOKafkaAdminClient(bootstrap_servers=ADDRESS)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    await admin.close()
    return name


async def fill(name, values, **options):
    async with AIOKafkaProducer(bootstrap_servers=ADDRESS, **options) as producer:
        await asyncio.gather(*[producer.send_and_wait(name, value) for value in values])


async def take(consumer, wanted):
    seen = []
    while len(seen) < wanted:
        for messages in (await asyncio.wait_for(consumer.getmany(timeout_ms=200), 10)).values():
            seen += messages
    return seen


@check
async def produce_and_consume():
    name = await topic('aio')
    await fill(name, [b'%d' % n for n in range(500)], enable_idempotence=True, compression_type='gzip')
    async with AIOKafkaConsumer(name, bootstrap_servers=ADDRESS, auto_offset_reset='earliest') as consumer:
        seen = await take(consumer, 500)
    assert sorted(int(message.value) for message in seen) == list(range(500))
    assert [message.offset for message in seen] == list(range(500))


@check
async def groups_commit_and_resume():
    name = await topic('aio-group', 4)
    await fill(name, [b'%d' % n for n in range(400)])
    options = dict(bootstrap_servers=ADDRESS, group_id='aio', auto_offset_reset='earliest', session_timeout_ms=6000,
                   heartbeat_interval_ms=300, enable_auto_commit=False)
    first, second = AIOKafkaConsumer(name, **options), AIOKafkaConsumer(name, **options)
    await first.start()
    seen = await take(first, 50)
    await second.start()
    while not (len(first.assignment()) == len(second.assignment()) == 2):
        seen += sum((await first.getmany(timeout_ms=100)).values(), [])
        seen += sum((await second.getmany(timeout_ms=100)).values(), [])
    await second.commit()
    await second.stop()
    while len(first.assignment()) != 4 or any([
            await first.position(p) != end for p, end in (await first.end_offsets(first.assignment())).items()]):
        seen += sum((await first.getmany(timeout_ms=100)).values(), [])
    assert len({(m.partition, m.offset) for m in seen}) == 400
    await first.commit()
    await first.stop()
    await fill(name, [b'later'])
    async with AIOKafkaConsumer(name, **options) as third:
        assert [m.value for m in await take(third, 1)] == [b'later']


@check
async def seek_by_time():
    name = await topic('aio-time', **{'retention.ms': '-1'})
    async with AIOKafkaProducer(bootstrap_servers=ADDRESS) as producer:
        for n in range(20):
            await producer.send_and_wait(name, b'%d' % n, timestamp_ms=1000 + n)
    async with AIOKafkaConsumer(bootstrap_servers=ADDRESS) as consumer:
        partition = TopicPartition(name, 0)
        consumer.assign([partition])
        found = (await consumer.offsets_for_times({partition: 1007}))[partition]
        assert found.offset == 7
        consumer.seek(partition, found.offset)
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b'7'


async def main():
    for function in CHECKS:
        await asyncio.wait_for(function(), 60)
        print(function.__name__, flush=True)
    print('ok', len(CHECKS))

asyncio.run(main())
