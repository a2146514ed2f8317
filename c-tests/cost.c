/* What a transfer costs in system calls, as counts: none on a connection that is kept alive beyond
 * libcurl's own, few on a new one; and that what saves them is safe beside shared pools. */
/* link: -Wl,--wrap=epoll_ctl,--wrap=ioctl */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fixture.h"

static unsigned epoll_ctls, ioctls;

int __real_epoll_ctl(int set, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int op, int fd, struct epoll_event *event) {
  epoll_ctls++;
  return __real_epoll_ctl(set, op, fd, event);
}

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument) {
  ioctls++;
  return __real_ioctl(fd, request, argument);
}

/* libuv 1.45 to 1.48 hands all its calls to the kernel in batches: none may be seen here. */
static unsigned at_least(unsigned calls) {
  return uv_version() >= 0x012d00 && uv_version() < 0x013100 ? 0 : calls;
}

/* ---- counts ---- */

static int left;

static void again(transfer *t) {
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 10);
  if (left > 0) {
    left--;
    CHECK_INT(transfer_start(t->f, t), 0);
  }
}

/* Lets `crowd` transfers at a time end until `total` have. */
static void run_all(fixture *f, transfer **t, int crowd, int total) {
  left = total - crowd;
  for (int i = 0; i < crowd; i++) {
    t[i]->on_done = again;
    CHECK_INT(transfer_start(f, t[i]), 0);
  }
  fixture_run(f);
  CHECK_INT(left, 0);
}

/* Ten bytes, which take the server longer than the same call of libcurl's. */
static transfer *new_delayed(fixture *f) {
  char path[40];
  snprintf(path, sizeof path, "/delay/%u/10", 1 + 2 * (test_slowdown() - 1));
  return transfer_new(f, path);
}

static void count(fixture *f, int crowd, int total, bool new_connections) {
  transfer *t[100];
  for (int i = 0; i < crowd; i++) {
    /* Every answer is waited for: a connection that is made and answered within one call is never
     * announced, and then nothing tells that it has the close-socket function. */
    t[i] = new_delayed(f);
    if (new_connections)
      CHECK_INT(curl_easy_setopt(t[i]->easy, CURLOPT_FORBID_REUSE, 1L), CURLE_OK);
  }
  /* The connections, and with them the poll handles, are there. */
  run_all(f, t, crowd, 2 * crowd);
  epoll_ctls = ioctls = 0;
  run_all(f, t, crowd, total);
  for (int i = 0; i < crowd; i++)
    transfer_free(t[i]);
}

/* libcurl 8.10 asks to write again when it has sent everything, and then no longer, so that the
 * poll handle has to be started anew. */
static unsigned at_most(unsigned calls) {
  unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;
  return version >= 0x080a00 && version < 0x080b00 ? 40 * calls : calls;
}

TEST(keep_alive_one_by_one) {
  fixture f;
  fixture_need_options();
  fixture_open(&f);
  count(&f, 1, 500, false);
  CHECK_BETWEEN(epoll_ctls, 0, at_most(50));
  CHECK_BETWEEN(ioctls, 0, 5);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 1);
  fixture_close(&f);
}

TEST(keep_alive_many_at_once) {
  fixture f;
  fixture_need_options();
  fixture_open(&f);
  count(&f, 100, 2000, false);
  CHECK_BETWEEN(epoll_ctls, 0, at_most(200));
  CHECK_BETWEEN(ioctls, 0, 100);
  fixture_close(&f);
}

/* Two for each start, of which there are two, and one to stop. */
TEST(new_connections) {
  fixture f;
  fixture_open(&f);
  count(&f, 1, 500, true);
  CHECK_BETWEEN(epoll_ctls, at_least(1), 5 * 500 + 50);
  CHECK_BETWEEN(ioctls, 0, 250);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 502);
  fixture_close(&f);
}

/* Costs system calls and nothing else; fewer than a poll handle for each announcement would. */
TEST(untouched_handles) {
  fixture f;
  fixture_open(&f);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  count(&f, 1, 500, false);
  CHECK_BETWEEN(epoll_ctls, at_least(1), 6 * 500 - 50);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 1);
  fixture_close(&f);
}

/* ---- how many connections are kept ---- */

static void twelve_at_once(fixture *f) {
  transfer *t[12];
  server_hold(f->server);
  for (int i = 0; i < 12; i++) {
    t[i] = transfer_new(f, "/hold/10");
    CHECK_INT(transfer_start(f, t[i]), 0);
  }
  while (server_count(f->server, SERVER_HELD) < 12)
    CHECK(uv_run(&f->loop, UV_RUN_ONCE) != 0);
  server_release(f->server);
  fixture_run(f);
  for (int i = 0; i < 12; i++) {
    CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
}

TEST(the_host_may_say_how_many) {
  fixture f;
  fixture_open(&f);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_MAXCONNECTS, 3), 0);
  twelve_at_once(&f);
  twelve_at_once(&f);
  /* Three of the first twelve were kept, and three of the second. */
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 12 + 9);
  /* The server hears of the last ones a moment later. */
  while (server_count(f.server, SERVER_OPEN) > 3)
    usleep(1000);
  CHECK_INT(server_count(f.server, SERVER_OPEN), 3);
  fixture_close(&f);
}

/* ---- pools that are shared ---- */

/* Answers are delayed, for libcurl does not even announce a connection that is answered at once. */

static CURLSH *shared_pool(void) {
  CURLSH *share = curl_share_init();
  CHECK(share != NULL);
  CHECK_INT(curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT), CURLSHE_OK);
  return share;
}

static void use(transfer *t, CURLSH *share) {
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_SHARE, share), CURLE_OK);
}

static void hand_to(uvcurl_t *uc, transfer *t) {
  int done = t->done;
  t->started++;
  t->received = 0;
  CHECK_INT(uvcurl_start(uc, t->easy, transfer_done, t), 0);
  fixture_run(t->f);
  CHECK_INT(t->done, done + 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 10);
}

/* The connection idles with a poll handle of the one driver's when the other gets it, and libuv has
 * one for a descriptor and loop. */
TEST(two_drivers_on_a_loop_share_a_pool) {
  fixture f;
  uvcurl_t *other = NULL;
  fixture_open(&f);
  CHECK_INT(uvcurl_new(&f.loop, &other), 0);
  CURLSH *share = shared_pool();
  transfer *a = new_delayed(&f), *b = new_delayed(&f);
  use(a, share);
  use(b, share);
  for (int i = 0; i < 20; i++) {
    hand_to(f.uc, a);
    hand_to(i % 3 ? other : f.uc, b);
  }
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 1);
  uvcurl_close(other, NULL, NULL);
  transfer_free(a);
  transfer_free(b);
  fixture_run(&f);
  CHECK_INT(curl_share_cleanup(share), CURLSHE_OK);
  fixture_close(&f);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  CHECK_INT(status, 0);
  CHECK_INT(events, UV_READABLE);
  *(bool *)poll->data = true;
  uv_close((uv_handle_t *)poll, NULL);
}

/* R2: a connection that the host opened with curl_easy_perform() has no close-socket function of
 * uvcurl's, so nothing tells when its descriptor is closed. The host then gets the number. */
TEST(pool_is_shared_with_the_host) {
  fixture f;
  char url[100];
  fixture_open(&f);
  CURLSH *share = shared_pool();
  CURL *own = curl_easy_init();
  CHECK(own != NULL);
  CHECK_INT(curl_easy_setopt(own, CURLOPT_URL,
                             server_url(f.server, url, sizeof url, SERVER_HTTP, "/bytes/10")),
            CURLE_OK);
  CHECK_INT(curl_easy_setopt(own, CURLOPT_SHARE, share), CURLE_OK);
  CHECK_INT(curl_easy_setopt(own, CURLOPT_NOBODY, 1L), CURLE_OK);
  transfer *t = new_delayed(&f);
  use(t, share);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(curl_easy_setopt(own, CURLOPT_FORBID_REUSE, 0L), CURLE_OK);
    CHECK_INT(curl_easy_perform(own), CURLE_OK);
    curl_socket_t fd = CURL_SOCKET_BAD;
    CHECK_INT(curl_easy_getinfo(own, CURLINFO_ACTIVESOCKET, &fd), CURLE_OK);
    hand_to(f.uc, t);
    hand_to(f.uc, t);
    CHECK_INT(server_count(f.server, SERVER_ACCEPTED), i + 1);
    CHECK_INT(curl_easy_setopt(own, CURLOPT_FORBID_REUSE, 1L), CURLE_OK);
    CHECK_INT(curl_easy_perform(own), CURLE_OK);

    /* The first free number is the one that was closed. */
    int ends[2];
    bool heard = false;
    uv_poll_t poll;
    CHECK_INT(pipe(ends), 0);
    CHECK(ends[0] == fd || ends[1] == fd || fd == CURL_SOCKET_BAD);
    if (ends[1] == fd) {
      int spare = dup(ends[1]);
      CHECK_INT(dup2(ends[0], fd), fd);
      close(ends[0]);
      ends[0] = fd;
      ends[1] = spare;
    }
    CHECK_INT(uv_poll_init(&f.loop, &poll, ends[0]), 0);
    poll.data = &heard;
    CHECK_INT(uv_poll_start(&poll, UV_READABLE, on_readable), 0);
    CHECK_INT(write(ends[1], "x", 1), 1);
    fixture_run(&f);
    CHECK(heard);
    close(ends[0]);
    close(ends[1]);
  }
  curl_easy_cleanup(own);
  transfer_free(t);
  fixture_close(&f);
  CHECK_INT(curl_share_cleanup(share), CURLSHE_OK);
}

TEST_MAIN(T(the_host_may_say_how_many), T(keep_alive_one_by_one), T(keep_alive_many_at_once),
          T(new_connections), T(untouched_handles), T(two_drivers_on_a_loop_share_a_pool),
          T(pool_is_shared_with_the_host))
