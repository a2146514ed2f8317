/* The other end of every measurement: a server on the loopback device, one thread, made to be
   cheap.

     bench-server [--cpu N] [--certs DIR] [--streams N]

   prints {"http":PORT,"https":PORT} and serves until its standard input ends. The path says what is
   wanted: /b1000/d20 is a body of 1000 bytes after 20 ms; /close at its end closes the connection.
   HTTP/1.1 and HTTP/2 on both ports (without TLS by prior knowledge, with TLS by ALPN). What is
   uploaded is read and thrown away. */
#include <arpa/inet.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

enum { HEAD = 2048, WHEEL = 4096, EVENTS = 512, BODY = 1 << 20, LISTENERS = 8 };

/* A place in the wheel: what is to be answered later. */
struct later {
  struct later *prev, *next;
  uint64_t due;
  struct conn *conn;
  struct stream *stream;
};

struct wanted {
  long bytes, delay;
  bool close;
};

struct stream {
  struct stream *prev, *next; /* of its connection */
  struct later later;
  struct wanted wanted;
  int32_t id;
  long left;
};

struct listener {
  int fd;
  bool tls;
};

enum state { READING, UPLOADING, WAITING, WRITING, HTTP2 };

struct conn {
  int fd;
  enum state state;
  bool watching_out, handshaking, dirty, dead;
  SSL *ssl;
  nghttp2_session *h2;
  struct stream *streams;
  struct conn *next_dirty;
  struct later later;
  struct wanted wanted;
  long upload_left;
  size_t in_used, head_size, head_sent;
  long body_left;
  char *kept; /* of HTTP/2: what the socket did not take */
  size_t kept_size;
  char in[HEAD];
  char head[128];
};

static int ep;
static struct later wheel[WHEEL];
static size_t waiting;
static uint64_t wheel_at;
static struct conn *dirty_conns, *dead_conns;
static char body[BODY], scratch[1 << 16];
static SSL_CTX *tls;
static long max_streams = 100;

static void serve(struct conn *c);

static uint64_t now_ms(void) {
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void fatal(const char *what) {
  perror(what);
  exit(1);
}

/* ---- delays ---- */

static void unwait(struct later *l) {
  if (!l->next)
    return;
  l->prev->next = l->next;
  l->next->prev = l->prev;
  l->next = l->prev = NULL;
  waiting--;
}

static void wait_for(struct later *l, long delay) {
  struct later *at;

  if (!waiting)
    wheel_at = now_ms();
  /* One more: a delay is never shorter than it was asked for. */
  l->due = now_ms() + (uint64_t)delay + 1;
  at = &wheel[l->due % WHEEL];
  l->next = at;
  l->prev = at->prev;
  at->prev->next = l;
  at->prev = l;
  waiting++;
}

/* ---- connections ---- */

static void drop(struct conn *c) {
  if (c->dead)
    return;
  c->dead = true;
  unwait(&c->later);
  while (c->streams) {
    struct stream *s = c->streams;
    c->streams = s->next;
    unwait(&s->later);
    free(s);
  }
  if (c->h2)
    nghttp2_session_del(c->h2);
  if (c->ssl) {
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
  }
  close(c->fd);
  free(c->kept);
  c->kept = NULL;
  if (!c->dirty) {
    c->next_dirty = dead_conns;
    dead_conns = c;
  }
}

static void watch_out(struct conn *c, bool out) {
  struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};

  if (c->watching_out != out && !epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e))
    c->watching_out = out;
}

/* -1: would block, 0: the end, -2: an error. */
static long tls_result(struct conn *c, int got) {
  int error;

  if (got > 0)
    return got;
  error = SSL_get_error(c->ssl, got);
  ERR_clear_error();
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
    return -1;
  return error == SSL_ERROR_ZERO_RETURN ? 0 : -2;
}

static long conn_read(struct conn *c, char *to, size_t room) {
  ssize_t got;

  if (c->ssl)
    return tls_result(c, SSL_read(c->ssl, to, (int)room));
  got = read(c->fd, to, room);
  return got >= 0 ? got : errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static long conn_write(struct conn *c, const char *from, size_t size) {
  ssize_t sent;

  if (c->ssl)
    return tls_result(c, SSL_write(c->ssl, from, (int)size));
  sent = write(c->fd, from, size);
  return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static void parse_path(const char *path, struct wanted *w) {
  const char *close = strstr(path, "/close");

  w->bytes = w->delay = 0;
  sscanf(path, "/b%9ld/d%6ld", &w->bytes, &w->delay);
  w->close = close && (close[6] == ' ' || !close[6]);
}

/* ---- HTTP/1.1 ---- */

static void write_answer(struct conn *c) {
  while (c->head_sent < c->head_size || c->body_left) {
    size_t head = c->head_size - c->head_sent;
    size_t part = c->body_left < BODY ? (size_t)c->body_left : BODY;
    long sent;

    if (c->ssl && head) {
      size_t with = part < sizeof scratch - head ? part : sizeof scratch - head;
      memcpy(scratch, c->head + c->head_sent, head);
      memcpy(scratch + head, body, with);
      sent = conn_write(c, scratch, head + with);
    } else if (head) {
      struct iovec parts[2] = {{c->head + c->head_sent, head}, {body, part}};
      sent = writev(c->fd, parts, part ? 2 : 1);
      if (sent < 0)
        sent = errno == EAGAIN ? -1 : -2;
    } else {
      sent = conn_write(c, body, part);
    }
    if (sent == -1) {
      watch_out(c, true);
      return;
    }
    if (sent <= 0) {
      drop(c);
      return;
    }
    if ((size_t)sent < head) {
      c->head_sent += (size_t)sent;
    } else {
      c->head_sent = c->head_size;
      c->body_left -= sent - (long)head;
    }
  }
  if (c->wanted.close) {
    drop(c);
    return;
  }
  watch_out(c, false);
  c->state = READING;
}

static void answer(struct conn *c) {
  c->head_sent = 0;
  c->head_size =
      (size_t)snprintf(c->head, sizeof c->head, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n%s\r\n",
                       c->wanted.bytes, c->wanted.close ? "Connection: close\r\n" : "");
  c->body_left = c->wanted.bytes;
  c->state = WRITING;
  write_answer(c);
}

static void asked(struct conn *c) {
  if (c->wanted.delay) {
    c->state = WAITING;
    wait_for(&c->later, c->wanted.delay);
  } else {
    answer(c);
  }
}

static void start_h2(struct conn *c);
static void feed_h2(struct conn *c, const char *data, size_t size);

static void read_head(struct conn *c) {
  long got = conn_read(c, c->in + c->in_used, sizeof c->in - 1 - c->in_used);
  char *end, *length;

  if (got == -1)
    return;
  if (got <= 0) {
    drop(c);
    return;
  }
  c->in_used += (size_t)got;
  c->in[c->in_used] = '\0';
  if (!strncmp(c->in, "PRI * HTTP/2", c->in_used < 12 ? c->in_used : 12)) {
    if (c->in_used >= 12) {
      start_h2(c);
      feed_h2(c, c->in, c->in_used);
    }
    return;
  }
  end = strstr(c->in, "\r\n\r\n");
  if (!end) {
    if (c->in_used == sizeof c->in - 1)
      drop(c);
    return;
  }
  *end = '\0';
  parse_path(c->in + strcspn(c->in, " ") + 1, &c->wanted);
  length = c->in[0] == 'P' ? strcasestr(c->in, "\r\ncontent-length:") : NULL;
  c->upload_left = length ? atol(length + 17) : 0;
  c->upload_left -= (long)(c->in_used - (size_t)(end + 4 - c->in));
  c->in_used = 0;
  if (c->upload_left > 0)
    c->state = UPLOADING;
  else
    asked(c);
}

static void read_upload(struct conn *c) {
  while (c->upload_left > 0) {
    long got = conn_read(c, scratch, sizeof scratch);
    if (got == -1)
      return;
    if (got <= 0) {
      drop(c);
      return;
    }
    c->upload_left -= got;
  }
  asked(c);
}

/* ---- HTTP/2 ---- */

static void flush_later(struct conn *c) {
  if (c->dirty || c->dead)
    return;
  c->dirty = true;
  c->next_dirty = dirty_conns;
  dirty_conns = c;
}

static void flush_h2(struct conn *c) {
  for (;;) {
    const uint8_t *data;
    char *from = c->kept ? c->kept : scratch;
    size_t size = c->kept_size;
    long sent = 0;

    while (!c->kept && size < sizeof scratch - 17000) {
      ssize_t got = nghttp2_session_mem_send(c->h2, &data);
      if (got <= 0)
        break;
      memcpy(scratch + size, data, (size_t)got);
      size += (size_t)got;
    }
    if (!size)
      break;
    while ((size_t)sent < size) {
      long n = conn_write(c, from + sent, size - (size_t)sent);
      if (n == -1)
        break;
      if (n <= 0) {
        drop(c);
        return;
      }
      sent += n;
    }
    size -= (size_t)sent;
    if (size) {
      char *kept = malloc(size);
      if (!kept)
        fatal("malloc");
      memcpy(kept, from + sent, size);
      free(c->kept);
      c->kept = kept;
      c->kept_size = size;
      watch_out(c, true);
      return;
    }
    free(c->kept);
    c->kept = NULL;
    c->kept_size = 0;
  }
  watch_out(c, false);
  if (!nghttp2_session_want_read(c->h2) && !nghttp2_session_want_write(c->h2))
    drop(c);
}

static ssize_t read_body(nghttp2_session *h2, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
  struct stream *s = source->ptr;
  size_t part = (size_t)s->left < room ? (size_t)s->left : room;

  (void)h2;
  (void)id;
  (void)user;
  memcpy(to, body, part);
  s->left -= (long)part;
  if (!s->left)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t)part;
}

static void answer_stream(struct stream *s) {
  static char status[] = ":status", ok[] = "200", length[] = "content-length";
  struct conn *c = s->later.conn;
  char number[24];
  nghttp2_data_provider provider = {.source.ptr = s, .read_callback = read_body};
  int digits = snprintf(number, sizeof number, "%ld", s->wanted.bytes);
  nghttp2_nv head[] = {
      {(uint8_t *)status, (uint8_t *)ok, 7, 3, NGHTTP2_NV_FLAG_NONE},
      {(uint8_t *)length, (uint8_t *)number, 14, (size_t)digits, NGHTTP2_NV_FLAG_NONE},
  };

  s->left = s->wanted.bytes;
  if (nghttp2_submit_response(c->h2, s->id, head, 2, s->left ? &provider : NULL))
    shutdown(c->fd, SHUT_RDWR); /* not drop(): nghttp2 may be on the stack */
  else
    flush_later(c);
}

static int on_begin(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  struct conn *c = user;
  struct stream *s;

  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
    return 0;
  s = calloc(1, sizeof *s);
  if (!s)
    fatal("calloc");
  s->id = frame->hd.stream_id;
  s->later.conn = c;
  s->later.stream = s;
  s->next = c->streams;
  if (s->next)
    s->next->prev = s;
  c->streams = s;
  return nghttp2_session_set_stream_user_data(h2, s->id, s);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t size, uint8_t flags,
                     void *user) {
  struct stream *s = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);

  (void)size;
  (void)flags;
  (void)user;
  if (s && name_size == 5 && !memcmp(name, ":path", 5))
    parse_path((const char *)value, &s->wanted);
  return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  struct stream *s;

  (void)user;
  if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
      !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
    return 0;
  s = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
  if (s && s->wanted.delay)
    wait_for(&s->later, s->wanted.delay);
  else if (s)
    answer_stream(s);
  return 0;
}

static int on_stream_end(nghttp2_session *h2, int32_t id, uint32_t error, void *user) {
  struct conn *c = user;
  struct stream *s = nghttp2_session_get_stream_user_data(h2, id);

  (void)error;
  if (!s)
    return 0;
  unwait(&s->later);
  if (s->prev)
    s->prev->next = s->next;
  else
    c->streams = s->next;
  if (s->next)
    s->next->prev = s->prev;
  free(s);
  return 0;
}

static void start_h2(struct conn *c) {
  nghttp2_session_callbacks *calls;
  nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)max_streams}};

  if (nghttp2_session_callbacks_new(&calls))
    fatal("nghttp2");
  nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin);
  nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_end);
  if (nghttp2_session_server_new(&c->h2, calls, c) ||
      nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, 1))
    fatal("nghttp2");
  nghttp2_session_callbacks_del(calls);
  c->state = HTTP2;
}

static void feed_h2(struct conn *c, const char *data, size_t size) {
  if (nghttp2_session_mem_recv(c->h2, (const uint8_t *)data, size) < 0)
    drop(c);
  else
    flush_later(c);
}

static void read_h2(struct conn *c) {
  do {
    long got = conn_read(c, scratch, sizeof scratch);
    if (got == -1)
      return;
    if (got <= 0) {
      drop(c);
      return;
    }
    feed_h2(c, scratch, (size_t)got);
  } while (!c->dead && c->ssl && SSL_pending(c->ssl));
}

/* ---- the loop ---- */

static void shake_hands(struct conn *c) {
  const unsigned char *name;
  unsigned size;
  long done = tls_result(c, SSL_accept(c->ssl));

  if (done == -1)
    return;
  if (done <= 0) {
    drop(c);
    return;
  }
  c->handshaking = false;
  SSL_get0_alpn_selected(c->ssl, &name, &size);
  if (size == 2 && !memcmp(name, "h2", 2)) {
    start_h2(c);
    flush_later(c);
  }
  serve(c);
}

static void serve(struct conn *c) {
  if (c->handshaking)
    shake_hands(c);
  else if (c->state == READING)
    read_head(c);
  else if (c->state == UPLOADING)
    read_upload(c);
  else if (c->state == WRITING)
    write_answer(c);
  else if (c->state == HTTP2)
    read_h2(c);
  else if (recv(c->fd, scratch, 1, MSG_PEEK) <= 0 && errno != EAGAIN)
    drop(c); /* gone while it waited for its answer */
}

static void accept_some(const struct listener *listener) {
  int i, on = 1;

  for (i = 0; i < 64; i++) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN};
    struct conn *c;

    if (fd < 0)
      return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c = calloc(1, sizeof *c);
    if (!c)
      fatal("calloc");
    c->fd = fd;
    c->later.conn = c;
    if (listener->tls) {
      c->ssl = SSL_new(tls);
      c->handshaking = true;
      if (!c->ssl || !SSL_set_fd(c->ssl, fd))
        fatal("SSL_new");
      SSL_set_accept_state(c->ssl);
    }
    e.data.ptr = c;
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
      fatal("epoll_ctl");
  }
}

static void answer_due(void) {
  uint64_t now = now_ms();

  for (; waiting && wheel_at <= now; wheel_at++) {
    struct later *at = &wheel[wheel_at % WHEEL], *l = at->next;
    while (l != at) {
      struct later *next = l->next;
      if (l->due <= now) {
        unwait(l);
        if (l->stream)
          answer_stream(l->stream);
        else
          answer(l->conn);
      }
      l = next;
    }
  }
}

static int listen_on_loopback(int *port) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

  address.sin_port = htons((uint16_t)*port);
  /* The whole of 127.0.0.0/8, and nothing that does not come over the loopback device. */
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3))
    fatal("SO_BINDTODEVICE");
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) ||
      bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
      getsockname(fd, (struct sockaddr *)&address, &size))
    fatal("listen");
  *port = ntohs(address.sin_port);
  return fd;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                       const unsigned char *in, unsigned in_size, void *user) {
  static const unsigned char ours[] = "\x02h2\x08http/1.1";

  (void)ssl;
  (void)user;
  if (SSL_select_next_proto((unsigned char **)out, out_size, ours, sizeof ours - 1, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  return SSL_TLSEXT_ERR_OK;
}

static void load_tls(const char *certs) {
  char cert[4096], key[4096];

  snprintf(cert, sizeof cert, "%s/server.pem", certs);
  snprintf(key, sizeof key, "%s/server.key", certs);
  tls = SSL_CTX_new(TLS_server_method());
  if (!tls || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
      SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
    ERR_print_errors_fp(stderr);
    exit(1);
  }
  SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_alpn_select_cb(tls, choose_alpn, NULL);
}

int main(int argc, char **argv) {
  static struct listener listeners[2][LISTENERS];
  static char stdin_mark;
  struct epoll_event events[EVENTS], e = {.events = EPOLLIN};
  struct rlimit limit;
  int ports[2] = {0, 0}, cpu = -1, i, j;
  const char *certs = NULL;

  for (i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--cpu"))
      cpu = atoi(argv[i + 1]);
    else if (!strcmp(argv[i], "--certs"))
      certs = argv[i + 1];
    else if (!strcmp(argv[i], "--streams"))
      max_streams = atol(argv[i + 1]);
  }
  signal(SIGPIPE, SIG_IGN);
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  memset(body, 'x', sizeof body);
  for (i = 0; i < WHEEL; i++)
    wheel[i].next = wheel[i].prev = &wheel[i];
  ep = epoll_create1(EPOLL_CLOEXEC);
  if (certs)
    load_tls(certs);
  /* Several for one port, so that many thousand connections may come at once: the kernel lets no
     more than somaxconn wait at one. */
  for (i = 0; i < (certs ? 2 : 1); i++) {
    for (j = 0; j < LISTENERS; j++) {
      listeners[i][j].fd = listen_on_loopback(&ports[i]);
      listeners[i][j].tls = i;
      e.data.ptr = &listeners[i][j];
      if (epoll_ctl(ep, EPOLL_CTL_ADD, listeners[i][j].fd, &e))
        fatal("epoll_ctl");
    }
  }
  e.data.ptr = &stdin_mark;
  if (epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &e))
    fatal("standard input must be a pipe");
  printf("{\"http\":%d,\"https\":%d}\n", ports[0], ports[1]);
  fflush(stdout);

  for (;;) {
    int n = epoll_wait(ep, events, EVENTS, waiting ? 1 : -1);

    for (i = 0; i < n; i++) {
      void *what = events[i].data.ptr;
      struct conn *c = what;

      if (what >= (void *)listeners && what < (void *)(listeners + 2)) {
        accept_some(what);
      } else if (what == &stdin_mark) {
        if (read(STDIN_FILENO, scratch, sizeof scratch) <= 0)
          return 0;
      } else if (!c->dead) {
        if (c->state == HTTP2 && (events[i].events & EPOLLOUT))
          flush_later(c);
        serve(c);
      }
    }
    answer_due();
    while (dirty_conns) {
      struct conn *c = dirty_conns;
      dirty_conns = c->next_dirty;
      c->dirty = false;
      if (!c->dead) {
        flush_h2(c);
      } else {
        c->next_dirty = dead_conns;
        dead_conns = c;
      }
    }
    /* Now that no event of this turn can name them. */
    while (dead_conns) {
      struct conn *c = dead_conns;
      dead_conns = c->next_dirty;
      free(c);
    }
  }
}
