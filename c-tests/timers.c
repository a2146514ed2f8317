/* libcurl's one deadline on the host's loop: never early, never lost, never busy. Promise 6. */
/* link: -Wl,--wrap=uv_timer_start,--wrap=clock_gettime,--wrap=curl_multi_setopt */
/* link: -Wl,--wrap=curl_multi_socket_action,--wrap=curl_multi_socket_all */
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"

/* ---- what the driver does, seen between it and the libraries ---- */

/* How far the clocks of libuv and libcurl are ahead of the machine's. */
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

/* libcurl's wish that is being handed to the driver, and when libcurl had it. */
static bool asking;
static long asked_ms;
static uint64_t asked_at_ns;

static curl_multi_timer_callback timer_function;
static void *timer_data;
/* Withholds what libcurl says about its timer, as libcurl 8.10 withheld it by itself. */
static bool timer_muted;
static unsigned timer_calls, in_timeout;

static int on_timer_wish(CURLM *multi, long ms, void *data) {
  timer_calls++;
  if (timer_muted && in_timeout)
    return 0;
  asking = true;
  asked_ms = ms;
  asked_at_ns = uv_hrtime();
  int result = timer_function(multi, ms, data);
  asking = false;
  return result;
}

CURLMcode __real_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...) {
  va_list args;
  va_start(args, option);
  void *value = va_arg(args, void *);
  va_end(args);
  if (option == CURLMOPT_TIMERFUNCTION && value != NULL) {
    timer_function = (curl_multi_timer_callback)value;
    value = (void *)on_timer_wish;
  }
  if (option == CURLMOPT_TIMERDATA)
    timer_data = value;
  return __real_curl_multi_setopt(multi, option, value);
}

static unsigned actions, timeout_actions, actions_in_turn, most_actions_in_turn;

static void count_action(void) {
  actions++;
  if (++actions_in_turn > most_actions_in_turn)
    most_actions_in_turn = actions_in_turn;
}

CURLMcode __real_curl_multi_socket_action(CURLM *multi, curl_socket_t s, int bits, int *running);
CURLMcode __wrap_curl_multi_socket_action(CURLM *multi, curl_socket_t s, int bits, int *running);
CURLMcode __wrap_curl_multi_socket_action(CURLM *multi, curl_socket_t s, int bits, int *running) {
  count_action();
  if (s == CURL_SOCKET_TIMEOUT) {
    timeout_actions++;
    in_timeout++;
  }
  CURLMcode result = __real_curl_multi_socket_action(multi, s, bits, running);
  if (s == CURL_SOCKET_TIMEOUT)
    in_timeout--;
  return result;
}

CURLMcode __real_curl_multi_socket_all(CURLM *multi, int *running);
CURLMcode __wrap_curl_multi_socket_all(CURLM *multi, int *running);
CURLMcode __wrap_curl_multi_socket_all(CURLM *multi, int *running) {
  count_action();
  timeout_actions++;
  return __real_curl_multi_socket_all(multi, running);
}

/* The fixture's timers all have one callback, by which they are told from the driver's. */
static uv_timer_cb host_timer;
static bool learning;
static unsigned driver_timers, short_timers;
static uint64_t longest_ms;
/* Lets the driver's timers run for half of their time only. */
static bool halve;

int __real_uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t ms, uint64_t repeat);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t ms, uint64_t repeat);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t ms, uint64_t repeat) {
  if (learning)
    host_timer = cb;
  if (cb != host_timer) {
    driver_timers++;
    if (ms <= 3)
      short_timers++;
    if (ms > longest_ms)
      longest_ms = ms;
    /* S7, S8: by libuv's own arithmetic it must not fire before libcurl's time has come. */
    if (asking && asked_ms > 0 && asked_ms < 1000000000) {
      uint64_t fires_ns = (uv_now(timer->loop) + ms) * 1000000;
      CHECK_MSG(fires_ns >= asked_at_ns + (uint64_t)asked_ms * 1000000,
                "a timer for %ld ms would fire %.3f ms early", asked_ms,
                (double)(asked_at_ns + (uint64_t)asked_ms * 1000000 - fires_ns) / 1e6);
    }
    if (halve && ms >= 8)
      ms /= 2;
  }
  return __real_uv_timer_start(timer, cb, ms, repeat);
}

static void nothing(fixture *f, void *arg) {
  (void)f, (void)arg;
}

/* ---- turns of the loop ---- */

static uv_prepare_t prepare;
static unsigned turns;

static void on_prepare(uv_prepare_t *handle) {
  (void)handle;
  turns++;
  actions_in_turn = 0;
}

static void open_loop(fixture *f, const server_options *options) {
  fixture_open_with(f, options);
  learning = true;
  fixture_after(f, 0, nothing, NULL);
  learning = false;
  CHECK_INT(uv_prepare_init(&f->loop, &prepare), 0);
  CHECK_INT(uv_prepare_start(&prepare, on_prepare), 0);
  uv_unref((uv_handle_t *)&prepare);
}

static void close_loop(fixture *f) {
  uv_close((uv_handle_t *)&prepare, NULL);
  fixture_close(f);
}

static void count_timer(uv_handle_t *handle, void *count) {
  if (uv_handle_get_type(handle) == UV_TIMER && uv_is_active(handle))
    ++*(int *)count;
}

/* How many timers run on the loop, the fixture's included. */
static int active_timers(fixture *f) {
  int count = 0;
  uv_walk(&f->loop, count_timer, &count);
  return count;
}

static void begin(fixture *f, transfer *t) {
  CHECK_INT(transfer_start(f, t), 0);
}

static void block_ms(unsigned ms) {
  double end = test_now_ms() + ms;
  while (test_now_ms() < end) {
  }
}

/* ---- timeouts ---- */

/* Runs one transfer to its CURLOPT_TIMEOUT_MS or CURLOPT_CONNECTTIMEOUT_MS of `ms`. */
static void expect_timeout(fixture *f, transfer *t, CURLoption option, long ms) {
  CHECK_INT(curl_easy_setopt(t->easy, option, ms), CURLE_OK);
  double start = test_now_ms();
  begin(f, t);
  fixture_run(f);
  double took = test_now_ms() - start;
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_BETWEEN(took, ms - 2, ms + 5000 * test_slowdown());
  /* One expiry may need a few calls; a busy wait would need thousands. */
  CHECK_BETWEEN(timeout_actions, 1, 40);
  CHECK_BETWEEN(turns, 1, 60);
  transfer_free(t);
}

/* S2, S3 */
TEST(only_transfer_times_out) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new_on(&f, SERVER_SILENT, "/");
  expect_timeout(&f, t, CURLOPT_TIMEOUT_MS, 200);
  close_loop(&f);
}

TEST(timeout_in_the_body) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new(&f, "/stall/10/1000");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 300L), CURLE_OK);
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_INT(t->received, 10);
  CHECK(t->content_ok);
  transfer_free(t);
  close_loop(&f);
}

/* S3 */
TEST(connect_timeout_in_a_black_hole) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new_on(&f, SERVER_BLACKHOLE, "/");
  expect_timeout(&f, t, CURLOPT_CONNECTTIMEOUT_MS, 200);
  close_loop(&f);
}

TEST(connect_timeout_in_tls) {
  char url[100];
  fixture f;
  open_loop(&f, NULL);
  snprintf(url, sizeof url, "https://127.0.0.1:%d/", server_port(f.server, SERVER_SILENT));
  expect_timeout(&f, transfer_new_url(&f, url), CURLOPT_CONNECTTIMEOUT_MS, 200);
  close_loop(&f);
}

static void jump(fixture *f, void *ms) {
  (void)f;
  ahead_ms += (uintptr_t)ms;
}

/* libcurl's default connect timeout of 300 s has no timer in socket mode (R20). */
TEST(default_connect_timeout_in_tls) {
  char url[100];
  fixture f;
  open_loop(&f, NULL);
  snprintf(url, sizeof url, "https://127.0.0.1:%d/", server_port(f.server, SERVER_SILENT));
  transfer *t = transfer_new_url(&f, url);
  begin(&f, t);
  fixture_after(&f, 50, jump, (void *)(uintptr_t)200000);
  fixture_after(&f, 100, jump, (void *)(uintptr_t)101000);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_BETWEEN(turns, 1, 200);
  transfer_free(t);
  close_loop(&f);
}

/* An hour passes at once; the transfers whose time has not come stay. */
TEST(long_timeouts_end_in_order) {
  fixture f;
  transfer *t[3];
  open_loop(&f, NULL);
  for (int i = 0; i < 3; i++) {
    t[i] = transfer_new_on(&f, SERVER_SILENT, "/");
    CHECK_INT(curl_easy_setopt(t[i]->easy, CURLOPT_TIMEOUT, 3600L * (i + 1)), CURLE_OK);
    begin(&f, t[i]);
  }
  fixture_after(&f, 50, jump, (void *)(uintptr_t)3601000);
  while (t[0]->done == 0)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  CHECK_INT(t[0]->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_INT(t[1]->done + t[2]->done, 0);
  fixture_after(&f, 0, jump, (void *)(uintptr_t)7200000);
  fixture_run(&f);
  for (int i = 1; i < 3; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, CURLE_OPERATION_TIMEDOUT);
  }
  for (int i = 0; i < 3; i++)
    transfer_free(t[i]);
  close_loop(&f);
}

/* S4: in 32 bits the wait is negative, in microseconds it is too long for 64. */
TEST(huge_timeouts_do_not_fire) {
  static const long waits[] = {INT_MAX / 2 + 1L, INT_MAX, 3000000000, LONG_MAX / 1000, LONG_MAX};
  fixture f;
  open_loop(&f, NULL);
  for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
    transfer *t = transfer_new(&f, "/hold/10"), *other = transfer_new(&f, "/delay/20/5");
    longest_ms = 0;
    server_hold(f.server);
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, waits[i]), CURLE_OK);
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, waits[i]), CURLE_OK);
    turns = 0;
    begin(&f, t);
    while (server_count(f.server, SERVER_HELD) == 0)
      CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
    turns = 0;
    begin(&f, other);
    while (other->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(other->status, 0);
    CHECK_INT(t->done, 0);
    CHECK_BETWEEN(turns, 1, 100);
    /* 12 days and more: libuv was asked for all of it, as far as libcurl itself goes. Before 8.4
     * its timer for a second address runs on after the connect, and is the nearer one. */
    if (curl_number() >= 0x080400)
      CHECK(longest_ms >= (uint64_t)(INT_MAX / 2 - 60000L * test_slowdown()));
    server_release(f.server);
    fixture_run(&f);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 10);
    transfer_free(t);
    transfer_free(other);
  }
  close_loop(&f);
}

static void release_and_note(fixture *f, void *noted) {
  *(bool *)noted = true;
  fixture_release(f, NULL);
}

/* S4: -1 is "none", not "now", and each wish replaces the one before. */
TEST(minus_one_stops_the_timer) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new(&f, "/hold");
  begin(&f, t);
  while (server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  /* libcurl has no deadline now: what runs is not for one. */
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), -1, timer_data), 0);
  int without = active_timers(&f);
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), 5000, timer_data), 0);
  CHECK_INT(active_timers(&f), without + 1);
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), LONG_MAX, timer_data), 0);
  CHECK_INT(active_timers(&f), without + 1);
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), 20, timer_data), 0);
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), -1, timer_data), 0);
  CHECK_INT(active_timers(&f), without);
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), 0, timer_data), 0);
  CHECK_INT(on_timer_wish(uvcurl_multi(f.uc), -1, timer_data), 0);

  turns = actions = 0;
  bool released = false;
  fixture_after(&f, 60, release_and_note, &released);
  while (!released)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  CHECK_BETWEEN(actions, 0, 3);
  CHECK_BETWEEN(turns, 1, 20);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  close_loop(&f);
}

/* S4, promise 5: nothing is left running when the last transfer has been reported. */
TEST(no_timer_without_transfers) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 60000L), CURLE_OK);
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(active_timers(&f), 0);
  turns = actions = 0;
  fixture_after(&f, 50, nothing, NULL);
  fixture_run(&f);
  CHECK_INT(actions, 0);
  /* One of them for poll handles that are closed after their transfer. */
  CHECK_BETWEEN(turns, 1, 4);
  transfer_free(t);
  close_loop(&f);
}

/* ---- 0 ms ---- */

static void again(transfer *t) {
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 100);
  CHECK(t->content_ok);
  int *left = t->user;
  if (--*left > 0)
    begin(t->f, t);
}

/* S5: "as soon as possible" is not a millisecond, and nothing is done twice for it. */
TEST(keep_alive_requests_cost_no_millisecond) {
  fixture f;
  int count = test_slowdown() > 1 ? 200 : 1000, left = count;
  open_loop(&f, NULL);
  transfer *t = transfer_new(&f, "/bytes/100");
  t->user = &left;
  t->on_done = again;
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, count);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 1);
  CHECK_INT(server_count(f.server, SERVER_REQUESTS), count);
  CHECK_BETWEEN(short_timers, 0, count / 20);
  /* 7.85 may do the first in the turn of its start. */
  CHECK_BETWEEN(turns, count - 1, 5 * count);
  CHECK_BETWEEN(actions, count, 4 * count);
  transfer_free(t);
  close_loop(&f);
}

/* S1, S9: neither inside the start nor lost, although there will never be a socket. */
TEST(transfer_that_cannot_begin_is_reported) {
  fixture f;
  open_loop(&f, NULL);
  for (int i = 0; i < 3; i++) {
    transfer *t = transfer_new_url(&f, "no-such-scheme://127.0.0.1/");
    begin(&f, t);
    CHECK_INT(t->done, 0);
    fixture_run(&f);
    CHECK_INT(t->done, 1);
    CHECK_INT(t->status, CURLE_UNSUPPORTED_PROTOCOL);
    transfer_free(t);
  }
  CHECK_BETWEEN(turns, 3, 20);
  close_loop(&f);
}

static struct {
  int fds[2];
  uv_pipe_t pipes[2];
  uint64_t pings;
  unsigned most_actions_between;
  unsigned actions_before;
} echo;

static void give_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buf) {
  static char bytes[16];
  (void)handle, (void)wanted;
  *buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_ping(uv_stream_t *from, ssize_t n, const uv_buf_t *buf) {
  uv_stream_t *to = (uv_stream_t *)&echo.pipes[from == (uv_stream_t *)&echo.pipes[0]];
  uv_buf_t out = uv_buf_init(buf->base, 1);
  (void)to;
  CHECK_INT(n, 1);
  CHECK_INT(uv_try_write(from, &out, 1), 1);
  echo.pings++;
}

static void open_echo(fixture *f) {
  uv_buf_t ball = uv_buf_init("o", 1);
  CHECK_INT(uv_socketpair(SOCK_STREAM, 0, echo.fds, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE), 0);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(uv_pipe_init(&f->loop, &echo.pipes[i], 0), 0);
    CHECK_INT(uv_pipe_open(&echo.pipes[i], echo.fds[i]), 0);
    CHECK_INT(uv_read_start((uv_stream_t *)&echo.pipes[i], give_buffer, on_ping), 0);
    uv_unref((uv_handle_t *)&echo.pipes[i]);
  }
  CHECK_INT(uv_try_write((uv_stream_t *)&echo.pipes[0], &ball, 1), 1);
}

static void close_echo(void) {
  uv_close((uv_handle_t *)&echo.pipes[0], NULL);
  uv_close((uv_handle_t *)&echo.pipes[1], NULL);
}

/* TLS data that waits inside libcurl makes it ask for 0 ms over and over. Each of those is a turn
 * of the loop with a poll in it, so the host's own traffic goes on. */
TEST(continuation_leaves_room_for_the_host) {
  fixture f;
  open_loop(&f, NULL);
  fixture_need_tls(&f);
  long size = test_slowdown() > 1 ? 1 << 20 : 20 << 20;
  char path[50];
  snprintf(path, sizeof path, "/bytes/%ld", size);
  transfer *t = transfer_new_on(&f, SERVER_HTTPS, path);
  open_echo(&f);
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, size);
  CHECK(t->content_ok);
  /* One for a socket and one for the deadline; the wake-up socket is a third. */
  CHECK_BETWEEN(most_actions_in_turn, 1, 3);
  CHECK_BETWEEN(echo.pings, turns / 2, 2 * turns + 10);
  close_echo();
  transfer_free(t);
  close_loop(&f);
}

/* ---- clocks that are not what they seem ---- */

static void block_and_begin(fixture *f, void *t) {
  block_ms(300);
  begin(f, t);
}

/* S7: the loop's idea of now is 300 ms old when libcurl's time begins. */
TEST(start_after_a_blocked_turn) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new_on(&f, SERVER_SILENT, "/");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 200L), CURLE_OK);
  fixture_after(&f, 0, block_and_begin, t);
  double start = test_now_ms();
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_BETWEEN(test_now_ms() - start, 498, 500 + 5000 * test_slowdown());
  CHECK_BETWEEN(timeout_actions, 1, 10);
  CHECK_BETWEEN(turns, 1, 20);
  transfer_free(t);
  close_loop(&f);
}

static size_t slow_write(transfer *t, const char *data, size_t n) {
  (void)t, (void)data;
  block_ms(300);
  return n;
}

/* S7: libcurl's callback blocks; every deadline set meanwhile counts from real time, see the check
 * in uv_timer_start, and none is lost. */
TEST(callbacks_that_block) {
  fixture f;
  open_loop(&f, NULL);
  transfer *slow = transfer_new(&f, "/trickle/4/1/1"), *t = transfer_new_on(&f, SERVER_SILENT, "/"),
           *late = transfer_new(&f, "/delay/700/3");
  slow->on_write = slow_write;
  CHECK_INT(curl_easy_setopt(slow->easy, CURLOPT_TIMEOUT_MS, 60000L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 500L), CURLE_OK);
  begin(&f, slow);
  begin(&f, t);
  begin(&f, late);
  fixture_run(&f);
  CHECK_INT(slow->status, 0);
  CHECK_INT(slow->received, 4);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_INT(late->status, 0);
  CHECK_BETWEEN(turns, 1, 100);
  transfer_free(slow);
  transfer_free(t);
  transfer_free(late);
  close_loop(&f);
}

/* S8: libuv is early, which costs one more turn each time and neither a busy wait nor the timeout.
 */
TEST(timer_that_fires_early) {
  fixture f;
  open_loop(&f, NULL);
  halve = true;
  transfer *t = transfer_new_on(&f, SERVER_SILENT, "/");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 400L), CURLE_OK);
  double start = test_now_ms();
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_BETWEEN(test_now_ms() - start, 398, 400 + 5000 * test_slowdown());
  /* It is asked only when the time has come. */
  CHECK_BETWEEN(timeout_actions, 1, 30);
  /* The driver's looks at what is silent come twice as often, too. */
  CHECK_BETWEEN(turns, 4, 80);
  transfer_free(t);
  close_loop(&f);
}

/* S9: as libcurl 8.10, which after an early call took its deadline to be known. */
TEST(deadline_that_is_not_announced_again) {
  fixture f;
  open_loop(&f, NULL);
  halve = true;
  timer_muted = true;
  transfer *t = transfer_new_on(&f, SERVER_SILENT, "/");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 400L), CURLE_OK);
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  /* Not by the look that the driver takes at silent transfers every few seconds. */
  CHECK_BETWEEN(timeout_actions, 2, 60);
  CHECK_MSG(driver_timers >= 3, "the timer was started %u times", driver_timers);
  transfer_free(t);
  close_loop(&f);
}

/* ---- the loop lives on the timer alone ---- */

/* S6: under a rate limit libcurl wants no socket for a while. */
TEST(rate_limit) {
  fixture f;
  open_loop(&f, NULL);
  /* Before 8.4 libcurl reads up to 400 kB before it looks at its limit. */
  long size = curl_number() >= 0x080400 ? 60000 : 600000;
  char path[50];
  snprintf(path, sizeof path, "/bytes/%ld", size);
  transfer *t = transfer_new(&f, path);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_BUFFERSIZE, 4096L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)(size * 2 / 3)),
            CURLE_OK);
  double start = test_now_ms();
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, size);
  CHECK(t->content_ok);
  CHECK_MSG(test_now_ms() - start >= 200, "there was no limit, which proves nothing");
  CHECK_BETWEEN(turns, 3, 2000);
  transfer_free(t);
  close_loop(&f);
}

/* ---- transfers that wait behind a connection limit (S10, promise 6) ---- */

static void need_pending_timeouts(void) {
  if (curl_number() < 0x080800)
    SKIP("libcurl before 8.8 looks at no timeout of a transfer without a connection (curl#13227)");
}

static void expect_pending_timeout(fixture *f, transfer *a, transfer *b) {
  CHECK_INT(curl_easy_setopt(b->easy, CURLOPT_TIMEOUT_MS, 300L), CURLE_OK);
  begin(f, a);
  while (server_count(f->server, SERVER_HELD) == 0)
    CHECK(uv_run(&f->loop, UV_RUN_NOWAIT) != 0);
  double start = test_now_ms();
  begin(f, b);
  while (b->done == 0)
    CHECK(uv_run(&f->loop, UV_RUN_ONCE) != 0);
  CHECK_INT(b->status, CURLE_OPERATION_TIMEDOUT);
  /* Below the 5 s of the driver's look at silent transfers. */
  CHECK_BETWEEN(test_now_ms() - start, 298, 300 + 3000 * test_slowdown());
  CHECK_INT(a->done, 0);
  CHECK_INT(server_count(f->server, SERVER_REQUESTS), 1);
  server_release(f->server);
  fixture_run(f);
  CHECK_INT(a->status, 0);
  CHECK_INT(a->received, 10);
  CHECK_INT(b->done, 1);
}

TEST(pending_behind_total_limit) {
  need_pending_timeouts();
  fixture f;
  open_loop(&f, NULL);
  transfer *a = transfer_new(&f, "/hold/10"), *b = transfer_new(&f, "/bytes/10");
  curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_TOTAL_CONNECTIONS, 1L);
  expect_pending_timeout(&f, a, b);
  transfer_free(a);
  transfer_free(b);
  close_loop(&f);
}

TEST(pending_behind_host_limit) {
  need_pending_timeouts();
  fixture f;
  open_loop(&f, NULL);
  transfer *a = transfer_new(&f, "/hold/10"), *b = transfer_new(&f, "/bytes/10");
  curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_HOST_CONNECTIONS, 1L);
  expect_pending_timeout(&f, a, b);
  transfer_free(a);
  transfer_free(b);
  close_loop(&f);
}

/* More sockets than transfers: idle connections that are being shut down, and such. */
TEST(pending_while_others_have_several_sockets) {
  need_pending_timeouts();
  char url[200], map[200];
  fixture f;
  open_loop(&f, &(server_options){.listen_v6 = 1});
  transfer *a = transfer_new(&f, "/hold/10"), *b = transfer_new(&f, "/bytes/10"), *c[3];
  struct curl_slist *list = NULL;
  /* Each of these connects to two addresses at a time, and to neither for long. */
  int port = server_port(f.server, SERVER_BLACKHOLE);
  snprintf(map, sizeof map, "two.test:%d:127.0.0.1,[::1]", port);
  snprintf(url, sizeof url, "http://two.test:%d/", port);
  list = curl_slist_append(list, map);
  curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_HOST_CONNECTIONS, 1L);
  for (int i = 0; i < 3; i++) {
    c[i] = transfer_new_url(&f, url);
    CHECK_INT(curl_easy_setopt(c[i]->easy, CURLOPT_RESOLVE, list), CURLE_OK);
    CHECK_INT(curl_easy_setopt(c[i]->easy, CURLOPT_TIMEOUT_MS, 700L), CURLE_OK);
    begin(&f, c[i]);
  }
  expect_pending_timeout(&f, a, b);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(c[i]->done, 1);
    CHECK_INT(c[i]->status, CURLE_OPERATION_TIMEDOUT);
    transfer_free(c[i]);
  }
  curl_slist_free_all(list);
  transfer_free(a);
  transfer_free(b);
  close_loop(&f);
}

#define WAITING 12

static unsigned write_blocks_ms;

static size_t block_in_write(transfer *t, const char *data, size_t n) {
  (void)t, (void)data;
  if (write_blocks_ms)
    block_ms(write_blocks_ms);
  return n;
}

/* Another transfer on the same loop receives all the time. libcurl lets any call, made for whatever
 * reason, swallow the expiry of a transfer it holds back. */
static void expect_pending_beside_a_busy_one(const char *busy_path) {
  char url[200];
  fixture f;
  open_loop(&f, &(server_options){.extra_addresses = 1});
  transfer *a = transfer_new(&f, "/hold/10"), *b[WAITING];
  transfer *busy = transfer_new_url(&f, server_extra_url(f.server, url, sizeof url, 0, busy_path));
  busy->on_write = block_in_write;
  curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_HOST_CONNECTIONS, 1L);
  begin(&f, a);
  begin(&f, busy);
  while (server_count(f.server, SERVER_HELD) == 0 || busy->received == 0)
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
  double start = test_now_ms();
  for (int i = 0; i < WAITING; i++) {
    b[i] = transfer_new(&f, "/bytes/10");
    CHECK_INT(curl_easy_setopt(b[i]->easy, CURLOPT_TIMEOUT_MS, 100L + 37 * i), CURLE_OK);
    begin(&f, b[i]);
  }
  for (int i = 0; i < WAITING; i++) {
    while (b[i]->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(b[i]->status, CURLE_OPERATION_TIMEDOUT);
    CHECK_BETWEEN(test_now_ms() - start, 98 + 37 * i, 100 + 37 * i + 15000 * test_slowdown());
  }
  CHECK_INT(a->done, 0);
  CHECK_INT(busy->done, 0);
  CHECK_INT(transfer_cancel(&f, busy), 0);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(a->status, 0);
  CHECK_INT(busy->status, UV_ECANCELED);
  for (int i = 0; i < WAITING; i++) {
    CHECK_INT(b[i]->done, 1);
    transfer_free(b[i]);
  }
  transfer_free(a);
  transfer_free(busy);
  close_loop(&f);
}

TEST(pending_beside_a_busy_transfer) {
  need_pending_timeouts();
  expect_pending_beside_a_busy_one("/trickle/100000000/1000/1");
}

/* The deadline passes inside libcurl, while it works for somebody else. */
TEST(pending_beside_a_blocking_callback) {
  need_pending_timeouts();
  write_blocks_ms = 30;
  expect_pending_beside_a_busy_one("/trickle/100000000/10/1");
}

TEST_MAIN(T(only_transfer_times_out), T(timeout_in_the_body), T(connect_timeout_in_a_black_hole),
          T(connect_timeout_in_tls), T(default_connect_timeout_in_tls),
          T(long_timeouts_end_in_order), T(huge_timeouts_do_not_fire), T(minus_one_stops_the_timer),
          T(no_timer_without_transfers), T(keep_alive_requests_cost_no_millisecond),
          T(transfer_that_cannot_begin_is_reported), T(continuation_leaves_room_for_the_host),
          T(start_after_a_blocked_turn), T(callbacks_that_block), T(timer_that_fires_early),
          T(deadline_that_is_not_announced_again), T(rate_limit), T(pending_behind_total_limit),
          T(pending_behind_host_limit), T(pending_while_others_have_several_sockets),
          T(pending_beside_a_busy_transfer), T(pending_beside_a_blocking_callback))
