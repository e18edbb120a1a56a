/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsockclient: TCP and UDP sockets served by sockgated, with the manners of device socket modules.
 *
 * A program attaches to the daemon with sc_lib_open(), makes sockets with sc_socket() and uses them with
 * the calls below. Each socket follows a profile: a table that says how one family of devices behaves
 * where socket modules differ (is recv() short or filling, in which unit are time-outs, which number is
 * SO_REUSEADDR, ...). The profiles are "posix", "uiflow2", "mpython", "usocket", "zerynth" and "openmv".
 *
 * Rules that hold for every call, unless its own text says otherwise:
 *
 *   Results   0 or more is success, a negative Linux errno is failure, whatever the profile. What a device
 *             program would see (its errno number, its exception class) is asked for separately, with
 *             sc_error_number() and sc_error_class(), so that no number is ever translated twice. Stream
 *             calls may also return SC_NONE. Results are written through pointers on success only, except
 *             where a count is said to be always written.
 *   Numbers   families, types, levels, option names and message flags are those of the socket's profile
 *             (Zerynth's AF_INET is 0); sc_const() gives them by name. A C program that doesn't want to
 *             care uses SC_INET, SC_STREAM, SC_SOL_SOCKET, SC_MSG_PEEK ..., which every profile accepts.
 *   Blocking  a call blocks only where its text says so, and then as the socket's time-out says: for ever
 *             (the default), for at most that long, or not at all. The deadline counts from the start of
 *             the call and is not extended by partial progress.
 *   Memory    the caller keeps what it passes in; it is copied before the call returns. The caller frees
 *             what a call says it hands over.
 *   Threads   any thread may call anything at any time, also on the same socket, with two exceptions:
 *             sc_release() must be the last call on its socket, and sc_lib_close() the last of all.
 *             A call that blocks holds no lock, so others can use or close the socket meanwhile.
 *   Signals   a blocking call that is interrupted by a signal handler returns -EINTR, with SA_RESTART too (as
 *             kernel sockets with a time-out do); counts are kept as with a time-out.
 *   fork      the child can use neither the parent's sockets nor its attachment: every call there returns
 *             -EBADF. It may call sc_release() and sc_lib_close() (they free memory only), and attach anew.
 *
 * Errors that any call on a socket may return, not repeated below:
 *   -EBADF     the socket was closed, or the process is a fork()ed child
 *   -ENETDOWN  the daemon is gone. Blocked calls notice within a second. Data that had already arrived can
 *              still be read. Close everything and attach again.
 *   -EINVAL    a pointer is NULL where that is not allowed, or a size is above SSIZE_MAX
 *   -EINTR     see "Signals" above (blocking calls only)
 *
 * Sources named in the comments: "UiFlow2", "mPython", "Zerynth", "usocket" and "OpenMV" are the socket
 * documents of those devices; RFC 9293 is TCP, RFC 768 UDP; "POSIX" is POSIX.1-2017.
 */
#ifndef SOCKCLIENT_H
#define SOCKCLIENT_H

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SC_API __attribute__((visibility("default")))
#else
#define SC_API
#endif

/** An attachment to the daemon. */
typedef struct sc_lib sc_lib;
/** A handle on one socket. Several handles may share a socket, see sc_socket_from_fileno(). */
typedef struct sc_sock sc_sock;

/** An address. Family numbers here are Linux's (2: IPv4), not the profile's. */
typedef struct {
    uint8_t family;    /* 2: IPv4; 10: IPv6; 0: none */
    uint8_t len;       /* bytes of ip in use: 4 or 16 */
    uint16_t port;     /* host order */
    uint32_t scope_id; /* IPv6: interface of a link-local address, 0: the only one there is */
    uint8_t ip[16];    /* network order; unused bytes are 0 */
} sc_addr;

#define SC_ADDR_INET  2
#define SC_ADDR_INET6 10

/* ---- Results that are no errno ------------------------------------------------------------------- */

/** Nothing was transferred by a stream call on a non-blocking socket (Python's None). Not a failure. */
#define SC_NONE       (-1000000)
/** The profile has no such address form (Python's TypeError). */
#define SC_BAD_FORM   (-1000001)
/** Resolver failures, all within SC_GAI_MIN..SC_GAI_MAX; sc_gai_number() gives a device's number for each. */
#define SC_GAI_MIN    (-1000199)
#define SC_GAI_NONAME (-1000101) /* no such name, or not a name at all */
#define SC_GAI_NO_SERVER                                                                                     \
    (-1000102)                       /* not numeric, not in the hosts file, and no name server can be asked  \
                                      */
#define SC_GAI_EMPTY      (-1000103) /* the name is empty */
#define SC_GAI_FAMILY     (-1000104) /* family or type not supported */
#define SC_GAI_SERVICE    (-1000105) /* the port is outside 0..65535 */
#define SC_GAI_MEMORY     (-1000106) /* out of memory */
#define SC_GAI_MAX        (-1000101)

/* ---- Profiles ------------------------------------------------------------------------------------ */

/* sc_profile.backlog_overflow */
#define SC_OVF_DROP       0 /* a full queue ignores the handshake; the peer tries again */
#define SC_OVF_RESET      1 /* a full queue answers with RST */
/* sc_profile.timeout_unit */
#define SC_UNIT_SEC_FLOAT 0 /* seconds, fractions allowed */
#define SC_UNIT_MS_INT    1 /* milliseconds */
/* sc_profile.errno_space */
#define SC_ERRNO_LINUX    0
#define SC_ERRNO_NEWLIB   1 /* the numbers of newlib, which the ESP32 shows */
/* sc_profile.exc_model */
#define SC_EXC_OSERROR    0 /* everything is an OSError */
#define SC_EXC_ZERYNTH    1 /* IOError, with a class of its own for time-outs */
/* sc_profile.addr_forms */
#define SC_AF_PAIR        (1u << 0) /* (host, port) as a tuple */
#define SC_AF_LIST        (1u << 1) /* [host, port] as a list */
#define SC_AF_STR         (1u << 2) /* "a.b.c.d", port 0 */
#define SC_AF_QUAD        (1u << 3) /* (a, b, c, d), port 0 */
#define SC_AF_QUINT       (1u << 4) /* (a, b, c, d, port) */
#define SC_AF_PORT        (1u << 5) /* port alone, in bind() only */

/** A named number of a profile. */
struct sc_const {
    const char *name; /* NULL ends a table */
    int value;
};

/**
 * How one family of devices behaves. The built-in ones are constant. A program may pass a changed copy to
 * sc_set_profile() or sc_lib_set_profile(); it must then stay valid and unchanged until sc_lib_close().
 */
typedef struct sc_profile {
    const char *name;
    int16_t listen_default;   /* backlog of sc_listen(s, SC_BACKLOG_DEFAULT) */
    uint8_t recv_fill;        /* 1: sc_recv() on a stream waits for the whole size, end of file or an error */
    uint8_t send_loops;       /* 1: a blocking sc_send() continues until all is queued */
    uint8_t empty_send_fails; /* 1: sc_send() of 0 bytes on a stream fails, see there */
    uint8_t accept_inherits;  /* 1: an accepted socket takes over the listener's time-out */
    uint8_t refused_as_reset; /* 1: sc_error_number() shows a refused connection as ECONNRESET */
    uint8_t backlog_overflow; /* SC_OVF_* */
    uint8_t backlog_plus_one; /* 1: n+1 connections wait with backlog n, as on Linux; 0: max(n, 1) */
    uint8_t dead_send_epipe;  /* 1: as on Linux, sends fail with EPIPE on a new socket, and on a dead one
                               * after its error was reported; 0: ENOTCONN, and the error again */
    uint8_t poll_out_dead;    /* 1: as on Linux, a dead connection polls as writable; 0: not, once reported */
    uint8_t names_ok;         /* 1: sc_addr_host_port() looks up names */
    uint8_t lenient_opts;     /* 1: options that nobody knows are ignored, not refused */
    uint8_t timeout_unit;     /* SC_UNIT_*: unit of sc_settimeout() */
    uint8_t errno_space;      /* SC_ERRNO_*: for sc_error_number() */
    uint8_t exc_model;        /* SC_EXC_*: for sc_error_class() */
    uint8_t gai_space;   /* which resolver numbers sc_gai_number() gives: 0 Linux, 1 ESP32, 2 bare lwIP */
    uint8_t opt_space;   /* how option numbers are read: 0 Linux, 1 ESP32, 2 bare lwIP, 3 Zerynth */
    uint16_t addr_forms; /* SC_AF_* */
    const struct sc_const *consts; /* ends with a NULL name */
} sc_profile;

/**
 * A built-in profile by name.
 * @param name  NULL: the environment's SOCKGATE_PROFILE, or "posix" when that is unset or empty
 * @return NULL when there is none of that name. Constant, never freed.
 */
SC_API const sc_profile *sc_profile_find(const char *name);

/** The built-in profiles in turn: index 0, 1, ... until NULL. */
SC_API const sc_profile *sc_profile_at(unsigned index);

/**
 * A number of a profile by its name in the device's module: "AF_INET", "SOL_SOCKET", "MSG_PEEK" ...
 * @param dflt  returned when the profile has no such name
 */
SC_API int sc_const(const sc_profile *profile, const char *name, int dflt);

/* ---- Attachment ---------------------------------------------------------------------------------- */

/**
 * Attach this process to the daemon. Blocks until the daemon has answered, at most 5 seconds.
 * A process may attach several times; each attachment is a session of its own to the daemon.
 * @param control_path  the daemon's control socket. NULL: the environment's SOCKGATE_CONTROL, else
 *                      /run/sockgate/control.sock
 * @param profile       name of the profile for new sockets; NULL as in sc_profile_find()
 * @param out           receives the attachment; give it to sc_lib_close()
 * @return 0, or
 *   -ENOENT           no socket of that name: the daemon was never started, or the path is wrong
 *   -ECONNREFUSED     there is a socket but no daemon listens on it: it has died
 *   -EACCES, -EPERM   this user may not use the socket, or the daemon's policy refuses it
 *   -EPROTONOSUPPORT  daemon and library are of different releases
 *   -EPROTO           what listens there is no sockgated, or its answer or memory fails the checks
 *   -ETIMEDOUT        no answer within 5 seconds
 *   -ENAMETOOLONG     the path does not fit a Unix socket address (107 bytes)
 *   -EINVAL           no such profile, or out is NULL
 *   -EMFILE, -ENFILE, -ENOMEM   limits of this process or machine
 *   another errno     the daemon's own refusal, -ENOSPC for instance when it has too many sessions
 * sc_lib_open_error() says more in words.
 */
SC_API int sc_lib_open(const char *control_path, const char *profile, sc_lib **out);

/**
 * One line of text about the last sc_lib_open() of this thread that failed: what is wrong, and where it is
 * known what to do. Valid until the thread's next sc_lib_open().
 */
SC_API const char *sc_lib_open_error(void);

/**
 * Detach: closes all sockets of the attachment (each as sc_close() does) and frees them, released or not.
 * No other thread may be inside a call on it or its sockets. NULL is allowed. Doesn't wait for data still
 * to be sent; the daemon goes on sending it.
 */
SC_API void sc_lib_close(sc_lib *lib);

/** Set the profile of sockets made from now on. 0, or -EINVAL. */
SC_API int sc_lib_set_profile(sc_lib *lib, const sc_profile *profile);

/** The profile of new sockets, or NULL for a NULL lib. */
SC_API const sc_profile *sc_lib_profile(const sc_lib *lib);

/**
 * The IPv4 address of the daemon, which peers connect to.
 * @param out  port is 0
 * @return 0, or -EADDRNOTAVAIL when the daemon has none yet
 */
SC_API int sc_lib_address(const sc_lib *lib, sc_addr *out);

/* ---- Life of a socket ---------------------------------------------------------------------------- */

/* Families and types that every profile accepts beside its own numbers. */
#define SC_INET   0x1000002
#define SC_INET6  0x100000a
#define SC_STREAM 0x1000001
#define SC_DGRAM  0x1000002
#define SC_RAW    0x1000003

/**
 * Make a socket. Waits for the daemon's answer (microseconds), never for the network.
 * @param family  the profile's AF_INET, or SC_INET, or SC_INET6: IPv6, and IPv4 as ::ffff:a.b.c.d unless
 *                SC_IPV6_V6ONLY is set; the profiles' own AF_INET6 is refused
 * @param type    the profile's SOCK_STREAM (TCP), SOCK_DGRAM (UDP) or SOCK_RAW (packets of one protocol:
 *                in IPv4 they arrive with their header and are sent without, unless SC_IP_HDRINCL is set; in
 *                IPv6 both without), or SC_STREAM, SC_DGRAM, SC_RAW
 * @param proto   raw: the IP protocol, 1 to 254, in IPv4 also 255 (SC_IP_HDRINCL is on); else ignored: the
 *                protocol follows the type, as on the devices (Zerynth passes IPPROTO_TCP for datagrams too)
 * @param out     receives the handle; give it to sc_release()
 * @return 0, -EAFNOSUPPORT (no such family), -EPROTONOSUPPORT (unknown type; raw: protocol), -EPERM (raw, and
 *         the daemon's setting session.raw doesn't allow it), -EMFILE (no more sockets for this attachment),
 *         -ENOBUFS (none left in the daemon), -ENOMEM
 */
SC_API int sc_socket(sc_lib *lib, int family, int type, int proto, sc_sock **out);

/**
 * A second handle on the socket that has this number (Zerynth: the constructor's fileno=). The socket is
 * closed when its last handle is. Profile and time-out belong to the handle and start afresh.
 * @param fileno  as sc_fileno() gives it
 * @param type    must agree with the socket's; a profile's number or SC_STREAM, SC_DGRAM
 * @return 0, -EBADF (no open socket has this number), -EPROTOTYPE (it is of another type), -ENOMEM
 */
SC_API int sc_socket_from_fileno(sc_lib *lib, int fileno, int type, sc_sock **out);

/**
 * The socket's number: small, positive, stable until it is closed, unique within the attachment, shared by
 * all handles on the socket. It is not a kernel descriptor: never give it to read(), poll() or close().
 * @return -1 after sc_close()
 */
SC_API int sc_fileno(const sc_sock *s);

/** The attachment that a socket belongs to. */
SC_API sc_lib *sc_sock_lib(const sc_sock *s);

/** The profile that a socket follows. */
SC_API const sc_profile *sc_sock_profile(const sc_sock *s);

/**
 * Have one socket follow another profile, while it is new: before bind, listen and connect.
 * @return 0, -EINVAL (not new any more, or profile is NULL)
 */
SC_API int sc_set_profile(sc_sock *s, const sc_profile *profile);

/**
 * Give the socket its local address. Never blocks on the network.
 * @param addr  0.0.0.0 means every address of the daemon; port 0 has the daemon choose one
 * @return 0, or
 *   -EINVAL         bound already, or connected or listening
 *   -EADDRINUSE     another socket has the port, or a connection in TIME_WAIT has it and SO_REUSEADDR is off
 *   -EADDRNOTAVAIL  not an address of the daemon
 *   -EACCES         the daemon's policy refuses the port
 *   -EAFNOSUPPORT   not IPv4
 */
SC_API int sc_bind(sc_sock *s, const sc_addr *addr);

/**
 * Bind to a port on every address (Zerynth: bind(80)).
 * @return as sc_bind(), -EINVAL for a port outside 0..65535, SC_BAD_FORM in profiles without this form
 */
SC_API int sc_bind_port(sc_sock *s, long port);

/** Ask the profile for the backlog: 5 in uiflow2, 128 in posix, 2 in the others. */
#define SC_BACKLOG_DEFAULT INT_MIN
/** No more connections than these wait, whatever was asked for. */
#define SC_BACKLOG_MAX     4096

/**
 * Turn a bound TCP socket into a listener (an unbound one gets a port first). On a listener: change the
 * backlog. Never blocks on the network.
 * @param backlog  connections that may wait for sc_accept(). Device profiles keep exactly max(backlog, 1),
 *                 posix backlog + 1, as Linux does; below 0 counts as 0. What happens to one more is the
 *                 profile's backlog_overflow.
 * @return 0, -EOPNOTSUPP (UDP), -EINVAL (connected or connecting), -EADDRINUSE, -ENOBUFS
 */
SC_API int sc_listen(sc_sock *s, int backlog);

/**
 * Take the oldest waiting connection. Blocks until there is one.
 * @param conn  receives a new handle; give it to sc_release(). It follows the listener's profile and blocks,
 *              except that profiles with accept_inherits hand on the listener's time-out.
 * @param peer  receives the peer's address; may be NULL
 * @return 0, or
 *   -EAGAIN      none waits and the listener does not block
 *   -ETIMEDOUT   none came in time
 *   -EINVAL      not a listener
 *   -EOPNOTSUPP  UDP
 *   -EMFILE      this attachment has no socket left; the connection goes on waiting
 *   -ENOMEM
 */
SC_API int sc_accept(sc_sock *s, sc_sock **conn, sc_addr *peer);

/**
 * TCP: open a connection (RFC 9293 3.10.1); blocks until it stands or fails. UDP: set the peer for
 * sc_send(), and from then on receive from it only; never blocks. An addr with family 0 takes the peer of a
 * UDP socket away again.
 * @return 0, or
 *   -EINPROGRESS    TCP, non-blocking: under way. Poll tells the end (SC_POLLOUT), SO_ERROR the result
 *   -ETIMEDOUT      no answer within the socket's time-out (the attempt goes on), or the network's
 *   -EALREADY       an earlier attempt is still under way
 *   -EISCONN        connected already, or a listener
 *   -ECONNREFUSED   the peer answered RST. See sc_profile.refused_as_reset for what devices show
 *   -ECONNRESET     the connection stood and was reset before this call returned
 *   -EHOSTUNREACH, -ENETUNREACH   no answer from the next hop; no route
 *   -EADDRNOTAVAIL  port 0, no local port left, or the same connection exists
 *   -EAFNOSUPPORT   not IPv4
 * A socket serves one attempt: after a failure, this call returns the same error again. Make a new socket.
 */
SC_API int sc_connect(sc_sock *s, const sc_addr *addr);

#define SC_SHUT_RD   0
#define SC_SHUT_WR   1
#define SC_SHUT_RDWR 2

/**
 * Close one direction for all handles. SC_SHUT_WR: what is queued is sent, then FIN; sends fail with
 * -EPIPE from now on. SC_SHUT_RD: receives find end of file after what has already arrived. Never blocks
 * on the network.
 * @return 0, -ENOTCONN (not connected), -EINVAL (how)
 */
SC_API int sc_shutdown(sc_sock *s, int how);

/**
 * Close the handle; the last handle closes the socket. Waits for the network only where SO_LINGER with a
 * time asks for it and the socket blocks (what is not acknowledged in that time is still sent afterwards),
 * else for no more than room in the command ring. Calls that are blocked on the handle
 * in other threads return -EBADF. The daemon then sends what is queued and FIN; if data had arrived that was
 * not read, it sends RST instead, so that the peer learns of the loss (RFC 1122 4.2.2.13). Closing a listener
 * leaves its accepted connections alone. The handle stays valid for sc_release() only (other calls: -EBADF).
 * @return 0, also when it is closed already
 */
SC_API int sc_close(sc_sock *s);

/**
 * Close the handle if that has not been done, and free it. For finalisers. NULL is allowed. No other thread
 * may be inside a call on this handle. Waits for a callback of this handle that runs in another thread.
 */
SC_API void sc_release(sc_sock *s);

/** The local address; port 0 when not bound. 0, or an error of all calls. */
SC_API int sc_getsockname(sc_sock *s, sc_addr *out);
/** The peer's address. 0, or -ENOTCONN. */
SC_API int sc_getpeername(sc_sock *s, sc_addr *out);

/* ---- Data: socket calls
 * ------------------------------------------------------------------------------------ */

/* Message flags that every profile accepts beside its own numbers (its MSG_PEEK, MSG_DONTWAIT ...). */
#define SC_MSG_PEEK        0x1000000 /* leave what is received in the socket; never fills */
#define SC_MSG_DONTWAIT    0x2000000 /* this call does not block */
#define SC_MSG_WAITALL     0x4000000 /* streams: fill, as sc_recv_full() does */
/* Of sending on streams; datagrams: -EOPNOTSUPP. */
#define SC_MSG_MORE        0x8000000  /* more will follow: a partial segment waits for it, 200 ms at most */
#define SC_MSG_FASTOPEN    0x10000000 /* sc_sendto() and sc_sendmsg() connect as well, see there */

/** Largest datagram over IPv4, in bytes. */
#define SC_DGRAM_BYTES_MAX 65507

/**
 * Receive as the profile says. Zerynth: as sc_recv_full() on streams; what came before a time-out or error
 * is lost to the caller, as on the device; without blocking, what is there. All others: as sc_recv_some().
 * @return as sc_recv_some()
 */
SC_API ssize_t sc_recv(sc_sock *s, void *buf, size_t n, int flags);

/**
 * Receive what is there, at most n bytes; blocks while there is nothing (UiFlow2, mPython, usocket, OpenMV:
 * recv(n)). UDP: one datagram; what does not fit is lost.
 * @return bytes received; 0 at end of file and again on every later call (streams), for an empty datagram,
 *         and at once when n is 0; or
 *   -EAGAIN      nothing there, non-blocking
 *   -ETIMEDOUT   nothing came in time; or the connection gave up on its peer (reported once)
 *   -ENOTCONN    TCP that was never connected, and listeners: at once, also when blocking
 *   -ECONNRESET  the peer reset the connection: reported once, after all data that came before it, then end
 *                of file. Other reasons for the loss (-EHOSTUNREACH, ...) likewise
 *   -ECONNREFUSED  UDP, connected: an earlier datagram met a closed port (ICMP); reported once
 *   -EOPNOTSUPP  flags that the profile does not know (lenient profiles ignore them)
 */
SC_API ssize_t sc_recv_some(sc_sock *s, void *buf, size_t n, int flags);

/**
 * Receive exactly n bytes; blocks until they are there, the peer has closed, or the call fails (Zerynth:
 * recv(n)). Non-blocking: takes what is there; -EAGAIN when that is less than n.
 * @param got  always written: bytes put into buf. On end of file less than n, with result 0
 * @return 0, or as sc_recv_some(). Not for UDP, and not with SC_MSG_PEEK: -EOPNOTSUPP
 */
SC_API int sc_recv_full(sc_sock *s, void *buf, size_t n, int flags, size_t *got);

/**
 * sc_recv() into a part of the caller's buffer (Zerynth: recv_into(buffer, bufsize=-1, flags=0)).
 * @param size  bytes of buf
 * @param n     bytes wanted; below 0: the whole buffer; above size: -EINVAL
 */
SC_API ssize_t sc_recv_into(sc_sock *s, void *buf, size_t size, ssize_t n, int flags);

/**
 * Receive with the sender's address. UDP: one datagram, what does not fit is lost. TCP: as sc_recv_some()
 * in every profile, and the address is the peer's.
 * @param from  may be NULL
 * @return as sc_recv_some()
 */
SC_API ssize_t sc_recvfrom(sc_sock *s, void *buf, size_t n, int flags, sc_addr *from);

/** What else there is to know about a datagram, or to say about one to send. */
typedef struct {
    sc_addr
        local; /* receive: address that it was sent to, port 0; send: own address to send it from. Family 0:
                     * not known; chosen */
    uint32_t ifnum; /* receive: interface that it came in on, 0: not known; send: that of a multicast or
                     * link-local destination without a scope, 0: chosen */
    int ttl;        /* time to live or hop limit; -1: not known; as the options say */
    int tos;        /* type of service or traffic class; the same */
    size_t bytes;   /* receive: of the whole datagram, also where it did not fit */
} sc_msg_info;

/**
 * sc_recvfrom() that also tells about the packet (recvmsg() with IP_PKTINFO and its like). While one of
 * SC_IP_PKTINFO, SC_IP_RECVTTL, SC_IP_RECVTOS and their like of IPv6 is set, all is known of what arrives.
 * @param info  may be NULL; of a stream only `bytes` is filled in. Written when the result is 0 or more, but
 *              not for n = 0
 * @return as sc_recv_some()
 */
SC_API ssize_t sc_recvmsg(sc_sock *s, void *buf, size_t n, int flags, sc_addr *from, sc_msg_info *info);

/** sc_recvfrom() with size and n as in sc_recv_into() (Zerynth: recvfrom_into()). */
SC_API ssize_t sc_recvfrom_into(sc_sock *s, void *buf, size_t size, ssize_t n, int flags, sc_addr *from);

/**
 * Queue bytes for sending. TCP blocks while the send queue is full. In profiles with send_loops it then goes
 * on until all is queued; in the others it queues what fits, so that the result may be short: callers must
 * cope with that in every profile (OpenMV: "retry short sends"). UDP, connected: one datagram, whole.
 * Queued is not delivered; a failure later on shows in a later call.
 * @return bytes queued, which after a time-out in a looping profile may be less than n; or
 *   -EAGAIN        full, non-blocking
 *   -ETIMEDOUT     nothing could be queued in time; or the connection gave up on its peer
 *   -ENOTCONN      TCP that was never connected, and listeners (posix: -EPIPE)
 *   -ECONNRESET    the peer reset the connection: devices report it on each call, posix once and then -EPIPE
 *   -EPIPE         after sc_shutdown(SC_SHUT_WR)
 *   -EDESTADDRREQ  UDP without a peer
 *   -EMSGSIZE      UDP: larger than SC_DGRAM_BYTES_MAX or than the send queue
 *   -ECONNREFUSED  UDP, connected: an earlier datagram met a closed port (ICMP); reported once, nothing sent
 *   -ENOBUFS       the daemon has no buffer left for this attachment
 *   -EOPNOTSUPP    flags, as in sc_recv_some()
 * n = 0 on a stream: 0; in profiles with empty_send_fails -ETIMEDOUT at once, or -EAGAIN if non-blocking (the
 * UiFlow2 echo server leaves its loop that way).
 */
SC_API ssize_t sc_send(sc_sock *s, const void *buf, size_t n, int flags);

/**
 * Queue all bytes; blocks until that is done. One deadline for the whole call. Non-blocking: all or
 * nothing, -EAGAIN when not all fits (so more than the send queue holds, SO_SNDBUF, can never go).
 * @param sent  bytes queued, always written; may be NULL
 * @return 0, or as sc_send(). n = 0 is 0 in every profile
 */
SC_API int sc_sendall(sc_sock *s, const void *buf, size_t n, int flags, size_t *sent);

/**
 * Send one datagram to an address; an unbound socket gets a port first. Allowed on a connected UDP socket.
 * TCP ignores the address and does as sc_send(). Blocks while the send queue is full.
 * SC_MSG_FASTOPEN on a new TCP socket connects to the address (RFC 7413). With a cookie of that server the
 * data goes out on the SYN, and the call returns once it is queued: how the attempt ends a later call tells.
 * Without one, blocking, it sends when the connection stands; non-blocking: -EINPROGRESS, nothing queued.
 * Errors of sc_connect(); -EINVAL without an address.
 * @param to  NULL as in sc_send()
 * @return as sc_send(); -EAFNOSUPPORT (not IPv4), -EADDRNOTAVAIL (port 0)
 */
SC_API ssize_t sc_sendto(sc_sock *s, const void *buf, size_t n, int flags, const sc_addr *to);

/**
 * sc_sendto() that also says how the packet is to be sent (sendmsg() with IP_PKTINFO, IP_TTL and their like);
 * `bytes` is not read. An info taken from sc_recvmsg() may need another TTL.
 * @param info  may be NULL; streams ignore it
 * @return as sc_sendto(); -EINVAL (ttl other than -1 and 1..255, tos other than -1 and 0..255, local of
 *         another family). An address that is not the daemon's shows as -EADDRNOTAVAIL in the next call, an
 *         interface that does not exist as -ENODEV
 */
SC_API ssize_t sc_sendmsg(sc_sock *s, const void *buf, size_t n, int flags, const sc_addr *to,
                          const sc_msg_info *info);

/* ---- Data: stream calls -------------------------------------------------------------------------- */
/*
 * The file-like half of the device modules. They return 0, SC_NONE or a negative errno. The counts are
 * always written, so that bytes taken before a time-out are not lost to a C program (the device's Python
 * loses them). Errors are those of sc_recv_some() and sc_send(), except that -EAGAIN never appears: a
 * non-blocking socket gives partial results with 0, and SC_NONE when there was nothing at all.
 */

/**
 * Read exactly n bytes; blocks until they are there or the peer has closed (usocket: read(n), "no short
 * reads"; with n < what is asked for only at end of file).
 * @param got  bytes put into buf, always written; less than n with result 0 means end of file when blocking,
 *             "not yet" or end of file when not (0 bytes with result 0 is always end of file)
 */
SC_API int sc_read(sc_sock *s, void *buf, size_t n, size_t *got);

/** The same under its other name (usocket: readinto(buf[, n])). */
SC_API int sc_readinto(sc_sock *s, void *buf, size_t n, size_t *got);

/** A growing buffer. Start with all zero; sc_buf_free() gives it back. */
struct sc_buf {
    uint8_t *data; /* NULL while empty */
    size_t len;    /* bytes in it */
    size_t cap;    /* bytes allocated */
    size_t limit;  /* most bytes it may grow to; 0: SC_BUF_BYTES_MAX */
};
typedef struct sc_buf sc_buf;

#define SC_BUF_BYTES_MAX ((size_t)64 << 20)

/** Free the memory of a buffer and make it empty. NULL is allowed. */
SC_API void sc_buf_free(sc_buf *buf);

/**
 * Append everything to out until the peer closes; blocks that long (usocket: read() without a size).
 * Non-blocking: appends what is there; SC_NONE if nothing is, 0 with nothing appended at end of file.
 * @param out  valid after a failure too: it then holds what came before
 * @return 0, SC_NONE, errors of sc_recv_some(), -EFBIG (more than out->limit came; the rest stays in the
 *         socket), -ENOMEM. Not for UDP: -EOPNOTSUPP
 */
SC_API int sc_readall(sc_sock *s, sc_buf *out);

/**
 * Read up to and with the next newline; blocks until it came, max bytes are there or the peer has closed.
 * Nothing is appended to the bytes (no zero). Non-blocking: may return a piece without newline.
 * @param got  bytes put into buf, always written; 0 with result 0 means end of file
 * @return 0, SC_NONE, errors of sc_recv_some(). Not for UDP: -EOPNOTSUPP
 */
SC_API int sc_readline(sc_sock *s, void *buf, size_t max, size_t *got);

/**
 * Write all bytes; blocks until that is done (UiFlow2, usocket: "no short writes"). Non-blocking: writes
 * what fits.
 * @param put  bytes queued, always written; may be NULL
 * @return 0 (also for n = 0), SC_NONE when nothing fits and the socket is non-blocking, errors of sc_send()
 */
SC_API int sc_write(sc_sock *s, const void *buf, size_t n, size_t *put);

/* ---- Modes and options --------------------------------------------------------------------------- */

/** Python's None for sc_settimeout(). */
#define SC_NO_TIMEOUT HUGE_VAL

/**
 * Set the time-out of accept, connect and all receiving and sending on this handle.
 * @param value  in the profile's unit: seconds, or milliseconds in zerynth. 0: don't block. SC_NO_TIMEOUT:
 *               block for ever. Rounded up to whole milliseconds, so that a positive value always waits
 * @return 0, -EINVAL (negative or not a number)
 */
SC_API int sc_settimeout(sc_sock *s, double value);
/** The same in milliseconds in every profile; -1: for ever, 0: don't block. 0, -EINVAL below -1. */
SC_API int sc_settimeout_ms(sc_sock *s, int64_t ms);
/** 0: don't block; else: block for ever. */
SC_API int sc_setblocking(sc_sock *s, int flag);
/** What sc_settimeout_ms() would set, of receiving; -1 when for ever; -EBADF (-9) after close. */
SC_API int64_t sc_gettimeout_ms(const sc_sock *s);

/* Levels that every profile accepts beside its own. With them, names are those below. */
#define SC_SOL_IP               0x1000002
#define SC_SOL_SOCKET           0x1000001
#define SC_SOL_TCP              0x1000006
#define SC_SOL_UDP              0x1000011
#define SC_SOL_IPV6             0x1000029
#define SC_SOL_ICMPV6           0x100003a
#define SC_SOL_RAW              0x10000ff

/* Option names at SC_SOL_SOCKET (Linux's numbers). */
#define SC_SO_REUSEADDR         2 /* int: bind although TIME_WAIT holds the port; accepted in every state */
#define SC_SO_TYPE              3 /* int, get only: the type in the profile's numbers */
#define SC_SO_ERROR             4 /* int, get only: takes the waiting error (positive Linux errno) */
#define SC_SO_BROADCAST         6 /* int: allow datagrams to broadcast addresses */
#define SC_SO_SNDBUF            7 /* int: bytes of the send queue, rounded up to a power of two */
#define SC_SO_RCVBUF            8 /* int: bytes of the receive queue, likewise; UDP: exactly, from 4 KiB */
#define SC_SO_KEEPALIVE         9 /* int: probe an idle connection (RFC 9293 3.8.4) */
#define SC_SO_LINGER            13 /* struct sc_linger */
#define SC_SO_REUSEPORT         15 /* int, UDP: share a port with sockets of the same user; flows spread */
#define SC_SO_RCVTIMEO          20 /* struct timeval, or int in milliseconds; 0: for ever. Receive, accept */
#define SC_SO_SNDTIMEO          21 /* the same of sending and connect */
#define SC_SO_MAX_PACING_RATE   47 /* int: bytes a second that are sent at most; -1: no bound */
#define SC_SO_ACCEPTCONN        30 /* int, get only: 1 for a listener */
/* Option names at SC_SOL_IPV6. All take an int. */
#define SC_IPV6_V6ONLY          26 /* leave IPv4 to others; before bind only */
#define SC_IPV6_MTU             24 /* as SC_IP_MTU, SC_IP_MTU_DISCOVER */
#define SC_IPV6_MTU_DISCOVER    23
#define SC_IPV6_MULTICAST_IF    17 /* number of the interface that multicasts leave on; 0: by the route */
#define SC_IPV6_MULTICAST_HOPS  18 /* hop limit of multicasts, 0..255; 0: they don't leave the host */
#define SC_IPV6_MULTICAST_LOOP  19 /* multicasts come back to members on this daemon (default: 1) */
/* The same, for datagram sockets; see sc_recvmsg(). */
#define SC_IPV6_RECVPKTINFO     49
#define SC_IPV6_RECVHOPLIMIT    51
#define SC_IPV6_RECVTCLASS      66
#define SC_IPV6_CHECKSUM        7 /* raw: offset of a checksum that the daemon makes and checks; -1: none */
/* Option names at SC_SOL_IP, for datagram sockets. All take an int. */
#define SC_IP_PKTINFO           8 /* see sc_recvmsg() */
#define SC_IP_RECVTTL           12
#define SC_IP_RECVTOS           13
#define SC_IP_HDRINCL           3  /* raw: what is sent begins with the IPv4 header */
#define SC_IP_MTU               14 /* get only: largest packet towards the peer now */
#define SC_IP_MTU_DISCOVER      10 /* may packets be cut, 0..5 as in Linux; docs/options.md. TCP too */
#define SC_IP_TOS               1  /* type of service of what is sent, 0..255 */
#define SC_IP_TTL               2  /* time to live of what is sent, 1..255 */
#define SC_IP_MULTICAST_TTL     33 /* time to live of multicasts, 0..255; 0: they don't leave the host */
/* Option name at SC_SOL_RAW and SC_SOL_ICMPV6, for raw sockets. */
#define SC_ICMP_FILTER          1 /* uint32_t: a bit for each type that isn't heard */
#define SC_ICMP6_FILTER         1 /* struct icmp6_filter of <netinet/icmp6.h>, set only */
/* Option names at SC_SOL_UDP. */
#define SC_UDP_SEGMENT          103 /* int: what is longer is sent as datagrams of so many bytes; 0: off */
/* Option names at SC_SOL_TCP. All take an int, but where another type is named. */
#define SC_TCP_NODELAY          1  /* no Nagle delay (RFC 9293 3.7.4) */
#define SC_TCP_MAXSEG           2  /* bytes of a segment, before connect */
#define SC_TCP_CORK             3  /* hold back partial segments */
#define SC_TCP_KEEPIDLE         4  /* seconds until the first keep-alive probe */
#define SC_TCP_KEEPINTVL        5  /* seconds between probes */
#define SC_TCP_KEEPCNT          6  /* probes until the connection is given up */
#define SC_TCP_INFO             11 /* struct tcp_info of <linux/tcp.h>, get only; docs/options.md */
#define SC_TCP_QUICKACK         12 /* don't delay acknowledgements */
#define SC_TCP_CONGESTION       13 /* char[]: congestion control, "cubic", "reno", "bbr"; -ENOENT: unknown */
#define SC_TCP_USER_TIMEOUT     18 /* milliseconds that sent data may stay unacknowledged; 0: the default */
#define SC_TCP_FASTOPEN         23 /* listener: Fast Open, for so many connections */
#define SC_TCP_FASTOPEN_KEY     33 /* set only: 16 bytes, the key of cookies; or 32, and an older one */
#define SC_TCP_FASTOPEN_NO_COOKIE 34 /* Fast Open without cookies: for closed networks only */
#define SC_TCP_FASTOPEN_CONNECT 30 /* sc_connect() leaves the SYN to the first data (RFC 7413) */

/** Value of SO_LINGER; layout of POSIX's struct linger. */
struct sc_linger {
    int onoff;  /* 0: sc_close() as described there. 1 with 0 seconds: it sends RST and drops what is queued;
                * with more it waits, on blocking sockets, until the peer has acknowledged everything */
    int linger; /* seconds that it waits at most */
};

/* Option names at SC_SOL_IP about groups. All but the first take addresses and can be set only. */
#define SC_IP_MULTICAST_LOOP         34 /* int: multicasts come back to members on this daemon (default: 1) */
#define SC_IP_MULTICAST_IF           32 /* own address that multicasts leave from: uint8_t[4] or sc_ip_mreq */
#define SC_IP_ADD_MEMBERSHIP         35 /* sc_ip_mreq: hear the group */
#define SC_IP_DROP_MEMBERSHIP        36 /* sc_ip_mreq */
#define SC_IP_UNBLOCK_SOURCE         37 /* sc_ip_mreq_source */
#define SC_IP_BLOCK_SOURCE           38 /* sc_ip_mreq_source: hear the group, but not from there */
#define SC_IP_ADD_SOURCE_MEMBERSHIP  39 /* sc_ip_mreq_source: hear the group from there alone */
#define SC_IP_DROP_SOURCE_MEMBERSHIP 40 /* sc_ip_mreq_source */

/* The same at SC_SOL_IPV6. Interfaces are numbered as in sc_addr.scope_id. */
#define SC_IPV6_JOIN_GROUP           20 /* sc_ipv6_mreq: hear the group */
#define SC_IPV6_LEAVE_GROUP          21 /* sc_ipv6_mreq */
/* At SC_SOL_IP and SC_SOL_IPV6, with addresses of that family: struct group_req, or with a source struct
 * group_source_req, of <netinet/in.h>. */
#define SC_MCAST_JOIN_GROUP          42
#define SC_MCAST_BLOCK_SOURCE        43
#define SC_MCAST_UNBLOCK_SOURCE      44
#define SC_MCAST_LEAVE_GROUP         45
#define SC_MCAST_JOIN_SOURCE_GROUP   46
#define SC_MCAST_LEAVE_SOURCE_GROUP  47

/** Their values; layout of Linux's structs, network byte order. */
struct sc_ip_mreq {
    uint8_t group[4];
    uint8_t interface[4]; /* an address of the daemon's; all zero: the daemon chooses */
};
/** In place of sc_ip_mreq. */
struct sc_ip_mreqn {
    uint8_t group[4];
    uint8_t address[4]; /* as `interface` above, with number 0 */
    int ifnum;          /* number of the interface, 0: by address */
};
struct sc_ipv6_mreq {
    uint8_t group[16];
    unsigned interface; /* its number; 0: the daemon chooses */
};
struct sc_ip_mreq_source {
    uint8_t group[4];
    uint8_t interface[4];
    uint8_t source[4];
};

/** Called when something changed on a socket: data, room, a connection, end of file, an error. */
typedef void (*sc_event_cb)(sc_sock *s, void *arg);

/** Value of the callback option 20 of the MicroPython profiles; a NULL function ends it. */
struct sc_event_handler {
    sc_event_cb cb;
    void *arg;
};

/**
 * Set an option, in any state of the socket. (level, name) are read in the profile's numbers, or as
 * SC_SOL_*; so 4 is SO_REUSEADDR on the devices and SO_ERROR on Linux, and Zerynth's 1 is SO_RCVTIMEO.
 * Option 20 of the MicroPython profiles takes a struct sc_event_handler and does as sc_on_event().
 * @param val  an int of 4 or 8 bytes, or the struct named at the option
 * @param len  bytes of val
 * @return 0, -EINVAL (value or length), -ENOPROTOOPT (unknown; lenient profiles: 0)
 */
SC_API int sc_setsockopt(sc_sock *s, int level, int name, const void *val, size_t len);

/**
 * Get an option.
 * @param len  in: bytes at val; out: bytes written. Ints need 4
 * @return 0, -EINVAL (too short), -ENOPROTOOPT (unknown; in lenient profiles too)
 */
SC_API int sc_getsockopt(sc_sock *s, int level, int name, void *val, size_t *len);

/* ---- Addresses and names
 * ----------------------------------------------------------------------------------- */

/**
 * (host, port) as an address; every profile has this form. A host of "" is 0.0.0.0.
 * Blocks for a moment on the hosts file where names are looked up.
 * @param port  0..65535
 * @return 0, -EINVAL (port out of range; not numeric, in profiles without names_ok), or SC_GAI_* from the
 *         name look-up in profiles with names_ok
 */
SC_API int sc_addr_host_port(const sc_profile *profile, const char *host, long port, sc_addr *out);
/** "a.b.c.d" alone, port 0 (Zerynth). As above; SC_BAD_FORM in profiles without this form. */
SC_API int sc_addr_host(const sc_profile *profile, const char *host, sc_addr *out);
/** Four numbers and a port (Zerynth: (a,b,c,d) with port 0, and (a,b,c,d,port)). 0, -EINVAL (port). */
SC_API int sc_addr_quad(const uint8_t ip[4], long port, sc_addr *out);
/** "x.y.z.w" as four bytes (Zerynth: ip_to_tuple). 0, -EINVAL when malformed. */
SC_API int sc_ip_to_tuple(const char *ip, uint8_t out[4]);

/** Bytes that sc_addr_text() needs at most, final zero included. */
#define SC_ADDR_TEXT_BYTES 64
/** The address without port as text. @return buf; "?" for an address of no family. Never fails. */
SC_API const char *sc_addr_text(const sc_addr *addr, char buf[SC_ADDR_TEXT_BYTES]);

/** One answer of sc_getaddrinfo(), in the numbers of the attachment's profile. */
struct sc_gai {
    int family, type, proto;
    char canonname[8]; /* always "" in this release */
    sc_addr addr;
};

/**
 * Look up a host: a numeric IPv4 address, "" (0.0.0.0), or a name in the hosts file (/etc/hosts; the
 * environment's SOCKGATE_HOSTS names another). Name servers are not asked in this release: other names end
 * with SC_GAI_NO_SERVER. Blocks on reading that file only.
 * @param family  0: any; else the profile's AF_INET or SC_INET
 * @param type    0 or the profile's number: given back in the answer; 0 gives a stream
 * @param proto   given back in the answer
 * @param flags   ignored
 * @param res     receives up to max answers
 * @return number of answers, at least 1; or SC_GAI_*; -EINVAL
 */
SC_API int sc_getaddrinfo(sc_lib *lib, const char *host, int port, int family, int type, int proto, int flags,
                          struct sc_gai *res, size_t max);

/* ---- Readiness
 * --------------------------------------------------------------------------------------------- */

#define SC_POLLIN   1u  /* reading, or accepting, will not block */
#define SC_POLLOUT  4u  /* sending will not block; a connection under way stands */
#define SC_POLLERR  8u  /* an error waits; always reported */
#define SC_POLLHUP  16u /* not connected, or over in both directions; always reported */
#define SC_POLLNVAL 32u /* closed here; always reported */

/**
 * The socket's readiness now, as MicroPython's and Linux's poll number it. Never blocks.
 *   new TCP 20; connecting 0; connected 4; listener with a connection 1; after the peer's FIN 5; reset that
 *   was not reported yet 29; after it was reported 17 (posix 21); closed here 32; UDP 4, 5 with data
 * (for want = IN and OUT). Asking for OUT also arms the socket, so that room is an event for sc_wait().
 * @return bits of want, ERR, HUP and NVAL
 */
SC_API unsigned sc_poll_events(sc_sock *s, unsigned want);

typedef struct {
    sc_sock *s;    /* NULL: entry is skipped, got becomes 0 */
    unsigned want; /* SC_POLL* */
    unsigned got;  /* written by sc_poll() */
} sc_pollfd;

/**
 * Wait until a socket of the set is ready. All must be of one attachment.
 * @param timeout_ms  0: don't block, below 0: for ever
 * @return entries with got != 0; 0 at the time-out; -EINVAL (NULL set, sockets of different attachments).
 *         When the daemon is gone the entries say SC_POLLERR | SC_POLLHUP
 */
SC_API int sc_poll(sc_pollfd *set, unsigned n, int timeout_ms);

/**
 * Wait until something has changed on any socket of the attachment: since this thread's last sc_wait(), so
 * that a loop of sc_poll_events() calls and one sc_wait() never misses anything. May return early.
 * @param timeout_ms  0: don't block, below 0: for ever
 * @return 1 (look again), 0 (time-out), -ENETDOWN, -EINTR
 */
SC_API int sc_wait(sc_lib *lib, int timeout_ms);

/**
 * A kernel descriptor for poll() or epoll that becomes readable when sc_wait() would return, for loops that
 * wait for other descriptors too. Use: when it is readable, call sc_wait(lib, 0), which makes it unreadable
 * again; then look at all sockets of interest with sc_poll_events() or non-blocking calls; then poll again.
 * Level-triggered. It belongs to the attachment: don't read, write or close it. From the first
 * call on the daemon wakes this process by a write to it, which costs about as much as the futex otherwise
 * used.
 * @return the descriptor, the same each time, or -EMFILE, -ENFILE, -ENOMEM
 */
SC_API int sc_event_fd(sc_lib *lib);

/**
 * Have cb called when something changed on the socket (MicroPython: option 20). It is called by whichever
 * thread is inside sc_wait(), sc_poll() or a blocking call of the same attachment, with no lock of the
 * socket held, one callback at a time. It may use the socket with calls that don't block, and close it, but
 * not release it. One callback a socket: a new one replaces it.
 * @param cb  NULL: none any more. When this returns, the old callback is not running in another thread
 */
SC_API int sc_on_event(sc_sock *s, sc_event_cb cb, void *arg);

/* ---- Presentation of failures -------------------------------------------------------------------- */

/** Which exception a device's binding raises. */
typedef enum {
    SC_CLASS_NONE = 0, /* no failure */
    SC_CLASS_OSERROR,
    SC_CLASS_TIMEOUT, /* Zerynth: TimeoutError, which is also an IOError */
    SC_CLASS_IOERROR,
    SC_CLASS_TYPE,
    SC_CLASS_VALUE,
} sc_exc;

/**
 * The number that a program of this profile sees for a result: -ETIMEDOUT is 110, or 116 on newlib. Positive
 * for errnos, negative for resolver failures (as sc_gai_number()), 0 for success; SC_NONE shows as 11
 * (EAGAIN), SC_BAD_FORM as 22 (EINVAL). Give it results of this library only, and each only once.
 */
SC_API int sc_error_number(const sc_profile *profile, int rc);
/** The negative number for an SC_GAI_* result; other results as in sc_error_number(). */
SC_API int sc_gai_number(const sc_profile *profile, int rc);
/** The exception class for a result of any call but the sc_addr_*() family. */
SC_API sc_exc sc_error_class(const sc_profile *profile, int rc);
/** The same for the sc_addr_*() family and sc_bind_port(), where -EINVAL is a bad value. */
SC_API sc_exc sc_addr_error_class(const sc_profile *profile, int rc);
/** A short text for any result of this library. Constant, never NULL. Any thread. */
SC_API const char *sc_strerror(int rc);

/** Version of the library, as "0.1.0". */
SC_API const char *sc_version(void);

#ifdef __cplusplus
}
#endif

#endif
