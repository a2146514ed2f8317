/* The transfers through uvcurl. */
#include "bench.h"

#include <uvcurl.h>

const char driver_name[] = "uvcurl";

struct driver {
  uv_loop_t loop;
  uv_timer_t timer;
  uvcurl_t *uc;
};

static void check(const char *what, int status) {
  if (status)
    bench_fatal(what, uvcurl_strerror(status));
}

static void on_timer(uv_timer_t *timer) {
  bench_tick(timer->data);
}

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *user_data) {
  (void)uc;
  if (status < 0 && status != UV_ECANCELED)
    bench_fatal("transfer", uvcurl_strerror(status));
  bench_done(user_data, easy, status < 0 ? CURLE_ABORTED_BY_CALLBACK : (CURLcode)status);
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  check("uv_loop_init", uv_loop_init(&d->loop));
  check("uv_timer_init", uv_timer_init(&d->loop, &d->timer));
  d->timer.data = bench;
  check("uvcurl_new", uvcurl_new(&d->loop, &d->uc));
}

CURLM *driver_multi(struct bench *bench) {
  struct driver *d = bench->driver;

  return uvcurl_multi(d->uc);
}

void driver_max_connects(struct bench *bench, long count) {
  struct driver *d = bench->driver;

  check("uvcurl_set", uvcurl_set(d->uc, UVCURL_MAXCONNECTS, count));
}

void driver_start(struct bench *bench, CURL *easy) {
  struct driver *d = bench->driver;

  check("uvcurl_start", uvcurl_start(d->uc, easy, on_done, bench));
}

void driver_timer(struct bench *bench, unsigned ms) {
  struct driver *d = bench->driver;

  if (ms)
    check("uv_timer_start", uv_timer_start(&d->timer, on_timer, ms, ms));
  else
    uv_timer_stop(&d->timer);
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

  uvcurl_close(d->uc, NULL, NULL);
  uv_close((uv_handle_t *)&d->timer, NULL);
  uv_run(&d->loop, UV_RUN_DEFAULT);
  check("uv_loop_close", uv_loop_close(&d->loop));
}

const char *driver_loop_version(void) {
  return uv_version_string();
}
