"""The router in the words of nats-py. Usage: test_nats_py.py nats://ADDRESS:PORT; every check prints a line, the last is `ok N`."""
import asyncio
import sys

import nats
from nats.errors import NoRespondersError, MaxPayloadError

URL = sys.argv[1]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


async def connect(**options):
    async def ignore(error):
        print('client error:', error, file=sys.stderr)
    return await asyncio.wait_for(nats.connect(URL, error_cb=ignore, allow_reconnect=False, **options), 5)


@check
async def publish_subscribe_and_wildcards():
    publisher, subscriber = await connect(), await connect()
    star = await subscriber.subscribe('orders.*.new')
    tail = await subscriber.subscribe('orders.>')
    await subscriber.flush()
    for n in range(500):
        await publisher.publish(f'orders.{n}.new', str(n).encode())
    await publisher.flush()
    for n in range(500):
        one, two = await star.next_msg(5), await tail.next_msg(5)
        assert one.subject == two.subject == f'orders.{n}.new', one.subject
        assert one.data == two.data == str(n).encode()
    await publisher.close()
    await subscriber.close()


@check
async def queue_group():
    publisher, worker = await connect(), await connect()
    got = {'a': [], 'b': [], 'all': []}

    def take(name):
        async def callback(message):
            got[name].append(int(message.data))
        return callback

    await worker.subscribe('work', queue='crew', cb=take('a'))
    await worker.subscribe('work', queue='crew', cb=take('b'))
    await worker.subscribe('work', cb=take('all'))
    await worker.flush()
    for n in range(1000):
        await publisher.publish('work', str(n).encode())
    await publisher.flush()
    while len(got['all']) < 1000 or len(got['a']) + len(got['b']) < 1000:
        await asyncio.sleep(0.01)
    await worker.close()
    assert got['all'] == list(range(1000))
    assert sorted(got['a'] + got['b']) == list(range(1000))
    assert min(len(got['a']), len(got['b'])) > 200, 'both take their share'
    await publisher.close()


@check
async def request_reply():
    client, service = await connect(), await connect()

    async def echo(message):
        await message.respond(message.data[::-1])

    await service.subscribe('echo', cb=echo)
    await service.flush()
    for n in range(200):
        answer = await client.request('echo', str(n).encode(), timeout=5)
        assert answer.data == str(n).encode()[::-1]
    # The older way: a subscription of its own for every request.
    answer = await client.request('echo', b'abc', timeout=5, old_style=True)
    assert answer.data == b'cba'
    try:
        await client.request('nobody', b'', timeout=5)
        raise AssertionError('somebody answered')
    except NoRespondersError:
        pass
    await client.close()
    await service.close()


@check
async def headers():
    client = await connect()
    inbox = await client.subscribe('h')
    await client.publish('h', b'body', headers={'Trace': 'a1', 'Other': 'x y'})
    message = await inbox.next_msg(5)
    assert message.headers == {'Trace': 'a1', 'Other': 'x y'}, message.headers
    assert message.data == b'body'
    await client.close()


@check
async def large_payload_and_limit():
    client = await connect()
    inbox = await client.subscribe('big')
    assert client.max_payload == 1 << 20
    payload = bytes(n % 251 for n in range(1 << 20))
    for _ in range(5):
        await client.publish('big', payload)
    for _ in range(5):
        assert (await inbox.next_msg(10)).data == payload
    try:
        await client.publish('big', payload + b'x')
        raise AssertionError('too large a payload was taken')
    except MaxPayloadError:
        pass
    await client.close()


@check
async def unsubscribe_after():
    client = await connect()
    inbox = await client.subscribe('some')
    everything = await client.subscribe('>')
    await inbox.unsubscribe(limit=3)
    for n in range(10):
        await client.publish('some', str(n).encode())
    # All ten have arrived through the other subscription, three through this one.
    assert [(await everything.next_msg(5)).data for _ in range(10)] == [str(n).encode() for n in range(10)]
    assert [(await inbox.next_msg(5)).data for _ in range(3)] == [b'0', b'1', b'2']
    assert inbox.pending_msgs == 0
    await client.close()


@check
async def no_echo_verbose_and_pedantic():
    deaf = await connect(no_echo=True)
    inbox = await deaf.subscribe('e')
    other = await connect(verbose=True, pedantic=True)
    await deaf.publish('e', b'own')
    await deaf.flush()
    await other.publish('e', b'others')
    await other.flush()
    assert (await inbox.next_msg(5)).data == b'others'
    await deaf.close()
    await other.close()


@check
async def drain():
    publisher, subscriber = await connect(), await connect()
    got = []

    async def take(message):
        got.append(message.data)

    await subscriber.subscribe('d', cb=take)
    await subscriber.flush()
    for n in range(300):
        await publisher.publish('d', str(n).encode())
    await publisher.flush()
    await subscriber.drain()
    assert len(got) == 300, len(got)
    assert subscriber.is_closed
    await publisher.close()


async def main():
    for function in CHECKS:
        await asyncio.wait_for(function(), 60)
        print('passed', function.__name__, flush=True)
    print('ok', len(CHECKS))

asyncio.run(main())
