/* libcurl's sockets on poll handles of the host's loop. Promise 7. */
/* link: -Wl,--wrap=uv_poll_init_socket,--wrap=uv_poll_start,--wrap=curl_multi_setopt */
/* link: -Wl,--wrap=curl_multi_assign,--wrap=sigaction,--wrap=getaddrinfo */
/* link: -Wl,--wrap=curl_multi_socket_action,--wrap=curl_multi_socket_all */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fixture.h"

#define MAX_FD 20000

/* ---- between libcurl and the driver ---- */

static curl_socket_callback socket_function;
static void *socket_data;
static CURLM *multi_handle;
/* libcurl forgets to say REMOVE (S16). */
static bool remove_swallowed;
static int wished[MAX_FD];
static int highest_fd = -1;
static bool fd_seen[MAX_FD];

static int on_wish(CURL *easy, curl_socket_t fd, int what, void *data, void *socketp) {
  CHECK_BETWEEN(fd, 0, MAX_FD - 1);
  if (what == CURL_POLL_REMOVE && remove_swallowed) {
    wished[fd] = 0;
    return 0;
  }
  wished[fd] = what == CURL_POLL_REMOVE ? 0 : what;
  fd_seen[fd] = true;
  if (fd > highest_fd)
    highest_fd = fd;
  int result = socket_function(easy, fd, what, data, socketp);
  /* R5: anything else kills the multi handle. */
  CHECK_INT(result, 0);
  return result;
}

CURLMcode __real_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...) {
  va_list args;
  va_start(args, option);
  void *value = va_arg(args, void *);
  va_end(args);
  multi_handle = multi;
  if (option == CURLMOPT_SOCKETFUNCTION && value != NULL) {
    socket_function = (curl_socket_callback)value;
    value = (void *)on_wish;
  }
  if (option == CURLMOPT_SOCKETDATA)
    socket_data = value;
  return __real_curl_multi_setopt(multi, option, value);
}

/* S19, S28: it forgets at REMOVE and fails during cleanup. */
CURLMcode __wrap_curl_multi_assign(CURLM *multi, curl_socket_t fd, void *p);
CURLMcode __wrap_curl_multi_assign(CURLM *multi, curl_socket_t fd, void *p) {
  (void)multi, (void)fd, (void)p;
  test_fail(__FILE__, __LINE__, "curl_multi_assign was called");
}

/* S15: libcurl before 8.9.1 crashes without room for the number. */
CURLMcode __real_curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int bits, int *running);
CURLMcode __wrap_curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int bits, int *running);
CURLMcode __wrap_curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int bits, int *running) {
  CHECK(running != NULL);
  return __real_curl_multi_socket_action(multi, fd, bits, running);
}

CURLMcode __real_curl_multi_socket_all(CURLM *multi, int *running);
CURLMcode __wrap_curl_multi_socket_all(CURLM *multi, int *running);
CURLMcode __wrap_curl_multi_socket_all(CURLM *multi, int *running) {
  CHECK(running != NULL);
  return __real_curl_multi_socket_all(multi, running);
}

static unsigned sigactions;

int __real_sigaction(int signum, const struct sigaction *act, struct sigaction *old);
int __wrap_sigaction(int signum, const struct sigaction *act, struct sigaction *old);
int __wrap_sigaction(int signum, const struct sigaction *act, struct sigaction *old) {
  if (signum == SIGPIPE && act != NULL)
    sigactions++;
  return __real_sigaction(signum, act, old);
}

/* A name that takes a moment: its answer comes from a thread, by libcurl's wake-up descriptor. */
int __real_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out) {
  if (name && strncmp(name, "slow-", 5) == 0) {
    usleep(20000);
    struct addrinfo numeric = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    return __real_getaddrinfo("127.0.0.1", service, &numeric, out);
  }
  return __real_getaddrinfo(name, service, hints, out);
}

/* ---- between the driver and libuv ---- */

enum kind { NEITHER, POLL_INIT, POLL_START };

static int started[MAX_FD];
static unsigned starts, events, errors_made, masks_seen;
static uv_poll_cb driver_poll;
/* Every so many events becomes an error, as libuv reports a reset connection (S13). */
static unsigned error_every;
/* The descriptor whose every event is an error. */
static int error_fd = -1;
/* The descriptor whose pending error is taken away before libcurl is told. */
static int forgiven_fd = -1;
static unsigned forgiven;
/* What fails, with which status, at which call, for which descriptor from then on. */
static enum kind failing;
static int fail_status, fail_at, fail_fd = -1;
static bool fail_wakeup, fail_once;
static unsigned failures;

static bool is_eventfd(int fd) {
  char path[64], target[64] = "";
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, target, sizeof target - 1) > 0);
  return strstr(target, "eventfd") != NULL;
}

static int descriptor(const uv_poll_t *poll) {
  uv_os_fd_t fd = -1;
  CHECK_INT(uv_fileno((const uv_handle_t *)poll, &fd), 0);
  CHECK_BETWEEN(fd, 0, MAX_FD - 1);
  return fd;
}

static bool fails(enum kind kind, int fd) {
  if (failing != kind)
    return false;
  if (fail_wakeup) {
    failures += is_eventfd(fd);
    return is_eventfd(fd);
  }
  if (fail_fd < 0 && !is_eventfd(fd) && --fail_at == 0)
    fail_fd = fd;
  if (fd != fail_fd)
    return false;
  failures++;
  if (fail_once)
    failing = NEITHER;
  return true;
}

int __real_uv_poll_init_socket(uv_loop_t *loop, uv_poll_t *poll, uv_os_sock_t fd);
int __wrap_uv_poll_init_socket(uv_loop_t *loop, uv_poll_t *poll, uv_os_sock_t fd);
int __wrap_uv_poll_init_socket(uv_loop_t *loop, uv_poll_t *poll, uv_os_sock_t fd) {
  if (fails(POLL_INIT, fd))
    return fail_status;
  int result = __real_uv_poll_init_socket(loop, poll, fd);
  if (result == 0 && fd < MAX_FD)
    started[fd] = 0;
  return result;
}

static void on_poll(uv_poll_t *poll, int status, int bits) {
  int fd = descriptor(poll);
  events++;
  if (status == 0 &&
      (fd == error_fd || (error_every && !is_eventfd(fd) && events % error_every == 0))) {
    CHECK_INT(uv_poll_stop(poll), 0);
    status = UV_EBADF;
    bits = 0;
    errors_made++;
  }
  if (status < 0)
    started[fd] = 0;
  if (status < 0 && fd == forgiven_fd) {
    int error = 0;
    socklen_t size = sizeof error;
    CHECK_INT(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    CHECK_INT(error, ECONNREFUSED);
    forgiven++;
  }
  driver_poll(poll, status, bits);
}

int __real_uv_poll_start(uv_poll_t *poll, int bits, uv_poll_cb cb);
int __wrap_uv_poll_start(uv_poll_t *poll, int bits, uv_poll_cb cb);
int __wrap_uv_poll_start(uv_poll_t *poll, int bits, uv_poll_cb cb) {
  int fd = descriptor(poll);
  if (fails(POLL_START, fd))
    return fail_status;
  starts++;
  masks_seen |= 1U << bits;
  /* R3: two system calls for nothing. */
  CHECK_MSG(started[fd] != bits || !uv_is_active((uv_handle_t *)poll),
            "descriptor %d is watched for %d already", fd, bits);
  started[fd] = bits;
  driver_poll = cb;
  /* What is writable is ready at once, so errors have no end. */
  if (fd == error_fd)
    bits |= UV_WRITABLE;
  return __real_uv_poll_start(poll, bits, on_poll);
}

/* ---- the loop ---- */

static uv_prepare_t prepare;
static unsigned turns;
static bool masks_checked;

/* Before the loop waits, what is watched is what libcurl wants. */
static void on_prepare(uv_prepare_t *handle) {
  (void)handle;
  turns++;
  for (int fd = 0; masks_checked && fd <= highest_fd; fd++) {
    static const int bits[] = {0, UV_READABLE, UV_WRITABLE, UV_READABLE | UV_WRITABLE};
    if (wished[fd])
      CHECK_INT(started[fd], bits[wished[fd]]);
  }
}

static void open_loop(fixture *f, const server_options *options) {
  fixture_open_with(f, options);
  CHECK_INT(uv_prepare_init(&f->loop, &prepare), 0);
  CHECK_INT(uv_prepare_start(&prepare, on_prepare), 0);
  uv_unref((uv_handle_t *)&prepare);
}

static void close_loop(fixture *f) {
  uv_close((uv_handle_t *)&prepare, NULL);
  fixture_close(f);
}

static void count_poll(uv_handle_t *handle, void *count) {
  if (uv_handle_get_type(handle) == UV_POLL && uv_is_active(handle))
    ++*(int *)count;
}

static int active_polls(fixture *f) {
  int count = 0;
  uv_walk(&f->loop, count_poll, &count);
  return count;
}

static void begin(fixture *f, transfer *t) {
  CHECK_INT(transfer_start(f, t), 0);
}

static void nothing(fixture *f, void *arg) {
  (void)f, (void)arg;
}

static void fresh(transfer *t) {
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L), CURLE_OK);
}

/* ---- masks, and odd orders of calls ---- */

/* S12, R3: each change is one start with the new mask, and what is no change is none. */
TEST(mask_changes) {
  int pair[2];
  fixture f;
  fixture_open_bare(&f);
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  int fd = pair[0];
  static const struct {
    int what, starts, mask;
  } steps[] = {
      {CURL_POLL_IN, 1, UV_READABLE},
      {CURL_POLL_IN, 1, UV_READABLE},
      {CURL_POLL_OUT, 2, UV_WRITABLE},
      {CURL_POLL_INOUT, 3, UV_READABLE | UV_WRITABLE},
      {CURL_POLL_INOUT, 3, UV_READABLE | UV_WRITABLE},
      {CURL_POLL_IN, 4, UV_READABLE},
      {CURL_POLL_NONE, 4, 0},
      {CURL_POLL_NONE, 4, 0},
      {CURL_POLL_IN, 5, UV_READABLE},
      {CURL_POLL_REMOVE, 5, 0},
      {CURL_POLL_REMOVE, 5, 0},
      {CURL_POLL_OUT, 6, UV_WRITABLE},
      {CURL_POLL_REMOVE, 6, 0},
  };
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    on_wish(NULL, fd, steps[i].what, socket_data, NULL);
    CHECK_INT(starts, steps[i].starts);
    CHECK_INT(active_polls(&f), steps[i].mask != 0);
    if (steps[i].mask)
      CHECK_INT(started[fd], steps[i].mask);
    if (i % 2)
      uv_run(&f.loop, UV_RUN_NOWAIT);
  }
  close(pair[0]);
  close(pair[1]);
  fixture_close(&f);
}

/* S20: versions of libcurl have removed sockets that they never announced, twice, or by no number.
 * None of it is remembered, and none of it disturbs what is in use. */
TEST(odd_announcements) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new(&f, "/hold/10");
  begin(&f, t);
  while (server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  int before = active_polls(&f);
  static const int odd[] = {CURL_POLL_REMOVE, CURL_POLL_NONE, CURL_POLL_REMOVE, -1, 5, 77};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    CHECK_INT(socket_function(NULL, 1000, odd[i], socket_data, NULL), 0);
    CHECK_INT(socket_function(t->easy, 1001, odd[i], socket_data, NULL), 0);
    CHECK_INT(socket_function(t->easy, CURL_SOCKET_BAD, odd[i], socket_data, NULL), 0);
    CHECK_INT(socket_function(NULL, 1 << 30, odd[i], socket_data, (void *)8), 0);
  }
  CHECK_INT(socket_function(NULL, CURL_SOCKET_BAD, CURL_POLL_IN, socket_data, NULL), 0);
  /* Watching what is not open cannot work, and is nobody's error but its own. */
  CHECK_INT(socket_function(NULL, 1002, CURL_POLL_IN, socket_data, NULL), 0);
  CHECK_INT(active_polls(&f), before);
  transfer *other = transfer_new(&f, "/bytes/10");
  begin(&f, other);
  while (other->done == 0)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  CHECK_INT(other->status, 0);
  CHECK_INT(socket_function(NULL, 1002, CURL_POLL_REMOVE, socket_data, NULL), 0);
  CHECK_INT(t->done, 0);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  transfer_free(other);
  close_loop(&f);
}

/* S12, S25: uploads and downloads of both kinds want every mask there is. */
TEST(masks_are_libcurls) {
  fixture f;
  open_loop(&f, NULL);
  masks_checked = true;
  source sources[4];
  transfer *t[8];
  int n = 0;
  enum server_port_kind last = server_port(f.server, SERVER_HTTPS) ? SERVER_HTTPS : SERVER_HTTP;
  for (enum server_port_kind kind = SERVER_HTTP; kind <= last; kind++) {
    for (int i = 0; i < 2; i++) {
      sources[n / 2] = (source){0, i ? 1000000 : 200000};
      t[n] = transfer_new_on(&f, kind, i ? "/sink" : "/slow-sink/50000/2");
      t[n]->keep_body = 1;
      transfer_upload(t[n], &sources[n / 2]);
      begin(&f, t[n++]);
      t[n] = transfer_new_on(&f, kind, i ? "/bytes/1000000" : "/trickle/10000/1000/2");
      begin(&f, t[n++]);
    }
  }
  fixture_run(&f);
  for (int i = 0; i < n; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, 0);
    if (i % 2 == 0)
      CHECK_STR((char *)t[i]->body, i % 4 ? "1000000" : "200000");
    else
      CHECK(t[i]->content_ok);
    transfer_free(t[i]);
  }
  /* An upload waits for the answer as well, and libcurl 7.85 does not want to write alone. */
  unsigned expected = 1 << UV_READABLE | 1 << (UV_READABLE | UV_WRITABLE);
  if (curl_number() >= 0x075800)
    expected |= 1 << UV_WRITABLE;
  CHECK_INT(masks_seen & expected, expected);
  close_loop(&f);
}

/* ---- what goes wrong with one connection is its own result ---- */

static void expect_result(enum server_port_kind kind, const char *path, int status,
                          size_t received) {
  fixture f;
  open_loop(&f, NULL);
  masks_checked = true;
  transfer *good = transfer_new(&f, "/hold/10");
  begin(&f, good);
  for (int i = 0; i < 20; i++) {
    transfer *t = transfer_new_on(&f, kind, path);
    turns = 0;
    begin(&f, t);
    while (t->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(t->status, status);
    CHECK_INT(t->received, received);
    CHECK(t->content_ok);
    CHECK_BETWEEN(turns, 1, 50);
    transfer_free(t);
  }
  CHECK_INT(good->done, 0);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(good->status, 0);
  transfer_free(good);
  close_loop(&f);
}

/* S13: what came before the reset is delivered. */
TEST(reset_in_the_body) {
  expect_result(SERVER_HTTP, "/reset/1000/100000", CURLE_RECV_ERROR, 1000);
}

TEST(reset_without_an_answer) {
  expect_result(SERVER_HTTP, "/reset-headers", CURLE_RECV_ERROR, 0);
}

TEST(reset_by_the_port) {
  expect_result(SERVER_RESETTING, "/", CURLE_RECV_ERROR, 0);
}

TEST(refused) {
  expect_result(SERVER_REFUSED, "/", CURLE_COULDNT_CONNECT, 0);
}

TEST(short_body) {
  expect_result(SERVER_HTTP, "/short/1000/100000", CURLE_PARTIAL_FILE, 1000);
}

TEST(garbage) {
  expect_result(SERVER_HTTP, "/garbage", CURLE_UNSUPPORTED_PROTOCOL, 0);
}

/* Whether the request still went out decides between "nothing came" and a reset. */
TEST(closed_at_once) {
  fixture f;
  open_loop(&f, NULL);
  for (int i = 0; i < 20; i++) {
    transfer *t = transfer_new_on(&f, SERVER_CLOSING, "/");
    begin(&f, t);
    fixture_run(&f);
    CHECK_INT(t->done, 1);
    CHECK_MSG(t->status == CURLE_GOT_NOTHING || t->status == CURLE_RECV_ERROR ||
                  t->status == CURLE_SEND_ERROR,
              "%d", t->status);
    transfer_free(t);
  }
  close_loop(&f);
}

/* ---- errors that libuv reports (S13, R9) ---- */

/* libuv stops the handle and calls the descriptor bad, and the connection lives on: this is no more
 * than a reason to look, and the socket must be watched again. */
TEST(polling_goes_on_after_an_error) {
  fixture f;
  open_loop(&f, NULL);
  masks_checked = true;
  error_every = 2;
  transfer *t[3];
  source s = {0, 300000};
  t[0] = transfer_new(&f, "/trickle/20000/1000/3");
  t[1] = transfer_new(&f, "/chunked/300000");
  t[2] = transfer_new(&f, "/slow-sink/50000/3");
  transfer_upload(t[2], &s);
  for (int i = 0; i < 3; i++)
    begin(&f, t[i]);
  fixture_run(&f);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
  CHECK_BETWEEN(errors_made, 5, 1000000);
  close_loop(&f);
}

static int socket_in_use(void) {
  for (int fd = 0; fd <= highest_fd; fd++) {
    if (wished[fd] && !is_eventfd(fd))
      return fd;
  }
  return -1;
}

/* An error that comes back whatever is done ends its transfer, not the loop's rest. */
TEST(errors_without_end) {
  fixture f;
  open_loop(&f, NULL);
  transfer *t = transfer_new(&f, "/hold/10"), *good = transfer_new(&f, "/hold/20");
  begin(&f, t);
  while (server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  error_fd = socket_in_use();
  CHECK(error_fd >= 0);
  begin(&f, good);
  /* The first error needs an event. */
  while (server_count(f.server, SERVER_HELD) == 1)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  on_wish(t->easy, error_fd, CURL_POLL_INOUT, socket_data, NULL);
  while (t->done == 0)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  CHECK_INT(t->status, UV_EBADF);
  CHECK_BETWEEN(errors_made, 2, 2000);
  error_fd = -1;
  CHECK_INT(good->done, 0);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(good->status, 0);
  CHECK_INT(good->received, 20);
  CHECK_INT(t->done, 1);
  transfer_free(t);
  transfer_free(good);
  close_loop(&f);
}

/* ---- a UDP socket, as QUIC has them (S14) ---- */

static int udp_client = -1;

static curl_socket_t open_udp(void *unused, curlsocktype purpose, struct curl_sockaddr *address) {
  (void)unused, (void)purpose;
  udp_client = socket(address->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return udp_client;
}

/* On any port of loopback if it is 0. */
static int listen_on_udp(int *port) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
  socklen_t size = sizeof name;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK_INT(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
  CHECK_INT(getsockname(fd, (struct sockaddr *)&name, &size), 0);
  *port = ntohs(name.sin_port);
  return fd;
}

/* HTTP in datagrams: the server is gone for a moment, and what is sent to it meanwhile comes back
 * as an ICMP error, which the socket tells as POLLERR. If libcurl gets to see the error, the
 * transfer ends by it; if not, as where QUIC tries again, the transfer goes on and the socket is
 * watched. */
static void refuse_a_datagram(bool forgive) {
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
  char url[60], request[2000], whole[sizeof answer + 10];
  struct sockaddr_in client;
  socklen_t size = sizeof client;
  int port = 0, server = listen_on_udp(&port);
  fixture f;
  open_loop(&f, NULL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_TICK_MS, 3600000), 0);
  transfer *other = transfer_new(&f, "/hold/10");
  begin(&f, other);
  while (server_count(f.server, SERVER_HELD) == 0)
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
  transfer *t = transfer_new_url(&f, url);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, open_udp), CURLE_OK);
  begin(&f, t);
  while (recvfrom(server, request, sizeof request, MSG_DONTWAIT, (struct sockaddr *)&client,
                  &size) < 0)
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
  /* What the socket tells from here on is the error. */
  for (int i = 0; i < 3; i++)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  CHECK_INT(t->done, 0);
  masks_checked = true;
  close(server);
  forgiven_fd = forgive ? udp_client : -1;
  CHECK_INT(send(udp_client, "x", 1, 0), 1);
  if (forgive) {
    while (forgiven == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(t->done, 0);
    server = listen_on_udp(&port);
    memcpy(whole, answer, sizeof answer - 1);
    server_fill(whole + sizeof answer - 1, 0, 10);
    CHECK_INT(sendto(server, whole, sizeof answer + 9, 0, (struct sockaddr *)&client, size),
              sizeof answer + 9);
  }
  while (t->done == 0)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  if (forgive) {
    close(server);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 10);
    CHECK(t->content_ok);
  } else {
    CHECK_INT(t->status, CURLE_RECV_ERROR);
  }
  CHECK_INT(other->done, 0);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(other->status, 0);
  transfer_free(t);
  transfer_free(other);
  close_loop(&f);
}

TEST(icmp_error_on_a_udp_socket) {
  refuse_a_datagram(false);
}

TEST(icmp_error_that_passes) {
  refuse_a_datagram(true);
}

/* ---- what libuv refuses (S21, promise 7) ---- */

#define CROWD 200

static int crowd_failed;

static void on_crowd_done(transfer *t) {
  if (t->status != 0) {
    CHECK_INT(t->status, fail_status);
    crowd_failed++;
    /* The number may be somebody else's from now on. */
    failing = NEITHER;
  }
}

static void run_crowd(enum kind kind, int status, int at) {
  static transfer *t[CROWD];
  fixture f;
  int n = test_slowdown() > 1 ? 40 : CROWD, succeeded = 0;
  open_loop(&f, NULL);
  failing = kind;
  fail_status = status;
  fail_at = at;
  fail_fd = -1;
  failures = 0;
  crowd_failed = 0;
  for (int i = 0; i < n; i++) {
    /* Not answered within the call that asks, so that each of them needs its socket. */
    t[i] = transfer_new(&f, "/delay/20/1000");
    t[i]->on_done = on_crowd_done;
    begin(&f, t[i]);
  }
  fixture_run(&f);
  CHECK_MSG(failures > 0, "nothing has failed");
  for (int i = 0; i < n; i++) {
    CHECK_INT(t[i]->done, 1);
    succeeded += t[i]->status == 0 && t[i]->received == 1000;
    transfer_free(t[i]);
  }
  CHECK_INT(succeeded + crowd_failed, n);
  if (fail_once)
    CHECK_BETWEEN(crowd_failed, 0, 1);
  else
    CHECK_INT(crowd_failed, 1);
  transfer *after = transfer_new(&f, "/bytes/10");
  begin(&f, after);
  fixture_run(&f);
  CHECK_INT(after->status, 0);
  transfer_free(after);
  close_loop(&f);
}

TEST(poll_init_fails_for_one) {
  static const int statuses[] = {UV_EMFILE, UV_EPERM, UV_EEXIST, UV_ENOMEM};
  for (int i = 0; i < 4; i++)
    run_crowd(POLL_INIT, statuses[i], 10 * i + 1);
}

TEST(poll_start_fails_for_one) {
  static const int statuses[] = {UV_EEXIST, UV_ENOMEM, UV_EBADF};
  for (int i = 0; i < 3; i++)
    run_crowd(POLL_START, statuses[i], 11 * i + 1);
}

/* What stood in the way may be gone a moment later. */
TEST(poll_fails_once) {
  fail_once = true;
  run_crowd(POLL_INIT, UV_ENOMEM, 7);
  run_crowd(POLL_START, UV_EEXIST, 8);
}

static void expect_lookups_without_wakeup(enum kind kind) {
  fixture f;
  /* Before, each lookup has a descriptor that belongs to its transfer. */
  if (curl_number() < 0x081400)
    SKIP("libcurl announces a descriptor of its own since 8.20");
  char url[200];
  transfer *t[5];
  open_loop(&f, NULL);
  failing = kind;
  fail_status = UV_EMFILE;
  fail_wakeup = true;
  double start = test_now_ms();
  for (int i = 0; i < 5; i++) {
    snprintf(url, sizeof url, "http://slow-%d.test:%d/bytes/100", i,
             server_port(f.server, SERVER_HTTP));
    t[i] = transfer_new_url(&f, url);
    begin(&f, t[i]);
  }
  fixture_run(&f);
  CHECK_MSG(failures > 0, "libcurl has no wake-up descriptor here, or does not announce it");
  for (int i = 0; i < 5; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, 0);
    CHECK_INT(t[i]->received, 100);
    transfer_free(t[i]);
  }
  /* Looking now and then is not spinning, but now and then is often enough. */
  CHECK_BETWEEN(turns, 1, 2000);
  CHECK_BETWEEN(test_now_ms() - start, 20, 3000 * test_slowdown());
  close_loop(&f);
}

/* libcurl's own descriptor is no transfer's, so no transfer ends for it. */
TEST(wakeup_that_cannot_be_watched) {
  expect_lookups_without_wakeup(POLL_INIT);
}

TEST(wakeup_that_cannot_be_started) {
  expect_lookups_without_wakeup(POLL_START);
}

/* ---- descriptors that are used again (S16, S17, S18) ---- */

struct host_connection {
  uv_tcp_t tcp;
  uv_connect_t connect;
  uv_write_t write;
  bool *answered;
};

static void give_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buf) {
  static char bytes[4096];
  (void)handle, (void)wanted;
  *buf = uv_buf_init(bytes, sizeof bytes);
}

static void free_connection(uv_handle_t *handle) {
  free(handle->data);
}

static void on_host_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct host_connection *c = stream->data;
  (void)buf;
  CHECK(n > 0);
  *c->answered = true;
  uv_close((uv_handle_t *)stream, free_connection);
}

static void on_host_connect(uv_connect_t *connect, int status) {
  struct host_connection *c = connect->data;
  static char text[] = "GET /bytes/5 HTTP/1.1\r\nHost: x\r\n\r\n";
  uv_buf_t request = uv_buf_init(text, sizeof text - 1);
  CHECK_INT(status, 0);
  CHECK_INT(uv_write(&c->write, (uv_stream_t *)&c->tcp, &request, 1, NULL), 0);
  CHECK_INT(uv_read_start((uv_stream_t *)&c->tcp, give_buffer, on_host_read), 0);
}

/* A connection of the host's own: a request, an answer, and gone. */
static void host_fetch(fixture *f, bool *answered) {
  struct sockaddr_in address;
  struct host_connection *c = calloc(1, sizeof *c);
  CHECK(c != NULL);
  *answered = false;
  c->answered = answered;
  CHECK_INT(uv_tcp_init(&f->loop, &c->tcp), 0);
  c->tcp.data = c->connect.data = c;
  CHECK_INT(uv_ip4_addr("127.0.0.1", server_port(f->server, SERVER_HTTP), &address), 0);
  CHECK_INT(uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&address, on_host_connect), 0);
}

static bool host_answered[2];

static void fetch_too(transfer *t) {
  host_fetch(t->f, &host_answered[1]);
}

/* Within one call libcurl closes the socket of the first address and opens one of the same number
 * for the second, while the host opens and closes its own. */
TEST(second_address_takes_the_descriptor) {
  char url[200], map[200];
  fixture f;
  open_loop(&f, NULL);
  masks_checked = true;
  int port = server_port(f.server, SERVER_HTTP);
  snprintf(map, sizeof map, "both.test:%d:[::1],127.0.0.1", port);
  snprintf(url, sizeof url, "http://both.test:%d/bytes/1000", port);
  struct curl_slist *list = curl_slist_append(NULL, map);
  for (int i = 0, n = test_slowdown() > 1 ? 60 : 300; i < n; i++) {
    transfer *t = transfer_new_url(&f, url);
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_RESOLVE, list), CURLE_OK);
    fresh(t);
    t->on_done = fetch_too;
    host_fetch(&f, &host_answered[0]);
    begin(&f, t);
    fixture_run(&f);
    CHECK_INT(t->done, 1);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 1000);
    CHECK(host_answered[0] && host_answered[1]);
    transfer_free(t);
  }
  curl_slist_free_all(list);
  close_loop(&f);
}

static struct {
  fixture *f;
  int fds[2];
  uv_pipe_t pipe;
  bool opened, heard;
  unsigned same;
} taker;

static void on_taker_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  (void)buf;
  CHECK_INT(n, 1);
  taker.heard = true;
  uv_close((uv_handle_t *)stream, NULL);
  close(taker.fds[1]);
  taker.opened = false;
}

/* Opens a descriptor of the host's own and waits for a byte on it. */
static void take(int freed) {
  CHECK(!taker.opened);
  CHECK_INT(uv_socketpair(SOCK_STREAM, 0, taker.fds, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE), 0);
  CHECK_INT(uv_pipe_init(&taker.f->loop, &taker.pipe, 0), 0);
  CHECK_INT(uv_pipe_open(&taker.pipe, taker.fds[0]), 0);
  CHECK_INT(uv_read_start((uv_stream_t *)&taker.pipe, give_buffer, on_taker_read), 0);
  taker.opened = true;
  taker.heard = false;
  taker.same += taker.fds[0] == freed;
}

static void tell_taker(fixture *f, void *unused) {
  (void)f, (void)unused;
  CHECK(taker.opened);
  CHECK_INT(write(taker.fds[1], "x", 1), 1);
}

static int taken_in_close(void *unused, curl_socket_t fd) {
  (void)unused;
  close(fd);
  take(fd);
  return 0;
}

/* S18: inside libcurl's own close, the host's new descriptor gets the number. A poll handle that is
 * closed only now takes the host's registration with it. */
TEST(host_takes_the_descriptor_in_close) {
  fixture f;
  open_loop(&f, NULL);
  taker.f = &f;
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  for (int i = 0; i < 50; i++) {
    transfer *t = transfer_new(&f, i % 2 ? "/bytes/100" : "/short/10/100");
    fresh(t);
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_CLOSESOCKETFUNCTION, taken_in_close), CURLE_OK);
    begin(&f, t);
    while (t->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    /* Some turns later, when anything late has happened. */
    fixture_after(&f, 1, tell_taker, NULL);
    fixture_run(&f);
    CHECK(taker.heard);
    transfer_free(t);
  }
  CHECK_INT(taker.same, 50);
  close_loop(&f);
}

static void take_when_done(transfer *t) {
  (void)t;
  take(-1);
}

TEST(host_takes_the_descriptor_when_done) {
  fixture f;
  unsigned same = 0;
  open_loop(&f, NULL);
  taker.f = &f;
  for (int i = 0; i < 50; i++) {
    transfer *t = transfer_new(&f, i % 2 ? "/bytes/100" : "/reset/10/100");
    fresh(t);
    t->on_done = take_when_done;
    memset(fd_seen, 0, sizeof fd_seen);
    begin(&f, t);
    while (t->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    same += fd_seen[taker.fds[0]];
    fixture_after(&f, 1, tell_taker, NULL);
    fixture_run(&f);
    CHECK(taker.heard);
    transfer_free(t);
  }
  CHECK_MSG(same > 25, "only %u descriptors had a number that libcurl had used", same);
  close_loop(&f);
}

/* S16: libcurl closes a socket without having said REMOVE, and the host gets its number. */
TEST(close_without_remove) {
  fixture f;
  unsigned same = 0;
  fixture_need_options();
  open_loop(&f, NULL);
  taker.f = &f;
  remove_swallowed = true;
  for (int i = 0; i < 50; i++) {
    transfer *t = transfer_new(&f, i % 2 ? "/trickle/100/30/1" : "/short/10/100");
    fresh(t);
    t->on_done = take_when_done;
    memset(fd_seen, 0, sizeof fd_seen);
    begin(&f, t);
    while (t->done == 0)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(t->status, i % 2 ? 0 : CURLE_PARTIAL_FILE);
    same += fd_seen[taker.fds[0]];
    fixture_after(&f, 1, tell_taker, NULL);
    fixture_run(&f);
    CHECK(taker.heard);
    transfer_free(t);
  }
  CHECK_MSG(same > 40, "only %u descriptors had a number that libcurl had used", same);
  close_loop(&f);
}

/* ---- special descriptors ---- */

TEST(descriptor_zero) {
  fixture f;
  open_loop(&f, NULL);
  int saved = fcntl(0, F_DUPFD_CLOEXEC, 100);
  CHECK(saved >= 0);
  for (int i = 0; i < 4; i++) {
    transfer *t = transfer_new(&f, "/trickle/300/100/2");
    fresh(t);
    close(0);
    fd_seen[0] = false;
    begin(&f, t);
    fixture_run(&f);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 300);
    CHECK_MSG(fd_seen[0], "descriptor 0 was not used");
    transfer_free(t);
  }
  close_loop(&f);
  CHECK_INT(dup2(saved, 0), 0);
  close(saved);
}

static void set_descriptor_limit(rlim_t limit) {
  struct rlimit now;
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &now), 0);
  if (limit > now.rlim_max)
    SKIP("the hard limit of descriptors is %lu", (unsigned long)now.rlim_max);
  now.rlim_cur = limit;
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &now), 0);
}

/* Without HAVE_POLL libcurl uses select(), and fails above 1023. */
TEST(descriptor_above_two_thousand) {
  static int many[2000];
  fixture f;
  open_loop(&f, NULL);
  set_descriptor_limit(4000);
  for (int i = 0; i < 2000; i++)
    CHECK((many[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
  enum server_port_kind last = server_port(f.server, SERVER_HTTPS) ? SERVER_HTTPS : SERVER_HTTP;
  for (enum server_port_kind kind = SERVER_HTTP; kind <= last; kind++) {
    transfer *t = transfer_new_on(&f, kind, "/trickle/3000/1000/2");
    highest_fd = -1;
    begin(&f, t);
    fixture_run(&f);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 3000);
    CHECK(highest_fd > 2000);
    transfer_free(t);
  }
  for (int i = 0; i < 2000; i++)
    close(many[i]);
  close_loop(&f);
}

/* The process runs out of descriptors among 200 transfers. Those without are told, the others go
 * on, and so does the loop. */
TEST(out_of_descriptors) {
  static transfer *t[CROWD];
  struct rlimit before;
  fixture f;
  open_loop(&f, NULL);
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
  int room = 40;
  for (int i = 0; i < CROWD; i++)
    t[i] = transfer_new(&f, "/hold/10");
  /* Everything below is taken, so the limit leaves as many as it is higher. */
  int next = fcntl(1, F_DUPFD_CLOEXEC, 0);
  close(next);
  set_descriptor_limit((rlim_t)(next + room));
  for (int i = 0; i < CROWD; i++)
    begin(&f, t[i]);
  int done = 0;
  while (done + (int)server_count(f.server, SERVER_HELD) < CROWD) {
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
    done = 0;
    for (int i = 0; i < CROWD; i++)
      done += t[i]->done;
  }
  int held = (int)server_count(f.server, SERVER_HELD), good = 0;
  CHECK_BETWEEN(held, 1, room);
  server_release(f.server);
  fixture_run(&f);
  for (int i = 0; i < CROWD; i++) {
    CHECK_INT(t[i]->done, 1);
    good += t[i]->status == 0;
    if (t[i]->status != 0)
      CHECK_INT(t[i]->status, CURLE_COULDNT_CONNECT);
    transfer_free(t[i]);
  }
  CHECK_INT(good, held);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
  transfer *after = transfer_new(&f, "/bytes/10");
  begin(&f, after);
  fixture_run(&f);
  CHECK_INT(after->status, 0);
  transfer_free(after);
  close_loop(&f);
}

/* ---- connections that idle ---- */

/* S22: the servers of 16 hosts close what idles. The end of each is noticed once and then no more,
 * nothing spins, and what has been closed does not pile up. */
TEST(idle_connections_are_closed_by_the_peer) {
  char url[200];
  fixture f;
  open_loop(&f, &(server_options){.extra_addresses = 16});
  CHECK_INT(uvcurl_set(f.uc, UVCURL_MAXCONNECTS, 5), 0);
  int base = test_descriptors(), most = 0;
  for (int i = 0, n = test_slowdown() > 1 ? 100 : 3000; i < n; i++) {
    const char *path = i % 2 ? "/late-fin/5/100" : "/linger-close/100";
    transfer *t = transfer_new_url(&f, server_extra_url(f.server, url, sizeof url, i % 16, path));
    begin(&f, t);
    fixture_run(&f);
    CHECK_INT(t->done, 1);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, 100);
    transfer_free(t);
    int more = test_descriptors() - base;
    if (more > most)
      most = more;
  }
  CHECK_BETWEEN(most, 1, 6);
  turns = events = 0;
  fixture_after(&f, 60, nothing, NULL);
  fixture_run(&f);
  CHECK_BETWEEN(events, 0, 5);
  CHECK_BETWEEN(turns, 1, 9);
  turns = events = 0;
  fixture_after(&f, 20, nothing, NULL);
  fixture_run(&f);
  CHECK_INT(events, 0);
  CHECK_BETWEEN(turns, 1, 4);
  close_loop(&f);
}

/* S54: the host says that the network has changed. The idle connections go, and a transfer on its
 * way keeps its own. */
TEST(network_change_drops_idle_connections) {
  if (curl_number() < 0x081000)
    SKIP("libcurl before 8.16 has no CURLMOPT_NETWORK_CHANGED");
  fixture f;
  open_loop(&f, NULL);
  transfer *held = transfer_new(&f, "/hold/10"), *t = transfer_new(&f, "/bytes/10");
  begin(&f, held);
  while (server_count(f.server, SERVER_HELD) == 0)
    CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
  for (int round = 1; round <= 4; round++) {
    begin(&f, t);
    while (t->done < round)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    CHECK_INT(t->status, 0);
    /* Used again after the first and the third, and new after the change. */
    CHECK_INT(server_count(f.server, SERVER_ACCEPTED), round < 3 ? 2 : 3);
    /* CURLMNWC_CLEAR_CONNS is 1 before 8.20 and 2 from then on, where 1 is for everything. */
    if (round == 2)
      CHECK_INT(curl_multi_setopt(uvcurl_multi(f.uc), (CURLMoption)17, 3L), CURLM_OK);
  }
  CHECK_INT(held->done, 0);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(held->status, 0);
  CHECK_INT(held->received, 10);
  transfer_free(held);
  transfer_free(t);
  close_loop(&f);
}

/* S26: libcurl has data that it may not hand on, and so does the socket. */
static size_t pause_once(transfer *t, const char *data, size_t n) {
  (void)data;
  if (t->user == NULL) {
    t->user = t;
    CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_RECV), 0);
  }
  return n;
}

TEST(paused_tls_transfer_does_not_spin) {
  fixture f;
  open_loop(&f, NULL);
  fixture_need_tls(&f);
  transfer *t = transfer_new_on(&f, SERVER_HTTPS, "/bytes/3000000");
  t->on_write = pause_once;
  begin(&f, t);
  while (t->user == NULL)
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
  bool waiting = true;
  size_t received = t->received;
  turns = 0;
  transfer *sentinel = transfer_new(&f, "/delay/100/10");
  begin(&f, sentinel);
  while (waiting) {
    CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    waiting = sentinel->done == 0;
  }
  CHECK_BETWEEN(turns, 1, 40);
  CHECK_INT(t->done, 0);
  /* From 8.9 to 8.14 what libcurl still had noted down to read it reads. */
  if (curl_number() < 0x080900 || curl_number() >= 0x080f00)
    CHECK_INT(t->received, received);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_CONT), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 3000000);
  CHECK(t->content_ok);
  transfer_free(t);
  transfer_free(sentinel);
  close_loop(&f);
}

static void expect_few_turns_beside(fixture *f, const char *path) {
  transfer *sentinel = transfer_new(f, path);
  turns = 0;
  begin(f, sentinel);
  while (sentinel->done == 0)
    uv_run(&f->loop, UV_RUN_ONCE);
  CHECK_INT(sentinel->status, 0);
  CHECK_BETWEEN(turns, 1, 150);
  transfer_free(sentinel);
}

/* S23: 8.20.0 does not empty the descriptor by which a lookup has reported (curl#21547). */
TEST(finished_lookups_do_not_spin) {
  fixture f;
  char url[200];
  open_loop(&f, NULL);
  transfer *held = transfer_new(&f, "/hold");
  begin(&f, held);
  for (int i = 0; i < 3; i++) {
    snprintf(url, sizeof url, "http://slow-%d.test:%d/bytes/100", i,
             server_port(f.server, SERVER_HTTP));
    transfer *t = transfer_new_url(&f, url);
    begin(&f, t);
    while (t->done == 0)
      uv_run(&f.loop, UV_RUN_ONCE);
    CHECK_INT(t->status, 0);
    transfer_free(t);
    expect_few_turns_beside(&f, "/delay/100/10");
  }
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(held->status, 0);
  transfer_free(held);
  close_loop(&f);
}

/* S24: connections that take their leave of a peer which does not answer (curl#14280). */
TEST(closing_connections_do_not_spin) {
  fixture f;
  open_loop(&f, NULL);
  fixture_need_tls(&f);
  transfer *t[5];
  for (int i = 0; i < 5; i++) {
    t[i] = transfer_new_on(&f, SERVER_HTTPS, "/bytes/10");
    CHECK_INT(curl_easy_setopt(t[i]->easy, CURLOPT_FORBID_REUSE, 1L), CURLE_OK);
    begin(&f, t[i]);
  }
  for (int i = 0; i < 5; i++) {
    while (t[i]->done == 0)
      uv_run(&f.loop, UV_RUN_ONCE);
    CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
  expect_few_turns_beside(&f, "/delay/300/10");
  close_loop(&f);
}

/* ---- two at once ---- */

static unsigned cancelled, too_late;

static void cancel_other(transfer *t) {
  transfer *other = t->user;
  if (other == NULL || other->done)
    return;
  int status = transfer_cancel(t->f, other);
  CHECK(status == 0 || status == UV_EALREADY);
  cancelled += status == 0;
  too_late += status != 0;
}

static size_t cancel_other_and_go_on(transfer *t, const char *data, size_t n) {
  (void)data;
  cancel_other(t);
  return n;
}

/* S27: both descriptors are ready in one turn, and what the first leads to ends the second. By
 * turns in the write callback, which comes before the second event, and in the done callback, which
 * comes when both have ended. */
TEST(first_of_two_ready_cancels_the_second) {
  fixture f;
  open_loop(&f, NULL);
  for (int i = 0; i < 20; i++) {
    transfer *a = transfer_new(&f, "/hold/10"), *b = transfer_new(&f, "/hold/10");
    a->user = b;
    b->user = a;
    if (i % 2 == 0)
      a->on_write = b->on_write = cancel_other_and_go_on;
    else
      a->on_done = b->on_done = cancel_other;
    server_hold(f.server);
    begin(&f, a);
    begin(&f, b);
    while (server_count(f.server, SERVER_HELD) < 2)
      CHECK(uv_run(&f.loop, UV_RUN_NOWAIT) != 0);
    server_release(f.server);
    while (server_count(f.server, SERVER_HELD) > 0) {
    }
    usleep(2000);
    fixture_run(&f);
    CHECK_INT(a->done, 1);
    CHECK_INT(b->done, 1);
    CHECK((a->status == 0) + (b->status == 0) >= 1);
    CHECK(a->status == 0 || a->status == UV_ECANCELED);
    CHECK(b->status == 0 || b->status == UV_ECANCELED);
    if (i % 2 == 0)
      CHECK_INT((a->status == 0) + (b->status == 0), 1);
    transfer_free(a);
    transfer_free(b);
  }
  CHECK_INT(cancelled + too_late, 20);
  CHECK_MSG(cancelled >= 10, "%u were cancelled, %u had ended", cancelled, too_late);
  close_loop(&f);
}

/* ---- signals, certificates ---- */

/* S50 */
TEST(reset_during_an_upload_raises_no_signal) {
  fixture f;
  signal(SIGPIPE, SIG_DFL);
  fixture_need_options();
  open_loop(&f, NULL);
  /* Before 7.87 OpenSSL itself writes to the socket, by write(2). */
  bool tls = server_port(f.server, SERVER_HTTPS) && curl_number() >= 0x075700;
  enum server_port_kind last = tls ? SERVER_HTTPS : SERVER_HTTP;
  for (enum server_port_kind kind = SERVER_HTTP; kind <= last; kind++) {
    for (int i = 0; i < 10; i++) {
      source s = {0, 2000000};
      transfer *t = transfer_new_on(&f, kind, "/sink-reset/100000");
      transfer_upload(t, &s);
      /* libcurl is not to see to it in its own way, with system calls for every transfer. */
      sigactions = 0;
      begin(&f, t);
      fixture_run(&f);
      CHECK_INT(t->done, 1);
      CHECK(t->status > 0);
      CHECK_INT(sigactions, 0);
      transfer_free(t);
    }
  }
  close_loop(&f);
}

/* The embedded libcurl knows where the system keeps its certificates, and uses them. */
TEST(certificates) {
  fixture f;
  open_loop(&f, NULL);
  fixture_need_tls(&f);
  const char *path = curl_version_info(CURLVERSION_NOW)->cainfo;
  CHECK(path != NULL);
  transfer *t = transfer_new_on(&f, SERVER_HTTPS, "/bytes/10");
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  t = transfer_new_on(&f, SERVER_HTTPS, "/bytes/10");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_CAINFO, path), CURLE_OK);
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->status,
            access(path, R_OK) == 0 ? CURLE_PEER_FAILED_VERIFICATION : CURLE_SSL_CACERT_BADFILE);
  CHECK_INT(t->received, 0);
  transfer_free(t);
  close_loop(&f);
}

TEST_MAIN(T(mask_changes), T(odd_announcements), T(masks_are_libcurls), T(reset_in_the_body),
          T(reset_without_an_answer), T(reset_by_the_port), T(refused), T(short_body), T(garbage),
          T(closed_at_once), T(polling_goes_on_after_an_error), T(icmp_error_on_a_udp_socket),
          T(icmp_error_that_passes), T(errors_without_end), T(poll_init_fails_for_one),
          T(poll_start_fails_for_one), T(poll_fails_once), T(wakeup_that_cannot_be_watched),
          T(wakeup_that_cannot_be_started), T(second_address_takes_the_descriptor),
          T(host_takes_the_descriptor_in_close), T(host_takes_the_descriptor_when_done),
          T(close_without_remove), T(descriptor_zero), T(descriptor_above_two_thousand),
          T(out_of_descriptors), T(idle_connections_are_closed_by_the_peer),
          T(network_change_drops_idle_connections), T(paused_tls_transfer_does_not_spin),
          T(finished_lookups_do_not_spin), T(closing_connections_do_not_spin),
          T(first_of_two_ready_cancels_the_second), T(reset_during_an_upload_raises_no_signal),
          T(certificates))
