/* The transfers on libevent, in the shape of the example that libcurl's documentation carries: an
   event for each socket, put in anew whenever libcurl wants something else of it, and one timer
   event. Messages are read after every call. */
#include "bench.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>

const char driver_name[] = "libevent";

struct driver {
  struct event_base *base;
  struct event timer, host_timer;
  CURLM *multi;
  struct bench *bench;
};

struct watch {
  struct event event;
};

static void check(const char *what, int result) {
  if (result)
    bench_fatal(what, "failed");
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

static void on_event(evutil_socket_t socket, short events, void *user) {
  act(user, socket,
      (events & EV_READ ? CURL_CSELECT_IN : 0) | (events & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *assigned) {
  struct driver *d = user;
  struct watch *watch = assigned;
  short events = (short)((what & CURL_POLL_IN ? EV_READ : 0) |
                         (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);

  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    if (watch) {
      check("event_del", event_del(&watch->event));
      free(watch);
      check_multi("curl_multi_assign", curl_multi_assign(d->multi, socket, NULL));
    }
    return 0;
  }
  if (!watch) {
    watch = bench_alloc(sizeof *watch);
    check_multi("curl_multi_assign", curl_multi_assign(d->multi, socket, watch));
  } else {
    check("event_del", event_del(&watch->event));
  }
  check("event_assign", event_assign(&watch->event, d->base, socket, events, on_event, d));
  check("event_add", event_add(&watch->event, NULL));
  return 0;
}

static void on_timer(evutil_socket_t socket, short events, void *user) {
  (void)socket;
  (void)events;
  act(user, CURL_SOCKET_TIMEOUT, 0);
}

static int on_deadline(CURLM *multi, long ms, void *user) {
  struct driver *d = user;
  struct timeval wait = {ms / 1000, ms % 1000 * 1000};

  (void)multi;
  if (ms < 0)
    check("evtimer_del", evtimer_del(&d->timer));
  else
    check("evtimer_add", evtimer_add(&d->timer, &wait));
  return 0;
}

static void on_host_timer(evutil_socket_t socket, short events, void *user) {
  (void)socket;
  (void)events;
  bench_tick(user);
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  d->bench = bench;
  d->base = event_base_new();
  if (!d->base)
    bench_fatal("event_base_new", "failed");
  check("evtimer_assign", evtimer_assign(&d->timer, d->base, on_timer, d));
  check("event_assign",
        event_assign(&d->host_timer, d->base, -1, EV_PERSIST, on_host_timer, bench));
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
  struct timeval every = {ms / 1000, ms % 1000 * 1000};

  if (ms)
    check("event_add", event_add(&d->host_timer, &every));
  else
    event_del(&d->host_timer);
}

void driver_run(struct bench *bench) {
  struct driver *d = bench->driver;

  check("event_base_loop", event_base_loop(d->base, EVLOOP_NO_EXIT_ON_EMPTY));
}

void driver_stop(struct bench *bench) {
  struct driver *d = bench->driver;

  event_base_loopbreak(d->base);
}

void driver_close(struct bench *bench) {
  struct driver *d = bench->driver;
  size_t i;

  for (i = 0; i < bench_slots(bench); i++)
    curl_multi_remove_handle(d->multi, bench_easy(bench, i));
  check_multi("curl_multi_cleanup", curl_multi_cleanup(d->multi));
  event_del(&d->timer);
  event_base_free(d->base);
}

const char *driver_loop_version(void) {
  return event_get_version();
}
