"""The log in the words of confluent-kafka (librdkafka). Usage: kafka_confluent.py ADDRESS:PORT [PROXY]; the last line is `ok N`.

PROXY is an address of the same broker whose connections drop now and then.
"""
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

ADDRESS = sys.argv[1]
PROXY = sys.argv[2]
CHECKS = []
BOUND = 40


def check(function):
    CHECKS.append(function)
    return function


def topic(name, partitions=1, **config):
    admin = AdminClient({'bootstrap.servers': ADDRESS})
    for future in admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
        future.result(10)
    return name


def produce(name, records, address=ADDRESS, **options):
    failed = []
    producer = Producer({'bootstrap.servers': address, 'linger.ms': 1, 'delivery.timeout.ms': 30000, **options})
    for key, value in records:
        while True:
            try:
                producer.produce(name, value, key, on_delivery=lambda error, _: error and failed.append(error))
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed, failed[0]


def consumer(group, **options):
    return Consumer({'bootstrap.servers': ADDRESS, 'group.id': group, 'auto.offset.reset': 'earliest',
                     'session.timeout.ms': 6000, 'heartbeat.interval.ms': 500, **options})


def take(members, wanted, seen, during=lambda: None):
    end = time.monotonic() + BOUND
    while len(seen) < wanted:
        assert time.monotonic() < end, f'{len(seen)} of {wanted}'
        for member in members:
            for message in member.consume(500, 0.05):
                assert not message.error(), message.error()
                seen.setdefault((message.partition(), message.offset()), message.value())
        during()


@check
def produce_and_consume_with_every_codec():
    for codec in ['none', 'gzip', 'snappy', 'lz4', 'zstd']:
        name = topic(f'codec-{codec}')
        values = [f'{codec} {n} {"y" * (n % 300)}'.encode() for n in range(2000)]
        produce(name, [(None, value) for value in values], **{'compression.type': codec})
        reader, seen = consumer(f'codec-{codec}'), {}
        reader.assign([TopicPartition(name, 0, 0)])
        take([reader], 2000, seen)
        assert [seen[0, n] for n in range(2000)] == values
        reader.close()


@check
def groups_rebalance_while_consuming():
    for strategy in ['range', 'cooperative-sticky']:
        name = topic(f'group-{strategy}', 8)
        produce(name, [(str(n % 50), f'{n}') for n in range(40000)])
        members, seen, options = [], {}, {'partition.assignment.strategy': strategy}
        members.append(consumer(strategy, **options))
        members[0].subscribe([name])

        def during():
            if len(members) == 1 and len(seen) > 2000:
                members.append(consumer(strategy, **options))
                members[1].subscribe([name])

        take(members, 40000, seen, during)
        end = time.monotonic() + BOUND
        while [len(member.assignment()) for member in members] != [4, 4]:
            assert time.monotonic() < end, [member.assignment() for member in members]
            for member in members:
                member.poll(0.1)
        assert sorted(map(int, seen.values())) == list(range(40000))
        members.pop().close()
        end = time.monotonic() + BOUND
        while len(members[0].assignment()) != 8:
            assert time.monotonic() < end
            members[0].poll(0.1)
        members[0].close()


@check
def a_static_member_comes_back_to_its_partitions():
    name = topic('static', 4)
    options = {'group.instance.id': 'one', 'session.timeout.ms': 30000}
    other = consumer('static', **{**options, 'group.instance.id': 'two'})
    first = consumer('static', **options)
    for member in (first, other):
        member.subscribe([name])
    end = time.monotonic() + BOUND
    while not (len(first.assignment()) == len(other.assignment()) == 2):
        assert time.monotonic() < end
        first.poll(0.1), other.poll(0.1)
    had = sorted(p.partition for p in first.assignment())
    lost = []
    first.close()
    again = consumer('static', **options)
    again.subscribe([name])
    began = time.monotonic()
    while not again.assignment():
        assert time.monotonic() < end
        again.poll(0.1), other.poll(0.1)
        lost += [1] if len(other.assignment()) != 2 else []
    assert sorted(p.partition for p in again.assignment()) == had and not lost
    assert time.monotonic() - began < 10
    again.close(), other.close()


@check
def commit_and_resume():
    name = topic('resume')
    produce(name, [(None, f'{n}') for n in range(1000)])
    first, seen = consumer('resume', **{'enable.auto.commit': False}), {}
    first.subscribe([name])
    take([first], 400, seen)
    first.commit(offsets=[TopicPartition(name, 0, 400, metadata='so far')], asynchronous=False)
    first.close()
    second, rest = consumer('resume'), {}
    committed = second.committed([TopicPartition(name, 0)], 10)[0]
    assert (committed.offset, committed.metadata) == (400, 'so far'), committed
    second.subscribe([name])
    take([second], 600, rest)
    assert sorted(offset for _, offset in rest) == list(range(400, 1000))
    second.close()


@check
def seek_by_time():
    name = topic('time', **{'retention.ms': '-1'})
    producer = Producer({'bootstrap.servers': ADDRESS, 'linger.ms': 0})
    for n in range(200):
        producer.produce(name, f'{n}', timestamp=1_700_000_000_000 + n * 1000)
    assert producer.flush(10) == 0
    reader = consumer('time')
    found = reader.offsets_for_times([TopicPartition(name, 0, 1_700_000_000_000 + 99_500)], 10)[0]
    assert found.offset == 100, found
    reader.assign([found])
    assert reader.poll(10).value() == b'100'
    assert reader.get_watermark_offsets(TopicPartition(name, 0), 10) == (0, 200)
    reader.close()


@check
def idempotent_retries_through_a_connection_that_drops():
    name = topic('idempotent', 2)
    values = [f'{n}' for n in range(20000)]
    produce(name, [(None, value) for value in values], PROXY, **{
        'enable.idempotence': True, 'retry.backoff.ms': 10, 'reconnect.backoff.ms': 10, 'reconnect.backoff.max.ms': 50,
        'batch.num.messages': 100, 'partitioner': 'consistent_random', 'log_level': 0})
    reader, seen = consumer('idempotent'), {}
    reader.subscribe([name])
    take([reader], len(values), seen)
    assert sorted(map(int, seen.values())) == list(range(20000)), 'each once'
    for partition in range(2):
        order = [int(value) for (p, _), value in sorted(seen.items()) if p == partition]
        assert order == sorted(order)
    ends = [reader.get_watermark_offsets(TopicPartition(name, p), 10)[1] for p in range(2)]
    assert sum(ends) == len(values), ends
    reader.close()


@check
def administration():
    admin = AdminClient({'bootstrap.servers': ADDRESS})
    name = topic('admin', 2, **{'retention.ms': '60000'})
    admin.create_partitions([NewPartitions(name, 5)])[name].result(10)
    assert len(admin.list_topics(name, 10).topics[name].partitions) == 5
    config = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name)])
    assert next(iter(config.values())).result(10)['retention.ms'].value == '60000'
    groups = {group.group_id: group for group in admin.list_consumer_groups().result(10).valid}
    assert 'resume' in groups
    described = admin.describe_consumer_groups(['resume'])['resume'].result(10)
    assert described.group_id == 'resume' and not described.members
    admin.delete_consumer_groups(['resume'])['resume'].result(10)
    admin.delete_topics([name])[name].result(10)
    assert name not in admin.list_topics(timeout=10).topics


def transactional(name, **options):
    producer = Producer({'bootstrap.servers': ADDRESS, 'transactional.id': name, 'linger.ms': 1, **options})
    producer.init_transactions(30)
    return producer


def everything(name, partitions, isolation):
    """The values of a topic that such a reader is given, up to its end."""
    reader = consumer(f'all-{name}-{isolation}', **{'isolation.level': isolation, 'enable.partition.eof': True})
    reader.assign([TopicPartition(name, n, 0) for n in range(partitions)])
    values, ended, end = [], set(), time.monotonic() + BOUND
    while len(ended) < partitions:
        assert time.monotonic() < end, f'{len(values)} values'
        for message in reader.consume(500, 0.1):
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
                continue
            assert not message.error(), message.error()
            values.append(message.value())
    reader.close()
    return values


@check
def a_transaction_counts_as_a_whole():
    name = topic('whole', 3)
    producer, committed, sent = transactional('whole'), [], []
    for n in range(30):
        producer.begin_transaction()
        values = [b'%d of %d' % (m, n) for m in range(50)]
        for m, value in enumerate(values):
            producer.produce(name, value, partition=m % 3)
        if n % 3 == 0:
            # What is not sent yet is not there to be aborted.
            producer.flush(10)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            committed += values
        sent += values
    assert sorted(everything(name, 3, 'read_committed')) == sorted(committed)
    assert sorted(everything(name, 3, 'read_uncommitted')) == sorted(sent)


@check
def what_is_read_is_written_once():
    source, target = topic('once-in', 2), topic('once-out', 2)
    total = 2000
    produce(source, [(None, b'%d' % n) for n in range(total)])
    end = time.monotonic() + 2 * BOUND
    taken, round_ = 0, 0
    while taken < total:
        assert time.monotonic() < end, f'{taken} of {total}'
        round_ += 1
        # Each generation ends in the middle of a transaction, and the next one fences it.
        reader = consumer('once', **{'enable.auto.commit': False, 'isolation.level': 'read_committed'})
        reader.subscribe([source])
        writer = transactional('once')
        for n in range(4):
            messages = reader.consume(150, 3)
            assert all(not message.error() for message in messages)
            if not messages:
                break
            writer.begin_transaction()
            for message in messages:
                writer.produce(target, message.value(), partition=message.partition())
            positions = reader.position(reader.assignment())
            writer.send_offsets_to_transaction([p for p in positions if p.offset >= 0], reader.consumer_group_metadata(), 30)
            if n == 3:
                writer.flush(10)
                break
            writer.commit_transaction(30)
        reader.close()
        taken = len(everything_once(target))
    assert sorted(everything_once(target)) == sorted(b'%d' % n for n in range(total))


def everything_once(name):
    # A transaction left open holds readers up until its successor ends it.
    transactional('once')
    return everything(name, 2, 'read_committed')


@check
def an_older_producer_is_fenced():
    name = topic('fenced')
    old = transactional('fenced')
    old.begin_transaction()
    old.produce(name, b'old')
    old.flush(10)
    new = transactional('fenced')
    new.begin_transaction()
    new.produce(name, b'new')
    new.commit_transaction(30)
    try:
        old.commit_transaction(30)
        raise AssertionError('two producers of one id')
    except KafkaException as error:
        assert error.args[0].fatal() and error.args[0].code() == KafkaError._FENCED, error
    assert everything(name, 1, 'read_committed') == [b'new']


@check
def the_new_group_protocol_moves_partitions():
    name = topic('modern', 6)
    values = [b'%d' % n for n in range(3000)]
    produce(name, [(b'%d' % (n % 50), value) for n, value in enumerate(values)])
    options = {'bootstrap.servers': ADDRESS, 'group.id': 'modern', 'auto.offset.reset': 'earliest',
               'group.protocol': 'consumer'}
    members, seen = [], {}

    def add(**more):
        member = Consumer({**options, **more})
        member.subscribe([name])
        members.append(member)

    def until(done):
        end = time.monotonic() + BOUND
        while not done():
            assert time.monotonic() < end, [len(member.assignment()) for member in members]
            for member in members:
                for message in member.consume(500, 0.05):
                    assert not message.error(), message.error()
                    seen.setdefault((message.partition(), message.offset()), message.value())

    def shares():
        return sorted(len(member.assignment()) for member in members)

    add()
    until(lambda: shares() == [6])
    until(lambda: len(seen) == len(values))
    members[0].commit(asynchronous=False)
    add(**{'group.remote.assignor': 'uniform'})
    until(lambda: shares() == [3, 3])
    add()
    until(lambda: shares() == [2, 2, 2])
    held = [{(p.topic, p.partition) for p in member.assignment()} for member in members]
    assert len(set.union(*held)) == 6
    members.pop(0).close()
    until(lambda: shares() == [3, 3])
    # What was committed counts for who comes later; new records reach one member each.
    produce(name, [(b'%d' % (n % 50), b'more') for n in range(600)])
    until(lambda: len(seen) == len(values) + 600)
    admin = AdminClient({'bootstrap.servers': ADDRESS})
    said = list(admin.describe_consumer_groups(['modern']).values())[0].result(10)
    assert str(said.state).endswith('STABLE') and len(said.members) == 2, said.state
    for member in members:
        member.close()


@check
def what_the_broker_compresses_can_be_read():
    sent = [b'%d' % n * 20 for n in range(2000)]
    for kind in ['uncompressed', 'gzip', 'snappy', 'lz4', 'zstd']:
        for codec in ['none', 'lz4']:
            name = topic(f'to-{kind}-{codec}', **{'compression.type': kind})
            produce(name, [(b'k', value) for value in sent], **{'compression.type': codec, 'linger.ms': 50})
            member, seen = consumer(f'of-{name}'), {}
            member.assign([TopicPartition(name, 0, 0)])
            take([member], len(sent), seen)
            member.close()
            assert [seen[0, n] for n in range(len(sent))] == sent, name


for function in CHECKS:
    function()
    print(function.__name__, flush=True)
print('ok', len(CHECKS))
