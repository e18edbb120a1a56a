#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two applications on one daemon, with data from ring to ring and, the same, with segments through the loop queue."""
import harness
from harness import BULK_BYTES, DAEMON_ADDR, case, check, check_equal

PORT = 5201
SECONDS = 120


def transfer(env, size):
    path, out = env.dir + "/sent", env.dir + "/received"
    expected = harness.make_file(path, size)
    with open(out, "wb") as f:
        server = env.start("bulk_server", "--receive", "0.0.0.0", PORT, stdout=f)
        env.wait_listening(PORT)
        with open(path, "rb") as data:
            client = env.start("bulk_client", "--send", DAEMON_ADDR, PORT, stdin=data)
            client.expect_success(SECONDS)
        server.expect_success(SECONDS)
    check_equal(harness.file_sha256(out), expected, "SHA-256 of what the other application received")


@case
def cut_through(env):
    """No segment carries data, and TIME_WAIT shows that the end was a FIN's."""
    size = BULK_BYTES // 8
    env.start_daemon()
    before = env.stats()
    transfer(env, size)
    after = env.stats()
    check_equal(after["TcpCutThroughBytes"], size, "bytes passed from ring to ring")
    check(after["TcpOutSegs"] - before["TcpOutSegs"] < size / 16384, "few segments beside them")
    check_equal(after["TcpRetransSegs"], 0, "segments sent again")
    check_equal(after["TcpChallengeACK"], 0, "segments that surprised")
    check_equal([PORT in (r["local_port"], r["peer_port"]) for r in env.sockets(state="TIME_WAIT")], [True],
                "the connection in TIME_WAIT")


@case
def without_cut_through(env):
    size = BULK_BYTES // 32
    env.start_daemon("--set", "tcp.cut_through=off")
    transfer(env, size)
    check_equal(env.stats()["TcpCutThroughBytes"], 0, "bytes passed from ring to ring")


harness.main()
