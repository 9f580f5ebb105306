"""How long a stream of three copies takes no message after the server that leads it is killed, with
nats-py alone: the median of some kills, in milliseconds."""

import asyncio
import pathlib
import socket
import statistics
import subprocess
import sys
import time

import nats

KILLS = 3
EACH = 0.01     # seconds from one message to the next
AFTER = 10.0    # seconds that are looked at after a kill
READY = 30.0    # bound on a server being up to date again

program, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


NAMES = ["a", "b", "c"]
PORTS = {name: (port(), port()) for name in NAMES}
ROUTES = ",".join(f"nats://127.0.0.1:{route}" for _, route in PORTS.values())


def start(name: str) -> subprocess.Popen:
    clients, route = PORTS[name]
    data = folder / f"jetstream-{name}"
    config = folder / f"{name}.conf"
    config.write_text(
        f"server_name: {name}\nlisten: 127.0.0.1:{clients}\njetstream {{ store_dir: \"{data}\" }}\n"
        f"cluster {{ name: second, listen: 127.0.0.1:{route}, routes: [{ROUTES}] }}\n"
    )
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)


async def ready(stream, create: bool) -> str:
    """Waits until three servers have the stream and are up to date; says who leads it."""
    until = time.monotonic() + READY
    while True:
        try:
            if create:
                await stream.add_stream(name="second", subjects=["second"], num_replicas=3)
            cluster = (await stream.stream_info("second")).cluster
            replicas = cluster.replicas or []
            if cluster.leader and len(replicas) == 2 and all(r.current and not r.offline for r in replicas):
                return cluster.leader
        except Exception as error:  # it comes up
            last = error
        else:
            last = "not all are up to date"
        if time.monotonic() > until:
            sys.exit(f"three servers are not ready within {READY:.0f} s: {last}")
        await asyncio.sleep(0.2)


async def main(servers: dict[str, subprocess.Popen]) -> None:
    urls = [f"nats://127.0.0.1:{clients}" for clients, _ in PORTS.values()]
    client = await nats.connect(
        urls, reconnect_time_wait=0.05, max_reconnect_attempts=-1, connect_timeout=READY, error_cb=quiet)
    stream = client.jetstream()
    await ready(stream, create=True)
    acknowledged: list[float] = []
    ends = asyncio.Event()

    async def one() -> None:
        try:
            await stream.publish("second", b"x" * 128, timeout=5)
            acknowledged.append(time.monotonic())
        except Exception:  # it was refused, or nobody led: what counts is when the next one is taken
            pass

    async def load() -> None:
        due, under_way = time.monotonic(), set()
        while not ends.is_set():
            task = asyncio.create_task(one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += EACH
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    loading = asyncio.create_task(load())
    gaps = []
    for _ in range(KILLS):
        leader = await ready(stream, create=False)
        await asyncio.sleep(1)
        killed = time.monotonic()
        servers[leader].kill()
        servers[leader].wait()
        await asyncio.sleep(AFTER)
        times = [t for t in acknowledged if t > killed - 0.5]
        if not times or times[-1] < killed + AFTER / 2:
            sys.exit(f"nothing is taken {AFTER:.0f} s after the leader was killed")
        gaps.append(max(b - a for a, b in zip(times, times[1:])))
        servers[leader] = start(leader)
    ends.set()
    await loading
    print(f"{statistics.median(gaps) * 1000:.0f}")
    await client.close()


async def quiet(_error) -> None:
    pass


running = {name: start(name) for name in NAMES}
try:
    asyncio.run(main(running))
finally:
    for server in running.values():
        server.kill()
        server.wait()
