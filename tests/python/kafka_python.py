"""The log in the words of kafka-python. Usage: kafka_python.py ADDRESS:PORT; the last line is `ok N`."""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

ADDRESS = sys.argv[1]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def topic(name, partitions=1, **configs):
    admin = KafkaAdminClient(bootstrap_servers=ADDRESS)
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    admin.close()
    return name


def take(consumers, wanted):
    seen, end = {}, time.monotonic() + 40
    while len(seen) < wanted:
        assert time.monotonic() < end, f'{len(seen)} of {wanted}'
        for consumer in consumers:
            for messages in consumer.poll(timeout_ms=100).values():
                seen.update({(m.partition, m.offset): m.value for m in messages})
    return seen


@check
def produce_and_consume_idempotently():
    name = topic('kp', 2)
    producer = KafkaProducer(bootstrap_servers=ADDRESS, enable_idempotence=True, acks='all')
    futures = [producer.send(name, b'%d' % n) for n in range(1000)]
    producer.flush(30)
    places = {(f.get(1).partition, f.get(1).offset) for f in futures}
    assert len(places) == 1000
    producer.close()
    consumer = KafkaConsumer(name, bootstrap_servers=ADDRESS, auto_offset_reset='earliest')
    seen = take([consumer], 1000)
    assert set(seen) == places and sorted(map(int, seen.values())) == list(range(1000))
    consumer.close()


@check
def groups_commit_and_resume():
    options = dict(bootstrap_servers=ADDRESS, group_id='kp', auto_offset_reset='earliest', session_timeout_ms=6000,
                   heartbeat_interval_ms=300)
    members = [KafkaConsumer('kp', **options), KafkaConsumer('kp', **options)]
    take(members, 1000)
    for member in members:
        member.commit()
        member.close()
    again = KafkaConsumer('kp', **options)
    assert sum(again.committed(TopicPartition('kp', p)) for p in range(2)) == 1000
    assert not again.poll(timeout_ms=1500)
    again.close()


@check
def seek_by_time():
    name = topic('kp-time', **{'retention.ms': '-1'})
    producer = KafkaProducer(bootstrap_servers=ADDRESS)
    for n in range(50):
        producer.send(name, b'%d' % n, timestamp_ms=5000 + n).get(10)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=ADDRESS)
    partition = TopicPartition(name, 0)
    consumer.assign([partition])
    found = consumer.offsets_for_times({partition: 5020})[partition]
    assert found.offset == 20
    consumer.seek(partition, found.offset)
    assert min(take([consumer], 30)) == (0, 20)
    consumer.close()


for function in CHECKS:
    function()
    print(function.__name__, flush=True)
print('ok', len(CHECKS))
