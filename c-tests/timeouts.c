/* Nothing hangs: every timeout that a user can set, in every state a transfer can be in, and the
 * progress callback on silent and paused transfers. docs/timeouts.md is the table. Promise 6; S10,
 * S11, S37. */
/* link: -Wl,--wrap=getaddrinfo,--wrap=clock_gettime */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"
#include "lookups.h"

/* ---- a clock that can be put on ---- */

static uint64_t ahead_ms;

int __real_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t) {
  int result = __real_clock_gettime(id, t);
  if (result == 0 && id != CLOCK_REALTIME && id != CLOCK_PROCESS_CPUTIME_ID &&
      id != CLOCK_THREAD_CPUTIME_ID)
    t->tv_sec += (time_t)(ahead_ms / 1000);
  return result;
}

/* ---- cells: all of one case run side by side on one loop ---- */

typedef struct cell cell;
struct cell {
  const char *name;
  transfer *t;
  int status;
  long ms;
  double took;
  cell *next;
};

typedef struct table {
  fixture f;
  cell *cells;
  double start;
  /* How late the loop has been with a timer of the host's, at worst. */
  uv_timer_t beat;
  double last_beat, late;
} table;

static void on_beat(uv_timer_t *timer) {
  table *tab = timer->data;
  double now = test_now_ms();
  if (now - tab->last_beat - 10 > tab->late)
    tab->late = now - tab->last_beat - 10;
  tab->last_beat = now;
}

static void open_table(table *tab, const server_options *options) {
  memset(tab, 0, sizeof *tab);
  fixture_open_with(&tab->f, options);
  CHECK_INT(uv_timer_init(&tab->f.loop, &tab->beat), 0);
  tab->beat.data = tab;
  uv_unref((uv_handle_t *)&tab->beat);
}

static void cell_done(transfer *t) {
  cell *c = t->user;
  c->took = test_now_ms();
}

/* `status` after `ms`. Returns the transfer for more options. */
static transfer *add(table *tab, const char *name, transfer *t, int status, long ms) {
  cell *c = calloc(1, sizeof *c);
  CHECK(c != NULL);
  c->name = name;
  c->t = t;
  c->status = status;
  c->ms = ms;
  c->next = tab->cells;
  tab->cells = c;
  t->user = c;
  t->on_done = cell_done;
  return t;
}

static void start_cells(table *tab) {
  tab->last_beat = tab->start = test_now_ms();
  CHECK_INT(uv_timer_start(&tab->beat, on_beat, 10, 10), 0);
  for (cell *c = tab->cells; c; c = c->next)
    CHECK_INT(transfer_start(&tab->f, c->t), 0);
}

/* Within a tenth and 100 ms; and what the machine has kept the loop from its timers. */
static void check_cells(table *tab) {
  for (cell *c = tab->cells; c; c = c->next) {
    double took = c->took - tab->start;
    double most = c->ms * 1.1 + 100.0 * test_slowdown() + 2 * tab->late;
    CHECK_INT(c->t->done, 1);
    CHECK_MSG(c->t->status == c->status, "%s: status %d, not %d: %s", c->name, c->t->status,
              c->status, c->t->error);
    CHECK_MSG(took >= c->ms - 5, "%s: %.0f ms, which is before %ld", c->name, took, c->ms);
    CHECK_MSG(took <= most, "%s: %.0f ms of %ld, the loop was up to %.0f ms late", c->name, took,
              c->ms, tab->late);
    if (getenv("UVCURL_TEST_TABLE"))
      fprintf(stderr, "# %-44s %5ld ms: %6.0f\n", c->name, c->ms, took);
  }
}

static void close_table(table *tab) {
  lookups_release();
  while (tab->cells) {
    cell *c = tab->cells;
    tab->cells = c->next;
    transfer_free(c->t);
    free(c);
  }
  uv_close((uv_handle_t *)&tab->beat, NULL);
  fixture_close(&tab->f);
}

static void run_table(table *tab) {
  start_cells(tab);
  fixture_run(&tab->f);
  check_cells(tab);
  close_table(tab);
}

static void set_long(transfer *t, CURLoption option, long value) {
  CHECK_INT(curl_easy_setopt(t->easy, option, value), CURLE_OK);
}

static void set_ptr(transfer *t, CURLoption option, const void *value) {
  CHECK_INT(curl_easy_setopt(t->easy, option, value), CURLE_OK);
}

static transfer *to_url(table *tab, const char *scheme, const char *host, int port) {
  char url[200];
  snprintf(url, sizeof url, "%s://%s:%d/file", scheme, host, port);
  return transfer_new_url(&tab->f, url);
}

/* ---- states ---- */

static size_t endless(char *buf, size_t size, size_t n, void *unused) {
  (void)unused;
  memset(buf, 'x', size * n);
  return size * n;
}

static size_t pause_read(char *buf, size_t size, size_t n, void *unused) {
  (void)buf, (void)size, (void)n, (void)unused;
  return CURL_READFUNC_PAUSE;
}

static size_t pause_write(transfer *t, const char *data, size_t n) {
  (void)t, (void)data, (void)n;
  return CURL_WRITEFUNC_PAUSE;
}

static bool may_go_on;

static size_t pause_for_a_while(transfer *t, const char *data, size_t n) {
  (void)t, (void)data;
  return may_go_on ? n : CURL_WRITEFUNC_PAUSE;
}

static void go_on(fixture *f, void *t) {
  may_go_on = true;
  CHECK_INT(transfer_pause(f, t, CURLPAUSE_CONT), 0);
}

static void pause_now(fixture *f, void *t) {
  CHECK_INT(transfer_pause(f, t, CURLPAUSE_ALL), 0);
}

static transfer *resolving(table *tab) {
  return to_url(tab, "http", "stuck.test", 80);
}

static transfer *connecting(table *tab) {
  return transfer_new_on(&tab->f, SERVER_BLACKHOLE, "/");
}

static transfer *tls(table *tab) {
  return to_url(tab, "https", "127.0.0.1", server_port(tab->f.server, SERVER_SILENT));
}

static transfer *uploading(transfer *t, void *read) {
  set_long(t, CURLOPT_UPLOAD, 1);
  set_ptr(t, CURLOPT_READFUNCTION, read);
  struct curl_slist *none = curl_slist_append(NULL, "Expect:");
  set_ptr(t, CURLOPT_HTTPHEADER, none);
  /* Lives as long as the process, which runs this one case. */
  set_ptr(t, CURLOPT_PRIVATE, none);
  return t;
}

static transfer *sending(table *tab) {
  transfer *t = uploading(transfer_new_on(&tab->f, SERVER_SILENT, "/"), endless);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)1 << 40), CURLE_OK);
  return t;
}

static transfer *waiting(table *tab) {
  return transfer_new_on(&tab->f, SERVER_SILENT, "/");
}

static transfer *receiving(table *tab) {
  return transfer_new(&tab->f, "/trickle/1000000/10/50");
}

static transfer *paused_in_write(table *tab) {
  transfer *t = transfer_new(&tab->f, "/bytes/100000");
  t->on_write = pause_write;
  return t;
}

static transfer *paused_in_read(table *tab) {
  return uploading(transfer_new(&tab->f, "/sink"), pause_read);
}

static transfer *paused_by_call(table *tab) {
  transfer *t = transfer_new(&tab->f, "/stall/10/1000");
  fixture_after(&tab->f, 200, pause_now, t);
  return t;
}

static transfer *after_a_pause(table *tab) {
  transfer *t = transfer_new(&tab->f, "/stall/10/1000");
  t->on_write = pause_for_a_while;
  fixture_after(&tab->f, 300, go_on, t);
  return t;
}

static void free_header(transfer *t) {
  char *list = NULL;
  CHECK_INT(curl_easy_getinfo(t->easy, CURLINFO_PRIVATE, &list), CURLE_OK);
  curl_slist_free_all((struct curl_slist *)list);
}

static void free_headers(table *tab) {
  for (cell *c = tab->cells; c; c = c->next)
    free_header(c->t);
}

static const struct state {
  const char *name;
  transfer *(*make)(table *tab);
  bool has_connection;
} states[] = {
    {"looking the name up", resolving, false},
    {"connecting", connecting, false},
    {"TLS handshake", tls, false},
    {"sending", sending, true},
    {"waiting", waiting, true},
    {"receiving slowly", receiving, true},
    {"paused in the write callback", paused_in_write, true},
    {"paused in the read callback", paused_in_read, true},
    {"paused by call", paused_by_call, true},
    {"after a pause", after_a_pause, true},
};
#define STATES (sizeof states / sizeof states[0])

/* ---- options ---- */

/* What a connect timeout is about, but for the lookup of the name. */
static bool connects(const struct state *s) {
  return !s->has_connection && s->make != resolving;
}

/* libcurl 8.8.0 to 8.10.1 looks at the connect timeout only where a socket is connecting. */
static void need_connect_timeouts(void) {
  if (curl_number() >= 0x080800 && curl_number() < 0x080b00)
    SKIP("libcurl 8.8.0 to 8.10.1 serves no connect timeout before it connects (curl#15100)");
}

/* A lookup that hangs keeps its transfer from ending, whatever the timeout says. */
static bool leaves_lookups(void) {
  return curl_number() >= 0x075700;
}

static void need_lookups_left(void) {
  if (!leaves_lookups())
    SKIP("libcurl before 7.87 waits for the lookup of a transfer that ends (curl#8515)");
}

static void run_states(CURLoption option, long value, long ms, bool connecting_only) {
  table tab;
  open_table(&tab, NULL);
  fixture_need_tls(&tab.f);
  for (size_t i = 0; i < STATES; i++)
    if (connecting_only ? connects(&states[i]) : states[i].make != resolving)
      set_long(add(&tab, states[i].name, states[i].make(&tab), CURLE_OPERATION_TIMEDOUT, ms),
               option, value);
  start_cells(&tab);
  fixture_run(&tab.f);
  check_cells(&tab);
  free_headers(&tab);
  close_table(&tab);
}

TEST(timeout_ms) {
  run_states(CURLOPT_TIMEOUT_MS, 1200, 1200, false);
}

TEST(timeout_in_seconds) {
  run_states(CURLOPT_TIMEOUT, 2, 2000, false);
}

TEST(connect_timeout_ms) {
  run_states(CURLOPT_CONNECTTIMEOUT_MS, 900, 900, true);
}

TEST(connect_timeout_in_seconds) {
  run_states(CURLOPT_CONNECTTIMEOUT, 2, 2000, true);
}

static void run_lookups(CURLoption in_ms, long ms, CURLoption in_seconds, long seconds) {
  table tab;
  open_table(&tab, NULL);
  set_long(add(&tab, "in milliseconds", resolving(&tab), CURLE_OPERATION_TIMEDOUT, ms), in_ms, ms);
  set_long(add(&tab, "in seconds", resolving(&tab), CURLE_OPERATION_TIMEDOUT, 1000 * seconds),
           in_seconds, seconds);
  run_table(&tab);
}

TEST(timeout_in_a_lookup) {
  need_lookups_left();
  run_lookups(CURLOPT_TIMEOUT_MS, 1200, CURLOPT_TIMEOUT, 2);
}

TEST(connect_timeout_in_a_lookup) {
  need_lookups_left();
  need_connect_timeouts();
  run_lookups(CURLOPT_CONNECTTIMEOUT_MS, 900, CURLOPT_CONNECTTIMEOUT, 2);
}

static void jump(fixture *f, void *ms) {
  (void)f;
  ahead_ms += (uintptr_t)ms;
}

static void none_yet(fixture *f, void *tab) {
  (void)f;
  for (cell *c = ((table *)tab)->cells; c; c = c->next)
    CHECK_MSG(c->t->done == 0, "%s: too early", c->name);
}

/* libcurl sets no timer for its 300 s (R20). They pass at once here, and a tenth of them may. */
static void run_default_connect_timeout(table *tab) {
  start_cells(tab);
  fixture_after(&tab->f, 200, jump, (void *)(uintptr_t)290000);
  /* Two ticks later, which by itself ends nothing. */
  fixture_after(&tab->f, 290000 + 2500, none_yet, tab);
  fixture_after(&tab->f, 290000 + 2600, jump, (void *)(uintptr_t)8000);
  fixture_run(&tab->f);
  tab->late = 0; /* the jumps */
  check_cells(tab);
  close_table(tab);
}

TEST(default_connect_timeout) {
  table tab;
  open_table(&tab, NULL);
  fixture_need_tls(&tab.f);
  for (size_t i = 0; i < STATES; i++)
    if (connects(&states[i]))
      add(&tab, states[i].name, states[i].make(&tab), CURLE_OPERATION_TIMEDOUT, 300000);
  run_default_connect_timeout(&tab);
}

TEST(default_connect_timeout_in_a_lookup) {
  table tab;
  need_lookups_left();
  need_connect_timeouts();
  open_table(&tab, NULL);
  add(&tab, "looking the name up", resolving(&tab), CURLE_OPERATION_TIMEDOUT, 300000);
  run_default_connect_timeout(&tab);
}

/* ---- the speed limit, beside curl_easy_perform ---- */

typedef struct reference {
  pthread_t thread;
  CURL *easy;
  double took;
  CURLcode code;
} reference;

static void *perform(void *arg) {
  reference *r = arg;
  double start = test_now_ms();
  r->code = curl_easy_perform(r->easy);
  r->took = test_now_ms() - start;
  return NULL;
}

/* libcurl measures the speed once a second, so that it is late by itself; uvcurl must not be later.
 */
TEST(low_speed) {
  static transfer *(*const slow[])(table *) = {sending, waiting, receiving, after_a_pause};
  static const char *const names[] = {"sending", "waiting", "receiving slowly", "after a pause"};
  enum { SLOW = sizeof slow / sizeof slow[0] };
  table tab;
  transfer *models[SLOW];
  reference r[SLOW];
  open_table(&tab, NULL);
  for (int i = 0; i < SLOW; i++) {
    models[i] = slow[i] == after_a_pause ? transfer_new(&tab.f, "/stall/10/1000") : slow[i](&tab);
    transfer *t = add(&tab, names[i], slow[i](&tab), CURLE_OPERATION_TIMEDOUT, 0);
    set_long(models[i], CURLOPT_NOSIGNAL, 1);
    for (int both = 0; both < 2; both++) {
      set_long(both ? t : models[i], CURLOPT_LOW_SPEED_LIMIT, 1000000000);
      set_long(both ? t : models[i], CURLOPT_LOW_SPEED_TIME, 2);
    }
    r[i].easy = models[i]->easy;
  }
  start_cells(&tab);
  for (int i = 0; i < SLOW; i++)
    CHECK_INT(pthread_create(&r[i].thread, NULL, perform, &r[i]), 0);
  fixture_run(&tab.f);
  for (int i = 0; i < SLOW; i++) {
    CHECK_INT(pthread_join(r[i].thread, NULL), 0);
    CHECK_INT(r[i].code, CURLE_OPERATION_TIMEDOUT);
    free_header(models[i]);
    transfer_free(models[i]);
  }
  /* Cells are in the reverse order. */
  int i = SLOW;
  for (cell *c = tab.cells; c; c = c->next) {
    i--;
    c->ms = 2000;
    /* The model is not paused. */
    double more = (r[i].took > 2000 ? r[i].took - 2000 : 0) + (slow[i] == after_a_pause ? 300 : 0);
    tab.late += more;
    if (getenv("UVCURL_TEST_TABLE"))
      fprintf(stderr, "# %-30s curl_easy_perform: %6.0f\n", c->name, r[i].took);
    double most = 2000 * 1.1 + 100.0 * test_slowdown() + 2 * (tab.late - more) + more;
    CHECK_MSG(c->took - tab.start <= most, "%s: %.0f ms, curl_easy_perform took %.0f", c->name,
              c->took - tab.start, r[i].took);
    tab.late -= more;
    c->ms = (long)(c->took - tab.start);
  }
  check_cells(&tab);
  free_headers(&tab);
  close_table(&tab);
}

/* ---- waits within a transfer ---- */

static size_t body_left;

static size_t short_body(char *buf, size_t size, size_t n, void *unused) {
  (void)unused;
  size_t part = size * n < body_left ? size * n : body_left;
  server_fill(buf, 10 - body_left, part);
  body_left -= part;
  return part;
}

TEST(expect_100) {
  table tab;
  open_table(&tab, NULL);
  transfer *t =
      add(&tab, "100 Continue does not come", transfer_new(&tab.f, "/quiet-sink"), 0, 800);
  struct curl_slist *expect = curl_slist_append(NULL, "Expect: 100-continue");
  body_left = 10;
  set_long(t, CURLOPT_UPLOAD, 1);
  set_ptr(t, CURLOPT_READFUNCTION, short_body);
  set_ptr(t, CURLOPT_HTTPHEADER, expect);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)10), CURLE_OK);
  set_long(t, CURLOPT_EXPECT_100_TIMEOUT_MS, 800);
  run_table(&tab);
  curl_slist_free_all(expect);
}

/* The first address of two lets nobody in. */
TEST(happy_eyeballs) {
  struct sockaddr_in6 hole = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  char map[200], url[200];
  int fds[2], yes = 1;
  table tab;
  open_table(&tab, NULL);
  int port = server_port(tab.f.server, SERVER_HTTP);
  hole.sin6_port = htons((uint16_t)port);
  for (int i = 0; i < 2; i++)
    fds[i] = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fds[0] < 0 || setsockopt(fds[0], IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) != 0 ||
      bind(fds[0], (struct sockaddr *)&hole, sizeof hole) != 0) {
    SKIP("there is no IPv6 here, or somebody has the port");
  }
  CHECK_INT(listen(fds[0], 0), 0);
  CHECK_INT(connect(fds[1], (struct sockaddr *)&hole, sizeof hole), 0);
  snprintf(map, sizeof map, "two.test:%d:[::1],127.0.0.1", port);
  snprintf(url, sizeof url, "http://two.test:%d/bytes/10", port);
  struct curl_slist *list = curl_slist_append(NULL, map);
  transfer *t = add(&tab, "the second address", transfer_new_url(&tab.f, url), 0, 700);
  set_ptr(t, CURLOPT_RESOLVE, list);
  set_long(t, CURLOPT_HAPPY_EYEBALLS_TIMEOUT_MS, 700);
  run_table(&tab);
  curl_slist_free_all(list);
  close(fds[0]);
  close(fds[1]);
}

/* ---- protocols whose answers libcurl waits for without a timer (S11, curl#23025) ---- */

/* A server on a thread of its own that answers each line by a script, and from a command of its
 * choice on no more. */
typedef struct talker {
  pthread_t thread;
  int listener, port;
  const char *greeting;
  const char *const (*answers)[2];
  const char *silent_at;
} talker;

static void say(int fd, const char *line) {
  if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
    return;
}

static void answer(talker *s, int fd, const char *line, bool *silent) {
  if (s->silent_at && strncmp(line, s->silent_at, strlen(s->silent_at)) == 0)
    *silent = true;
  for (int i = 0; !*silent && s->answers[i][0]; i++) {
    if (strncmp(line, s->answers[i][0], strlen(s->answers[i][0])) == 0) {
      say(fd, s->answers[i][1]);
      return;
    }
  }
}

static void *talk(void *arg) {
  talker *s = arg;
  char buf[2000];
  size_t len = 0;
  bool silent = false;
  int fd = accept(s->listener, NULL, NULL);
  if (fd < 0)
    return NULL;
  say(fd, s->greeting);
  for (;;) {
    ssize_t n = recv(fd, buf + len, sizeof buf - len - 1, 0);
    if (n <= 0)
      break;
    len += (size_t)n;
    buf[len] = '\0';
    for (char *end; (end = strstr(buf, "\r\n")) != NULL;) {
      *end = '\0';
      answer(s, fd, buf, &silent);
      len -= (size_t)(end + 2 - buf);
      memmove(buf, end + 2, len + 1);
    }
  }
  close(fd);
  return NULL;
}

static void start_talker(talker *s) {
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof sa;
  s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(s->listener >= 0);
  CHECK_INT(bind(s->listener, (struct sockaddr *)&sa, size), 0);
  CHECK_INT(listen(s->listener, 5), 0);
  CHECK_INT(getsockname(s->listener, (struct sockaddr *)&sa, &size), 0);
  s->port = ntohs(sa.sin_port);
  CHECK_INT(pthread_create(&s->thread, NULL, talk, s), 0);
}

static void end_talker(talker *s) {
  shutdown(s->listener, SHUT_RDWR);
  CHECK_INT(pthread_join(s->thread, NULL), 0);
  close(s->listener);
}

static const char *const ftp_answers[][2] = {
    {"USER", "331 password\r\n"}, {"PASS", "230 in\r\n"},   {"PWD", "257 \"/\" is it\r\n"},
    {"EPRT", "200 fine\r\n"},     {"TYPE", "200 fine\r\n"}, {"SIZE", "213 10\r\n"},
    {"RETR", "150 comes\r\n"},    {"QUIT", "221 bye\r\n"},  {NULL, NULL}};

static bool has_protocol(const char *name) {
  for (const char *const *p = curl_version_info(CURLVERSION_NOW)->protocols; *p; p++)
    if (strcmp(*p, name) == 0)
      return true;
  return false;
}

TEST(server_response_timeout) {
  static const char *const protocols[] = {"ftp", "imap", "pop3", "smtp"};
  static talker mid = {.greeting = "220 hello\r\n", .answers = ftp_answers, .silent_at = "PASS"};
  table tab;
  open_table(&tab, NULL);
  int silent = server_port(tab.f.server, SERVER_SILENT);
  for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
    if (!has_protocol(protocols[i]))
      continue;
    transfer *t = add(&tab, protocols[i], to_url(&tab, protocols[i], "127.0.0.1", silent),
                      CURLE_OPERATION_TIMEDOUT, 1000 * (1 + (long)i % 3));
    set_long(t, CURLOPT_SERVER_RESPONSE_TIMEOUT, 1 + (long)i % 3);
#if LIBCURL_VERSION_NUM >= 0x080600
    if (curl_number() >= 0x080600) {
      t = add(&tab, "in milliseconds", to_url(&tab, protocols[i], "127.0.0.1", silent),
              CURLE_OPERATION_TIMEDOUT, 400);
      CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_SERVER_RESPONSE_TIMEOUT_MS, 400L), CURLE_OK);
    }
#endif
  }
  if (tab.cells == NULL)
    SKIP("this libcurl has none of FTP, IMAP, POP3 and SMTP");
  start_talker(&mid);
  if (has_protocol("ftp"))
    set_long(add(&tab, "ftp, an answer that does not come",
                 to_url(&tab, "ftp", "127.0.0.1", mid.port), CURLE_OPERATION_TIMEDOUT, 1000),
             CURLOPT_SERVER_RESPONSE_TIMEOUT, 1);
  run_table(&tab);
  end_talker(&mid);
}

TEST(ftp_accept_timeout) {
  static talker s = {.greeting = "220 hello\r\n", .answers = ftp_answers};
  table tab;
  if (!has_protocol("ftp"))
    SKIP("this libcurl has no FTP");
  open_table(&tab, NULL);
  start_talker(&s);
  transfer *t = add(&tab, "the server does not connect", to_url(&tab, "ftp", "127.0.0.1", s.port),
                    CURLE_FTP_ACCEPT_TIMEOUT, 900);
  set_ptr(t, CURLOPT_FTPPORT, "127.0.0.1");
  set_long(t, CURLOPT_ACCEPTTIMEOUT_MS, 900);
  run_table(&tab);
  end_talker(&s);
}

/* ---- behind a connection limit ---- */

static void release_all(fixture *f, void *unused) {
  (void)unused;
  server_release(f->server);
}

static void run_queued(CURLoption in_ms, long ms, CURLoption in_seconds, long seconds) {
  table tab;
  open_table(&tab, NULL);
  curl_multi_setopt(uvcurl_multi(tab.f.uc), CURLMOPT_MAX_TOTAL_CONNECTIONS, 1L);
  transfer *first = transfer_new(&tab.f, "/hold/10");
  CHECK_INT(transfer_start(&tab.f, first), 0);
  while (server_count(tab.f.server, SERVER_HELD) == 0)
    CHECK(uv_run(&tab.f.loop, UV_RUN_NOWAIT) != 0);
  set_long(
      add(&tab, "in milliseconds", transfer_new(&tab.f, "/bytes/10"), CURLE_OPERATION_TIMEDOUT, ms),
      in_ms, ms);
  set_long(add(&tab, "in seconds", transfer_new(&tab.f, "/bytes/10"), CURLE_OPERATION_TIMEDOUT,
               1000 * seconds),
           in_seconds, seconds);
  fixture_after(&tab.f, 3000, release_all, NULL);
  start_cells(&tab);
  fixture_run(&tab.f);
  CHECK_INT(first->status, 0);
  transfer_free(first);
  check_cells(&tab);
  close_table(&tab);
}

static void need_timeouts_without_a_connection(void) {
  if (curl_number() < 0x080800)
    SKIP("libcurl before 8.8 looks at no timeout of a transfer without a connection (curl#13227)");
}

TEST(queued) {
  need_timeouts_without_a_connection();
  run_queued(CURLOPT_TIMEOUT_MS, 700, CURLOPT_TIMEOUT, 1);
}

TEST(queued_connect_timeout) {
  need_timeouts_without_a_connection();
  need_connect_timeouts();
  run_queued(CURLOPT_CONNECTTIMEOUT_MS, 800, CURLOPT_CONNECTTIMEOUT, 1);
}

/* Nor is there a timer for the 300 s within which a transfer has to be connected. */
TEST(queued_until_the_default_connect_timeout) {
  if (curl_number() < 0x081000)
    SKIP("libcurl before 8.16 does not say that it holds a transfer back");
  table tab;
  open_table(&tab, NULL);
  curl_multi_setopt(uvcurl_multi(tab.f.uc), CURLMOPT_MAX_TOTAL_CONNECTIONS, 1L);
  transfer *first = transfer_new(&tab.f, "/hold/10");
  CHECK_INT(transfer_start(&tab.f, first), 0);
  while (server_count(tab.f.server, SERVER_HELD) == 0)
    CHECK(uv_run(&tab.f.loop, UV_RUN_NOWAIT) != 0);
  transfer *t =
      add(&tab, "queued", transfer_new(&tab.f, "/bytes/10"), CURLE_OPERATION_TIMEDOUT, 300000);
  start_cells(&tab);
  fixture_after(&tab.f, 200, jump, (void *)(uintptr_t)290000);
  fixture_after(&tab.f, 290000 + 1500, none_yet, &tab);
  fixture_after(&tab.f, 290000 + 1600, jump, (void *)(uintptr_t)20000);
  while (t->done == 0)
    CHECK(uv_run(&tab.f.loop, UV_RUN_ONCE) != 0);
  server_release(tab.f.server);
  fixture_run(&tab.f);
  CHECK_INT(first->status, 0);
  transfer_free(first);
  tab.late = 0;
  check_cells(&tab);
  close_table(&tab);
}

/* ---- progress ---- */

typedef struct watcher {
  transfer *t;
  unsigned calls;
  double last, longest;
  int verdict;
} watcher;

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  watcher *w = arg;
  double now = test_now_ms();
  (void)a, (void)b, (void)c, (void)d;
  if (w->calls++ > 0 && now - w->last > w->longest)
    w->longest = now - w->last;
  w->last = now;
  return w->verdict;
}

static void watch(watcher *w, transfer *t) {
  memset(w, 0, sizeof *w);
  w->t = t;
  set_long(t, CURLOPT_NOPROGRESS, 0);
  set_ptr(t, CURLOPT_XFERINFOFUNCTION, on_progress);
  set_ptr(t, CURLOPT_XFERINFODATA, w);
}

/* 7.84 to 8.x call it before there is a connection, later ones do not, and neither do so in
 * curl_easy_perform. */
static bool ticks_in(const struct state *s) {
  return s->has_connection;
}

static void verdicts(fixture *f, void *arg) {
  watcher *w = arg;
  (void)f;
  for (size_t i = 0; i < STATES; i++)
    w[i].verdict = 1;
}

static void cancel_quiet(fixture *f, void *arg) {
  watcher *w = arg;
  for (size_t i = 0; i < STATES; i++)
    if (w[i].t && w[i].t->done == 0)
      CHECK_INT(transfer_cancel(f, w[i].t), 0);
}

static void run_progress(bool by_call) {
  table tab;
  watcher w[STATES] = {{0}};
  open_table(&tab, NULL);
  fixture_need_tls(&tab.f);
  test_timeout(30);
  for (size_t i = 0; i < STATES; i++)
    if ((states[i].make == paused_by_call) == by_call &&
        (states[i].make != resolving || leaves_lookups()))
      watch(&w[i], add(&tab, states[i].name, states[i].make(&tab), CURLE_ABORTED_BY_CALLBACK, 0));
  fixture_after(&tab.f, 5500, verdicts, w);
  fixture_after(&tab.f, 7800, cancel_quiet, w);
  start_cells(&tab);
  fixture_run(&tab.f);
  for (size_t i = 0; i < STATES; i++) {
    if (w[i].t == NULL || !ticks_in(&states[i]))
      continue;
    CHECK_MSG(w[i].t->status == CURLE_ABORTED_BY_CALLBACK, "%s: status %d after %u calls",
              states[i].name, w[i].t->status, w[i].calls);
    CHECK_MSG(w[i].calls >= 4, "%s: %u calls in 5.5 s", states[i].name, w[i].calls);
    CHECK_MSG(w[i].longest <= 2200 + 100.0 * test_slowdown() + 2 * tab.late,
              "%s: %.0f ms between two", states[i].name, w[i].longest);
  }
  free_headers(&tab);
  close_table(&tab);
}

TEST(progress_ticks_and_aborts) {
  run_progress(false);
}

/* By itself, for while it lasts some libcurls are not made to run any transfer without a socket. */
TEST(progress_while_paused_by_call) {
  if (curl_number() >= 0x080900 && curl_number() < 0x080f00)
    SKIP("libcurl 8.9 to 8.14 may give data to a transfer paused by call, so it is not run");
  run_progress(true);
}

/* The host has said that it wants none. */
TEST(no_tick_no_progress) {
  table tab;
  watcher w;
  uvcurl_stats_t stats;
  open_table(&tab, NULL);
  CHECK_INT(uvcurl_set(tab.f.uc, UVCURL_TICK_MS, 0), 0);
  watch(&w, paused_in_write(&tab));
  CHECK_INT(transfer_start(&tab.f, w.t), 0);
  while (w.calls == 0 || server_count(tab.f.server, SERVER_BYTES_SENT) < 100000)
    CHECK(uv_run(&tab.f.loop, UV_RUN_NOWAIT) != 0);
  unsigned before = 0;
  fixture_after(&tab.f, 300, jump, (void *)0);
  while (tab.f.timers != NULL)
    CHECK(uv_run(&tab.f.loop, UV_RUN_ONCE) != 0);
  before = w.calls;
  fixture_after(&tab.f, 2500, jump, (void *)0);
  while (tab.f.timers != NULL)
    CHECK(uv_run(&tab.f.loop, UV_RUN_ONCE) != 0);
  CHECK_INT(w.calls, before);
  CHECK_INT(uvcurl_stats(tab.f.uc, &stats, sizeof stats), 0);
  CHECK_INT(stats.ticks, 0);
  CHECK_INT(transfer_cancel(&tab.f, w.t), 0);
  fixture_run(&tab.f);
  transfer_free(w.t);
  close_table(&tab);
}

/* An upload that its read callback has paused, and its progress callback resumes. */
static unsigned held_back;

static size_t read_later(char *buf, size_t size, size_t n, void *unused) {
  if (held_back < 2)
    return CURL_READFUNC_PAUSE;
  return short_body(buf, size, n, unused);
}

static int resume_later(void *easy, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  (void)a, (void)b, (void)c, (void)d;
  static double since;
  if (since == 0)
    since = test_now_ms();
  if (held_back < 2 && test_now_ms() - since > 1500 && ++held_back == 2)
    CHECK_INT(curl_easy_pause(easy, CURLPAUSE_CONT), CURLE_OK);
  return 0;
}

TEST(progress_resumes_an_upload) {
  table tab;
  open_table(&tab, NULL);
  transfer *t = uploading(transfer_new(&tab.f, "/sink"), read_later);
  t->keep_body = 1;
  body_left = 10;
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)10), CURLE_OK);
  set_long(t, CURLOPT_NOPROGRESS, 0);
  set_ptr(t, CURLOPT_XFERINFOFUNCTION, resume_later);
  set_ptr(t, CURLOPT_XFERINFODATA, t->easy);
  CHECK_INT(transfer_start(&tab.f, t), 0);
  fixture_run(&tab.f);
  CHECK_INT(t->status, 0);
  CHECK_STR((char *)t->body, "10");
  CHECK_INT(server_count(tab.f.server, SERVER_BODY_BYTES), 10);
  free_header(t);
  transfer_free(t);
  close_table(&tab);
}

/* A download that its write callback has paused, and its progress callback resumes: there is no
 * socket meanwhile. */
static int resume_download(void *easy, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  (void)a, (void)b, (void)c, (void)d;
  if (held_back == 1) {
    held_back = 2;
    return 0;
  }
  if (held_back == 2) {
    held_back = 3;
    may_go_on = true;
    CHECK_INT(curl_easy_pause(easy, CURLPAUSE_CONT), CURLE_OK);
  }
  return 0;
}

static size_t hold_first(transfer *t, const char *data, size_t n) {
  (void)t, (void)data;
  if (may_go_on)
    return n;
  if (held_back == 0)
    held_back = 1;
  return CURL_WRITEFUNC_PAUSE;
}

TEST(progress_resumes_a_download) {
  table tab;
  open_table(&tab, NULL);
  transfer *t = transfer_new(&tab.f, "/bytes/300000");
  t->on_write = hold_first;
  set_long(t, CURLOPT_NOPROGRESS, 0);
  set_ptr(t, CURLOPT_XFERINFOFUNCTION, resume_download);
  set_ptr(t, CURLOPT_XFERINFODATA, t->easy);
  CHECK_INT(transfer_start(&tab.f, t), 0);
  fixture_run(&tab.f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 300000);
  CHECK(t->content_ok);
  transfer_free(t);
  close_table(&tab);
}

/* While all goes well nothing is looked at. */
TEST(nothing_is_looked_at_while_all_goes_well) {
  table tab;
  uvcurl_stats_t stats;
  open_table(&tab, NULL);
  transfer *t = transfer_new(&tab.f, "/trickle/60/1/50");
  CHECK_INT(transfer_start(&tab.f, t), 0);
  fixture_run(&tab.f);
  CHECK_INT(t->status, 0);
  CHECK_INT(uvcurl_stats(tab.f.uc, &stats, sizeof stats), 0);
  CHECK_INT(stats.ticks, 0);
  if (test_slowdown() == 1)
    CHECK_BETWEEN(stats.looks, 0, 1);
  CHECK_INT(stats.stalls, 0);
  transfer_free(t);
  close_table(&tab);
}

TEST_MAIN(T(timeout_ms), T(timeout_in_seconds), T(connect_timeout_ms),
          T(connect_timeout_in_seconds), T(timeout_in_a_lookup), T(connect_timeout_in_a_lookup),
          T(default_connect_timeout), T(default_connect_timeout_in_a_lookup), T(low_speed),
          T(expect_100), T(happy_eyeballs), T(server_response_timeout), T(ftp_accept_timeout),
          T(queued), T(queued_connect_timeout), T(queued_until_the_default_connect_timeout),
          T(progress_ticks_and_aborts), T(progress_while_paused_by_call), T(no_tick_no_progress),
          T(progress_resumes_an_upload), T(progress_resumes_a_download),
          T(nothing_is_looked_at_while_all_goes_well))
