/* The transfers in a loop around curl_multi_poll(): libcurl does the waiting, and looks at every
 * transfer. */
#include "bench.h"

#include <stdlib.h>

const char driver_name[] = "multi-poll";

struct driver {
  CURLM *multi;
  bool stopped;
  int64_t host_ns, host_every_ns;
};

static void check_multi(const char *what, CURLMcode code) {
  if (code)
    bench_fatal(what, curl_multi_strerror(code));
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  d->host_ns = INT64_MAX;
  d->multi = curl_multi_init();
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

  d->host_every_ns = (int64_t)ms * 1000000;
  d->host_ns = ms ? bench_now_ns() + d->host_every_ns : INT64_MAX;
}

void driver_run(struct bench *bench) {
  struct driver *d = bench->driver;
  int running;

  while (!d->stopped) {
    int wait = bench_ms_until(d->host_ns);

    check_multi("curl_multi_perform", curl_multi_perform(d->multi, &running));
    bench_drain(bench, d->multi);
    if (d->host_ns != INT64_MAX && d->host_ns <= bench_now_ns()) {
      d->host_ns = bench_now_ns() + d->host_every_ns;
      bench_tick(bench);
    }
    if (!d->stopped)
      check_multi("curl_multi_poll",
                  curl_multi_poll(d->multi, NULL, 0, wait < 0 ? 60000 : wait, NULL));
  }
}

void driver_stop(struct bench *bench) {
  struct driver *d = bench->driver;

  d->stopped = true;
}

void driver_close(struct bench *bench) {
  struct driver *d = bench->driver;
  size_t i;

  for (i = 0; i < bench_slots(bench); i++)
    curl_multi_remove_handle(d->multi, bench_easy(bench, i));
  check_multi("curl_multi_cleanup", curl_multi_cleanup(d->multi));
}

const char *driver_loop_version(void) {
  return "poll";
}
