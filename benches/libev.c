/* The transfers on libev, in the shape of the example that libcurl's documentation carries: a
   watcher for each socket, stopped and started whenever libcurl wants something else of it, and one
   timer. Messages are read after every call. */
#include "bench.h"

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>

const char driver_name[] = "libev";

struct driver {
  struct ev_loop *loop;
  ev_timer timer, host_timer;
  CURLM *multi;
  struct bench *bench;
};

struct watch {
  ev_io io;
};

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

static void on_event(struct ev_loop *loop, ev_io *io, int events) {
  (void)loop;
  act(io->data, io->fd,
      (events & EV_READ ? CURL_CSELECT_IN : 0) | (events & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *assigned) {
  struct driver *d = user;
  struct watch *watch = assigned;
  int events = (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);

  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    if (watch) {
      ev_io_stop(d->loop, &watch->io);
      free(watch);
      check_multi("curl_multi_assign", curl_multi_assign(d->multi, socket, NULL));
    }
    return 0;
  }
  if (!watch) {
    watch = bench_alloc(sizeof *watch);
    check_multi("curl_multi_assign", curl_multi_assign(d->multi, socket, watch));
  } else {
    ev_io_stop(d->loop, &watch->io);
  }
  ev_io_init(&watch->io, on_event, socket, events);
  watch->io.data = d;
  ev_io_start(d->loop, &watch->io);
  return 0;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events) {
  (void)loop;
  (void)events;
  act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_deadline(CURLM *multi, long ms, void *user) {
  struct driver *d = user;

  (void)multi;
  ev_timer_stop(d->loop, &d->timer);
  if (ms >= 0) {
    ev_timer_set(&d->timer, (double)ms / 1000, 0);
    ev_timer_start(d->loop, &d->timer);
  }
  return 0;
}

static void on_host_timer(struct ev_loop *loop, ev_timer *timer, int events) {
  (void)loop;
  (void)events;
  bench_tick(timer->data);
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  d->bench = bench;
  d->loop = ev_loop_new(EVFLAG_AUTO);
  if (!d->loop)
    bench_fatal("ev_loop_new", "failed");
  ev_init(&d->timer, on_timer);
  ev_init(&d->host_timer, on_host_timer);
  d->timer.data = d;
  d->host_timer.data = bench;
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

  ev_timer_stop(d->loop, &d->host_timer);
  if (ms) {
    ev_timer_set(&d->host_timer, ms / 1000.0, ms / 1000.0);
    ev_timer_start(d->loop, &d->host_timer);
  }
}

void driver_run(struct bench *bench) {
  struct driver *d = bench->driver;

  ev_ref(d->loop); /* it ends when it is told to, not for want of watchers */
  ev_run(d->loop, 0);
  ev_unref(d->loop);
}

void driver_stop(struct bench *bench) {
  struct driver *d = bench->driver;

  ev_break(d->loop, EVBREAK_ALL);
}

void driver_close(struct bench *bench) {
  struct driver *d = bench->driver;
  size_t i;

  for (i = 0; i < bench_slots(bench); i++)
    curl_multi_remove_handle(d->multi, bench_easy(bench, i));
  check_multi("curl_multi_cleanup", curl_multi_cleanup(d->multi));
  ev_timer_stop(d->loop, &d->timer);
  ev_loop_destroy(d->loop);
}

const char *driver_loop_version(void) {
  static char text[32];

  snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
  return text;
}
