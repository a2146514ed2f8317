/* The transfers on epoll alone, as well as it can be done without a library: a table of what is
   watched, no call for what is watched already, the deadline as epoll_wait()'s own timeout,
   messages read once per turn. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

const char driver_name[] = "epoll";

enum { EVENTS = 1024 };

struct driver {
  CURLM *multi;
  int ep;
  bool stopped;
  uint32_t *watched; /* by descriptor */
  size_t room;
  int64_t deadline_ns, host_ns, host_every_ns;
};

static void check_multi(const char *what, CURLMcode code) {
  if (code)
    bench_fatal(what, curl_multi_strerror(code));
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *assigned) {
  struct driver *d = user;
  size_t at = (size_t)socket;
  struct epoll_event e = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0) |
                                    (what & CURL_POLL_OUT ? EPOLLOUT : 0),
                          .data.fd = socket};

  (void)easy;
  (void)assigned;
  if (at >= d->room) {
    size_t room = at * 2 + 64;
    d->watched = realloc(d->watched, room * sizeof *d->watched);
    if (!d->watched)
      bench_fatal("memory", "none left");
    memset(d->watched + d->room, 0, (room - d->room) * sizeof *d->watched);
    d->room = room;
  }
  if (what == CURL_POLL_REMOVE) {
    if (d->watched[at] && epoll_ctl(d->ep, EPOLL_CTL_DEL, socket, NULL))
      bench_fatal("EPOLL_CTL_DEL", strerror(errno));
    d->watched[at] = 0;
    return 0;
  }
  if (d->watched[at] == e.events)
    return 0;
  if (epoll_ctl(d->ep, d->watched[at] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &e))
    bench_fatal("epoll_ctl", strerror(errno));
  d->watched[at] = e.events;
  return 0;
}

static int on_deadline(CURLM *multi, long ms, void *user) {
  struct driver *d = user;

  (void)multi;
  d->deadline_ns = ms < 0 ? INT64_MAX : ms ? bench_now_ns() + (int64_t)ms * 1000000 : 0;
  return 0;
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  d->deadline_ns = d->host_ns = INT64_MAX;
  d->ep = epoll_create1(EPOLL_CLOEXEC);
  if (d->ep < 0)
    bench_fatal("epoll_create1", strerror(errno));
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

  d->host_every_ns = (int64_t)ms * 1000000;
  d->host_ns = ms ? bench_now_ns() + d->host_every_ns : INT64_MAX;
}

void driver_run(struct bench *bench) {
  struct driver *d = bench->driver;
  struct epoll_event events[EVENTS];
  int running, i, n;

  while (!d->stopped) {
    n = epoll_wait(d->ep, events, EVENTS,
                   bench_ms_until(d->deadline_ns < d->host_ns ? d->deadline_ns : d->host_ns));
    if (n < 0 && errno != EINTR)
      bench_fatal("epoll_wait", strerror(errno));
    for (i = 0; i < n; i++) {
      int bits = 0;

      if (!d->watched[events[i].data.fd])
        continue; /* given up earlier in this turn */
      if (events[i].events & (EPOLLIN | EPOLLHUP))
        bits |= CURL_CSELECT_IN;
      if (events[i].events & EPOLLOUT)
        bits |= CURL_CSELECT_OUT;
      if (events[i].events & EPOLLERR)
        bits |= CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
      check_multi("curl_multi_socket_action",
                  curl_multi_socket_action(d->multi, events[i].data.fd, bits, &running));
    }
    if (d->deadline_ns != INT64_MAX && (!d->deadline_ns || d->deadline_ns <= bench_now_ns())) {
      d->deadline_ns = INT64_MAX;
      check_multi("curl_multi_socket_action",
                  curl_multi_socket_action(d->multi, CURL_SOCKET_TIMEOUT, 0, &running));
    }
    bench_drain(bench, d->multi);
    if (d->host_ns != INT64_MAX && d->host_ns <= bench_now_ns()) {
      d->host_ns = bench_now_ns() + d->host_every_ns;
      bench_tick(bench);
    }
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
  close(d->ep);
  free(d->watched);
}

const char *driver_loop_version(void) {
  return "epoll";
}
