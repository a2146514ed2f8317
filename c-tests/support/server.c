#include "server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>

#define BACKLOG 4096
#define MAX_EXTRA 1000
#define MAX_HEAD (256 * 1024)
#define MAX_ECHO (1024 * 1024)
#define MAX_HUGE_HEADER (4 * 1024 * 1024)
#define MAX_FRAME (16 * 1024)
#define CHUNK 4096
#define SCRATCH (64 * 1024)
/* Enough to be fast, few enough that one big download does not starve the other connections. */
#define SENDS_PER_TURN 16
#define READS_PER_TURN 16

/* A prime period: bytes that were lost, doubled or swapped at any power of two are noticed, and a
 * body can still be made and compared with memcpy and memcmp. */
#define PERIOD 65521

static unsigned char pattern[2 * PERIOD];

unsigned char server_byte(size_t i) {
  size_t j = i % PERIOD;
  return (unsigned char)(j * 167 + (j >> 8) * 13);
}

/* Before main, because tests compare bodies on several threads. */
__attribute__((constructor)) static void make_pattern(void) {
  for (size_t i = 0; i < sizeof pattern; i++)
    pattern[i] = server_byte(i);
}

static const unsigned char *pattern_at(size_t offset) {
  return pattern + offset % PERIOD;
}

void server_fill(void *buf, size_t offset, size_t n) {
  unsigned char *to = buf;
  while (n > 0) {
    size_t k = n < PERIOD ? n : PERIOD;
    memcpy(to, pattern_at(offset), k);
    to += k;
    offset += k;
    n -= k;
  }
}

int server_match(const void *buf, size_t offset, size_t n) {
  const unsigned char *p = buf;
  while (n > 0) {
    size_t k = n < PERIOD ? n : PERIOD;
    if (memcmp(p, pattern_at(offset), k) != 0)
      return 0;
    p += k;
    offset += k;
    n -= k;
  }
  return 1;
}

/* What both processes see. The child alone writes the counters, the parent alone the gate. */
struct shared {
  atomic_uint_least64_t counters[SERVER_COUNTERS];
  atomic_bool gate_open;
  /* Releases so far: a request held before one is let go even if the gate is closed again by the
   * time the child looks. */
  atomic_uint releases;
};

struct server {
  struct shared *shared;
  pid_t child;
  int wake_fd;
  int ports[SERVER_PORT_KINDS];
};

enum role { ROLE_WAKE, ROLE_HTTP, ROLE_HTTPS, ROLE_CLOSING, ROLE_RESETTING, ROLE_IDLE, ROLE_CONN };

/* What an epoll event points to: the first member of whatever owns the descriptor. */
struct source {
  enum role role;
  int fd;
};

enum script_id {
  NOT_FOUND,
  BYTES,
  CHUNKED,
  UNTIL_EOF,
  STATUS,
  DELAY,
  HOLD,
  TRICKLE,
  STALL,
  SHORT,
  RESET,
  RESET_HEADERS,
  REDIRECT,
  REDIRECT_TO,
  LATE_FIN,
  LINGER_CLOSE,
  ECHO_BODY,
  SINK,
  SLOW_SINK,
  QUIET_SINK,
  SINK_RESET,
  EARLY,
  GARBAGE,
  HUGE_HEADER,
  AUTH,
  CONN,
  WEBSOCKET,
};

struct script {
  const char *name;
  enum script_id id;
  int min_args, max_args;
  bool early; /* acts before the request's body is read */
};

static const struct script scripts[] = {
    {"bytes", BYTES, 1, 1, false},
    {"chunked", CHUNKED, 1, 1, false},
    {"eof", UNTIL_EOF, 1, 1, false},
    {"status", STATUS, 1, 2, false},
    {"delay", DELAY, 1, 2, false},
    {"hold", HOLD, 0, 1, false},
    {"trickle", TRICKLE, 3, 3, false},
    {"stall", STALL, 2, 2, false},
    {"short", SHORT, 2, 2, false},
    {"reset", RESET, 2, 2, false},
    {"reset-headers", RESET_HEADERS, 0, 0, true},
    {"redirect", REDIRECT, 2, 2, false},
    {"redirect-to", REDIRECT_TO, 0, 0, false},
    {"late-fin", LATE_FIN, 2, 2, false},
    {"linger-close", LINGER_CLOSE, 1, 1, false},
    {"echo", ECHO_BODY, 0, 0, false},
    {"sink", SINK, 0, 0, false},
    {"slow-sink", SLOW_SINK, 2, 2, false},
    {"quiet-sink", QUIET_SINK, 0, 0, false},
    {"sink-reset", SINK_RESET, 1, 1, false},
    {"early", EARLY, 1, 2, true},
    {"garbage", GARBAGE, 0, 0, false},
    {"huge-header", HUGE_HEADER, 1, 1, false},
    {"auth", AUTH, 0, 1, false},
    {"conn", CONN, 0, 0, false},
    {"ws", WEBSOCKET, 0, 0, false},
};

static const struct script not_found = {"", NOT_FOUND, 0, 0, false};

enum state {
  ON_HANDSHAKE,
  ON_HEAD,       /* idle, or part of a head read */
  ON_BODY,       /* reading the request's body */
  ON_SLOW_BODY,  /* the same, a step at each timer */
  ON_GATE,       /* held */
  ON_DELAY,      /* the timer starts or continues the answer */
  ON_ANSWER,     /* sending */
  ON_STALL,      /* waiting for the peer to give up */
  ON_FLUSH,      /* the kernel still has to deliver what precedes the reset */
  ON_FIN,        /* we closed, the peer has not yet */
  ON_FRAME,      /* WebSocket */
  ON_RESET_PORT, /* the first input is answered with a reset */
  GONE,          /* closed; the memory is freed after the batch of events */
};

enum body_part { SIZE_LINE, DATA, DATA_END, TRAILER };

enum ending {
  KEEP,
  FIN,
  RST,
  HANG,
  FIN_LATER,
  READ_BODY, /* what was sent is 100 Continue */
  READ_FRAME,
};

struct request {
  const struct script *script;
  size_t arg[3];
  char *location;
  char ws_key[64];
  bool is_head, close, expect, authorized, upload, chunked, bad, body_done, content_differs;
  enum body_part part;
  size_t left; /* of the body, or of the chunk, or what is read of its size line */
  size_t line; /* of a trailer line */
  size_t body_read;
  char *echo;
};

/* The answer is a stream computed from its offset: the head, then a body made on the fly. Nothing
 * but the head, and short texts, is ever in memory. */
struct answer {
  char *head;
  size_t head_len;
  char *text; /* the body, if it is not the pattern */
  size_t body_len;
  bool chunked;
  size_t off, limit, total; /* sent; may be sent now; to send in all */
  size_t step;
  unsigned step_ms;
  enum ending ending;
  unsigned ending_ms;
};

struct conn {
  struct source source;
  enum state state;
  SSL *ssl;
  uint32_t armed;
  uint32_t blocked_on; /* what the last read or write that could not go on waits for */
  size_t heap_index;   /* 1-based; 0: no timer */
  uint64_t due_us;
  uint64_t id, requests;
  unsigned held_at;
  bool unread_body;
  char *in;
  size_t in_len;
  struct request request;
  struct answer answer;
  struct conn *next, *prev;
};

/* One child process is one server. */
static struct {
  int epoll_fd;
  struct shared *shared;
  SSL_CTX *tls;
  struct source *sources;
  size_t n_sources;
  bool accepting;
  struct conn conns; /* the head of a ring */
  struct conn *dead;
  struct conn **heap;
  size_t heap_len, heap_cap;
  uint64_t ids;
  char scratch[SCRATCH];
} self;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  dprintf(STDERR_FILENO, "# test server: %s\n", text);
  _exit(1);
}

static void *grow(void *old, size_t n) {
  void *p = realloc(old, n ? n : 1);
  if (p == NULL)
    die("out of memory");
  return p;
}

__attribute__((format(printf, 1, 2))) static char *text_of(const char *format, ...) {
  char *s = NULL;
  va_list args;
  va_start(args, format);
  if (vasprintf(&s, format, args) < 0)
    die("out of memory");
  va_end(args);
  return s;
}

static size_t min_size(size_t a, size_t b) {
  return a < b ? a : b;
}

static void count(enum server_counter counter, uint64_t n) {
  atomic_fetch_add_explicit(&self.shared->counters[counter], n, memory_order_relaxed);
}

static void uncount(enum server_counter counter) {
  atomic_fetch_sub_explicit(&self.shared->counters[counter], 1, memory_order_relaxed);
}

/* timers: a binary heap by due time, one timer per connection */

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void heap_put(size_t i, struct conn *c) {
  self.heap[i] = c;
  c->heap_index = i;
}

static void heap_settle(size_t i) {
  struct conn *c = self.heap[i];
  while (i > 1 && c->due_us < self.heap[i / 2]->due_us) {
    heap_put(i, self.heap[i / 2]);
    i /= 2;
  }
  for (;;) {
    size_t child = 2 * i;
    if (child > self.heap_len)
      break;
    if (child < self.heap_len && self.heap[child + 1]->due_us < self.heap[child]->due_us)
      child++;
    if (c->due_us <= self.heap[child]->due_us)
      break;
    heap_put(i, self.heap[child]);
    i = child;
  }
  heap_put(i, c);
}

static void timer_stop(struct conn *c) {
  size_t i = c->heap_index;
  if (i == 0)
    return;
  c->heap_index = 0;
  struct conn *last = self.heap[self.heap_len--];
  if (last != c) {
    heap_put(i, last);
    heap_settle(i);
  }
}

static void timer_start(struct conn *c, uint64_t ms) {
  timer_stop(c);
  if (self.heap_len + 2 > self.heap_cap) {
    self.heap_cap = self.heap_cap ? 2 * self.heap_cap : 64;
    self.heap = grow(self.heap, self.heap_cap * sizeof *self.heap);
  }
  c->due_us = now_us() + ms * 1000;
  heap_put(++self.heap_len, c);
  heap_settle(self.heap_len);
}

/* connections */

static void accept_again(void) {
  if (self.accepting)
    return;
  self.accepting = true;
  for (size_t i = 0; i < self.n_sources; i++) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &self.sources[i]};
    if (self.sources[i].role != ROLE_IDLE && self.sources[i].role != ROLE_WAKE)
      epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, self.sources[i].fd, &ev);
  }
}

/* Out of descriptors: a listener left armed would spin until a connection ends. */
static void accept_later(void) {
  self.accepting = false;
  for (size_t i = 0; i < self.n_sources; i++) {
    struct epoll_event ev = {.events = 0, .data.ptr = &self.sources[i]};
    if (self.sources[i].role != ROLE_IDLE && self.sources[i].role != ROLE_WAKE)
      epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, self.sources[i].fd, &ev);
  }
}

static void request_clear(struct conn *c) {
  free(c->request.location);
  free(c->request.echo);
  memset(&c->request, 0, sizeof c->request);
  c->request.script = &not_found;
}

static void answer_clear(struct conn *c) {
  free(c->answer.head);
  free(c->answer.text);
  memset(&c->answer, 0, sizeof c->answer);
}

static void conn_close(struct conn *c) {
  if (c->state == ON_GATE)
    uncount(SERVER_HELD);
  timer_stop(c);
  request_clear(c);
  answer_clear(c);
  free(c->in);
  c->in = NULL;
  SSL_free(c->ssl);
  c->ssl = NULL;
  close(c->source.fd);
  uncount(SERVER_OPEN);
  c->state = GONE;
  c->prev->next = c->next;
  c->next->prev = c->prev;
  c->next = self.dead;
  self.dead = c;
  accept_again();
}

static void conn_lost(struct conn *c) {
  count(SERVER_CLOSED_BY_PEER, 1);
  conn_close(c);
}

static void conn_reset(struct conn *c) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(c->source.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  count(SERVER_RESETS, 1);
  conn_close(c);
}

/* Only our half is closed, so that it is a FIN whatever the peer still sends, and so that the
 * counters tell when the peer has closed its half. */
static void conn_fin(struct conn *c) {
  timer_stop(c);
  if (c->ssl) {
    ERR_clear_error();
    SSL_shutdown(c->ssl);
  }
  shutdown(c->source.fd, SHUT_WR);
  c->state = ON_FIN;
}

enum { IO_AGAIN = -1, IO_ERROR = -2 };

static long tls_result(struct conn *c, int result) {
  if (result > 0)
    return result;
  switch (SSL_get_error(c->ssl, result)) {
  case SSL_ERROR_WANT_READ:
    c->blocked_on = EPOLLIN;
    return IO_AGAIN;
  case SSL_ERROR_WANT_WRITE:
    c->blocked_on = EPOLLOUT;
    return IO_AGAIN;
  case SSL_ERROR_ZERO_RETURN:
    return 0;
  default:
    return IO_ERROR;
  }
}

static long conn_read(struct conn *c, void *buf, size_t n) {
  if (c->ssl) {
    ERR_clear_error();
    return tls_result(c, SSL_read(c->ssl, buf, (int)n));
  }
  ssize_t got = recv(c->source.fd, buf, n, 0);
  if (got >= 0)
    return got;
  c->blocked_on = EPOLLIN;
  return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_ERROR;
}

static long conn_write(struct conn *c, const void *buf, size_t n) {
  if (c->ssl) {
    ERR_clear_error();
    return tls_result(c, SSL_write(c->ssl, buf, (int)n));
  }
  ssize_t sent = send(c->source.fd, buf, n, MSG_NOSIGNAL);
  if (sent >= 0)
    return sent;
  c->blocked_on = EPOLLOUT;
  return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_ERROR;
}

static void in_append(struct conn *c, const char *p, size_t n) {
  if (n == 0)
    return;
  c->in = grow(c->in, c->in_len + n + 1);
  memcpy(c->in + c->in_len, p, n);
  c->in_len += n;
  c->in[c->in_len] = '\0';
}

static void in_consume(struct conn *c, size_t n) {
  if (n == 0)
    return;
  c->in_len -= n;
  if (c->in_len == 0) {
    free(c->in);
    c->in = NULL;
  } else {
    memmove(c->in, c->in + n, c->in_len + 1);
  }
}

/* the answer's stream */

static size_t chunk_frame(const struct answer *a, size_t index, char frame[CHUNK + 16]) {
  size_t start = index * CHUNK;
  if (start >= a->body_len)
    return (size_t)sprintf(frame, "0\r\n\r\n");
  size_t n = min_size(CHUNK, a->body_len - start);
  size_t at = (size_t)sprintf(frame, "%zx\r\n", n);
  server_fill(frame + at, start, n);
  memcpy(frame + at + n, "\r\n", 2);
  return at + n + 2;
}

/* All chunks but the last are of one size, so an offset tells the chunk: "1000", CR LF, the data,
 * CR LF. */
#define FULL_FRAME (CHUNK + 8)

static size_t chunked_length(const struct answer *a) {
  char frame[CHUNK + 16];
  size_t full = a->body_len / CHUNK, n = full * FULL_FRAME + chunk_frame(a, full, frame);
  return a->body_len % CHUNK ? n + chunk_frame(a, full + 1, frame) : n;
}

static size_t produce_chunked(const struct answer *a, size_t off, char *buf, size_t cap) {
  char frame[CHUNK + 16];
  size_t index = min_size(off / FULL_FRAME, a->body_len / CHUNK);
  size_t at = off - index * FULL_FRAME, n = chunk_frame(a, index, frame);
  if (at >= n) {
    at -= n;
    n = chunk_frame(a, index + 1, frame);
  }
  n = min_size(n - at, cap);
  memcpy(buf, frame + at, n);
  return n;
}

static size_t produce(const struct answer *a, char *buf, size_t cap) {
  size_t n = 0;
  cap = min_size(cap, a->limit - a->off);
  if (a->off < a->head_len) {
    n = min_size(cap, a->head_len - a->off);
    memcpy(buf, a->head + a->off, n);
  }
  while (n < cap) {
    size_t at = a->off + n - a->head_len;
    if (a->chunked) {
      n += produce_chunked(a, at, buf + n, cap - n);
    } else {
      if (a->text)
        memcpy(buf + n, a->text + at, cap - n);
      else
        server_fill(buf + n, at, cap - n);
      n = cap;
    }
  }
  return n;
}

/* Sends `head` alone: what is no answer of HTTP, or not one yet. Takes `head`. */
static void reply_raw(struct conn *c, char *head, size_t n, enum ending ending) {
  answer_clear(c);
  c->answer.head = head;
  c->answer.head_len = c->answer.total = c->answer.limit = n;
  c->answer.ending = ending;
  c->state = ON_ANSWER;
}

static const char *reason(unsigned code) {
  switch (code) {
  case 101:
    return "Switching Protocols";
  case 200:
    return "OK";
  case 302:
    return "Found";
  case 401:
    return "Unauthorized";
  case 404:
    return "Not Found";
  default:
    return "Scripted";
  }
}

enum framing { LENGTH, CHUNKS, NO_LENGTH };

/* An answer with a body of `n` bytes: `text`, which it takes, or the pattern. */
static void reply_framed(struct conn *c, unsigned code, const char *headers, char *text, size_t n,
                         enum framing framing) {
  bool close_after = c->request.close || framing == NO_LENGTH;
  char length[64] = "";
  if (code < 200 || code == 204 || code == 304) {
    n = 0;
    framing = NO_LENGTH;
  } else if (framing == LENGTH) {
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", n);
  } else if (framing == CHUNKS) {
    snprintf(length, sizeof length, "Transfer-Encoding: chunked\r\n");
  }
  char *head = text_of("HTTP/1.1 %u %s\r\nServer: uvcurl-test\r\n%s%s%s\r\n", code, reason(code),
                       headers, length, close_after ? "Connection: close\r\n" : "");
  reply_raw(c, head, strlen(head), close_after ? FIN : KEEP);
  c->answer.text = text;
  if (c->request.is_head)
    return;
  c->answer.body_len = n;
  c->answer.chunked = framing == CHUNKS;
  c->answer.total += framing == CHUNKS ? chunked_length(&c->answer) : n;
  c->answer.limit = c->answer.total;
}

static void reply(struct conn *c, unsigned code, const char *headers, size_t n) {
  reply_framed(c, code, headers, NULL, n, LENGTH);
}

static void reply_text(struct conn *c, unsigned code, const char *headers, char *text) {
  reply_framed(c, code, headers, text, strlen(text), LENGTH);
}

/* Ends the answer after `n` bytes of its body. */
static void cut(struct conn *c, size_t n, enum ending ending) {
  c->answer.total = min_size(c->answer.total, c->answer.head_len + n);
  c->answer.limit = c->answer.total;
  c->answer.ending = ending;
}

/* the scripts */

static void answer_websocket(struct conn *c) {
  unsigned char digest[EVP_MAX_MD_SIZE], accept[2 * EVP_MAX_MD_SIZE];
  char keyed[128], headers[256];
  unsigned digest_len = 0;
  if (c->request.ws_key[0] == '\0') {
    reply(c, 400, "", 0);
    return;
  }
  snprintf(keyed, sizeof keyed, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", c->request.ws_key);
  if (!EVP_Digest(keyed, strlen(keyed), digest, &digest_len, EVP_sha1(), NULL))
    die("no SHA-1");
  EVP_EncodeBlock(accept, digest, (int)digest_len);
  snprintf(headers, sizeof headers,
           "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
           (char *)accept);
  c->request.close = false;
  reply(c, 101, headers, 0);
  c->answer.ending = READ_FRAME;
}

static void answer_huge_header(struct conn *c) {
  size_t n = min_size(c->request.arg[0], MAX_HUGE_HEADER);
  char *headers = grow(NULL, n + 16);
  size_t at = (size_t)sprintf(headers, "X-Huge: ");
  memset(headers + at, 'h', n);
  memcpy(headers + at + n, "\r\n", 3);
  reply(c, 200, headers, 0);
  free(headers);
}

/* The request is complete, or its script does not care: makes the answer and starts it. */
static void answer(struct conn *c) {
  struct request *r = &c->request;
  struct answer *a = &c->answer;
  const size_t *arg = r->arg;
  char *headers = NULL;

  switch (r->script->id) {
  case NOT_FOUND:
    reply(c, 404, "", 0);
    break;
  case BYTES:
    reply(c, 200, "", arg[0]);
    break;
  case CHUNKED:
    reply_framed(c, 200, "", NULL, arg[0], CHUNKS);
    break;
  case UNTIL_EOF:
    reply_framed(c, 200, "", NULL, arg[0], NO_LENGTH);
    break;
  case STATUS:
    reply(c, (unsigned)arg[0], "", arg[1]);
    break;
  case DELAY:
    reply(c, 200, "", arg[1]);
    c->state = ON_DELAY;
    timer_start(c, arg[0]);
    break;
  case HOLD:
    reply(c, 200, "", arg[0]);
    /* The number first: a release between the two reads must not be missed. */
    c->held_at = atomic_load(&self.shared->releases);
    if (!atomic_load(&self.shared->gate_open)) {
      c->state = ON_GATE;
      count(SERVER_HELD, 1);
    }
    break;
  case TRICKLE:
    reply(c, 200, "", arg[0]);
    a->step = arg[1] ? arg[1] : 1;
    a->step_ms = (unsigned)arg[2];
    a->limit = min_size(a->total, a->head_len + a->step);
    break;
  case STALL:
    reply(c, 200, "", arg[1]);
    cut(c, arg[0], HANG);
    break;
  case SHORT:
    reply(c, 200, "", arg[1]);
    cut(c, arg[0], FIN);
    break;
  case RESET:
    reply(c, 200, "", arg[1]);
    cut(c, arg[0], RST);
    break;
  case RESET_HEADERS:
    conn_reset(c);
    break;
  case REDIRECT:
    if (arg[0] == 0) {
      reply(c, 200, "", arg[1]);
      break;
    }
    headers = text_of("Location: /redirect/%zu/%zu\r\n", arg[0] - 1, arg[1]);
    reply(c, 302, headers, 0);
    break;
  case REDIRECT_TO:
    headers = text_of("Location: %s\r\n", r->location ? r->location : "/");
    reply(c, 302, headers, 0);
    break;
  case LATE_FIN:
    reply(c, 200, "", arg[1]);
    if (a->ending == KEEP)
      a->ending = FIN_LATER;
    a->ending_ms = (unsigned)arg[0];
    break;
  case LINGER_CLOSE:
    reply(c, 200, "", arg[0]);
    a->ending = FIN;
    break;
  case ECHO_BODY:
    if (r->body_read > MAX_ECHO) {
      reply(c, 413, "", 0);
    } else {
      char *echo = r->echo ? r->echo : grow(NULL, 0);
      r->echo = NULL;
      reply_framed(c, 200, "", echo, r->body_read, LENGTH);
    }
    break;
  case SINK:
  case SLOW_SINK:
  case QUIET_SINK:
    reply_text(c, 200, r->content_differs ? "X-Content: differ\r\n" : "X-Content: match\r\n",
               text_of("%zu", r->body_read));
    break;
  case SINK_RESET:
    conn_reset(c);
    break;
  case EARLY:
    r->close = true;
    reply(c, (unsigned)arg[0], "", arg[1]);
    break;
  case GARBAGE:
    headers = text_of("\x16\x03 this is not HTTP\r\nnor : this\r\n\r\n");
    reply_raw(c, headers, strlen(headers), FIN);
    headers = NULL;
    break;
  case HUGE_HEADER:
    answer_huge_header(c);
    break;
  case AUTH:
    if (r->authorized)
      reply(c, 200, "", arg[0]);
    else
      reply(c, 401, "WWW-Authenticate: Basic realm=\"uvcurl\"\r\n", 0);
    break;
  case CONN:
    headers = text_of("X-Requests: %llu\r\n", (unsigned long long)c->requests);
    reply_text(c, 200, headers, text_of("%llu", (unsigned long long)c->id));
    break;
  case WEBSOCKET:
    answer_websocket(c);
    break;
  }
  free(headers);
}

/* the request */

static void percent_decode(char *s) {
  char *to = s;
  for (; *s; s++) {
    unsigned byte;
    if (*s == '%' && isxdigit((unsigned char)s[1]) && sscanf(s + 1, "%2x", &byte) == 1 && s[2]) {
      *to++ = (char)byte;
      s += 2;
    } else {
      *to++ = *s;
    }
  }
  *to = '\0';
}

static void find_script(struct request *r, char *target) {
  char *query = strchr(target, '?'), *save = NULL;
  if (query)
    *query++ = '\0';
  char *name = strtok_r(target, "/", &save);
  for (size_t i = 0; name && i < sizeof scripts / sizeof scripts[0]; i++) {
    if (strcmp(name, scripts[i].name) != 0)
      continue;
    int n = 0;
    for (char *part; (part = strtok_r(NULL, "/", &save)) != NULL; n++) {
      char *end;
      if (n == scripts[i].max_args || !isdigit((unsigned char)*part))
        return;
      r->arg[n] = (size_t)strtoull(part, &end, 10);
      if (*end)
        return;
    }
    if (n < scripts[i].min_args)
      return;
    r->script = &scripts[i];
    break;
  }
  if (r->script->id == REDIRECT_TO && query && strncasecmp(query, "URL=", 4) == 0) {
    percent_decode(query + 4);
    /* The decoded text goes into a header. */
    if (!strpbrk(query + 4, "\r\n"))
      r->location = text_of("%s", query + 4);
  }
}

static void parse_header(struct request *r, const char *name, const char *value) {
  if (strcasecmp(name, "Content-Length") == 0) {
    r->left = (size_t)strtoull(value, NULL, 10);
    r->upload = r->left > 0;
  } else if (strcasecmp(name, "Transfer-Encoding") == 0 && strcasestr(value, "chunked")) {
    r->upload = r->chunked = true;
  } else if (strcasecmp(name, "Connection") == 0) {
    r->close |= strcasestr(value, "close") != NULL;
  } else if (strcasecmp(name, "Expect") == 0) {
    r->expect = strcasestr(value, "100-continue") != NULL;
  } else if (strcasecmp(name, "Authorization") == 0) {
    r->authorized = true;
  } else if (strcasecmp(name, "Sec-WebSocket-Key") == 0) {
    snprintf(r->ws_key, sizeof r->ws_key, "%s", value);
  }
}

/* `head` is the request line and the headers, each line ended by CR LF. */
static void parse_head(struct request *r, char *head) {
  char *save = NULL, *line = strtok_r(head, "\r\n", &save);
  char method[16], version[16];
  int at = 0, end = 0;
  if (!line || sscanf(line, "%15s %n%*s%n %15s", method, &at, &end, version) != 2 || end <= at) {
    r->bad = true;
    return;
  }
  char *target = line + at;
  line[end] = '\0';
  r->is_head = strcmp(method, "HEAD") == 0;
  r->close = strcmp(version, "HTTP/1.0") == 0;
  if (strncasecmp(target, "http://", 7) == 0)
    target = strchrnul(target + 7, '/');
  find_script(r, target);
  while ((line = strtok_r(NULL, "\r\n", &save)) != NULL) {
    char *value = strchr(line, ':');
    if (!value)
      continue;
    *value++ = '\0';
    while (*value == ' ' || *value == '\t')
      value++;
    parse_header(r, line, value);
  }
  r->part = r->chunked ? SIZE_LINE : DATA;
  if (r->chunked)
    r->left = 0;
}

static void body_data(struct request *r, const char *p, size_t n) {
  if (!server_match(p, r->body_read, n))
    r->content_differs = true;
  if (r->script->id == ECHO_BODY && r->body_read + n <= MAX_ECHO) {
    r->echo = grow(r->echo, r->body_read + n);
    memcpy(r->echo + r->body_read, p, n);
  }
  r->body_read += n;
  count(SERVER_BODY_BYTES, n);
}

static void body_byte(struct request *r, unsigned char byte) {
  switch (r->part) {
  case SIZE_LINE:
    if (byte == '\n') {
      r->part = r->left ? DATA : TRAILER;
      r->line = 0;
    } else if (isxdigit(byte) && r->line == 0) {
      int digit = isdigit(byte) ? byte - '0' : tolower(byte) - 'a' + 10;
      r->left = r->left * 16 + (size_t)digit;
    } else {
      r->line = 1; /* an extension, or the CR: no digits any more */
    }
    break;
  case DATA_END:
    if (byte == '\n')
      r->part = SIZE_LINE, r->line = 0;
    break;
  case TRAILER:
    if (byte == '\n') {
      r->body_done = r->line == 0;
      r->line = 0;
    } else if (byte != '\r') {
      r->line++;
    }
    break;
  case DATA:
    break;
  }
}

/* Takes what belongs to the body and returns how much that was. */
static size_t body_feed(struct request *r, const char *p, size_t n) {
  size_t i = 0;
  while (i < n && !r->body_done) {
    if (r->part != DATA) {
      body_byte(r, (unsigned char)p[i++]);
      continue;
    }
    size_t k = min_size(n - i, r->left);
    body_data(r, p + i, k);
    i += k;
    r->left -= k;
    if (r->left == 0 && r->chunked)
      r->part = DATA_END;
    else
      r->body_done = r->left == 0;
  }
  return i;
}

/* one connection's progress */

/* Whether to go on at once, or to wait for an event, a timer or the gate. */
enum progress { GO_ON, WAIT };

static enum progress do_handshake(struct conn *c) {
  ERR_clear_error();
  long result = tls_result(c, SSL_accept(c->ssl));
  if (result == IO_AGAIN)
    return WAIT;
  if (result <= 0) {
    conn_lost(c);
    return WAIT;
  }
  count(SERVER_HANDSHAKES, 1);
  c->state = ON_HEAD;
  return GO_ON;
}

static enum progress begin_request(struct conn *c, size_t head_len) {
  struct request *r = &c->request;
  timer_stop(c);
  request_clear(c);
  char *head = grow(NULL, head_len + 1);
  memcpy(head, c->in, head_len);
  head[head_len] = '\0';
  parse_head(r, head);
  free(head);
  in_consume(c, head_len);
  c->requests++;
  count(SERVER_REQUESTS, 1);

  if (r->bad) {
    r->close = true;
    reply(c, 400, "", 0);
    return GO_ON;
  }
  c->unread_body = r->upload;
  if (!r->upload || r->script->early || (r->script->id == SINK_RESET && r->arg[0] == 0)) {
    answer(c);
    return GO_ON;
  }
  if (r->script->id == SLOW_SINK) {
    /* Or the kernel takes megabytes for us, and the sender never feels how slow we are. */
    int room = 16 * 1024;
    setsockopt(c->source.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    c->state = ON_SLOW_BODY;
    timer_start(c, r->arg[1]);
  } else {
    c->state = ON_BODY;
  }
  if (r->expect && r->script->id != QUIET_SINK && c->in_len == 0) {
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    timer_stop(c);
    reply_raw(c, text_of("%s", text), sizeof text - 1, READ_BODY);
  }
  return GO_ON;
}

static enum progress read_in(struct conn *c) {
  long n = conn_read(c, self.scratch, sizeof self.scratch);
  if (n == IO_AGAIN)
    return WAIT;
  if (n <= 0) {
    conn_lost(c);
    return WAIT;
  }
  in_append(c, self.scratch, (size_t)n);
  return GO_ON;
}

static enum progress do_head(struct conn *c) {
  char *end = c->in ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : NULL;
  if (end)
    return begin_request(c, (size_t)(end - c->in) + 4);
  if (c->in_len > MAX_HEAD) {
    c->unread_body = true;
    c->request.close = true;
    reply(c, 431, "", 0);
    return GO_ON;
  }
  return read_in(c);
}

/* Reads and takes up to `n` bytes of the request's body. */
static enum progress read_body(struct conn *c, size_t n) {
  struct request *r = &c->request;
  if (c->in_len > 0) {
    in_consume(c, body_feed(r, c->in, min_size(n, c->in_len)));
  } else {
    long got = conn_read(c, self.scratch, min_size(n, sizeof self.scratch));
    if (got == IO_AGAIN)
      return WAIT;
    if (got <= 0) {
      conn_lost(c);
      return WAIT;
    }
    size_t used = body_feed(r, self.scratch, (size_t)got);
    in_append(c, self.scratch + used, (size_t)got - used);
  }
  if (r->script->id == SINK_RESET && r->body_read >= r->arg[0]) {
    conn_reset(c);
    return WAIT;
  }
  if (r->body_done) {
    c->unread_body = false;
    answer(c);
  }
  return GO_ON;
}

static enum progress do_body(struct conn *c) {
  const struct request *r = &c->request;
  return read_body(c, r->script->id == SINK_RESET ? r->arg[0] - r->body_read : SCRATCH);
}

static void slow_body(struct conn *c) {
  size_t step = c->request.arg[0] ? c->request.arg[0] : 1;
  read_body(c, step);
  if (c->state == ON_SLOW_BODY)
    timer_start(c, c->request.arg[1]);
}

/* A reset throws away what the kernel has not delivered yet, and the script says it arrives. */
static enum progress do_flush(struct conn *c) {
  int unsent = 0;
  if (ioctl(c->source.fd, SIOCOUTQ, &unsent) == 0 && unsent > 0) {
    timer_start(c, 1);
    return WAIT;
  }
  conn_reset(c);
  return WAIT;
}

static enum progress end_answer(struct conn *c) {
  enum ending ending = c->answer.ending;
  unsigned ms = c->answer.ending_ms;
  answer_clear(c);
  switch (ending) {
  case KEEP:
    c->state = ON_HEAD;
    return GO_ON;
  case FIN:
    conn_fin(c);
    return GO_ON;
  case RST:
    c->state = ON_FLUSH;
    return GO_ON;
  case HANG:
    c->state = ON_STALL;
    return WAIT;
  case FIN_LATER:
    c->state = ON_HEAD;
    timer_start(c, ms);
    return GO_ON;
  case READ_BODY:
    if (c->request.script->id != SLOW_SINK) {
      c->state = ON_BODY;
      return GO_ON;
    }
    c->state = ON_SLOW_BODY;
    timer_start(c, c->request.arg[1]);
    return WAIT;
  case READ_FRAME:
    c->state = ON_FRAME;
    return GO_ON;
  }
  return WAIT;
}

static enum progress do_answer(struct conn *c) {
  struct answer *a = &c->answer;
  for (int sends = 0; a->off < a->limit; sends++) {
    if (sends == SENDS_PER_TURN) {
      c->blocked_on = EPOLLOUT;
      return WAIT;
    }
    size_t n = produce(a, self.scratch, sizeof self.scratch);
    long sent = conn_write(c, self.scratch, n);
    if (sent == IO_AGAIN)
      return WAIT;
    if (sent <= 0) {
      conn_lost(c);
      return WAIT;
    }
    a->off += (size_t)sent;
    count(SERVER_BYTES_SENT, (uint64_t)sent);
  }
  if (a->limit == a->total)
    return end_answer(c);
  a->limit = min_size(a->total, a->limit + a->step);
  c->state = ON_DELAY;
  timer_start(c, a->step_ms);
  return WAIT;
}

/* Reads past TLS: what comes now is nobody's, only its end matters. */
static enum progress do_fin(struct conn *c) {
  ssize_t n = recv(c->source.fd, self.scratch, sizeof self.scratch, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    c->blocked_on = EPOLLIN;
    return WAIT;
  }
  if (n <= 0) {
    conn_close(c);
    return WAIT;
  }
  /* Whoever sends another request on a connection that was closed gets what the kernel of a server
   * that is gone would send. */
  if (!c->unread_body && !c->ssl) {
    conn_reset(c);
    return WAIT;
  }
  return GO_ON;
}

static enum progress do_frame(struct conn *c) {
  const unsigned char *p = (const unsigned char *)c->in;
  size_t n = c->in_len, at = 2, len;
  if (n < at)
    return read_in(c);
  len = p[1] & 0x7f;
  if (len == 126) {
    at += 2;
    if (n < at)
      return read_in(c);
    len = (size_t)p[2] << 8 | p[3];
  }
  if (len > MAX_FRAME || !(p[1] & 0x80)) {
    c->unread_body = true;
    conn_fin(c);
    return GO_ON;
  }
  if (n < at + 4 + len)
    return read_in(c);

  unsigned opcode = p[0] & 0x0f;
  const unsigned char *mask = p + at, *data = mask + 4;
  unsigned char *frame = grow(NULL, len + 4), *to = frame;
  *to++ = opcode == 9 ? 0x8a : p[0];
  *to++ = (unsigned char)(len < 126 ? len : 126);
  if (len >= 126) {
    *to++ = (unsigned char)(len >> 8);
    *to++ = (unsigned char)len;
  }
  for (size_t i = 0; i < len; i++)
    *to++ = data[i] ^ mask[i % 4];
  in_consume(c, at + 4 + len);
  if (opcode == 10) {
    free(frame);
    return GO_ON;
  }
  reply_raw(c, (char *)frame, (size_t)(to - frame), opcode == 8 ? FIN : READ_FRAME);
  return GO_ON;
}

static enum progress do_reset_port(struct conn *c) {
  char byte;
  long n = conn_read(c, &byte, 1);
  if (n == IO_AGAIN)
    return WAIT;
  if (n <= 0)
    conn_lost(c);
  else
    conn_reset(c);
  return WAIT;
}

static enum progress step(struct conn *c) {
  switch (c->state) {
  case ON_HANDSHAKE:
    return do_handshake(c);
  case ON_HEAD:
    return do_head(c);
  case ON_BODY:
    return do_body(c);
  case ON_ANSWER:
    return do_answer(c);
  case ON_FLUSH:
    return do_flush(c);
  case ON_FIN:
    return do_fin(c);
  case ON_FRAME:
    return do_frame(c);
  case ON_RESET_PORT:
    return do_reset_port(c);
  case ON_SLOW_BODY:
  case ON_GATE:
  case ON_DELAY:
  case ON_STALL:
  case GONE:
    break;
  }
  return WAIT;
}

static bool is_reading(const struct conn *c) {
  return c->state == ON_HANDSHAKE || c->state == ON_HEAD || c->state == ON_BODY ||
         c->state == ON_FIN || c->state == ON_FRAME || c->state == ON_RESET_PORT;
}

/* Where nothing is read the peer's end must be noticed all the same, but waiting input must not
 * wake us for ever. */
static uint32_t wanted_events(const struct conn *c) {
  if (is_reading(c))
    return c->blocked_on;
  return c->state == ON_ANSWER ? c->blocked_on | EPOLLRDHUP : EPOLLRDHUP;
}

static void conn_run(struct conn *c) {
  for (int steps = 0; step(c) == GO_ON; steps++) {
    /* A big upload must not starve the other connections; level triggering brings us back. */
    if (steps >= READS_PER_TURN && c->state == ON_BODY && c->in_len == 0 &&
        !(c->ssl && SSL_pending(c->ssl))) {
      c->blocked_on = EPOLLIN;
      break;
    }
  }
  if (c->state == GONE)
    return;
  struct epoll_event ev = {.events = wanted_events(c), .data.ptr = c};
  if (ev.events != c->armed && epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, c->source.fd, &ev) != 0)
    die("epoll_ctl: %s", strerror(errno));
  c->armed = ev.events;
}

static void conn_event(struct conn *c, uint32_t events) {
  if (c->state == GONE)
    return;
  if (!is_reading(c) && (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)))
    conn_lost(c);
  else
    conn_run(c);
}

static void conn_timer(struct conn *c) {
  timer_stop(c);
  switch (c->state) {
  case ON_HEAD:
    conn_fin(c);
    break;
  case ON_DELAY:
    c->state = ON_ANSWER;
    break;
  case ON_SLOW_BODY:
    slow_body(c);
    break;
  default:
    break;
  }
  conn_run(c);
}

static void conn_open(int fd, enum role role) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct conn *c = calloc(1, sizeof *c);
  if (c == NULL)
    die("out of memory");
  c->source.role = ROLE_CONN;
  c->source.fd = fd;
  c->id = ++self.ids;
  c->request.script = &not_found;
  c->blocked_on = c->armed = EPOLLIN;
  c->next = self.conns.next;
  c->prev = &self.conns;
  c->next->prev = c->prev->next = c;
  count(SERVER_OPEN, 1);
  if (role == ROLE_HTTPS) {
    c->ssl = SSL_new(self.tls);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1)
      die("no TLS connection");
  }
  c->state = role == ROLE_HTTPS ? ON_HANDSHAKE : role == ROLE_RESETTING ? ON_RESET_PORT : ON_HEAD;
  struct epoll_event ev = {.events = c->armed, .data.ptr = c};
  if (epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
    die("epoll_ctl: %s", strerror(errno));
}

static void accept_some(const struct source *listener) {
  for (int i = 0; i < 256; i++) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE)
        accept_later();
      return;
    }
    count(SERVER_ACCEPTED, 1);
    if (listener->role == ROLE_CLOSING)
      close(fd);
    else
      conn_open(fd, listener->role);
  }
}

static void release_held(const struct source *wake) {
  uint64_t ignored;
  if (read(wake->fd, &ignored, sizeof ignored) < 0)
    return;
  unsigned releases = atomic_load(&self.shared->releases);
  struct conn *next;
  for (struct conn *c = self.conns.next; c != &self.conns; c = next) {
    next = c->next;
    if (c->state != ON_GATE || c->held_at == releases)
      continue;
    uncount(SERVER_HELD);
    c->state = ON_ANSWER;
    conn_run(c);
  }
}

static int next_timeout(void) {
  if (self.heap_len == 0)
    return -1;
  uint64_t now = now_us(), due = self.heap[1]->due_us;
  if (due <= now)
    return 0;
  uint64_t ms = (due - now + 999) / 1000;
  return ms < 3600000 ? (int)ms : 3600000;
}

__attribute__((noreturn)) static void serve(void) {
  for (;;) {
    struct epoll_event events[512];
    int n = epoll_wait(self.epoll_fd, events, 512, next_timeout());
    if (n < 0 && errno != EINTR)
      die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
      struct source *source = events[i].data.ptr;
      if (source->role == ROLE_CONN)
        conn_event((struct conn *)source, events[i].events);
      else if (source->role == ROLE_WAKE)
        release_held(source);
      else
        accept_some(source);
    }
    uint64_t now = now_us();
    while (self.heap_len > 0 && self.heap[1]->due_us <= now)
      conn_timer(self.heap[1]);
    while (self.dead) {
      struct conn *c = self.dead;
      self.dead = c->next;
      free(c);
    }
  }
}

/* the child's start */

static int choose_http1(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                        const unsigned char *in, unsigned in_len, void *unused) {
  static const unsigned char ours[] = "\x08http/1.1";
  (void)ssl;
  (void)unused;
  unsigned char *chosen;
  if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *tls_new(const server_options *options) {
  SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
  if (tls == NULL)
    die("no TLS");
  /* The bytes of a retried write are made anew, elsewhere; and idle connections are many. */
  SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(tls, choose_http1, NULL);
  if (SSL_CTX_use_certificate_chain_file(tls, options->cert_file) != 1)
    die("cannot use the certificate %s", options->cert_file);
  if (SSL_CTX_use_PrivateKey_file(tls, options->key_file, SSL_FILETYPE_PEM) != 1)
    die("cannot use the key %s", options->key_file);
  return tls;
}

/* A copy of one of the test's sockets here would keep it open after the test has closed it. */
static void close_foreign_descriptors(int ready_fd) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    die("getrlimit: %s", strerror(errno));
  DIR *dir = opendir("/proc/self/fd");
  if (dir == NULL)
    die("/proc/self/fd: %s", strerror(errno));
  struct dirent *entry;
  while ((entry = readdir(dir)) != NULL) {
    int fd = atoi(entry->d_name);
    bool ours = fd <= STDERR_FILENO || fd == ready_fd || fd == dirfd(dir);
    for (size_t i = 0; i < self.n_sources && !ours; i++)
      ours = fd == self.sources[i].fd;
    /* Those of a tool that runs the test lie beyond the limit. */
    if (!ours && (rlim_t)fd < limit.rlim_max)
      close(fd);
  }
  closedir(dir);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

__attribute__((noreturn)) static void child_main(const server_options *options, pid_t parent,
                                                 int ready_fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    _exit(1);
  prctl(PR_SET_NAME, "test-server");
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
  signal(SIGALRM, SIG_DFL);
  close_foreign_descriptors(ready_fd);

  self.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (self.epoll_fd < 0)
    die("epoll_create1: %s", strerror(errno));
  self.conns.next = self.conns.prev = &self.conns;
  self.accepting = true;
  if (options->cert_file)
    self.tls = tls_new(options);
  for (size_t i = 0; i < self.n_sources; i++) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &self.sources[i]};
    if (self.sources[i].role != ROLE_IDLE &&
        epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.sources[i].fd, &ev) != 0)
      die("epoll_ctl: %s", strerror(errno));
  }
  if (write(ready_fd, "r", 1) != 1)
    _exit(1);
  close(ready_fd);
  serve();
}

/* the parent */

struct listeners {
  struct source *sources;
  size_t n;
};

static void add_source(struct listeners *all, enum role role, int fd) {
  all->sources = realloc(all->sources, (all->n + 1) * sizeof *all->sources);
  if (all->sources == NULL)
    abort();
  all->sources[all->n++] = (struct source){role, fd};
}

static void close_sources(struct listeners *all) {
  while (all->n > 0)
    close(all->sources[--all->n].fd);
}

/* A socket bound to `address` (IPv4, host order) and `port`, or -1. */
static int bind_v4(uint32_t address, int port) {
  int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  sa.sin_addr.s_addr = htonl(address);
  if (fd < 0)
    return -1;
  /* For a chosen number only: it must not fail for the last connections of an earlier owner. */
  if (port != 0)
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

static int bind_v6(int port) {
  int one = 1, fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  sa.sin6_addr = in6addr_loopback;
  if (fd < 0)
    return -1;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

static int port_of(int fd) {
  struct sockaddr_in sa;
  socklen_t len = sizeof sa;
  return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 ? ntohs(sa.sin_port) : 0;
}

/* Returns the port, or 0. */
static int add_port(struct listeners *all, enum role role, int backlog) {
  int fd = bind_v4(INADDR_LOOPBACK, 0);
  if (fd < 0)
    return 0;
  add_source(all, role, fd);
  if (backlog >= 0 && listen(fd, backlog) != 0)
    return 0;
  return port_of(fd);
}

static uint32_t extra_address(int index) {
  return (127u << 24) | (uint32_t)(1 + index / 250) << 8 | (uint32_t)(1 + index % 250);
}

/* The HTTP port on all its addresses; 0 if one of them has the number taken already. */
static int add_http_ports(struct listeners *all, const server_options *options, int *v6_port) {
  int port = add_port(all, ROLE_HTTP, BACKLOG);
  for (int i = 0; port && i < options->extra_addresses; i++) {
    int fd = bind_v4(extra_address(i), port);
    if (fd < 0)
      return 0;
    add_source(all, ROLE_HTTP, fd);
    if (listen(fd, BACKLOG) != 0)
      return 0;
  }
  if (port && options->listen_v6) {
    int fd = bind_v6(port);
    if (fd < 0)
      return errno == EADDRINUSE ? 0 : port;
    add_source(all, ROLE_HTTP, fd);
    if (listen(fd, BACKLOG) != 0)
      return 0;
    *v6_port = port;
  }
  return port;
}

/* A queue of one place, taken: the kernel drops what else wants to connect. */
static int add_blackhole(struct listeners *all) {
  int port = add_port(all, ROLE_IDLE, 0), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0)
    return 0;
  add_source(all, ROLE_IDLE, fd);
  return port && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 ? port : 0;
}

static bool bind_all(struct listeners *all, const server_options *options, server_t *server) {
  int *ports = server->ports;
  for (int tries = 0; tries < 50 && ports[SERVER_HTTP] == 0; tries++) {
    close_sources(all);
    ports[SERVER_HTTP] = add_http_ports(all, options, &ports[SERVER_HTTP6]);
  }
  if (options->cert_file)
    ports[SERVER_HTTPS] = add_port(all, ROLE_HTTPS, BACKLOG);
  ports[SERVER_REFUSED] = add_port(all, ROLE_IDLE, -1);
  ports[SERVER_SILENT] = add_port(all, ROLE_IDLE, BACKLOG);
  ports[SERVER_BLACKHOLE] = add_blackhole(all);
  ports[SERVER_CLOSING] = add_port(all, ROLE_CLOSING, BACKLOG);
  ports[SERVER_RESETTING] = add_port(all, ROLE_RESETTING, BACKLOG);
  add_source(all, ROLE_WAKE, server->wake_fd);
  for (int kind = 0; kind < SERVER_PORT_KINDS; kind++) {
    bool optional = kind == SERVER_HTTP6 || (kind == SERVER_HTTPS && !options->cert_file);
    if (ports[kind] == 0 && !optional)
      return false;
  }
  return true;
}

static bool wait_ready(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  char byte;
  int n;
  do {
    n = poll(&p, 1, 30000);
  } while (n < 0 && errno == EINTR);
  return n == 1 && read(fd, &byte, 1) == 1;
}

/* Starts the child; what the parent need not keep is closed by the caller. */
static bool spawn(server_t *server, const server_options *options, const struct listeners *all) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) {
    perror("# test server: pipe");
    return false;
  }
  pid_t parent = getpid();
  server->child = fork();
  if (server->child == 0) {
    self.shared = server->shared;
    self.sources = all->sources;
    self.n_sources = all->n;
    child_main(options, parent, ready[1]);
  }
  close(ready[1]);
  bool ok = server->child > 0 && wait_ready(ready[0]);
  close(ready[0]);
  return ok;
}

server_t *server_start(const server_options *options) {
  static const server_options defaults;
  struct listeners all = {NULL, 0};
  if (options == NULL)
    options = &defaults;
  if (options->extra_addresses < 0 || options->extra_addresses > MAX_EXTRA ||
      !options->cert_file != !options->key_file) {
    fprintf(stderr, "# test server: bad options\n");
    return NULL;
  }
  server_t *server = calloc(1, sizeof *server);
  if (server == NULL)
    abort();
  server->child = -1;
  server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  server->shared =
      mmap(NULL, sizeof *server->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (server->wake_fd < 0 || server->shared == MAP_FAILED)
    abort();
  bool bound = bind_all(&all, options, server);
  if (!bound)
    fprintf(stderr, "# test server: no ports: %s\n", strerror(errno));
  bool started = bound && spawn(server, options, &all);
  all.n--; /* the wake-up stays the parent's too */
  close_sources(&all);
  free(all.sources);
  if (started)
    return server;
  if (server->child > 0) {
    kill(server->child, SIGKILL);
    waitpid(server->child, NULL, 0);
  }
  munmap(server->shared, sizeof *server->shared);
  close(server->wake_fd);
  free(server);
  return NULL;
}

void server_stop(server_t *server) {
  int status = 0;
  if (server == NULL)
    return;
  kill(server->child, SIGKILL);
  while (waitpid(server->child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
    fprintf(stderr, "# test server: ended before it was stopped (wait status %d)\n", status);
    abort();
  }
  munmap(server->shared, sizeof *server->shared);
  close(server->wake_fd);
  free(server);
}

int server_port(const server_t *server, enum server_port_kind kind) {
  return server->ports[kind];
}

int server_has_v6(const server_t *server) {
  return server->ports[SERVER_HTTP6] != 0;
}

int server_pid(const server_t *server) {
  return (int)server->child;
}

uint64_t server_count(const server_t *server, enum server_counter counter) {
  return atomic_load(&server->shared->counters[counter]);
}

const char *server_url(const server_t *server, char *buf, size_t size, enum server_port_kind kind,
                       const char *path) {
  snprintf(buf, size, "%s://%s:%d%s", kind == SERVER_HTTPS ? "https" : "http",
           kind == SERVER_HTTP6 ? "[::1]" : "127.0.0.1", server->ports[kind], path);
  return buf;
}

const char *server_extra_url(const server_t *server, char *buf, size_t size, int index,
                             const char *path) {
  struct in_addr address = {.s_addr = htonl(extra_address(index))};
  char text[INET_ADDRSTRLEN];
  snprintf(buf, size, "http://%s:%d%s", inet_ntop(AF_INET, &address, text, sizeof text),
           server->ports[SERVER_HTTP], path);
  return buf;
}

void server_release(server_t *server) {
  atomic_store(&server->shared->gate_open, true);
  atomic_fetch_add(&server->shared->releases, 1);
  uint64_t one = 1;
  if (write(server->wake_fd, &one, sizeof one) != (ssize_t)sizeof one)
    abort();
}

void server_hold(server_t *server) {
  atomic_store(&server->shared->gate_open, false);
}
