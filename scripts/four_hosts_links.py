#!/usr/bin/env python3
"""Joins network namespaces by links that take their time.

    four_hosts_links.py NAMESPACE=ADDRESS@SITE... --within MS --between MS

Each namespace gets a device `mb0` with its address. Every packet is held for as long as the way
between two sites takes, in each direction, and then given to the device of its receiver. This is
for kernels without netem: a queue of the kernel that delays would be `tc qdisc add dev mb0 root
netem delay 5ms`. It prints `ready`, and ends with its input.
"""
import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


def device(namespace, address):
    """A device in a namespace; its packets are read and written here."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = []

    def make():
        # A thread of its own, which is left in that namespace and ends.
        handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        if libc.setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"mb0", IFF_TUN_NO_PI))
        made.append(tun)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    for words in (f"address add {address}/24 dev mb0", "link set mb0 up", "link set lo up"):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)
    return made[0]


def main():
    words = sys.argv[1:]
    option = {name: float(words[words.index(name) + 1]) / 1e3 for name in ("--within", "--between")}
    hosts = [w for w in words if "@" in w]
    devices, sites = {}, {}
    for host in hosts:
        namespace, rest = host.split("=")
        address, site = rest.split("@")
        key = bytes(map(int, address.split(".")))
        devices[key], sites[key] = device(namespace, address), site
    print("ready", flush=True)
    by_file = {tun: key for key, tun in devices.items()}
    waiting, number = [], 0
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([sys.stdin, *by_file], [], [], left)
        if sys.stdin in ready and not os.read(0, 100):
            return
        for tun in ready:
            if tun is sys.stdin:
                continue
            try:
                while True:
                    packet = os.read(tun, 4096)
                    to = packet[16:20]
                    if packet[0] >> 4 != 4 or to not in devices:
                        continue
                    same = sites[to] == sites[by_file[tun]]
                    due = time.monotonic() + option["--within" if same else "--between"]
                    # Equal delays keep the order of packets; the number decides between equals.
                    number += 1
                    heapq.heappush(waiting, (due, number, to, packet))
            except BlockingIOError:
                pass
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(devices[to], packet)
            except BlockingIOError:
                pass  # The queue of the receiver is full: lost, as on a wire.


main()
