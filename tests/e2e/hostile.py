#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A hostile application beside an honest one: the daemon lives, and the honest one notices nothing."""
import os
import socket
import threading
import time

import harness
from harness import case, check, check_equal

SECONDS = int(os.environ.get("SOCKGATE_E2E_HOSTILE_SECONDS", 10))
MESSAGE = 3000


class KernelSink(threading.Thread):
    """Takes whatever the hostile application sends."""

    def __init__(self, listener):
        super().__init__(daemon=True)
        self.listener = listener
        self.conns = []

    def run(self):
        self.listener.settimeout(None)
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.conns = self.conns[-64:] + [conn]

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        for conn in self.conns:
            conn.close()


@case
def scribbles_over_its_segment(env):
    env.start_daemon()
    server = env.start("openmv_echo_server")
    server.wait_line("listening")
    with env.kernel_listener(7000, backlog=64) as listener:
        sink = KernelSink(listener)
        sink.start()
        seed = int.from_bytes(os.urandom(4), "big")
        hostile = env.start("hostile_client", SECONDS, seed, harness.KERNEL_ADDR, 7000)
        honest = env.connect(9000)
        honest.settimeout(5 * harness.PATIENCE)
        rounds, worst, end = 0, 0.0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            data = os.urandom(MESSAGE)
            began = time.monotonic()
            honest.sendall(data)
            check_equal(harness.receive_exactly(honest, MESSAGE) == data, True, f"echo {rounds} (seed {seed})")
            worst = max(worst, time.monotonic() - began)
            rounds += 1
        check_equal(hostile.wait(30), 0, f"the hostile client's status (seed {seed}): {hostile.stderr()[-500:]}")
        print(f"{hostile.lines()[-1]}; {rounds} honest echoes, the slowest {worst * 1000:.1f} ms")
        sink.stop()
    check(env.daemon.running(), f"the daemon died (seed {seed})")
    counters = env.stats() # found by the engine, or by the worker in a channel
    check(counters["AppFaults"] + counters["session.faulted"] > 0, f"no session was expelled (seed {seed})")
    honest.shutdown(socket.SHUT_WR)
    check_equal(honest.recv(1), b"", "end of file from the honest server")
    # The kernel has reset what the dead left behind: only the honest one is there.
    harness.wait_for("the expelled sessions to be freed",
                     lambda: len([s for s in env.ctl("sessions") if s["program"] != "openmv_echo_server"[:15]]) == 0, 20)


harness.main()
