/* A loopback HTTP/1.1 server for tests, which also does on request what real servers do wrong.
 *
 * It runs in a forked child, so the descriptors, limits and signals of the test process stay the
 * test's own, and it dies with the thread that started it. Start it before that thread uses
 * libcurl. The path of a request says what is done; MS are milliseconds, N, K and STEP bytes:
 *
 *   /bytes/N            N bytes with Content-Length
 *   /chunked/N          N bytes in chunks
 *   /eof/N              N bytes, ended by closing the connection
 *   /status/CODE[/N]    this status code, N bytes
 *   /delay/MS[/N]       N bytes after MS
 *   /hold[/N]           N bytes once the gate is open: server_release()
 *   /trickle/N/STEP/MS  N bytes, STEP of them every MS
 *   /stall/K/N          announces N bytes, sends K, then neither sends nor closes
 *   /short/K/N          announces N bytes, sends K, then closes cleanly
 *   /reset/K/N          announces N bytes, sends K, then resets the connection
 *   /reset-headers      resets the connection without any answer
 *   /redirect/COUNT/N   302 to /redirect/COUNT-1/N (a relative Location); N bytes when COUNT is 0
 *   /redirect-to?URL=u  302 to the percent-decoded u
 *   /late-fin/MS/N      N bytes and keep-alive; closes if no other request came within MS
 *   /linger-close/N     N bytes and keep-alive; closes at once all the same
 *   /echo               answers the request's body (413 beyond 1 MB)
 *   /sink               reads the body, answers its length in decimal; X-Content says `match` if
 *                       the body was server_byte(0), server_byte(1) ..., else `differ`
 *   /slow-sink/STEP/MS  the same, but reads STEP bytes every MS
 *   /quiet-sink         the same, but never sends 100 Continue
 *   /sink-reset/K       resets the connection after K bytes of the body
 *   /early/CODE[/N]     answers without reading the body, then closes cleanly
 *   /garbage            an answer that is not HTTP
 *   /huge-header/N      a header of N bytes (up to 4 MB), no body
 *   /auth[/N]           401 without an Authorization header, N bytes with any
 *   /conn               the connection's number in decimal; X-Requests: its requests so far
 *   /ws                 WebSocket, echoes frames of up to 16 KB
 *
 * Anything else is answered with 404. A query is ignored, so it may make a URL unique. Connections
 * are kept alive unless the request or the script says otherwise, and absolute request targets are
 * understood, so the server can stand in for an HTTP proxy. The i-th byte of a generated body is
 * server_byte(i). */
#ifndef UVCURL_TEST_SERVER_H
#define UVCURL_TEST_SERVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct server server_t;

typedef struct server_options {
  const char *cert_file; /* PEM, the leaf certificate; NULL: no HTTPS */
  const char *key_file;  /* PEM, its key */
  int extra_addresses;   /* the HTTP port also on 127.0.1.1 and so on: this many, at most 1000 */
  int listen_v6;         /* the HTTP port also on ::1, where there is one */
} server_options;

/* A port is 0 when the server does not have it. */
enum server_port_kind {
  SERVER_HTTP,
  SERVER_HTTPS,
  SERVER_HTTP6,     /* [::1], the same number as SERVER_HTTP */
  SERVER_REFUSED,   /* nobody listens, and nobody else can take it */
  SERVER_SILENT,    /* connects, then neither reads nor writes */
  SERVER_BLACKHOLE, /* a connection attempt is neither accepted nor refused */
  SERVER_CLOSING,   /* accepts and closes */
  SERVER_RESETTING, /* accepts, reads something, resets */
  SERVER_PORT_KINDS
};

enum server_counter {
  SERVER_ACCEPTED,       /* connections accepted, ever */
  SERVER_OPEN,           /* now; one that the server closed counts until the client closes it too */
  SERVER_REQUESTS,       /* request heads read, ever */
  SERVER_HELD,           /* requests waiting at the gate now */
  SERVER_HANDSHAKES,     /* TLS handshakes finished, ever */
  SERVER_BYTES_SENT,     /* heads and bodies, before TLS */
  SERVER_BODY_BYTES,     /* request bodies read, ever */
  SERVER_RESETS,         /* connections the server reset */
  SERVER_CLOSED_BY_PEER, /* connections the client ended first */
  SERVER_COUNTERS
};

/* NULL options are the defaults. NULL is returned, with a line on stderr, if it cannot start. */
server_t *server_start(const server_options *options);

/* Ends the server and every connection to it. Aborts if the server had already died of a fault of
 * its own, because what the test saw until then means nothing. NULL is ignored. */
void server_stop(server_t *server);

int server_port(const server_t *server, enum server_port_kind kind);
int server_has_v6(const server_t *server);
int server_pid(const server_t *server);
uint64_t server_count(const server_t *server, enum server_counter counter);

/* "http://127.0.0.1:port" and `path`, which begins with a slash; returns `buf`. */
const char *server_url(const server_t *server, char *buf, size_t size, enum server_port_kind kind,
                       const char *path);

/* The same on the extra address number `index`, counted from 0. */
const char *server_extra_url(const server_t *server, char *buf, size_t size, int index,
                             const char *path);

/* The gate of /hold is closed at first. Release opens it and lets go of every request held. */
void server_release(server_t *server);
void server_hold(server_t *server);

unsigned char server_byte(size_t i);
void server_fill(void *buf, size_t offset, size_t n);
/* Whether `buf` holds bytes `offset` to `offset + n` of a generated body. */
int server_match(const void *buf, size_t offset, size_t n);

#ifdef __cplusplus
}
#endif

#endif
