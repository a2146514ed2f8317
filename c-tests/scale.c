/* Many transfers at a time, on one loop and on several. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fixture.h"

/* Before the server starts, which needs as many. */
static void need_descriptors(unsigned n) {
  struct rlimit limit;
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < n)
    SKIP("needs %u descriptors, the hard limit is %lu", n, (unsigned long)limit.rlim_max);
  if (limit.rlim_cur < n) {
    limit.rlim_cur = n;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
}

static transfer **new_transfers(fixture *f, int n, int addresses, const char *path) {
  char url[200];
  transfer **t = calloc((size_t)n, sizeof(transfer *));
  CHECK(t != NULL);
  for (int i = 0; i < n; i++)
    t[i] =
        addresses
            ? transfer_new_url(f, server_extra_url(f->server, url, sizeof url, i % addresses, path))
            : transfer_new(f, path);
  return t;
}

static void start_all(fixture *f, transfer **t, int n) {
  for (int i = 0; i < n; i++)
    CHECK_INT(transfer_start(f, t[i]), 0);
  CHECK_INT(uvcurl_active(f->uc), n);
}

/* Every one was reported once and got all of its bytes. */
static void check_and_free(transfer **t, int n, size_t size) {
  for (int i = 0; i < n; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_MSG(t[i]->status == 0, "transfer %d: %s (%s)", i, uvcurl_strerror(t[i]->status),
              t[i]->error);
    CHECK_INT(t[i]->received, size);
    CHECK(t[i]->content_ok);
    transfer_free(t[i]);
  }
  free(t);
}

static unsigned ticks;

static void on_tick(uv_timer_t *timer) {
  (void)timer;
  ticks++;
}

static void run_held(int n, int addresses) {
  uv_timer_t timer;
  fixture f;
  need_descriptors((unsigned)n + 200);
  test_timeout(60);
  fixture_open_with(&f, &(server_options){.extra_addresses = addresses});
  CHECK_INT(uv_timer_init(&f.loop, &timer), 0);
  CHECK_INT(uv_timer_start(&timer, on_tick, 0, 1), 0);
  uv_unref((uv_handle_t *)&timer);
  transfer **t = new_transfers(&f, n, addresses, "/hold/100");
  start_all(&f, t, n);
  while (server_count(f.server, SERVER_HELD) < (uint64_t)n)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  CHECK_INT(uvcurl_active(f.uc), n);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), n);
  ticks = 0;
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(uvcurl_active(f.uc), 0);
  /* libuv takes up to 49,000 events before it looks at timers; before 1.45 it does so only in the
   * turn that follows, which is not needed here. */
  if (uv_version() >= 0x012d00)
    CHECK_MSG(ticks > 0, "the host's timer did not run");
  check_and_free(t, n, 100);
  uv_close((uv_handle_t *)&timer, NULL);
  fixture_close(&f);
}

TEST(two_thousand_at_once) {
  run_held(test_slowdown() > 1 ? 300 : 2000, 0);
}

TEST(ten_thousand_at_once) {
  run_held(test_slowdown() > 1 ? 500 : 10000, 4);
}

#define LOOPS 4
#define PER_LOOP 300

static void *run_loop(void *server) {
  fixture f;
  int n = test_slowdown() > 1 ? 60 : PER_LOOP;
  fixture_open_bare(&f);
  f.server = server;
  for (int round = 0; round < 2; round++) {
    transfer **t = new_transfers(&f, n, 0, round ? "/bytes/5000" : "/delay/5/5000");
    for (int i = 0; i < n; i += 3)
      curl_easy_setopt(t[i]->easy, CURLOPT_FORBID_REUSE, 1L);
    start_all(&f, t, n);
    fixture_run(&f);
    check_and_free(t, n, 5000);
  }
  /* It is the main thread's. */
  f.server = NULL;
  fixture_close(&f);
  return NULL;
}

/* Drivers on different threads share nothing, though descriptors move from one to the other. */
TEST(four_loops_in_four_threads) {
  pthread_t threads[LOOPS];
  need_descriptors(LOOPS * PER_LOOP + 500);
  server_t *server = server_start(NULL);
  CHECK(server != NULL);
  for (int i = 0; i < LOOPS; i++)
    CHECK_INT(pthread_create(&threads[i], NULL, run_loop, server), 0);
  for (int i = 0; i < LOOPS; i++)
    CHECK_INT(pthread_join(threads[i], NULL), 0);
  server_stop(server);
}

/* S51 */
TEST(thousands_behind_a_limit) {
  fixture f;
  int n = test_slowdown() > 1 ? 500 : 5000;
  fixture_open(&f);
  curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_TOTAL_CONNECTIONS, 20L);
  transfer **t = new_transfers(&f, n, 0, "/bytes/100");
  start_all(&f, t, n);
  fixture_run(&f);
  CHECK_INT(server_count(f.server, SERVER_REQUESTS), n);
  CHECK_BETWEEN(server_count(f.server, SERVER_ACCEPTED), 1, 20);
  check_and_free(t, n, 100);
  fixture_close(&f);
}

/* S53: transfers queued for a host that does not answer are in no other host's way. */
TEST(slow_host_holds_up_no_other) {
  fixture f;
  int n = test_slowdown() > 1 ? 50 : 200;
  char url[200];
  transfer *slow[20];
  fixture_open_with(&f, &(server_options){.extra_addresses = 2});
  curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_HOST_CONNECTIONS, 2L);
  for (int i = 0; i < 20; i++) {
    slow[i] = transfer_new_url(&f, server_extra_url(f.server, url, sizeof url, 1, "/hold/100"));
    CHECK_INT(transfer_start(&f, slow[i]), 0);
  }
  while (server_count(f.server, SERVER_HELD) < 2)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  transfer **fast = new_transfers(&f, n, 1, "/bytes/100");
  for (int i = 0; i < n; i++)
    CHECK_INT(transfer_start(&f, fast[i]), 0);
  while (uvcurl_active(f.uc) > 20)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  check_and_free(fast, n, 100);
  /* Nor has the limit been forgotten meanwhile. */
  CHECK_INT(server_count(f.server, SERVER_HELD), 2);
  for (int i = 0; i < 20; i++)
    CHECK_INT(slow[i]->done, 0);
  server_release(f.server);
  fixture_run(&f);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(slow[i]->done, 1);
    CHECK_INT(slow[i]->status, 0);
    CHECK_INT(slow[i]->received, 100);
    transfer_free(slow[i]);
  }
  fixture_close(&f);
}

static void cancel_all(fixture *f, void *arg) {
  transfer **t = arg;
  for (int i = 0; i < 500; i++)
    CHECK_INT(transfer_cancel(f, t[i]), 0);
  for (int i = 0; i < 500; i++) {
    CHECK_INT(t[i]->done, 0);
    CHECK_INT(transfer_cancel(f, t[i]), UV_EALREADY);
  }
}

TEST(five_hundred_cancelled_at_once) {
  fixture f;
  need_descriptors(700);
  fixture_open(&f);
  transfer **t = new_transfers(&f, 501, 0, "/hold/100");
  start_all(&f, t, 501);
  fixture_when(&f, SERVER_HELD, 501, cancel_all, t);
  while (uvcurl_active(f.uc) > 1)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  for (int i = 0; i < 500; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, UV_ECANCELED);
    transfer_free(t[i]);
  }
  CHECK_INT(t[500]->done, 0);
  server_release(f.server);
  fixture_run(&f);
  t[0] = t[500];
  check_and_free(t, 1, 100);
  fixture_close(&f);
}

/* Others end while the host cancels, and each is told once. */
TEST(half_cancelled_while_half_ends) {
  fixture f;
  int n = test_slowdown() > 1 ? 100 : 400, cancelled = 0;
  need_descriptors(700);
  fixture_open(&f);
  transfer **t = new_transfers(&f, n, 0, "/hold/100");
  start_all(&f, t, n);
  while (server_count(f.server, SERVER_HELD) < (uint64_t)n)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  server_release(f.server);
  for (int i = 0; i < n; i += 2) {
    if (t[i]->done == 0 && transfer_cancel(&f, t[i]) == 0)
      cancelled++;
    if (i % 20 == 0)
      uv_run(&f.loop, UV_RUN_NOWAIT);
  }
  fixture_run(&f);
  for (int i = 0; i < n; i++) {
    CHECK_INT(t[i]->done, 1);
    if (t[i]->status == UV_ECANCELED)
      cancelled--;
    else
      CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
  CHECK_INT(cancelled, 0);
  free(t);
  fixture_close(&f);
}

TEST_MAIN(T(two_thousand_at_once), T(ten_thousand_at_once), T(four_loops_in_four_threads),
          T(thousands_behind_a_limit), T(slow_host_holds_up_no_other),
          T(five_hundred_cancelled_at_once), T(half_cancelled_while_half_ends))
