#!/usr/bin/env python3
"""How fast msgbench drives a system against that system's own tool: same server, same settings, alternating, medians.

    cargo build --release --bins --examples
    scripts/ceilings.py nats        # nats bench (natscli) and nats-server on PATH, or $MSGBENCH_NATS_CLI, $MSGBENCH_NATS_SERVER
    scripts/ceilings.py reference   # the same with the reference broker as the server: nats-server is slower than both tools
    scripts/ceilings.py jetstream
    scripts/ceilings.py kafka       # Kafka of scripts/get-kafka.sh or $MSGBENCH_KAFKA_HOME

SIZES (`128 1024`), ROUNDS (5) and SECONDS_EACH (3) say how much. No message of msgbench is smaller than 44 B, its stamps.
Rates are messages per second. CPU is of the generating processes alone, user and system, microseconds per message; of Kafka's
tools the start of the Java virtual machine is taken off, as a run of one message shows it. Needs Python 3.8 alone.
"""
import json, os, re, resource, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SIZES = [int(size) for size in os.environ.get("SIZES", "128 1024").split()]
SECONDS = os.environ.get("SECONDS_EACH", "3")
MSGBENCH = os.environ.get("MSGBENCH", "target/release/msgbench")
BARE = os.environ.get("BARE", "target/release/examples/bare_nats")
CLI = os.environ.get("MSGBENCH_NATS_CLI") or shutil.which("nats")
SERVER = os.environ.get("MSGBENCH_NATS_SERVER") or shutil.which("nats-server")
KAFKA = os.environ.get("MSGBENCH_KAFKA_HOME", ".cache/kafka")
IN_FLIGHT = 2000


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(number, seconds=60):
    until = time.time() + seconds
    while time.time() < until:
        try:
            return socket.create_connection(("127.0.0.1", number), 1).close()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing listens on port {number} after {seconds} s")


def run(command, others=(), lead=0.5):
    """Runs a command beside others that were started first; their output and their CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in others]
    if started:
        time.sleep(lead)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        texts = [p.communicate(timeout=120)[0] for p in started]
    finally:
        for p in started:
            p.poll() is None and p.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, texts, cpu


def number_of(pattern, text):
    found = re.findall(pattern, text)
    if not found:
        sys.exit(f"no {pattern} in: {text}")
    return float(found[-1].replace(",", ""))


def ours(scenario, *sets):
    """One trial; the first workload of the record, throughput, generator CPU."""
    with tempfile.TemporaryDirectory() as out:
        command = [MSGBENCH, "run", scenario, "--trials", "1", "--format", "record", "--quiet", "--out", out]
        for s in sets:
            command += ["--set", s]
        # 4: invalid is for latencies; a ceiling is meant to be at the limit.
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
        if done.returncode not in (0, 4):
            sys.exit(f"{' '.join(command)}: {done.returncode}: {done.stderr}")
        trial = json.loads(done.stdout)["trials"][0]
        workload = trial["workloads"][0]
        if workload["ledger"]["lost"]:
            print("lost", workload["ledger"], file=sys.stderr)
        return workload, trial["generator"]["cpu_seconds"], trial["measured_ns"] / 1e9


SCENARIO = """name = "ceilings"
question = "How fast?"
[[system]]
driver = "{driver}"
url = "{url}"
options = {options}
[[workload]]
pattern = "{pattern}"
consumers = {consumers}
load = {load}
payload = {{ size = "{size}B" }}
{delivery}
[run]
warmup = "{warmup}"
duration = "{seconds}s"
drain = "20s"
"""


def scenario(folder, **k):
    defaults = dict(load='{ mode = "unthrottled" }', delivery="", options="{}", warmup="500ms", seconds=SECONDS)
    path = os.path.join(folder, "ceilings.toml")
    with open(path, "w") as f:
        f.write(SCENARIO.format(**{**defaults, **k}))
    return path


def bare(number, *what):
    """What the server takes from a client, or gives to one, that does nothing but move bytes: examples/bare_nats."""
    kind, *rest = map(str, what)
    text, _, _ = run([BARE, kind, f"127.0.0.1:{number}", *rest])
    return number_of(r"([\d,]+) messages/s", text), number_of(r"([\d.]+) us CPU", text)


def publish(folder, **k):
    w, cpu, seconds = ours(scenario(folder, pattern=k.pop("pattern", "fan-out"), consumers=0, **k))
    rate = w["throughput"]["sent"]
    return rate, cpu / (rate * seconds) * 1e6


def deliver(folder, **k):
    k.setdefault("load", '{ mode = "unthrottled", window = 50000 }')
    w, cpu, seconds = ours(scenario(folder, pattern="fan-out", consumers=1, **k))
    rate = w["throughput"]["delivered"]
    return rate, cpu / (rate * seconds) * 1e6


def drain(folder, backlog, **k):
    """A backlog is read while hardly anything is published: the rate of reading, the CPU of the whole phase for it."""
    load = '{ rate = "10/s" }'
    delivery = f"delivery = {{ backlog = {backlog} }}"
    w, cpu, _ = ours(scenario(folder, pattern="replay", consumers=1, load=load, delivery=delivery, **k))
    return w["replay"]["rate"], cpu / backlog * 1e6


def table(rows):
    """rows: what is measured -> {who: function}. Alternates who within a round."""
    got = {}
    for n in range(ROUNDS):
        for what, arms in rows.items():
            names = list(arms)
            for who in names[n % len(names):] + names[: n % len(names)]:
                rate, cpu = arms[who]()
                got.setdefault(what, {}).setdefault(who, []).append((rate, cpu))
                print(f"round {n + 1} {what} {who}: {rate:,.0f}/s {cpu:.3f} us", file=sys.stderr)
    print(f"| medians of {ROUNDS} | messages/s | range | CPU us per message | rate against the tool |")
    print("|---|---:|---:|---:|---:|")
    for what, arms in got.items():
        tool = statistics.median(r for r, _ in next(iter(arms.values())))
        for who, pairs in arms.items():
            rates = [r for r, _ in pairs]
            rate, cpu = statistics.median(rates), statistics.median(c for _, c in pairs)
            low, high = min(rates), max(rates)
            print(f"| {what}, {who} | {rate / 1e3:,.0f} k | {low / 1e3:,.0f} to {high / 1e3:,.0f} k | {cpu:.2f} | {rate / tool:.2f} |")


def nats(jetstream=False, reference=False):
    if not CLI or not (SERVER or reference):
        sys.exit("nats (natscli) and nats-server are needed")
    folder = tempfile.mkdtemp()
    at = port()
    command = [SERVER, "-p", str(at), "-a", "127.0.0.1", "-js", "-sd", folder]
    if reference:
        command = [MSGBENCH, "broker", "--listen", f"127.0.0.1:{at}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(at)
        url = f"nats://127.0.0.1:{at}"
        bench = [CLI, "-s", url, "bench"]
        rows = {}
        for size in SIZES:
            each = ["--size", f"{size}B", "--no-progress"]
            k = dict(folder=folder, url=url, size=size)
            if jetstream:
                n = 200_000
                count = ["--msgs", str(n)]
                batch = ["--batch", str(IN_FLIGHT)]

                def pub(each=each):
                    text, _, cpu = run(bench + ["js", "pub", "async", "ceil", "--create", "--purge", *batch, *count, *each])
                    return number_of(r"stats: ([\d,]+) msgs/sec", text), cpu / n * 1e6

                def sub(ack, each=each, pub=pub):
                    pub()
                    text, _, cpu = run(bench + ["js", "consume", "--acks", ack, *count, *each])
                    return number_of(r"stats: ([\d,]+) msgs/sec", text), cpu / n * 1e6

                k.update(driver="jetstream", warmup="500ms")
                options = f"{{ in-flight = {IN_FLIGHT} }}"
                rows[f"JetStream file, asynchronous publish, {size} B"] = {
                    "nats bench js pub async": pub,
                    "msgbench": lambda k=k, o=options: publish(pattern="stream", options=o, **k),
                }
                for ack in ["explicit", "all"]:
                    options = f'{{ batch = 500, ack = "{ack}" }}'
                    rows[f"JetStream file, pull consume, acknowledgement {ack}, {size} B"] = {
                        "nats bench js consume": lambda ack=ack, sub=sub: sub(ack),
                        "msgbench": lambda k=k, o=options: drain(backlog=n, seconds=6, options=o, **k),
                        "a bare client": lambda size=size, ack=ack: bare(at, "pull", size, n, ack),
                    }
            else:
                n = 4_000_000 if size < 1000 else 1_500_000 if size < 4000 else 100_000
                count = ["--msgs", str(n)]

                def pub(each=each, count=count, n=n):
                    text, _, cpu = run(bench + ["pub", "ceil", *count, *each])
                    return number_of(r"stats: ([\d,]+) msgs/sec", text), cpu / n * 1e6

                def both(each=each, count=count, n=n):
                    publisher = bench + ["pub", "ceil", *count, *each]
                    _, (text,), cpu = run(publisher, [bench + ["sub", "ceil", *count, *each]])
                    return number_of(r"stats: ([\d,]+) msgs/sec", text), cpu / n * 1e6

                k["driver"] = "nats"
                wire = '{ client = "wire" }'
                rows[f"publish, {size} B"] = {
                    "nats bench pub": pub,
                    "msgbench, wire": lambda k=k: publish(options=wire, **k),
                    "msgbench, async-nats": lambda k=k: publish(**k),
                    "a bare writer": lambda size=size: bare(at, "write", size, SECONDS),
                }
                rows[f"publish and subscribe, 1 to 1, {size} B"] = {
                    "nats bench pub and sub": both,
                    "msgbench, wire": lambda k=k: deliver(options=wire, **k),
                    "msgbench, async-nats": lambda k=k: deliver(**k),
                    "a bare writer and reader": lambda size=size: bare(at, "stream", size, SECONDS),
                }
        table(rows)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def crc32c(data):
    """CRC-32C, as a batch of Kafka's has it; slow, for one batch."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def varint(n):
    n, out = n << 1, b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


class BareKafka:
    """A client that does nothing but move bytes: one batch that was made once is produced again and again, or what was
    stored is fetched and only its offsets are looked at. Produce 7 and Fetch 11 of the protocol."""

    def __init__(self, number, topic):
        self.socket, self.topic, self.buffer = socket.create_connection(("127.0.0.1", number), 10), topic.encode(), bytearray(1 << 22)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def frame(self, api, version, body):
        head = struct.pack(">hhih", api, version, 7, 4) + b"bare"
        return struct.pack(">i", len(head) + len(body)) + head + body

    def answer(self):
        view, have = memoryview(self.buffer), 0
        while have < 4 or have < 4 + struct.unpack_from(">i", view)[0]:
            want = 4 - have if have < 4 else 4 + struct.unpack_from(">i", view)[0] - have
            got = self.socket.recv_into(view[have:], want)
            if got == 0:
                sys.exit("Kafka closed the connection of the bare client")
            have += got
        return view[4:have]

    def measured(self, work):
        before, begun = os.times(), time.perf_counter()
        n = work()
        spent, after = time.perf_counter() - begun, os.times()
        return n / spent, (after.user - before.user + after.system - before.system) / n * 1e6

    def produce(self, size, batch_size, seconds, in_flight=5):
        value = os.urandom(size)
        count = batch_size // (size + 12)
        records = b"".join(varint(len(r)) + r for r in (
            b"\0\0" + varint(i) + b"\x01" + varint(size) + value + b"\0" for i in range(count)))
        now = int(time.time() * 1000)
        rest = struct.pack(">hiqqqhii", 0, count - 1, now, now, -1, -1, -1, count) + records
        batch = struct.pack(">qiibI", 0, len(rest) + 9, -1, 2, crc32c(rest)) + rest
        topics = struct.pack(">ih", 1, len(self.topic)) + self.topic + struct.pack(">iii", 1, 0, len(batch)) + batch
        frame = self.frame(0, 7, struct.pack(">hhi", -1, -1, 30000) + topics)

        def work():
            done, until = 0, time.perf_counter() + seconds
            for _ in range(in_flight):
                self.socket.sendall(frame)
            while time.perf_counter() < until:
                error = struct.unpack_from(">h", self.answer(), 4 + 4 + 2 + len(self.topic) + 4 + 4)[0]
                if error:
                    sys.exit(f"Kafka refused what the bare client produced: error {error}")
                done += count
                self.socket.sendall(frame)
            for _ in range(in_flight):
                self.answer()
            return done + in_flight * count

        return self.measured(work)

    def consume(self, n, most=1 << 20):
        def request(offset):
            part = struct.pack(">iiqqi", 0, -1, offset, -1, most)
            topics = struct.pack(">ih", 1, len(self.topic)) + self.topic + struct.pack(">i", 1) + part
            return self.frame(1, 11, struct.pack(">iiiibii", -1, 500, 1, 50 << 20, 0, 0, -1) + topics + struct.pack(">ih", 0, 0))

        def work():
            offset = 0
            while offset < n:
                self.socket.sendall(request(offset))
                at = self.answer()
                skip = 4 + 4 + 2 + 4 + 4 + 2 + len(self.topic) + 4 + 4
                error, = struct.unpack_from(">h", at, skip)
                aborted, = struct.unpack_from(">i", at, skip + 2 + 24)
                here = skip + 2 + 24 + 4 + max(aborted, 0) * 16 + 4
                size, = struct.unpack_from(">i", at, here)
                if error:
                    sys.exit(f"Kafka refused what the bare client fetched: error {error}")
                here, end = here + 4, here + 4 + size
                while here + 61 <= end:
                    base, length = struct.unpack_from(">qi", at, here)
                    offset = base + struct.unpack_from(">i", at, here + 23)[0] + 1
                    here += 12 + length
            return n

        return self.measured(work)


def kafka():
    home = os.path.abspath(KAFKA)
    java = ["java", "-XX:-UsePerfData", f"-Dlog4j2.configurationFile={home}/config/log4j2.properties", "-cp", f"{home}/libs/*"]
    folder = tempfile.mkdtemp()
    client, controller = port(), port()
    properties = os.path.join(folder, "server.properties")
    with open(properties, "w") as f:
        f.write("\n".join([
            "process.roles=broker,controller", "node.id=1", f"listeners=CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=CLIENT://127.0.0.1:{client}", "listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=CLIENT", "controller.listener.names=CONTROLLER", f"controller.quorum.voters=1@127.0.0.1:{controller}",
            f"log.dirs={folder}/data", "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4", "num.partitions=1",
            "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1", "group.initial.rebalance.delay.ms=0", ""]))
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(java + ["kafka.tools.StorageTool", "format", "-t", "bWVhc3VyZW1lbnRzb25seQ", "-c", properties], check=True, **quiet)
    server = subprocess.Popen(java[:1] + ["-Xmx1g"] + java[1:] + ["kafka.Kafka", properties], **quiet)
    try:
        wait_for(client)
        time.sleep(3)
        at = f"127.0.0.1:{client}"
        linger, batch = 5, 131072
        made = {}

        def perf_produce(topic, n, size):
            text, _, cpu = run(java[:1] + ["-Xmx512m"] + java[1:] + [
                "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", str(n), "--record-size", str(size),
                "--throughput", "-1", "--producer-props", f"bootstrap.servers={at}", "acks=all", f"linger.ms={linger}", f"batch.size={batch}",
                "enable.idempotence=false"])
            return number_of(r"([\d.]+) records/sec", text), cpu

        def perf_consume(topic, n):
            text, _, cpu = run(java[:1] + ["-Xmx512m"] + java[1:] + [
                "org.apache.kafka.tools.ConsumerPerformance", "--topic", topic, "--messages", str(n), "--bootstrap-server", at, "--timeout", "20000"])
            line = text.strip().splitlines()[-1].split(",")
            return float(line[9]), cpu

        def perf_share(topic, n):
            """The group is new each time: it begins with the first message."""
            group = f"share-{time.time_ns()}"
            resets = java + ["org.apache.kafka.tools.consumer.group.ShareGroupCommand", "--bootstrap-server", at, "--reset-offsets", "--group", group,
                             "--topic", topic, "--to-earliest", "--execute"]
            subprocess.run(resets, check=True, **quiet)
            text, _, cpu = run(java[:1] + ["-Xmx512m"] + java[1:] + [
                "org.apache.kafka.tools.ShareConsumerPerformance", "--topic", topic, "--num-records", str(n), "--bootstrap-server", at, "--group", group,
                "--timeout", "20000"])
            line = text.strip().splitlines()[-1].split(",")
            return float(line[4]), cpu

        start_p = perf_produce("start", 1, 128)[1]
        start_c = perf_consume("start", 1)[1]
        start_s = perf_share("start", 1)[1]
        rows = {}
        for size in SIZES:
            n = 3_000_000 if size < 1000 else 1_000_000
            k = dict(folder=folder, url=f"kafka://{at}", driver="kafka", size=size, warmup="1s")
            options = f'{{ linger = "{linger}ms", batch-size = "{batch}B", idempotence = false }}'

            def pub(n=n, size=size):
                rate, cpu = perf_produce(f"p{size}", n, size)
                made[size] = n
                return rate, (cpu - start_p) / n * 1e6

            def sub(n=n, size=size):
                if size not in made:
                    pub(n, size)
                rate, cpu = perf_consume(f"p{size}", n)
                return rate, (cpu - start_c) / n * 1e6

            def share(n=n, size=size):
                if size not in made:
                    pub(n, size)
                rate, cpu = perf_share(f"p{size}", n)
                return rate, (cpu - start_s) / n * 1e6

            wire = f'{{ linger = "{linger}ms", batch-size = "{batch}B", producers = "wire" }}'
            sharing = options[:-2] + ', consumers = "share" }'
            fetching = options[:-2] + ', consumers = "wire" }'
            rows[f"Kafka produce, acks=all, {size} B"] = {
                "kafka-producer-perf-test": pub,
                "msgbench": lambda k=k, o=options: publish(pattern="stream", options=o, **k),
                "msgbench, producers = wire": lambda k=k, o=wire: publish(pattern="stream", options=o, **k),
                "a bare client, 5 requests in flight": lambda size=size: BareKafka(client, f"p{size}").produce(size, batch, float(SECONDS)),
            }
            rows[f"Kafka consume, {size} B"] = {
                "kafka-consumer-perf-test": sub,
                "msgbench": lambda k=k, o=options, n=n: drain(backlog=n, seconds=6, options=o, **k),
                "msgbench, consumers = wire": lambda k=k, o=fetching, n=n: drain(backlog=n, seconds=6, options=o, **k),
                "a bare client": lambda n=n, size=size, pub=pub: (size in made or pub(), BareKafka(client, f"p{size}").consume(n))[1],
            }
            rows[f"Kafka share group, {size} B"] = {
                "kafka-share-consumer-perf-test": share,
                "msgbench": lambda k=k, o=sharing, n=n: drain(backlog=n, seconds=6, options=o, **k),
            }
        table(rows)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    {"nats": nats, "reference": lambda: nats(reference=True), "jetstream": lambda: nats(jetstream=True), "kafka": kafka}.get(
        sys.argv[1] if len(sys.argv) == 2 else "", lambda: sys.exit(__doc__))()
