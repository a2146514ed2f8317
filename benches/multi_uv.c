/* The transfers in the shape of the libuv example that libcurl's documentation carries: a poll
   handle for each announcement of a socket, uv_poll_start() at every call, uv_poll_stop() and
   uv_close() at the end, a record of its own found through curl_multi_assign(), and a wait of 0 ms
   made 1 ms.

   Not taken over are what in the example is simply wrong and what would make it slower than it need
   be: here all return values are looked at, the status of a poll handle is passed on, messages are
   read after every call and before any handle is removed. */
#include "bench.h"

#include <stdlib.h>
#include <uv.h>

const char driver_name[] = "multi-uv";

struct driver {
  uv_loop_t loop;
  uv_timer_t host_timer, timer;
  CURLM *multi;
  struct bench *bench;
};

struct watch {
  uv_poll_t poll;
  curl_socket_t socket;
  struct driver *driver;
};

static void check(const char *what, int status) {
  if (status)
    bench_fatal(what, uv_strerror(status));
}

static void check_multi(const char *what, CURLMcode code) {
  if (code)
    bench_fatal(what, curl_multi_strerror(code));
}

static void act(struct driver *d, curl_socket_t socket, int bits) {
  int running;

  check_multi("curl_multi_socket_action",
              curl_multi_socket_action(d->multi, socket, bits, &running));
  bench_drain(d->bench, d->multi);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct watch *watch = poll->data;
  int bits = 0;

  if (status < 0)
    bits = CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
  if (events & UV_READABLE)
    bits |= CURL_CSELECT_IN;
  if (events & UV_WRITABLE)
    bits |= CURL_CSELECT_OUT;
  act(watch->driver, watch->socket, bits);
}

static void on_poll_closed(uv_handle_t *handle) {
  free(handle->data);
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *assigned) {
  struct driver *d = user;
  struct watch *watch = assigned;

  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    if (watch) {
      uv_poll_stop(&watch->poll);
      uv_close((uv_handle_t *)&watch->poll, on_poll_closed);
      check_multi("curl_multi_assign", curl_multi_assign(d->multi, socket, NULL));
    }
    return 0;
  }
  if (!watch) {
    watch = bench_alloc(sizeof *watch);
    watch->socket = socket;
    watch->driver = d;
    check("uv_poll_init_socket", uv_poll_init_socket(&d->loop, &watch->poll, socket));
    watch->poll.data = watch;
    check_multi("curl_multi_assign", curl_multi_assign(d->multi, socket, watch));
  }
  check("uv_poll_start", uv_poll_start(&watch->poll,
                                       (what & CURL_POLL_IN ? UV_READABLE : 0) |
                                           (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                                       on_poll));
  return 0;
}

static void on_timer(uv_timer_t *timer) {
  act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_deadline(CURLM *multi, long ms, void *user) {
  struct driver *d = user;

  (void)multi;
  if (ms < 0)
    uv_timer_stop(&d->timer);
  else
    check("uv_timer_start", uv_timer_start(&d->timer, on_timer, ms ? (uint64_t)ms : 1, 0));
  return 0;
}

static void on_host_timer(uv_timer_t *timer) {
  struct driver *d = timer->data;

  bench_tick(d->bench);
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  d->bench = bench;
  check("uv_loop_init", uv_loop_init(&d->loop));
  check("uv_timer_init", uv_timer_init(&d->loop, &d->timer));
  check("uv_timer_init", uv_timer_init(&d->loop, &d->host_timer));
  d->timer.data = d->host_timer.data = d;
  d->multi = curl_multi_init();
  curl_multi_setopt(d->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(d->multi, CURLMOPT_SOCKETDATA, d);
  curl_multi_setopt(d->multi, CURLMOPT_TIMERFUNCTION, on_deadline);
  curl_multi_setopt(d->multi, CURLMOPT_TIMERDATA, d);
}

CURLM *driver_multi(struct bench *bench) {
  struct driver *d = bench->driver;

  return d->multi;
}

void driver_start(struct bench *bench, CURL *easy) {
  struct driver *d = bench->driver;

  check_multi("curl_multi_add_handle", curl_multi_add_handle(d->multi, easy));
}

void driver_timer(struct bench *bench, unsigned ms) {
  struct driver *d = bench->driver;

  if (ms)
    check("uv_timer_start", uv_timer_start(&d->host_timer, on_host_timer, ms, ms));
  else
    uv_timer_stop(&d->host_timer);
}

void driver_run(struct bench *bench) {
  struct driver *d = bench->driver;

  uv_run(&d->loop, UV_RUN_DEFAULT);
}

void driver_stop(struct bench *bench) {
  struct driver *d = bench->driver;

  uv_stop(&d->loop);
}

void driver_close(struct bench *bench) {
  struct driver *d = bench->driver;
  size_t i;

  for (i = 0; i < bench_slots(bench); i++)
    curl_multi_remove_handle(d->multi, bench_easy(bench, i));
  curl_multi_setopt(d->multi, CURLMOPT_TIMERFUNCTION, NULL);
  check_multi("curl_multi_cleanup", curl_multi_cleanup(d->multi));
  uv_close((uv_handle_t *)&d->timer, NULL);
  uv_close((uv_handle_t *)&d->host_timer, NULL);
  uv_run(&d->loop, UV_RUN_DEFAULT);
  check("uv_loop_close", uv_loop_close(&d->loop));
}

const char *driver_loop_version(void) {
  return uv_version_string();
}
