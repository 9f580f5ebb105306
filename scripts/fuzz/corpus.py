#!/usr/bin/env python3
"""Makes the first inputs of the fuzz targets from what real clients say to the reference broker.

    python3 scripts/fuzz/corpus.py PATH-TO-MSGBENCH

Needs kafka-python, confluent-kafka and nats-py. A proxy between clients and broker notes what the clients send; the log's segments
are those of the broker. What is there already stays.
"""
import asyncio
import json
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading

CORPUS = pathlib.Path(__file__).parent / 'corpus'
# As in fuzz_targets/kafka_shape.rs: the place in its table, the newest version; and the first version with tagged fields.
KEYS = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 32, 33, 35, 36, 37, 42, 43, 44, 46, 47, 60, 75]
FLEXIBLE = {0: 9, 1: 12, 2: 6, 3: 9, 8: 8, 9: 6, 10: 3, 11: 6, 12: 4, 13: 4, 14: 4, 15: 5, 16: 3, 18: 3, 19: 5, 20: 4, 21: 2, 22: 2,
            23: 4, 32: 4, 33: 2, 35: 2, 36: 2, 37: 2, 42: 2, 43: 2, 44: 1, 46: 0, 47: 99, 60: 0, 75: 0}


def keep(target, name, data, most=600):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    if data and len(data) <= most and not (folder / name).exists():
        (folder / name).write_bytes(data)


class Proxy:
    """Passes connections on and notes what the clients send. Kafka's clients are told its port in place of the broker's."""

    def __init__(self, broker):
        self.broker, self.streams = broker, []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(('127.0.0.1', self.broker))
            stream = bytearray()
            self.streams.append(stream)
            threading.Thread(target=self.copy, args=(client, server, stream), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, None), daemon=True).start()

    def copy(self, source, sink, note):
        host = b'127.0.0.1'
        try:
            while data := source.recv(65536):
                if note is None:
                    data = data.replace(host + struct.pack('>i', self.broker), host + struct.pack('>i', self.port))
                else:
                    note += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # One side has gone.


def kafka(port):
    import confluent_kafka
    from confluent_kafka.admin import AdminClient, NewTopic
    from kafka import KafkaConsumer, KafkaProducer
    at = f'127.0.0.1:{port}'
    admin = AdminClient({'bootstrap.servers': at})
    for future in admin.create_topics([NewTopic('t', 2, 1)]).values():
        future.result(30)
    producer = confluent_kafka.Producer({'bootstrap.servers': at, 'transactional.id': 'x', 'linger.ms': 50})
    try:
        producer.init_transactions(10)
    except confluent_kafka.KafkaException:
        producer = confluent_kafka.Producer({'bootstrap.servers': at, 'enable.idempotence': True, 'linger.ms': 50})
    for n in range(6):
        producer.produce('t', key=b'k%d' % (n % 3), value=b'value %d' % n, partition=0, headers=[('h', b'v')])
    producer.flush(30)
    consumer = confluent_kafka.Consumer({'bootstrap.servers': at, 'group.id': 'g', 'auto.offset.reset': 'earliest'})
    consumer.subscribe(['t'])
    got = 0
    while got < 6:
        message = consumer.poll(30)
        assert message is not None and message.error() is None, message and message.error()
        got += 1
    consumer.commit(asynchronous=False)
    consumer.close()
    old = KafkaProducer(bootstrap_servers=at, compression_type='gzip')
    old.send('t', b'compressed', partition=1).get(30)
    old.close()
    reader = KafkaConsumer('t', bootstrap_servers=at, group_id='h', auto_offset_reset='earliest', consumer_timeout_ms=5000)
    assert len(list(reader)) == 7
    reader.close()
    admin.list_consumer_groups().result(30)
    admin.describe_consumer_groups(['g'])['g'].result(30)
    admin.describe_configs([confluent_kafka.admin.ConfigResource('topic', 't')])
    admin.describe_cluster().result(30)
    admin.list_offsets({confluent_kafka.TopicPartition('t', 0): confluent_kafka.admin.OffsetSpec.earliest()})
    for group in admin.delete_consumer_groups(['h']).values():
        group.exception(30)
    for future in admin.create_partitions([confluent_kafka.admin.NewPartitions('t', 3)]).values():
        future.exception(30)


async def nats(port):
    import nats as client
    connection = await client.connect(f'nats://127.0.0.1:{port}')
    subscription = await connection.subscribe('orders.*.new', queue='q')
    await connection.subscribe('orders.>')
    await connection.publish('orders.1.new', b'hello')
    await connection.publish('orders.1.new', b'hello', headers={'Bar': 'Baz'})
    await connection.publish('orders.2.new', b'')
    for _ in range(3):
        await connection.publish('orders.same', b'x' * 20)
    try:
        await connection.request('nobody', b'?', timeout=1)
    except client.errors.NoRespondersError:
        pass
    await subscription.unsubscribe(limit=3)
    await connection.flush()
    await connection.close()


def requests(stream):
    at = 0
    while at + 4 <= len(stream):
        size = struct.unpack_from('>i', stream, at)[0]
        yield bytes(stream[at + 4:at + 4 + size])
        at += 4 + size


def main():
    with tempfile.TemporaryDirectory() as folder:
        any_port = '127.0.0.1:0'
        broker = subprocess.Popen([sys.argv[1], 'broker', '--listen', any_port, '--kafka', any_port, '--data', folder + '/log',
                                   '--format', 'json'], stdout=subprocess.PIPE, text=True)
        try:
            ready = json.loads(broker.stdout.readline())
            port = lambda url: int(url.rsplit(':', 1)[1].strip('/'))
            to_nats, to_kafka = Proxy(port(ready['url'])), Proxy(port(ready['policy']['kafka']))
            asyncio.run(nats(to_nats.port))
            kafka(to_kafka.port)
        finally:
            broker.terminate()
            broker.wait(30)
        for n, stream in enumerate(to_nats.streams):
            # The first line of a client is longer than the target allows.
            rest = b'CONNECT {"verbose":false}\r\n' + stream.partition(b'\r\n')[2]
            # The first byte chooses the place of the cut and whether headers are allowed.
            for first in (0, 128, 129):
                keep('parse', f'nats-py-{n}-{first}', bytes([first]) + rest, 1200)
        for stream in to_kafka.streams:
            for request in requests(stream):
                key, version, _, name = struct.unpack_from('>hhih', request)
                at = 10 + max(name, 0) + (version >= FLEXIBLE.get(key, 99))
                if key in KEYS:
                    keep('kafka_shape', f'{key}-{version}', bytes([KEYS.index(key), version]) + request[at:])
        for segment in pathlib.Path(folder).glob('log/topics/t/*/*.seg'):
            data = segment.read_bytes().rstrip(b'\0')
            name = f'{segment.parent.name}-{len(data)}'
            if not data:
                continue
            keep('log_segment', name, data, 2000)
            keep('log_segment', name + '-torn', data[:len(data) * 2 // 3], 2000)
            # An odd first byte puts a right batch in front.
            keep('log_segment', name + '-behind', b'\x05batch' + data[:len(data) // 2], 2000)


main()
