/* What a driver tells of itself: numbers, a description, and a log of what must not be. Promises 3
 * and 9; S9, S23, S24. */
/* link: -Wl,--wrap=curl_multi_setopt */
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fixture.h"

/* A libcurl that says nothing of its sockets and its timer for a while, as 8.16.0 may. */
static bool muted;
static curl_socket_callback socket_function;
static curl_multi_timer_callback timer_function;

static int on_socket(CURL *easy, curl_socket_t s, int what, void *data, void *socketp) {
  return muted ? 0 : socket_function(easy, s, what, data, socketp);
}

static int on_timer(CURLM *multi, long ms, void *data) {
  return timer_function(multi, muted ? -1 : ms, data);
}

CURLMcode __real_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...) {
  va_list args;
  va_start(args, option);
  void *value = va_arg(args, void *);
  va_end(args);
  if (option == CURLMOPT_SOCKETFUNCTION && value != NULL) {
    socket_function = (curl_socket_callback)value;
    value = (void *)on_socket;
  }
  if (option == CURLMOPT_TIMERFUNCTION && value != NULL) {
    timer_function = (curl_multi_timer_callback)value;
    value = (void *)on_timer;
  }
  return __real_curl_multi_setopt(multi, option, value);
}

typedef struct lines {
  fixture *f;
  int count;
  char text[8000];
  bool closes;
} lines;

static void on_line(uvcurl_t *uc, const char *line, void *arg) {
  lines *l = arg;
  CHECK(uc != NULL);
  CHECK(strchr(line, '\n') == NULL);
  l->count++;
  strncat(l->text, line, sizeof l->text - strlen(l->text) - 2);
  strcat(l->text, "\n");
  if (getenv("UVCURL_TEST_TABLE"))
    fprintf(stderr, "# %s\n", line);
  if (l->closes && !l->f->closing)
    fixture_begin_close(l->f);
}

static uvcurl_stats_t stats_of(uvcurl_t *uc) {
  uvcurl_stats_t stats;
  memset(&stats, 0xff, sizeof stats);
  CHECK_INT(uvcurl_stats(uc, &stats, sizeof stats), 0);
  return stats;
}

TEST(stats_add_up) {
  fixture f;
  fixture_open(&f);
  transfer *good = transfer_new(&f, "/bytes/10"), *bad = transfer_new_on(&f, SERVER_REFUSED, "/"),
           *held = transfer_new(&f, "/hold/10");
  uvcurl_stats_t s = stats_of(f.uc);
  CHECK_INT(s.started + s.in_flight + s.succeeded + s.sockets_watched + s.stalls, 0);
  CHECK_INT(transfer_start(&f, held), 0);
  while (server_count(f.server, SERVER_HELD) == 0)
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
  CHECK_INT(transfer_start(&f, good), 0);
  CHECK_INT(transfer_start(&f, bad), 0);
  CHECK_INT(stats_of(f.uc).in_flight, 3);
  while (good->done + bad->done < 2)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  s = stats_of(f.uc);
  CHECK_INT(s.started, 3);
  CHECK_INT(s.succeeded, 1);
  CHECK_INT(s.failed, 1);
  CHECK_INT(s.cancelled, 0);
  CHECK_INT(s.in_flight, 1);
  CHECK_INT(s.running, 1);
  CHECK_BETWEEN(s.sockets_watched, 1, 2);
  CHECK_INT(s.sockets_unwatched, 0);
  CHECK(s.turns > 0 && s.actions > 0 && s.kicks > 0);
  CHECK_INT(transfer_pause(&f, held, CURLPAUSE_ALL), 0);
  CHECK_INT(stats_of(f.uc).paused, 1);
  CHECK_INT(transfer_cancel(&f, held), 0);
  s = stats_of(f.uc);
  CHECK_INT(s.running, 0);
  CHECK_INT(s.in_flight, 1);
  fixture_run(&f);
  s = stats_of(f.uc);
  CHECK_INT(s.cancelled, 1);
  CHECK_INT(s.started, s.succeeded + s.failed + s.cancelled);
  CHECK_INT(s.stalls + s.spins + s.log_lost, 0);
  transfer_free(good);
  transfer_free(bad);
  transfer_free(held);
  fixture_close(&f);
}

/* A program that was compiled with fewer members, or with more, than the library has. */
TEST(stats_of_other_versions) {
  union {
    uvcurl_stats_t now;
    uint64_t words[sizeof(uvcurl_stats_t) / 8 + 4];
  } s;
  enum { WORDS = sizeof s.words / 8 };
  fixture f;
  fixture_open_bare(&f);
  memset(&s, 0xff, sizeof s);
  CHECK_INT(uvcurl_stats(f.uc, &s.now, 16), 0);
  CHECK(s.words[0] == 0 && s.words[1] == 0 && s.words[2] == UINT64_MAX);
  CHECK_INT(uvcurl_stats(f.uc, &s.now, sizeof s), 0);
  for (int i = WORDS - 4; i < WORDS; i++)
    CHECK_INT(s.words[i], 0);
  CHECK_INT(uvcurl_stats(f.uc, &s.now, 0), UV_EINVAL);
  CHECK_INT(uvcurl_stats(f.uc, &s.now, 12), UV_EINVAL);
  CHECK_INT(uvcurl_stats(f.uc, NULL, sizeof s.now), UV_EINVAL);
  CHECK_INT(uvcurl_stats(NULL, &s.now, sizeof s.now), UV_EINVAL);
  CHECK_INT(uvcurl_dump(NULL, on_line, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_dump(f.uc, NULL, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_set_log(NULL, NULL, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_set_log(f.uc, NULL, NULL), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, -1), UV_EINVAL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 9), UV_EINVAL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 86400001), UV_EINVAL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 10), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 1000), 0);
  uvcurl_t *uc = f.uc;
  fixture_begin_close(&f);
  CHECK_INT(uvcurl_stats(uc, &s.now, sizeof s.now), UV_ECANCELED);
  CHECK_INT(uvcurl_dump(uc, on_line, NULL), UV_ECANCELED);
  CHECK_INT(uvcurl_set_log(uc, on_line, NULL), UV_ECANCELED);
  fixture_close(&f);
}

static void *from_elsewhere(void *uc) {
  uvcurl_stats_t s;
  CHECK_INT(uvcurl_stats(uc, &s, sizeof s), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_dump(uc, on_line, NULL), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_set_log(uc, on_line, NULL), UVCURL_E_WRONG_THREAD);
  return NULL;
}

TEST(other_threads_are_refused) {
  fixture f;
  pthread_t thread;
  fixture_open(&f);
  /* The loop's first turn settles whose driver it is. */
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  transfer_free(t);
  CHECK_INT(pthread_create(&thread, NULL, from_elsewhere, f.uc), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
  fixture_close(&f);
}

static const char *line_with(const lines *l, const char *part, char *buf, size_t size) {
  const char *at = strstr(l->text, part);
  CHECK_MSG(at != NULL, "no %s in:\n%s", part, l->text);
  while (at > l->text && at[-1] != '\n')
    at--;
  snprintf(buf, size, "%.*s", (int)strcspn(at, "\n"), at);
  return buf;
}

static bool has_paused;

static size_t pause_write(transfer *t, const char *data, size_t n) {
  (void)t, (void)data, (void)n;
  has_paused = true;
  return CURL_WRITEFUNC_PAUSE;
}

TEST(dump_says_what_each_waits_for) {
  char url[300], line[1000];
  fixture f;
  lines l = {.f = &f};
  fixture_open(&f);
  int port = server_port(f.server, SERVER_HTTP);
  snprintf(url, sizeof url, "http://me:secret@127.0.0.1:%d/hold/10?token=hidden#x", port);
  transfer *held = transfer_new_url(&f, url), *paused = transfer_new(&f, "/bytes/100000"),
           *connecting = transfer_new_on(&f, SERVER_BLACKHOLE, "/");
  paused->on_write = pause_write;
  CHECK_INT(curl_easy_setopt(connecting->easy, CURLOPT_TIMEOUT_MS, 60000L), CURLE_OK);
  CHECK_INT(transfer_start(&f, held), 0);
  CHECK_INT(transfer_start(&f, paused), 0);
  CHECK_INT(transfer_start(&f, connecting), 0);
  while (server_count(f.server, SERVER_HELD) == 0 ||
         server_count(f.server, SERVER_BYTES_SENT) < 100000)
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
  for (int i = 0; i < 20; i++) {
    usleep(1000);
    uv_run(&f.loop, UV_RUN_NOWAIT);
  }
  CHECK_INT(uvcurl_dump(f.uc, on_line, &l), 0);
  CHECK(l.count >= 5);
  CHECK(strstr(l.text, "secret") == NULL && strstr(l.text, "hidden") == NULL);
  CHECK(strstr(l.text, "/hold") == NULL);
  CHECK(strstr(l.text, "3 in flight (3 with libcurl") != NULL);
  CHECK(strstr(l.text, "libcurl's timer: due in ") != NULL);
  line_with(&l, "#1 ", line, sizeof line);
  CHECK_MSG(strstr(line, "waiting for an answer") && strstr(line, "waits for socket ") &&
                strstr(line, "(read, silent for "),
            "%s", line);
  line_with(&l, "#2 ", line, sizeof line);
  CHECK_MSG(strstr(line, "receiving") && strstr(line, "if a callback has paused it"), "%s", line);
  line_with(&l, "#3 ", line, sizeof line);
  CHECK_MSG(strstr(line, "connecting") && strstr(line, "(write, silent for "), "%s", line);
  transfer *all[] = {held, paused, connecting};
  for (int i = 0; i < 3; i++)
    CHECK_INT(transfer_cancel(&f, all[i]), 0);
  l.count = 0;
  l.text[0] = '\0';
  CHECK_INT(uvcurl_dump(f.uc, on_line, &l), 0);
  CHECK(strstr(l.text, "to be reported") != NULL);
  fixture_run(&f);
  for (int i = 0; i < 3; i++)
    transfer_free(all[i]);
  fixture_close(&f);
}

/* Inside libcurl too; what it forbids there is not asked. */
static lines inside;

static size_t dump_in_write(transfer *t, const char *data, size_t n) {
  (void)data;
  uvcurl_stats_t s = stats_of(t->f->uc);
  CHECK_INT(s.in_flight, 1);
  CHECK_INT(uvcurl_dump(t->f->uc, on_line, &inside), 0);
  CHECK_INT(uvcurl_set_log(t->f->uc, on_line, &inside), 0);
  return n;
}

static void dump_when_done(transfer *t) {
  CHECK_INT(stats_of(t->f->uc).succeeded, 1);
  CHECK_INT(uvcurl_dump(t->f->uc, on_line, &inside), 0);
}

TEST(legal_in_every_callback) {
  fixture f;
  fixture_open(&f);
  inside.f = &f;
  transfer *t = transfer_new(&f, "/bytes/10");
  t->on_write = dump_in_write;
  t->on_done = dump_when_done;
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK(strstr(inside.text, "receiving") != NULL);
  transfer_free(t);
  fixture_close(&f);
}

static void run_forgotten(bool closes) {
  fixture f;
  lines l = {.closes = closes, .f = &f};
  fixture_open(&f);
  CHECK_INT(uvcurl_set_log(f.uc, on_line, &l), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 200), 0);
  transfer *t = transfer_new(&f, "/bytes/10"), *paused = transfer_new(&f, "/bytes/100000");
  /* One that waits for its host is nothing to tell of. */
  paused->on_write = pause_write;
  CHECK_INT(transfer_start(&f, paused), 0);
  while (!has_paused)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  CHECK_INT(transfer_start(&f, t), 0);
  muted = true;
  while (!f.closing && stats_of(f.uc).stalls == 0) {
    uv_run(&f.loop, UV_RUN_ONCE);
    double connected = 0;
    CHECK_INT(curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME, &connected), CURLE_OK);
    /* On a slow machine, as under valgrind. What is connected may be paused, and is no stall. */
    if (!f.closing && connected > 0 && stats_of(f.uc).stalls == 0)
      SKIP("it was connected within the call that began to connect");
  }
  muted = false;
  if (!closes) {
    while (t->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 10);
    CHECK_INT(stats_of(f.uc).stalls, 1);
    CHECK_INT(transfer_cancel(&f, paused), 0);
  }
  fixture_run(&f);
  CHECK_INT(l.count, 1);
  CHECK_MSG(strstr(l.text, "uvcurl: transfer 2 (http://127.0.0.1:") &&
                strstr(l.text, "neither socket nor timer") && strstr(l.text, "libcurl "),
            "%s", l.text);
  CHECK_INT(t->done, 1);
  CHECK_INT(paused->status, UV_ECANCELED);
  transfer_free(t);
  transfer_free(paused);
  fixture_close(&f);
}

TEST(forgotten_transfer_is_woken_and_told_of) {
  run_forgotten(false);
}

TEST(log_may_close_the_driver) {
  run_forgotten(true);
}

static int note_socket(void *number, curl_socket_t s, curlsocktype purpose) {
  (void)purpose;
  *(curl_socket_t *)number = s;
  return CURL_SOCKOPT_OK;
}

/* Something else in the program takes the number of a socket off the loop's epoll set (libuv does,
 * in uv_close of a handle whose descriptor was closed too early). */
TEST(socket_that_the_loop_has_lost) {
  fixture f;
  lines l = {.f = &f};
  fixture_open(&f);
  CHECK_INT(uvcurl_set_log(f.uc, on_line, &l), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 100), 0);
  transfer *t = transfer_new(&f, "/trickle/40/1/20");
  curl_socket_t s = CURL_SOCKET_BAD;
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_SOCKOPTFUNCTION, note_socket), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_SOCKOPTDATA, &s), CURLE_OK);
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->received == 0)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  /* libuv before 1.45 registers it when it polls next. */
  while (epoll_ctl(uv_backend_fd(&f.loop), EPOLL_CTL_DEL, s, NULL) != 0)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 40);
  CHECK_MSG(strstr(l.text, "the loop does not say so") != NULL, "%s", l.text);
  transfer_free(t);
  fixture_close(&f);
}

TEST_MAIN(T(stats_add_up), T(stats_of_other_versions), T(other_threads_are_refused),
          T(dump_says_what_each_waits_for), T(legal_in_every_callback),
          T(forgotten_transfer_is_woken_and_told_of), T(log_may_close_the_driver),
          T(socket_that_the_loop_has_lost))
