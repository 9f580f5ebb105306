"""A service on Kafka: reads orders from one topic, answers into another, and copies a header.

Arguments: brokers, topic, reply topic, header. Makes both topics, prints `ready` once it reads, and
the number of each request. Every 10th request is answered twice, every 25th not at all. The 7th also
brings an answer without the header, the 8th one of somebody else.
"""

import json
import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

brokers, topic, reply_topic, header = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": brokers})
for made in admin.create_topics([NewTopic(topic, 3, 1), NewTopic(reply_topic, 2, 1)]).values():
    made.result(60)
producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
# What lay in the topic of the answers before is nobody's answer.
producer.produce(reply_topic, b"old", headers=[(header, b"old")])
producer.flush(60)
consumer = Consumer(
    {"bootstrap.servers": brokers, "group.id": "gateway", "auto.offset.reset": "earliest", "enable.auto.commit": False}
)
consumer.subscribe([topic], on_assign=lambda *_: print("ready", flush=True))
seen = 0
while True:
    producer.poll(0)
    request = consumer.poll(0.05)
    if request is None:
        continue
    if request.error():
        sys.exit(str(request.error()))
    order = json.loads(request.value())["order"]
    assert order in (1, "two"), order
    names = [value for name, value in request.headers() if name == header]
    assert len(names) == 1, request.headers()
    seen += 1
    answers = 0 if seen % 25 == 0 else 2 if seen % 10 == 0 else 1
    for _ in range(answers):
        producer.produce(reply_topic, b'{"accepted":true}', headers=[("other", b"x"), (header, names[0])])
    if seen == 7:
        producer.produce(reply_topic, b"nameless")
    if seen == 8:
        producer.produce(reply_topic, b"of another", headers=[(header, b"another")])
    print(seen, flush=True)
