/* Random histories: a host that does anything at any moment, callbacks included, over the real
 * libraries and a server that does what real servers do wrong. After each step the promises are
 * checked that can be checked from outside.
 *
 * UVCURL_HISTORY_SEED is the first history's seed (the i-th has that plus i), UVCURL_HISTORY_STEPS
 * how many steps there are in all. A history that fails names its seed. Every decision is a hash of
 * the seed and of what it is about, so a replay takes the same ones, although sockets are never
 * twice the same: UVCURL_HISTORY_REPEAT plays each history so many times. */
#include "fixture.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEPS_PER_HISTORY 400
#define DRIVERS 3
#define SLOTS 24
#define WATCHERS 6
#define DESCRIPTORS 10
#define LINES 48
#define ADDRESSES 40
/* Seconds without a callback or a step after which something is taken to hang. */
#define HANG 20

/* ---- chance ---- */

typedef struct dice {
  uint64_t state;
} dice;

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static uint64_t roll(dice *d) {
  return mix(d->state += 0x9e3779b97f4a7c15u);
}

static unsigned below(dice *d, unsigned n) {
  return (unsigned)((roll(d) >> 32) * n >> 32);
}

static bool one_in(dice *d, unsigned n) {
  return below(d, n) == 0;
}

/* ---- what the host knows ---- */

enum life { GONE, OPEN, CLOSING };

struct driver {
  uvcurl_t *uc;
  enum life life;
  size_t active;
  bool referenced;
};

enum body { PATTERN, TEXT, ANY };

/* One accepted start. */
struct start {
  struct slot *slot;
  struct driver *driver;
  bool cancelled;  /* uvcurl_cancel() gave 0 */
  bool silent;     /* ... and not inside libcurl: none of the handle's callbacks may run any more */
  bool settled;    /* uvcurl_cancel() gave UV_EALREADY, so how it ends is settled */
  bool closed;     /* the driver was closed meanwhile */
  bool superseded; /* the handle was started elsewhere before this was reported */
  int failed_by;   /* the CURLcode that a callback's answer must lead to, if two, of the second */
  int failed_first;
  bool may_fail; /* ... unless the transfer had failed already: libcurl then does not look at it */
};

struct slot {
  int index;
  CURL *easy;
  struct start *now;
  unsigned superseded; /* earlier starts, on other drivers, that are still to be reported */
  unsigned starts, calls;
  bool paused;
  bool held;          /* paused by a call outside of libcurl, so that no data may come */
  unsigned long leak; /* the turn in which some came all the same; 0: none */
  /* What the handle is set up for. */
  char url[200];
  int allowed[8]; /* how it may end; ends with -1 */
  bool may_time_out;
  enum body body;
  size_t size; /* of the pattern, or the number that the text says */
  size_t upload;
  curl_off_t limit; /* of its speed; 0: none */
  bool http2;
  struct curl_slist *headers;
  /* Since the last start. */
  size_t received, sent;
  bool content_ok;
  char text[32];
  /* The last that libcurl said of it. */
  char said[2000];
  size_t said_len;
};

struct watcher {
  enum { NONE, TIMER, PREPARE, POLL, WATCHER_CLOSING } kind;
  union {
    uv_handle_t handle;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_poll_t poll;
  } u;
  int fd[2];
  unsigned sent, got, calls;
};

enum flavour { MIXED, SECURE, LIMITED, BROKEN };

static server_t *server;
static const char *certs, *h2_port;
static char ca[4096];
static bool trace; /* UVCURL_HISTORY_TRACE: tell of each step as it is taken */

static struct {
  uint64_t seed;
  enum flavour flavour;
  const char *name;
  unsigned step;
  uv_loop_t loop;
  uv_timer_t sentinel, drain_timer;
  uv_prepare_t turn_counter;
  unsigned long turn;
  long tick; /* UVCURL_TICK_MS of all drivers; below 0: its default */
  struct driver drivers[DRIVERS];
  struct slot slots[SLOTS];
  struct slot *suspect; /* whose end is looked at */
  struct watcher watchers[WATCHERS];
  int descriptors[DESCRIPTORS];
  int in_api, in_curl, in_callback;
  bool calm;        /* nothing new is begun any more */
  unsigned bustle;  /* how often callbacks act: one in so many calls */
  char address[24]; /* of the server, this time */
  char lines[LINES][160];
  unsigned line;
} h;

static struct {
  unsigned long long steps, histories, acts, starts, good, failed, cancelled, drivers, watchers,
      pings, looks;
  double longest_drain;
} total;

static volatile unsigned long beat;

/* ---- telling ---- */

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *line = h.lines[h.line++ % LINES];
  int n = snprintf(line, sizeof h.lines[0], "%u%s ", h.step,
                   h.in_curl       ? " (libcurl's callback)"
                   : h.in_callback ? " (callback)"
                                   : "");
  vsnprintf(line + n, sizeof h.lines[0] - (size_t)n, format, args);
  va_end(args);
  if (trace)
    fprintf(stderr, "# %s\n", line);
}

static void tell_line(uvcurl_t *uc, const char *line, void *unused) {
  (void)uc, (void)unused;
  fprintf(stderr, "#   %s\n", line);
}

/* What the kernel still has of each connection, to tell a lost event from a silent server. */
static void dump_sockets(void) {
  for (int fd = 3; fd < 512; fd++) {
    struct sockaddr_in from = {0}, to = {0};
    socklen_t from_size = sizeof from, to_size = sizeof to;
    int in = 0, out = 0;
    if (getsockname(fd, (struct sockaddr *)&from, &from_size) == 0 && from.sin_family == AF_INET &&
        getpeername(fd, (struct sockaddr *)&to, &to_size) == 0 && ioctl(fd, SIOCINQ, &in) == 0 &&
        ioctl(fd, SIOCOUTQ, &out) == 0)
      fprintf(stderr, "# descriptor %d: port %d to port %d, %d to read, %d on their way\n", fd,
              ntohs(from.sin_port), ntohs(to.sin_port), in, out);
  }
}

static void dump(void) {
  static const char *const lives[] = {"gone", "open", "closing"};
  fprintf(stderr, "# history %s, seed %llu, step %u of %d%s; the last of what happened:\n", h.name,
          (unsigned long long)h.seed, h.step, STEPS_PER_HISTORY, h.calm ? ", draining" : "");
  for (unsigned i = h.line < LINES ? 0 : h.line - LINES; i < h.line; i++)
    fprintf(stderr, "#   %s\n", h.lines[i % LINES]);
  for (int i = 0; i < DRIVERS; i++) {
    struct driver *d = &h.drivers[i];
    fprintf(stderr, "# driver %d: %s, %zu active%s\n", i, lives[d->life], d->active,
            d->referenced ? "" : ", not referenced");
    /* Not where the thread is another one. */
    if (d->life == OPEN)
      uvcurl_dump(d->uc, tell_line, NULL);
  }
  dump_sockets();
  for (int i = 0; i < SLOTS; i++) {
    struct slot *s = &h.slots[i];
    if (s->now)
      fprintf(stderr, "# slot %d on driver %d: %s, %zu received, %zu sent%s%s%s%s%s\n", i,
              (int)(s->now->driver - h.drivers), s->url, s->received, s->sent,
              s->paused ? ", paused" : "", s->now->cancelled ? ", cancelled" : "",
              s->now->settled ? ", settled" : "", s->now->closed ? ", closed" : "",
              s->may_time_out ? ", may time out" : "");
  }
  for (size_t at = 0, end; h.suspect && at < h.suspect->said_len; at = end + 1) {
    for (end = at; end < h.suspect->said_len && h.suspect->said[end] != '\n'; end++)
      ;
    fprintf(stderr, "# libcurl of slot %d: %.*s\n", h.suspect->index, (int)(end - at),
            h.suspect->said + at);
  }
  fprintf(stderr,
          "# again: UVCURL_HISTORY_SEED=%llu UVCURL_HISTORY_STEPS=%d UVCURL_HISTORY_REPEAT=20 "
          "sh tools/with-servers.sh PROGRAM %s\n",
          (unsigned long long)h.seed, STEPS_PER_HISTORY, h.name);
}

__attribute__((noreturn, format(printf, 1, 2))) static void violation(const char *format, ...) {
  char text[400];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  dump();
  test_fail(__FILE__, __LINE__, "violation: %s", text);
}

#define MUST(cond, ...) ((cond) ? (void)0 : violation(__VA_ARGS__))

/* A thread, because what it watches is stuck. It reads what the other writes: a torn line in a dump
 * does no harm. */
static void *watch_for_hangs(void *unused) {
  unsigned long seen = beat;
  double since = test_now_ms();
  (void)unused;
  for (;;) {
    usleep(200000);
    if (beat != seen) {
      seen = beat;
      since = test_now_ms();
    } else if (test_now_ms() - since > 1000.0 * HANG * test_slowdown()) {
      violation("nothing has happened for %u s", HANG * test_slowdown());
    }
  }
  return NULL;
}

/* ---- set up a handle ---- */

static bool may_act(struct slot *s);
static bool may_pause(struct slot *s);
static void act(dice *d);
static void set_pause(struct slot *s, struct driver *driver, int mask);

static dice dice_of_call(struct slot *s) {
  dice d = {h.seed ^ mix((uint64_t)s->index << 48 ^ (uint64_t)s->starts << 24 ^ ++s->calls)};
  roll(&d);
  return d;
}

/* Into a callback of libcurl's. `false`: the transfer is over, in which case nothing was to come.
 */
static void enter_curl(struct slot *s, const char *what) {
  beat++;
  MUST(s->now != NULL, "slot %d: the %s callback ran with no transfer in flight", s->index, what);
  MUST(!s->now->silent, "slot %d: the %s callback ran after uvcurl_cancel()", s->index, what);
  MUST(s->now->driver->life != GONE, "slot %d: the %s callback ran after the close callback",
       s->index, what);
  h.in_curl++;
}

static void leave_curl(void) {
  h.in_curl--;
}

/* From 8.22 on libcurl forgets no transfer, and keeps no socket ready for nothing, as far as the
 * histories go. */
static bool is_reliable(void) {
  return curl_number() >= 0x081600;
}

/* A pause may come before there is a connection, and then takes effect in the turn in which there
 * is one. What libcurl has of an HTTP/2 stream it may still hand out later. */
static void check_pause(struct slot *s) {
  if (!s->held || s->http2 || !is_reliable())
    return;
  MUST(s->leak == 0 || s->leak == h.turn, "slot %d gets data while it is paused", s->index);
  s->leak = h.turn;
}

static void fail(struct slot *s, int code) {
  s->now->failed_first = s->now->failed_by;
  s->now->failed_by = code;
}

/* Up to 8.21 a write callback that has failed may be given more of an HTTP/2 stream. */
static bool goes_on_failing(struct slot *s) {
  return s->now->failed_by != 0 && !is_reliable();
}

static size_t on_write(char *data, size_t size, size_t count, void *arg) {
  struct slot *s = arg;
  size_t n = size * count;
  enter_curl(s, "write");
  check_pause(s);
  dice d = dice_of_call(s);
  size_t result = n;
  if (may_act(s) && one_in(&d, h.bustle)) {
    act(&d);
    if (one_in(&d, 4) && may_pause(s)) {
      /* In this order. */
      set_pause(s, s->now->driver, CURLPAUSE_ALL);
      set_pause(s, s->now->driver, CURLPAUSE_CONT);
    } else if (one_in(&d, 3) && may_pause(s)) {
      note("slot %d pauses by its write callback", s->index);
      s->paused = true;
      result = CURL_WRITEFUNC_PAUSE;
    } else if (one_in(&d, 12)) {
      note("slot %d fails by its write callback", s->index);
      fail(s, CURLE_WRITE_ERROR);
      result = n + 1;
    }
  }
  if (result == n) {
    if (s->body == TEXT && s->received + n < sizeof s->text)
      memcpy(s->text + s->received, data, n);
    else if (s->body == PATTERN && !server_match(data, s->received, n) && !goes_on_failing(s))
      s->content_ok = false;
    s->received += n;
  }
  leave_curl();
  return result;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg) {
  struct slot *s = arg;
  (void)data;
  enter_curl(s, "header");
  dice d = dice_of_call(s);
  size_t result = size * count;
  if (may_act(s) && one_in(&d, 4 * h.bustle)) {
    act(&d);
    if (one_in(&d, 20)) {
      note("slot %d fails by its header callback", s->index);
      fail(s, CURLE_WRITE_ERROR);
      result = 0;
    }
  }
  leave_curl();
  return result;
}

/* libcurl forgets the connection of a transfer that is aborted by its progress callback when it has
 * just ended, and counts it against its limits ever after (is_finished() in lib/multi.c). */
static bool may_abort(struct slot *s, curl_off_t total, curl_off_t received) {
  long code = 0;
  CHECK_INT(curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &code), CURLE_OK);
  return code == 0 || received < total;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t received, curl_off_t c,
                       curl_off_t e) {
  struct slot *s = arg;
  (void)c, (void)e;
  enter_curl(s, "progress");
  dice d = dice_of_call(s);
  int result = 0;
  if (may_act(s) && one_in(&d, 6 * h.bustle)) {
    act(&d);
    if (one_in(&d, 20) && may_abort(s, total, received)) {
      note("slot %d fails by its progress callback", s->index);
      fail(s, CURLE_ABORTED_BY_CALLBACK);
      s->now->may_fail = true;
      result = 1;
    }
  }
  leave_curl();
  return result;
}

static size_t on_read(char *data, size_t size, size_t count, void *arg) {
  struct slot *s = arg;
  enter_curl(s, "read");
  dice d = dice_of_call(s);
  size_t n = size * count, left = s->upload - s->sent;
  if (n > left)
    n = left;
  if (n > 700)
    n = 700;
  if (may_act(s) && one_in(&d, h.bustle)) {
    act(&d);
    if (one_in(&d, 3)) {
      note("slot %d pauses by its read callback", s->index);
      s->paused = true;
      leave_curl();
      return CURL_READFUNC_PAUSE;
    }
    if (one_in(&d, 12)) {
      note("slot %d fails by its read callback", s->index);
      fail(s, CURLE_ABORTED_BY_CALLBACK);
      leave_curl();
      return CURL_READFUNC_ABORT;
    }
  }
  server_fill(data, s->sent, n);
  s->sent += n;
  leave_curl();
  return n;
}

static int on_seek(void *arg, curl_off_t offset, int origin) {
  struct slot *s = arg;
  enter_curl(s, "seek");
  MUST(origin == SEEK_SET, "libcurl seeks from %d", origin);
  s->sent = (size_t)offset;
  leave_curl();
  return CURL_SEEKFUNC_OK;
}

static int on_prereq(void *arg, char *to, char *from, int to_port, int from_port) {
  struct slot *s = arg;
  (void)to, (void)from, (void)to_port, (void)from_port;
  enter_curl(s, "prereq");
  dice d = dice_of_call(s);
  if (may_act(s) && one_in(&d, h.bustle))
    act(&d);
  leave_curl();
  return CURL_PREREQFUNC_OK;
}

static void set_long(struct slot *s, CURLoption option, long value) {
  CHECK_INT(curl_easy_setopt(s->easy, option, value), CURLE_OK);
}

static void set_ptr(struct slot *s, CURLoption option, const void *value) {
  CHECK_INT(curl_easy_setopt(s->easy, option, value), CURLE_OK);
}

/* Ends with -1. */
#define ALLOW(s, ...)                                                                              \
  do {                                                                                             \
    static const int list[] = {__VA_ARGS__, -1};                                                   \
    memcpy((s)->allowed, list, sizeof list);                                                       \
  } while (0)

__attribute__((format(printf, 3, 4))) static void go_to(struct slot *s, enum server_port_kind kind,
                                                        const char *format, ...) {
  char path[120];
  va_list args;
  va_start(args, format);
  vsnprintf(path, sizeof path, format, args);
  va_end(args);
  snprintf(s->url, sizeof s->url, "%s://%s:%d%s", kind == SERVER_HTTPS ? "https" : "http",
           kind == SERVER_HTTP ? h.address : "127.0.0.1", server_port(server, kind), path);
}

static void set_upload(struct slot *s, dice *d) {
  static const size_t sizes[] = {0, 1, 600, 1500, 5000, 40000};
  s->upload = sizes[below(d, 6)];
  set_long(s, CURLOPT_UPLOAD, 1);
  set_ptr(s, CURLOPT_READFUNCTION, on_read);
  set_ptr(s, CURLOPT_READDATA, s);
  set_ptr(s, CURLOPT_SEEKFUNCTION, on_seek);
  set_ptr(s, CURLOPT_SEEKDATA, s);
  set_long(s, CURLOPT_EXPECT_100_TIMEOUT_MS, 5 + (long)below(d, 20));
  if (one_in(d, 2))
    CHECK_INT(curl_easy_setopt(s->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)s->upload), CURLE_OK);
  if (one_in(d, 3)) {
    s->headers = curl_slist_append(s->headers, one_in(d, 2) ? "Expect: 100-continue" : "Expect:");
    set_ptr(s, CURLOPT_HTTPHEADER, s->headers);
  }
  /* A connection from the pool may turn out to be closed when part of the body is gone. */
  set_long(s, CURLOPT_FRESH_CONNECT, 1);
  s->body = TEXT;
  s->size = s->upload;
}

enum behaviour {
  BYTES,
  BYTES_AGAIN,
  CHUNKED,
  UNTIL_EOF,
  DELAY,
  TRICKLE,
  HOLD,
  REDIRECT,
  LATE_FIN,
  LINGER_CLOSE,
  HEAD,
  AUTH,
  HUGE_HEADER,
  RATE_LIMIT,
  NAMED,
  ECHO_POST,
  SINK,
  SLOW_SINK,
  QUIET_SINK,
  GOOD_ONES,
  STALL = GOOD_ONES,
  SILENT,
  BLACKHOLE,
  SHORT,
  RESET,
  RESET_HEADERS,
  REFUSED,
  CLOSING_PORT,
  RESETTING_PORT,
  SINK_RESET,
  EARLY,
  GARBAGE,
  BAD_SCHEME,
  BAD_URL,
  ALL_PLAIN,
};

static void set_behaviour(struct slot *s, enum behaviour what, dice *d) {
  static const size_t sizes[] = {0, 1, 10, 1000, 5000, 16384, 70000, 200000};
  size_t n = sizes[below(d, 8)];
  s->size = n;
  ALLOW(s, CURLE_OK);
  switch (what) {
  case BYTES:
  case BYTES_AGAIN:
    go_to(s, SERVER_HTTP, "/bytes/%zu", n);
    break;
  case CHUNKED:
    go_to(s, SERVER_HTTP, "/chunked/%zu", n);
    break;
  case UNTIL_EOF:
    go_to(s, SERVER_HTTP, "/eof/%zu", n);
    break;
  case DELAY:
    go_to(s, SERVER_HTTP, "/delay/%u/%zu", below(d, 15), n);
    break;
  case TRICKLE:
    s->size = 200;
    go_to(s, SERVER_HTTP, "/trickle/200/%u/%u", 20 + below(d, 80), 1 + below(d, 2));
    break;
  case HOLD:
    go_to(s, SERVER_HTTP, "/hold/%zu", n);
    break;
  case REDIRECT:
    set_long(s, CURLOPT_FOLLOWLOCATION, 1);
    go_to(s, SERVER_HTTP, "/redirect/%u/%zu", below(d, 4), n);
    break;
  case LATE_FIN:
    go_to(s, SERVER_HTTP, "/late-fin/%u/%zu", below(d, 6), n);
    break;
  case LINGER_CLOSE:
    go_to(s, SERVER_HTTP, "/linger-close/%zu", n);
    break;
  case HEAD:
    set_long(s, CURLOPT_NOBODY, 1);
    s->size = 0;
    go_to(s, SERVER_HTTP, "/bytes/%zu", n);
    break;
  case AUTH:
    s->size = 0;
    go_to(s, SERVER_HTTP, "/auth/%zu", n);
    break;
  case HUGE_HEADER:
    s->size = 0;
    go_to(s, SERVER_HTTP, "/huge-header/20000");
    break;
  case RATE_LIMIT:
    s->size = 3000;
    s->limit = 100000 + below(d, 9) * 100000;
    go_to(s, SERVER_HTTP, "/bytes/3000");
    break;
  case NAMED:
    /* IPv6 first, where nobody listens: happy eyeballs, and a lookup in a thread. */
    snprintf(s->url, sizeof s->url, "http://localhost:%d/bytes/%zu",
             server_port(server, SERVER_HTTP), n);
    set_long(s, CURLOPT_DNS_CACHE_TIMEOUT, (long)below(d, 2) * 60);
    break;
  case ECHO_POST: {
    char post[1000];
    s->size = 1 + below(d, sizeof post);
    server_fill(post, 0, s->size);
    set_long(s, CURLOPT_POSTFIELDSIZE, (long)s->size);
    set_ptr(s, CURLOPT_COPYPOSTFIELDS, post);
    set_long(s, CURLOPT_FRESH_CONNECT, 1);
    go_to(s, SERVER_HTTP, "/echo");
    break;
  }
  case SINK:
    set_upload(s, d);
    go_to(s, SERVER_HTTP, "/sink");
    break;
  case SLOW_SINK:
    set_upload(s, d);
    go_to(s, SERVER_HTTP, "/slow-sink/%u/1", 2000 + below(d, 8000));
    break;
  case QUIET_SINK:
    set_upload(s, d);
    go_to(s, SERVER_HTTP, "/quiet-sink");
    break;
  case STALL:
    s->body = ANY;
    go_to(s, SERVER_HTTP, "/stall/%u/5000", below(d, 3000));
    break;
  case SILENT:
    go_to(s, SERVER_SILENT, "/");
    if (h.flavour == SECURE && one_in(d, 2))
      memmove(s->url + 5, s->url + 4, strlen(s->url + 4) + 1), s->url[4] = 's';
    break;
  case BLACKHOLE:
    go_to(s, SERVER_BLACKHOLE, "/");
    set_long(s, CURLOPT_CONNECTTIMEOUT_MS, 5 + (long)below(d, 40));
    break;
  case SHORT:
    s->body = ANY;
    ALLOW(s, CURLE_PARTIAL_FILE);
    go_to(s, SERVER_HTTP, "/short/%u/%zu", below(d, 900), n + 1000);
    break;
  case RESET:
    s->body = ANY;
    ALLOW(s, CURLE_RECV_ERROR);
    go_to(s, SERVER_HTTP, "/reset/%u/%zu", below(d, 900), n + 1000);
    break;
  case RESET_HEADERS:
    ALLOW(s, CURLE_RECV_ERROR, CURLE_GOT_NOTHING, CURLE_SEND_ERROR);
    go_to(s, SERVER_HTTP, "/reset-headers");
    break;
  case REFUSED:
    ALLOW(s, CURLE_COULDNT_CONNECT);
    go_to(s, SERVER_REFUSED, "/");
    break;
  case CLOSING_PORT:
    ALLOW(s, CURLE_RECV_ERROR, CURLE_GOT_NOTHING, CURLE_SEND_ERROR);
    go_to(s, SERVER_CLOSING, "/");
    break;
  case RESETTING_PORT:
    ALLOW(s, CURLE_RECV_ERROR, CURLE_GOT_NOTHING, CURLE_SEND_ERROR);
    go_to(s, SERVER_RESETTING, "/");
    break;
  case SINK_RESET:
    set_upload(s, d);
    s->upload = 40000;
    CHECK_INT(curl_easy_setopt(s->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)-1), CURLE_OK);
    ALLOW(s, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_GOT_NOTHING);
    go_to(s, SERVER_HTTP, "/sink-reset/%u", below(d, 20000));
    break;
  case EARLY:
    set_upload(s, d);
    s->body = ANY;
    ALLOW(s, CURLE_OK, CURLE_RECV_ERROR, CURLE_SEND_ERROR);
    go_to(s, SERVER_HTTP, "/early/413/%zu", n);
    break;
  case GARBAGE:
    s->body = ANY;
    /* HTTP/0.9, or not even that. */
    ALLOW(s, CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY);
    go_to(s, SERVER_HTTP, "/garbage");
    break;
  case BAD_SCHEME:
    ALLOW(s, CURLE_UNSUPPORTED_PROTOCOL);
    strcpy(s->url, "bogus://nowhere/");
    break;
  case BAD_URL:
    ALLOW(s, CURLE_URL_MALFORMAT);
    strcpy(s->url, "http://");
    break;
  case ALL_PLAIN:
    break;
  }
  if (what == STALL || what == SILENT || what == BLACKHOLE) {
    ALLOW(s, CURLE_OPERATION_TIMEDOUT);
    if (what != BLACKHOLE)
      set_long(s, CURLOPT_TIMEOUT_MS, 5 + (long)below(d, 60));
  } else if (one_in(d, 12)) {
    s->may_time_out = true;
    set_long(s, CURLOPT_TIMEOUT_MS, 1 + (long)below(d, 50));
  }
}

static void set_secure(struct slot *s, dice *d) {
  static const char *const paths[] = {"/bytes", "/chunked", "/eof", "/linger-close"};
  static const size_t sizes[] = {0, 10, 5000, 70000};
  ALLOW(s, CURLE_OK);
  if (h2_port && one_in(d, 2)) {
    bool large = one_in(d, 4);
    s->http2 = true;
    s->size = large ? 100 << 10 : 1 << 10;
    snprintf(s->url, sizeof s->url, "https://127.0.0.1:%s/%s", h2_port, large ? "100k" : "1k");
    set_long(s, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS);
    set_long(s, CURLOPT_PIPEWAIT, (long)below(d, 2));
  } else {
    s->size = sizes[below(d, 4)];
    go_to(s, SERVER_HTTPS, "%s/%zu", paths[below(d, 4)], s->size);
  }
  if (one_in(d, 12)) {
    s->may_time_out = true;
    set_long(s, CURLOPT_TIMEOUT_MS, 1 + (long)below(d, 50));
  }
}

static int on_debug(CURL *easy, curl_infotype kind, char *text, size_t n, void *arg) {
  struct slot *s = arg;
  (void)easy;
  if (kind != CURLINFO_TEXT || n > sizeof s->said / 2)
    return 0;
  if (trace)
    fprintf(stderr, "#      slot %d: %.*s", s->index, (int)n, text);
  if (s->said_len + n > sizeof s->said) {
    size_t half = s->said_len / 2;
    memmove(s->said, s->said + half, s->said_len - half);
    s->said_len -= half;
  }
  memcpy(s->said + s->said_len, text, n);
  s->said_len += n;
  return 0;
}

/* Not inside libcurl's callbacks, where a handle may not be reset. */
static void set_up(struct slot *s, dice *d) {
  curl_easy_reset(s->easy);
  curl_slist_free_all(s->headers);
  s->headers = NULL;
  s->may_time_out = false;
  s->body = PATTERN;
  s->upload = 0;
  s->limit = 0;
  s->http2 = false;
  set_ptr(s, CURLOPT_PROXY, "");
  set_ptr(s, CURLOPT_WRITEFUNCTION, on_write);
  set_ptr(s, CURLOPT_WRITEDATA, s);
  set_ptr(s, CURLOPT_PRIVATE, s);
  if (one_in(d, 2)) {
    set_ptr(s, CURLOPT_HEADERFUNCTION, on_header);
    set_ptr(s, CURLOPT_HEADERDATA, s);
  }
  if (one_in(d, 3)) {
    set_ptr(s, CURLOPT_XFERINFOFUNCTION, on_progress);
    set_ptr(s, CURLOPT_XFERINFODATA, s);
    set_long(s, CURLOPT_NOPROGRESS, 0);
  }
  if (one_in(d, 6)) {
    set_ptr(s, CURLOPT_PREREQFUNCTION, on_prereq);
    set_ptr(s, CURLOPT_PREREQDATA, s);
  }
  /* Before 8.7 the buffer is the handle's, and after curl_easy_reset() libcurl takes it to be
   * larger than it is. */
  if (curl_number() >= 0x080700 && one_in(d, 3))
    set_long(s, CURLOPT_BUFFERSIZE, 1024);
  if (one_in(d, 8))
    set_long(s, CURLOPT_FORBID_REUSE, 1);
  if (one_in(d, 8))
    set_long(s, CURLOPT_FRESH_CONNECT, 1);
  if (certs)
    set_ptr(s, CURLOPT_CAINFO, ca);
  set_long(s, CURLOPT_VERBOSE, 1);
  set_ptr(s, CURLOPT_DEBUGFUNCTION, on_debug);
  set_ptr(s, CURLOPT_DEBUGDATA, s);
  if (h.flavour == SECURE && one_in(d, 2)) {
    set_secure(s, d);
  } else {
    bool broken = one_in(d, h.flavour == BROKEN ? 2 : 5);
    unsigned what = broken ? GOOD_ONES + below(d, ALL_PLAIN - GOOD_ONES) : below(d, GOOD_ONES);
    set_behaviour(s, (enum behaviour)what, d);
  }
  set_ptr(s, CURLOPT_URL, s->url);
}

/* ---- what the host does ---- */

static bool may_act(struct slot *s) {
  (void)s;
  return !h.calm && h.in_callback == 0;
}

/* libcurl before 8.1 forgets a transfer with a limit of its speed when it has been paused, and
 * gives the data of a paused HTTP/2 stream twice. */
static bool may_pause(struct slot *s) {
  return curl_number() >= 0x080100 || (s->limit == 0 && !s->http2);
}

static struct driver *pick_driver(dice *d) {
  struct driver *driver = &h.drivers[below(d, DRIVERS)];
  return driver->life == GONE ? NULL : driver;
}

static size_t active_of(struct driver *d) {
  return uvcurl_active(d->uc);
}

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *arg);

/* What uvcurl_start() may give for a handle that is still in flight somewhere, as the host thinks.
 */
static void start_again(struct slot *s, struct driver *driver) {
  struct start *old = s->now;
  struct start *new = calloc(1, sizeof *new);
  CHECK(new != NULL);
  new->slot = s;
  new->driver = driver;
  h.in_api++;
  int status = uvcurl_start(driver->uc, s->easy, on_done, new);
  h.in_api--;
  note("slot %d is started again on driver %d: %d", s->index, (int)(driver - h.drivers), status);
  if (status == 0) {
    /* libcurl had let go of it, and only the report is on its way. */
    MUST(driver != old->driver, "slot %d was started twice", s->index);
    old->superseded = true;
    s->superseded++;
    old->settled = true;
    s->now = new;
    s->starts++;
    s->received = s->sent = s->said_len = 0;
    s->content_ok = true;
    s->paused = s->held = false;
    driver->active++;
    total.starts++;
    return;
  }
  free(new);
  if (driver->life == CLOSING)
    MUST(status == UV_ECANCELED, "a start on a closing driver gave %d", status);
  else if (driver == old->driver)
    MUST(status == UV_EALREADY, "a second start gave %d", status);
  else
    /* UV_EALREADY where an earlier start on that driver is still to be reported. */
    MUST(status == UV_EBUSY || status == UV_EALREADY, "a start on a second driver gave %d", status);
}

static void start(struct slot *s, struct driver *driver, dice *d) {
  if (s->now) {
    /* One that was started inside libcurl may not have got there yet: then it is the other
     * driver's. */
    if (driver == s->now->driver || driver->life == CLOSING || (h.in_curl == 0 && one_in(d, 3)))
      start_again(s, driver);
    return;
  }
  if (s->easy == NULL || (h.in_curl == 0 && !one_in(d, 4))) {
    if (s->easy == NULL)
      s->easy = curl_easy_init();
    CHECK(s->easy != NULL);
    set_up(s, d);
  }
  /* Each time: a limit that the last transfer of the handle has used up makes libcurl 8.22 forget
   * the next one, if others are in flight (multistate_did() leaves it with neither socket nor
   * timer). */
  if (s->limit)
    CHECK_INT(curl_easy_setopt(s->easy, CURLOPT_MAX_RECV_SPEED_LARGE, s->limit), CURLE_OK);
  struct start *new = calloc(1, sizeof *new);
  CHECK(new != NULL);
  new->slot = s;
  new->driver = driver;
  s->received = s->sent = s->said_len = 0;
  s->content_ok = true;
  s->paused = s->held = false;
  s->starts++;
  s->calls = 0;
  memset(s->text, 0, sizeof s->text);
  h.in_api++;
  int status = uvcurl_start(driver->uc, s->easy, on_done, new);
  h.in_api--;
  note("slot %d starts %s on driver %d: %d", s->index, s->url, (int)(driver - h.drivers), status);
  if (status != 0)
    free(new);
  if (driver->life == CLOSING) {
    MUST(status == UV_ECANCELED, "a start on a closing driver gave %d", status);
    return;
  }
  MUST(status == 0, "a start gave %d (%s)", status, uvcurl_strerror(status));
  s->now = new;
  driver->active++;
  MUST(active_of(driver) == driver->active, "uvcurl_active() is %zu, should be %zu",
       active_of(driver), driver->active);
  total.starts++;
}

/* What cancel and pause have in common. `true`: it is in flight there and was not settled. What was
 * so when the function was called counts: callbacks inside uvcurl_pause() may have done anything.
 */
static bool check_answer(const char *what, struct slot *s, struct driver *driver, bool closing,
                         bool settled, int status) {
  struct start *now = s->now;
  note("%s slot %d on driver %d: %d", what, s->index, (int)(driver - h.drivers), status);
  if (closing)
    MUST(status == UV_ECANCELED, "%s on a closing driver gave %d", what, status);
  else if (now == NULL)
    MUST(status == UV_ENOENT, "%s of a handle not in flight gave %d", what, status);
  else if (driver != now->driver)
    /* It may still be to be reported there. */
    MUST(status == UV_ENOENT || status == UV_EALREADY, "%s on another driver gave %d", what,
         status);
  else if (settled)
    MUST(status == UV_EALREADY, "%s of a settled transfer gave %d", what, status);
  else
    MUST(status == 0 || status == UV_EALREADY, "%s gave %d", what, status);
  if (status == UV_EALREADY && now && driver == now->driver)
    now->settled = true;
  return status == 0;
}

static bool is_settled(struct slot *s) {
  return s->now && (s->now->cancelled || s->now->settled);
}

static void cancel(struct slot *s, struct driver *driver) {
  if (s->easy == NULL)
    return;
  bool closing = driver->life == CLOSING, settled = is_settled(s);
  h.in_api++;
  int status = uvcurl_cancel(driver->uc, s->easy);
  h.in_api--;
  if (check_answer("cancel", s, driver, closing, settled, status)) {
    s->now->cancelled = true;
    s->now->silent = h.in_curl == 0;
  }
}

static void set_pause(struct slot *s, struct driver *driver, int mask) {
  if (s->easy == NULL || !may_pause(s))
    return;
  bool before = s->paused;
  if (s->now && s->now->driver == driver) {
    s->paused = mask != 0;
    s->held = (mask & CURLPAUSE_RECV) && h.in_curl == 0;
    s->leak = 0;
  }
  bool closing = driver->life == CLOSING, settled = is_settled(s);
  h.in_api++;
  int status = uvcurl_pause(driver->uc, s->easy, mask);
  h.in_api--;
  if (!check_answer(mask ? "pause" : "resume", s, driver, closing, settled, status))
    s->paused = before;
}

static void on_closed(void *arg) {
  struct driver *d = arg;
  beat++;
  MUST(h.in_api == 0, "the close callback ran inside a call");
  MUST(h.in_curl == 0, "the close callback ran inside libcurl");
  MUST(d->life == CLOSING, "the close callback ran for a driver that is not closing");
  MUST(d->active == 0, "the close callback ran before %zu reports", d->active);
  d->life = GONE;
  d->uc = NULL;
  note("driver %d is gone", (int)(d - h.drivers));
  if (!h.calm) {
    dice dd = {h.seed ^ mix(total.drivers)};
    h.in_callback++;
    if (one_in(&dd, 3))
      act(&dd);
    h.in_callback--;
  }
}

static void close_driver(struct driver *d) {
  bool first = d->life == OPEN;
  note("driver %d is closed%s", (int)(d - h.drivers), first ? "" : " again");
  d->life = CLOSING;
  for (int i = 0; i < SLOTS && first; i++) {
    if (h.slots[i].now && h.slots[i].now->driver == d)
      h.slots[i].now->closed = true;
  }
  h.in_api++;
  if (first && is_reliable()) {
    uvcurl_stats_t stats;
    CHECK_INT(uvcurl_stats(d->uc, &stats, sizeof stats), 0);
    MUST(stats.spins == 0, "driver %d: a socket is told of as ready for nothing",
         (int)(d - h.drivers));
  }
  uvcurl_close(d->uc, on_closed, d);
  h.in_api--;
}

static void set_limits(struct driver *d, dice *dd) {
  static const long limits[] = {0, 1, 2, 5};
  CURLM *multi = uvcurl_multi(d->uc);
  long all = limits[below(dd, 4)], host = limits[below(dd, 4)];
  /* With one per host these use a bundle of connections that they have freed (curl#15185). */
  if (host == 1 && curl_number() >= 0x080a00 && curl_number() < 0x080b00)
    host = 2;
  note("driver %d may have %ld connections, %ld per host", (int)(d - h.drivers), all, host);
  CHECK_INT(curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, all), 0);
  CHECK_INT(curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, host), 0);
}

/* Each line is of something that must not be. With ticks this fast there are false ones, of data
 * that a limit of the speed holds back. */
static void on_log(uvcurl_t *uc, const char *line, void *unused) {
  (void)uc, (void)unused;
  violation("the driver says: %s", line);
}

static void open_driver(struct driver *d, dice *dd) {
  h.in_api++;
  int status = uvcurl_new(&h.loop, &d->uc);
  h.in_api--;
  note("driver %d is opened: %d", (int)(d - h.drivers), status);
  MUST(status == 0, "uvcurl_new() gave %d", status);
  d->life = OPEN;
  d->referenced = true;
  d->active = 0;
  total.drivers++;
  if (getenv("UVCURL_TEST_UNTOUCHED") || one_in(dd, 6))
    CHECK_INT(uvcurl_set(d->uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  if (h.tick >= 0)
    CHECK_INT(uvcurl_set(d->uc, UVCURL_TICK_MS, h.tick), 0);
  if (h.tick > 1000)
    CHECK_INT(uvcurl_set_log(d->uc, on_log, NULL), 0);
  if (one_in(dd, h.flavour == LIMITED ? 1 : 5))
    set_limits(d, dd);
}

static void set_option(struct driver *d, dice *dd) {
  h.in_api++;
  if (one_in(dd, 2)) {
    int status = uvcurl_set(d->uc, UVCURL_MAXCONNECTS, (long)below(dd, 4) * 3);
    MUST(status == (d->life == CLOSING ? UV_ECANCELED : 0), "uvcurl_set() gave %d", status);
  } else if (!getenv("UVCURL_TEST_UNTOUCHED")) {
    int status = uvcurl_set(d->uc, UVCURL_EASY_UNTOUCHED, (long)below(dd, 2));
    int right = d->life == CLOSING ? UV_ECANCELED : d->active > 0 ? UV_EBUSY : 0;
    MUST(status == right, "uvcurl_set() gave %d, should be %d", status, right);
  }
  h.in_api--;
}

static void set_reference(struct driver *d, bool referenced) {
  note("driver %d is %s", (int)(d - h.drivers), referenced ? "referenced" : "unreferenced");
  if (referenced)
    uvcurl_ref(d->uc);
  else
    uvcurl_unref(d->uc);
  d->referenced = referenced;
}

static void clean_up(struct slot *s) {
  /* A report names the handle, which therefore has to be there. */
  if (s->easy == NULL || s->now != NULL || s->superseded > 0 || h.in_curl)
    return;
  note("slot %d is cleaned up", s->index);
  curl_easy_cleanup(s->easy);
  curl_slist_free_all(s->headers);
  s->headers = NULL;
  s->easy = NULL;
}

/* The host's own handles and descriptors, which take the numbers that libcurl's have left. */

static void on_watcher_closed(uv_handle_t *handle) {
  struct watcher *w = handle->data;
  w->kind = NONE;
}

static void act_as_host(struct watcher *w) {
  dice d = {h.seed ^ mix((uint64_t)(w - h.watchers) << 40 ^ ++w->calls ^ (uint64_t)1 << 60)};
  beat++;
  if (!h.calm && h.in_callback == 0 && one_in(&d, h.bustle)) {
    h.in_callback++;
    act(&d);
    h.in_callback--;
  }
}

static void on_host_timer(uv_timer_t *timer) {
  act_as_host(timer->data);
}

static void on_host_prepare(uv_prepare_t *prepare) {
  act_as_host(prepare->data);
}

static void on_host_poll(uv_poll_t *poll, int status, int events) {
  struct watcher *w = poll->data;
  char byte;
  MUST(status == 0 && (events & UV_READABLE), "the host's poll handle got status %d", status);
  while (read(w->fd[0], &byte, 1) == 1)
    w->got++;
  act_as_host(w);
}

static void close_watcher(struct watcher *w) {
  if (w->kind == NONE || w->kind == WATCHER_CLOSING)
    return;
  bool has_descriptors = w->kind == POLL;
  w->kind = WATCHER_CLOSING;
  uv_close(&w->u.handle, on_watcher_closed);
  if (has_descriptors) {
    close(w->fd[0]);
    close(w->fd[1]);
  }
}

static void ping(struct watcher *w) {
  if (w->kind != POLL)
    return;
  CHECK_INT(write(w->fd[1], "p", 1), 1);
  w->sent++;
  total.pings++;
}

static void use_watcher(struct watcher *w, dice *d) {
  total.watchers++;
  if (w->kind == POLL && !one_in(d, 3)) {
    ping(w);
  } else if (w->kind != NONE) {
    close_watcher(w);
  } else if (one_in(d, 6)) {
    CHECK_INT(uv_prepare_init(&h.loop, &w->u.prepare), 0);
    w->u.prepare.data = w;
    w->kind = PREPARE;
    CHECK_INT(uv_prepare_start(&w->u.prepare, on_host_prepare), 0);
  } else if (one_in(d, 3)) {
    CHECK_INT(uv_timer_init(&h.loop, &w->u.timer), 0);
    w->u.timer.data = w;
    w->kind = TIMER;
    CHECK_INT(uv_timer_start(&w->u.timer, on_host_timer, below(d, 3), 1 + below(d, 5)), 0);
  } else {
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, w->fd), 0);
    CHECK_INT(uv_poll_init(&h.loop, &w->u.poll, w->fd[0]), 0);
    w->u.poll.data = w;
    w->kind = POLL;
    w->sent = w->got = 0;
    CHECK_INT(uv_poll_start(&w->u.poll, UV_READABLE, on_host_poll), 0);
    ping(w);
  }
}

static void use_descriptor(int *descriptor) {
  if (*descriptor >= 0) {
    close(*descriptor);
    *descriptor = -1;
  } else {
    *descriptor = eventfd(0, EFD_CLOEXEC);
    CHECK(*descriptor >= 0);
  }
}

/* One action, of those that are allowed where we are. */
static void act(dice *d) {
  struct slot *s = &h.slots[below(d, SLOTS)];
  struct driver *driver = pick_driver(d);
  unsigned what = below(d, 100);
  total.acts += h.in_curl > 0 || h.in_callback > 0;
  /* Mostly where the transfer is. */
  if (s->now && s->now->driver->life != GONE && !one_in(d, 10))
    driver = s->now->driver;
  if (driver == NULL) {
    struct driver *gone = &h.drivers[below(d, DRIVERS)];
    if (gone->life == GONE)
      open_driver(gone, d);
  } else if (what < 40) {
    start(s, driver, d);
  } else if (what < 52) {
    cancel(s, driver);
  } else if (what < 60) {
    static const int masks[] = {CURLPAUSE_RECV, CURLPAUSE_SEND, CURLPAUSE_ALL};
    set_pause(s, driver, masks[below(d, 3)]);
  } else if (what < 72) {
    set_pause(s, driver, CURLPAUSE_CONT);
  } else if (what < 76) {
    clean_up(s);
  } else if (what < 80) {
    set_reference(driver, !one_in(d, 3));
  } else if (what < 82) {
    if (one_in(d, 3))
      close_driver(driver);
  } else if (what < 84) {
    set_option(driver, d);
  } else if (what < 91) {
    use_watcher(&h.watchers[below(d, WATCHERS)], d);
  } else if (what < 96) {
    use_descriptor(&h.descriptors[below(d, DESCRIPTORS)]);
  } else if (what < 97) {
    if (h.in_curl == 0 && driver->life == OPEN)
      set_limits(driver, d);
  } else if (one_in(d, 2)) {
    server_release(server);
  } else {
    server_hold(server);
  }
}

static bool is_allowed(struct slot *s, int status) {
  /* Five connections of the pool in a row that the server was about to close. */
  static const char tried[] = "Connection died, tried 5 times before giving up";
  if (status == CURLE_SEND_ERROR && memmem(s->said, s->said_len, tried, sizeof tried - 1) != NULL)
    return true;
  /* pausewrite() in lib/sendf.c, gone in 8.9 at the latest: three kinds of headers and data are
   * kept for a paused transfer, and with a 100 Continue before the answer there are four. */
  if (status == CURLE_OUT_OF_MEMORY && curl_number() < 0x080900 && s->upload > 0 && s->paused)
    return true;
  for (const int *allowed = s->allowed; *allowed >= 0; allowed++) {
    if (status == *allowed)
      return true;
  }
  return s->may_time_out && status == CURLE_OPERATION_TIMEDOUT;
}

static void check_end(struct start *now, int status) {
  struct slot *s = now->slot;
  if (now->cancelled) {
    MUST(status == UV_ECANCELED, "slot %d was cancelled and ended with %d", s->index, status);
    return;
  }
  if (status == UV_ECANCELED) {
    MUST(now->closed, "slot %d ended as if cancelled", s->index);
    return;
  }
  if (now->superseded)
    return;
  if (now->failed_by)
    MUST(status == now->failed_by || status == now->failed_first ||
             (status == CURLE_OPERATION_TIMEDOUT && s->may_time_out) ||
             (now->may_fail && is_allowed(s, status)),
         "slot %d (%s) ended with %d, not with its callback's %d", s->index, s->url, status,
         now->failed_by);
  else
    MUST(is_allowed(s, status), "slot %d (%s) ended with %d: %s", s->index, s->url, status,
         uvcurl_strerror(status));
  MUST(s->content_ok, "slot %d (%s): wrong bytes", s->index, s->url);
  if (status == 0 && s->body == PATTERN)
    MUST(s->received == s->size, "slot %d (%s): %zu of %zu bytes", s->index, s->url, s->received,
         s->size);
  if (status == 0 && s->body == TEXT)
    MUST((size_t)atoll(s->text) == s->size, "slot %d (%s): the server has read %s of %zu bytes",
         s->index, s->url, s->text, s->size);
}

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *arg) {
  struct start *now = arg;
  struct slot *s = now->slot;
  struct driver *driver = now->driver;
  void *private = NULL;
  beat++;
  note("slot %d on driver %d is done: %d", s->index, (int)(driver - h.drivers), status);
  MUST(h.in_api == 0, "a done callback ran inside a call");
  MUST(h.in_curl == 0, "a done callback ran inside libcurl");
  MUST(driver->life != GONE, "a done callback ran after the close callback");
  MUST(uc == driver->uc && easy == s->easy, "a done callback names somebody else");
  MUST(driver->active > 0 && (s->now == now || now->superseded), "slot %d was reported twice",
       s->index);
  driver->active--;
  s->superseded -= now->superseded;
  MUST(active_of(driver) == driver->active, "uvcurl_active() is %zu, should be %zu",
       active_of(driver), driver->active);
  CHECK_INT(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private), CURLE_OK);
  MUST(private == s, "CURLOPT_PRIVATE has changed");
  h.suspect = s;
  check_end(now, status);
  h.suspect = NULL;
  total.good += status == 0;
  total.failed += status > 0;
  total.cancelled += status < 0;
  if (s->now == now)
    s->now = NULL;
  /* Told once: a second report would be of freed memory. */
  free(now);
  if (h.calm)
    return;
  dice d = dice_of_call(s);
  h.in_callback++;
  unsigned what = below(&d, 12);
  if (what < 3 && s->now == NULL)
    start(s, driver, &d);
  else if (what == 3)
    clean_up(s);
  else if (what < 7)
    act(&d);
  h.in_callback--;
}

/* ---- the promises, from outside ---- */

static bool must_be_alive(void) {
  for (int i = 0; i < DRIVERS; i++) {
    struct driver *d = &h.drivers[i];
    if (d->life == CLOSING || (d->life == OPEN && d->referenced && d->active > 0))
      return true;
  }
  for (int i = 0; i < WATCHERS; i++) {
    if (h.watchers[i].kind != NONE)
      return true;
  }
  return false;
}

static void check(void) {
  for (int i = 0; i < DRIVERS; i++) {
    struct driver *d = &h.drivers[i];
    if (d->life == GONE)
      continue;
    MUST(active_of(d) == d->active, "uvcurl_active() of driver %d is %zu, should be %zu", i,
         active_of(d), d->active);
    MUST(uvcurl_has_ref(d->uc) == d->referenced, "driver %d has the wrong reference", i);
  }
  if (must_be_alive()) {
    MUST(uv_loop_alive(&h.loop), "the loop is not alive");
    return;
  }
  /* Poll handles that are closing may hold it for a turn or two. */
  for (int i = 0; i < 4 && uv_loop_alive(&h.loop); i++) {
    uv_run(&h.loop, UV_RUN_NOWAIT);
    if (must_be_alive())
      return;
  }
  MUST(!uv_loop_alive(&h.loop), "the loop is alive, with nothing in flight");
}

static void on_turn(uv_prepare_t *handle) {
  (void)handle;
  h.turn++;
}

static void nothing(uv_timer_t *timer) {
  (void)timer;
}

static void run(dice *d) {
  unsigned what = below(d, 8);
  if (what < 5) {
    for (unsigned i = 0; i <= what / 2; i++)
      uv_run(&h.loop, UV_RUN_NOWAIT);
  } else {
    /* So that it ends soon. The clock, too, is only as new as the last turn; and before 1.45 libuv
     * runs the timers that are due and polls afterwards. */
    uv_update_time(&h.loop);
    CHECK_INT(uv_timer_start(&h.sentinel, nothing, below(d, 3), 1), 0);
    uv_run(&h.loop, UV_RUN_ONCE);
    uv_timer_stop(&h.sentinel);
  }
}

static void step(void) {
  dice d = {h.seed ^ mix((uint64_t)h.step << 20)};
  roll(&d);
  beat++;
  total.steps++;
  if (one_in(&d, 3))
    run(&d);
  else
    act(&d);
  if (one_in(&d, 200))
    usleep(below(&d, 3000));
  check();
}

static size_t in_flight(void) {
  size_t n = 0;
  for (int i = 0; i < DRIVERS; i++)
    n += h.drivers[i].life == GONE ? 0 : h.drivers[i].active;
  return n;
}

static void on_drain(uv_timer_t *timer) {
  (void)timer;
  for (int i = 0; i < SLOTS; i++) {
    struct slot *s = &h.slots[i];
    if (s->now && s->paused && s->now->driver->life == OPEN)
      set_pause(s, s->now->driver, CURLPAUSE_CONT);
  }
  if (in_flight() == 0)
    uv_timer_stop(timer);
}

__attribute__((noreturn)) static void hang(void) {
  for (int i = 0; i < DRIVERS; i++) {
    long ms = -1;
    if (h.drivers[i].life == OPEN && curl_multi_timeout(uvcurl_multi(h.drivers[i].uc), &ms) == 0)
      note("driver %d: libcurl's deadline is in %ld ms", i, ms);
  }
  violation("%zu transfers hang", in_flight());
}

/* Everything ends by itself, and the loop with it. */
static void drain(void) {
  double begin = test_now_ms();
  server_release(server);
  for (int i = 0; i < DRIVERS; i++) {
    if (h.drivers[i].life == OPEN)
      set_reference(&h.drivers[i], true);
  }
  CHECK_INT(uv_timer_start(&h.drain_timer, on_drain, 0, 3), 0);
  uv_ref((uv_handle_t *)&h.drain_timer);
  while (in_flight() > 0) {
    MUST(uv_run(&h.loop, UV_RUN_ONCE) != 0 || in_flight() == 0, "the loop ends too early");
    if (test_now_ms() - begin > 1000.0 * HANG * test_slowdown())
      hang();
  }
  double took = test_now_ms() - begin;
  if (took > total.longest_drain)
    total.longest_drain = took;
  /* Nothing takes so long but what libcurl has forgotten until it was made to look, which is every
   * 5 s. */
  if (took > 4000.0 * test_slowdown()) {
    total.looks++;
    printf("# seed %llu needed the look after silent transfers\n", (unsigned long long)h.seed);
    dump();
  }
  for (int i = 0; i < WATCHERS; i++)
    ping(&h.watchers[i]);
  for (int i = 0; i < WATCHERS; i++) {
    struct watcher *w = &h.watchers[i];
    while (w->kind == POLL && w->got < w->sent) {
      uv_run(&h.loop, UV_RUN_NOWAIT);
      MUST(test_now_ms() - begin < 2000.0 * HANG * test_slowdown(),
           "the host's watcher has lost an event");
    }
  }
  for (int i = 0; i < WATCHERS; i++)
    close_watcher(&h.watchers[i]);
  uv_timer_stop(&h.drain_timer);
  /* However many connections idle. */
  MUST(uv_run(&h.loop, UV_RUN_DEFAULT) == 0, "the loop does not end");
}

static void count_handle(uv_handle_t *handle, void *n) {
  (void)handle;
  ++*(int *)n;
}

static void end_history(dice *d) {
  h.calm = true;
  bool clean_first = one_in(d, 2);
  if (!one_in(d, 3))
    drain();
  for (int i = 0; i < SLOTS && clean_first; i++)
    clean_up(&h.slots[i]);
  for (int i = 0; i < DRIVERS; i++) {
    if (h.drivers[i].life == OPEN)
      close_driver(&h.drivers[i]);
  }
  for (int i = 0; i < WATCHERS; i++)
    close_watcher(&h.watchers[i]);
  uv_close((uv_handle_t *)&h.sentinel, NULL);
  uv_close((uv_handle_t *)&h.drain_timer, NULL);
  uv_close((uv_handle_t *)&h.turn_counter, NULL);
  while (uv_run(&h.loop, UV_RUN_DEFAULT) != 0) {
  }
  for (int i = 0; i < DRIVERS; i++)
    MUST(h.drivers[i].life == GONE, "driver %d was never closed", i);
  for (int i = 0; i < SLOTS; i++) {
    MUST(h.slots[i].now == NULL, "slot %d was never reported", i);
    clean_up(&h.slots[i]);
  }
  int left = 0;
  uv_walk(&h.loop, count_handle, &left);
  MUST(left == 0, "%d handles were left on the loop", left);
  int status = uv_loop_close(&h.loop);
  MUST(status == 0, "uv_loop_close() gave %d", status);
  for (int i = 0; i < DESCRIPTORS; i++) {
    if (h.descriptors[i] >= 0)
      close(h.descriptors[i]);
  }
}

static void history(uint64_t seed, enum flavour flavour, const char *name) {
  int descriptors = test_descriptors();
  memset(&h, 0, sizeof h);
  h.seed = seed;
  h.flavour = flavour;
  h.name = name;
  dice d = {mix(seed) ^ 0x5eed};
  h.bustle = 2u << below(&d, 5);
  snprintf(h.address, sizeof h.address, "127.0.1.%u", 1 + below(&d, ADDRESSES));
  CHECK_INT(uv_loop_init(&h.loop), 0);
  CHECK_INT(uv_timer_init(&h.loop, &h.sentinel), 0);
  CHECK_INT(uv_timer_init(&h.loop, &h.drain_timer), 0);
  uv_unref((uv_handle_t *)&h.sentinel);
  uv_unref((uv_handle_t *)&h.drain_timer);
  CHECK_INT(uv_prepare_init(&h.loop, &h.turn_counter), 0);
  CHECK_INT(uv_prepare_start(&h.turn_counter, on_turn), 0);
  uv_unref((uv_handle_t *)&h.turn_counter);
  h.turn = 1;
  /* Mostly without the looks after silent transfers, which make up for what a driver forgets. */
  h.tick = one_in(&d, 4) ? 10 + (long)below(&d, 40) : 3600000;
  if (!is_reliable())
    h.tick = -1;
  for (int i = 0; i < DESCRIPTORS; i++)
    h.descriptors[i] = -1;
  for (int i = 0; i < SLOTS; i++)
    h.slots[i].index = i;
  for (unsigned i = 0; i <= below(&d, DRIVERS); i++)
    open_driver(&h.drivers[i], &d);
  server_hold(server);
  for (h.step = 0; h.step < STEPS_PER_HISTORY; h.step++)
    step();
  end_history(&d);
  /* A lookup that was left to itself may take a moment more. */
  double end = test_now_ms() + 5000.0 * test_slowdown();
  while (test_descriptors() != descriptors) {
    MUST(test_now_ms() < end, "%d descriptors are open, %d were", test_descriptors(), descriptors);
    usleep(1000);
  }
  total.histories++;
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void histories(enum flavour flavour, const char *name) {
  pthread_t watchdog;
  char options_cert[4200], options_key[4200];
  server_options options = {.extra_addresses = ADDRESSES};
  certs = getenv("UVCURL_TEST_CERTS");
  h2_port = getenv("UVCURL_TEST_NGINX_H2");
  if (certs) {
    snprintf(ca, sizeof ca, "%s/ca.pem", certs);
    snprintf(options_cert, sizeof options_cert, "%s/server.pem", certs);
    snprintf(options_key, sizeof options_key, "%s/server.key", certs);
    options.cert_file = options_cert;
    options.key_file = options_key;
  } else if (flavour == SECURE) {
    SKIP("UVCURL_TEST_CERTS is not set");
  }
  server = server_start(&options);
  CHECK_MSG(server != NULL, "the test server does not start");
  /* What is made once per process is made by now. */
  uv_loop_t loop;
  uvcurl_t *uc;
  CHECK_INT(uv_loop_init(&loop), 0);
  CHECK_INT(uvcurl_new(&loop, &uc), 0);
  uvcurl_close(uc, NULL, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);

  trace = getenv("UVCURL_HISTORY_TRACE") != NULL;
  uint64_t seed = number_from("UVCURL_HISTORY_SEED", 1);
  uint64_t steps = number_from("UVCURL_HISTORY_STEPS", 20000 / test_slowdown());
  uint64_t repeat = number_from("UVCURL_HISTORY_REPEAT", 1);
  /* The watchdog sees to hangs. */
  test_timeout(getenv("UVCURL_HISTORY_STEPS") ? 36000 : 120);
  CHECK_INT(pthread_create(&watchdog, NULL, watch_for_hangs, NULL), 0);
  for (uint64_t i = 0; i * STEPS_PER_HISTORY < steps; i++) {
    for (uint64_t r = 0; r < repeat; r++)
      history(seed + i, flavour, name);
  }
  CHECK_INT(pthread_cancel(watchdog), 0);
  CHECK_INT(pthread_join(watchdog, NULL), 0);
#ifdef __SANITIZE_ADDRESS__
  static const char sanitizer[] = ", AddressSanitizer";
#else
  static const char sanitizer[] = "";
#endif
  printf(
      "# %s (libcurl %s, libuv %s%s): seeds %llu to %llu, %llu steps and %llu acts in callbacks, "
      "%llu transfers (%llu good, %llu failed, %llu cancelled), %llu drivers, %llu events of the "
      "host's own, longest drain %.0f ms\n",
      name, curl_version_info(CURLVERSION_NOW)->version, uv_version_string(), sanitizer,
      (unsigned long long)seed, (unsigned long long)(seed + total.histories / repeat - 1),
      total.steps, total.acts, total.starts, total.good, total.failed, total.cancelled,
      total.drivers, total.pings, total.longest_drain);
  server_stop(server);
}

TEST(mixed) {
  histories(MIXED, "mixed");
}

TEST(secure) {
  if (curl_number() == 0x080c00)
    SKIP("this libcurl uses TLS sessions that it has freed (curl#16236)");
  histories(SECURE, "secure");
}

TEST(limited) {
  histories(LIMITED, "limited");
}

TEST(broken) {
  histories(BROKEN, "broken");
}

TEST_MAIN(T(mixed), T(secure), T(limited), T(broken))
