/* The life of a driver, and what it does to the life of the loop. Promises 4 and 5. */
/* link: -Wl,--wrap=getaddrinfo -Wl,--wrap=pthread_join */
#include "fixture.h"
#include "lookups.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The wrong way to end a lookup is to wait for its thread. */
static int joins;

int __real_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result);

int __wrap_pthread_join(pthread_t thread, void **result) {
  __atomic_add_fetch(&joins, 1, __ATOMIC_RELAXED);
  return __real_pthread_join(thread, result);
}

static int lookups_stuck(void) {
  pthread_mutex_lock(&lookups.lock);
  int n = lookups.stuck;
  pthread_mutex_unlock(&lookups.lock);
  return n;
}

static transfer *new_stuck(fixture *f, int i) {
  char url[60];
  snprintf(url, sizeof url, "http://stuck%d.test/", i);
  transfer *t = transfer_new_url(f, url);
  /* libcurl may look up the two kinds of address in a thread each. */
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_IPRESOLVE, CURL_IPRESOLVE_V4), CURLE_OK);
  return t;
}

static void set_ptr(CURL *easy, CURLoption option, const void *value) {
  CHECK_INT(curl_easy_setopt(easy, option, value), CURLE_OK);
}

static void set_long(CURL *easy, CURLoption option, long value) {
  CHECK_INT(curl_easy_setopt(easy, option, value), CURLE_OK);
}

static void count(void *arg) {
  ++*(int *)arg;
}

static void never_closed(void *arg) {
  (void)arg;
  test_fail(__FILE__, __LINE__, "the close callback of a call that does nothing ran");
}

static void count_handle(uv_handle_t *handle, void *n) {
  (void)handle;
  ++*(int *)n;
}

static int handles_on(uv_loop_t *loop) {
  int n = 0;
  uv_walk(loop, count_handle, &n);
  return n;
}

/* Turns of the loop. */
static int turns;
static uv_prepare_t turn_counter;

static void on_turn(uv_prepare_t *handle) {
  (void)handle;
  turns++;
}

static void count_turns(uv_loop_t *loop) {
  turns = 0;
  CHECK_INT(uv_prepare_init(loop, &turn_counter), 0);
  CHECK_INT(uv_prepare_start(&turn_counter, on_turn), 0);
  uv_unref((uv_handle_t *)&turn_counter);
}

static void stop_counting(void) {
  uv_close((uv_handle_t *)&turn_counter, NULL);
}

/* Ending. */

static int left_on_the_loop = -1;

static void count_what_is_left(void *loop) {
  left_on_the_loop = handles_on(loop);
}

TEST(close_unused) {
  uv_loop_t loop;
  uvcurl_t *uc;
  CHECK_INT(uv_loop_init(&loop), 0);
  for (int i = 0; i < 2; i++) {
    left_on_the_loop = -1;
    CHECK_INT(uvcurl_new(&loop, &uc), 0);
    /* Run and found wanting nothing, or not run at all. */
    if (i)
      CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    uvcurl_close(uc, count_what_is_left, &loop);
    /* From the loop, not from here; and by then nothing of uvcurl's is on the loop. */
    CHECK_INT(left_on_the_loop, -1);
    CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_INT(left_on_the_loop, 0);
  }
  CHECK_INT(uvcurl_new(&loop, &uc), 0);
  uvcurl_close(uc, NULL, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);
}

TEST(close_after_transfers_leaves_nothing) {
  fixture f;
  fixture_open(&f);
  transfer *t[8];
  for (int i = 0; i < 8; i++) {
    t[i] = transfer_new(&f, i % 2 ? "/hold" : "/bytes/10");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  while (t[0]->done == 0 || server_count(f.server, SERVER_HELD) < 4) {
    uv_run(&f.loop, UV_RUN_NOWAIT);
    usleep(200);
  }
  uvcurl_close(f.uc, count_what_is_left, &f.loop);
  fixture_run(&f);
  CHECK_INT(left_on_the_loop, 0);
  for (int i = 0; i < 8; i++) {
    CHECK_INT(t[i]->done, 1);
    transfer_free(t[i]);
  }
  f.uc = NULL;
  fixture_close(&f);
}

TEST(close_twice) { /* S42 */
  fixture f;
  fixture_open_bare(&f);
  fixture_begin_close(&f);
  uvcurl_close(f.uc, never_closed, NULL);
  uvcurl_close(f.uc, NULL, NULL);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  fixture_close(&f);
}

static struct {
  uv_loop_t *loop;
  uvcurl_t *next;
  int closed;
} cascade;

static void close_next(void *arg) {
  (void)arg;
  cascade.closed++;
  uvcurl_t *next = cascade.next;
  cascade.next = NULL;
  if (next) {
    uvcurl_close(next, close_next, NULL);
  } else if (cascade.closed < 4) {
    /* A new one may be made here as well. */
    CHECK_INT(uvcurl_new(cascade.loop, &next), 0);
    uvcurl_close(next, close_next, NULL);
  }
}

TEST(close_in_a_close_callback) { /* S42 */
  uv_loop_t loop;
  uvcurl_t *first;
  CHECK_INT(uv_loop_init(&loop), 0);
  cascade.loop = &loop;
  CHECK_INT(uvcurl_new(&loop, &first), 0);
  CHECK_INT(uvcurl_new(&loop, &cascade.next), 0);
  uvcurl_close(first, close_next, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(cascade.closed, 4);
  CHECK_INT(uv_loop_close(&loop), 0);
}

struct several {
  uvcurl_t *uc[5];
  int n, done[5], status[5], closed[5];
};
static struct several several;

static void several_done(uvcurl_t *uc, CURL *easy, int status, void *arg) {
  int i = (int)(intptr_t)arg;
  (void)easy;
  CHECK(uc == several.uc[i]);
  CHECK_INT(several.closed[i], 0);
  several.done[i]++;
  several.status[i] = status;
  /* The first to end closes the next driver, whose transfer is held. */
  if (i == 0)
    uvcurl_close(several.uc[1], count, &several.closed[1]);
}

TEST(several_drivers) {
  fixture f;
  fixture_open(&f);
  transfer *t[5];
  for (int i = 0; i < 5; i++) {
    t[i] = transfer_new(&f, i == 1 ? "/hold/10" : "/delay/30/10");
    CHECK_INT(uvcurl_new(&f.loop, &several.uc[i]), 0);
    CHECK_INT(uvcurl_start(several.uc[i], t[i]->easy, several_done, (void *)(intptr_t)i), 0);
    CHECK_INT(uvcurl_active(several.uc[i]), 1);
  }
  CHECK_INT(uvcurl_active(f.uc), 0);
  fixture_run(&f);
  for (int i = 0; i < 5; i++) {
    CHECK_INT(several.done[i], 1);
    CHECK_INT(several.status[i], i == 1 ? UV_ECANCELED : 0);
    CHECK_INT(several.closed[i], i == 1);
    if (i != 1)
      uvcurl_close(several.uc[i], count, &several.closed[i]);
  }
  fixture_run(&f);
  for (int i = 0; i < 5; i++) {
    CHECK_INT(several.closed[i], 1);
    transfer_free(t[i]);
  }
  fixture_close(&f);
}

TEST(many_drivers_one_after_the_other) {
  uv_loop_t loop;
  int n = 1000 / (int)test_slowdown(), closed = 0, descriptors = 0;
  CHECK_INT(uv_loop_init(&loop), 0);
  for (int i = 0; i < n; i++) {
    uvcurl_t *uc;
    CHECK_INT(uvcurl_new(&loop, &uc), 0);
    uvcurl_close(uc, count, &closed);
    CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_INT(closed, i + 1);
    if (i == 0)
      descriptors = test_descriptors();
  }
  CHECK_INT(test_descriptors(), descriptors);
  CHECK_INT(uv_loop_close(&loop), 0);
}

/* S40: connections that say goodbye, as TLS does, when the multi handle goes. */
static void close_with_pool(enum server_port_kind kind) {
  fixture f;
  fixture_open(&f);
  if (kind == SERVER_HTTPS)
    fixture_need_tls(&f);
  transfer *t[10];
  for (int i = 0; i < 10; i++) {
    t[i] = transfer_new_on(&f, kind, "/hold/10");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  /* All at once, so that each has a connection of its own. */
  fixture_when(&f, SERVER_HELD, 10, fixture_release, NULL);
  fixture_run(&f);
  CHECK_INT(server_count(f.server, SERVER_OPEN), 10);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  for (int i = 0; i < 10; i++) {
    CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
  /* The connections are closed, not only forgotten. */
  while (server_count(f.server, SERVER_OPEN) > 0)
    usleep(1000);
  fixture_close(&f);
}

TEST(close_with_pooled_connections) {
  close_with_pool(SERVER_HTTP);
}

TEST(close_with_pooled_tls_connections) {
  close_with_pool(SERVER_HTTPS);
}

TEST(close_behind_a_limit) {
  fixture f;
  fixture_open(&f);
  transfer *t[20];
  CHECK_INT(curl_multi_setopt(uvcurl_multi(f.uc), CURLMOPT_MAX_TOTAL_CONNECTIONS, 2L), CURLM_OK);
  for (int i = 0; i < 20; i++) {
    t[i] = transfer_new(&f, "/hold");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  while (server_count(f.server, SERVER_HELD) < 2) {
    uv_run(&f.loop, UV_RUN_NOWAIT);
    usleep(200);
  }
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 2);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, UV_ECANCELED);
    transfer_free(t[i]);
  }
  fixture_close(&f);
}

/* S41: a hundred transfers, in every state there is. */

enum state { RESOLVING, CONNECTING, HANDSHAKE, WAITING, RECEIVING, SENDING, PAUSED, STATES };

static struct crowd {
  fixture f;
  transfer *t[100], *trigger;
  int done;
  int sent[100]; /* something, of the handshake or of the body */
  int joins_before;
} crowd;

static void crowd_done(transfer *t) {
  CHECK(t->f->closing);
  CHECK_INT(t->status, UV_ECANCELED);
  crowd.done++;
}

static size_t pauses(transfer *t, const char *data, size_t n) {
  (void)data, (void)n;
  t->user = t;
  return CURL_WRITEFUNC_PAUSE;
}

static size_t not_after_close(transfer *t, const char *data, size_t n) {
  (void)data;
  CHECK(!t->f->closing);
  return n;
}

static size_t endless(char *data, size_t size, size_t n, void *sent) {
  CHECK(!crowd.f.closing);
  memset(data, 0, size * n);
  *(int *)sent = 1;
  return size * n;
}

/* It is connected, and libcurl has begun with TLS. */
static CURLcode handshake_begins(CURL *easy, void *ctx, void *sent) {
  (void)easy, (void)ctx;
  *(int *)sent = 1;
  return CURLE_OK;
}

/* Before 7.87 the end of a transfer waits for its lookup, and no option of libcurl's is against it.
 */
static int lookups_can_be_left(void) {
  return curl_number() >= 0x075700;
}

static int in_state(int i) {
  transfer *t = crowd.t[i];
  switch (i % STATES) {
  case RECEIVING:
    return t->received > 0;
  case HANDSHAKE:
  case SENDING:
    return crowd.sent[i];
  case PAUSED:
    return t->user != NULL;
  default:
    return 1;
  }
}

static int all_in_state(void) {
  int waiting = 0, resolving = 0;
  for (int i = 0; i < 100; i++) {
    waiting += i % STATES == WAITING;
    resolving += i % STATES == RESOLVING && lookups_can_be_left();
    if (!in_state(i))
      return 0;
  }
  return server_count(crowd.f.server, SERVER_HELD) == (uint64_t)waiting &&
         lookups_stuck() == resolving;
}

static transfer *new_in_state(int i) {
  fixture *f = &crowd.f;
  transfer *t;
  char url[100];
  switch (i % STATES) {
  case RESOLVING:
    return lookups_can_be_left() ? new_stuck(f, i) : transfer_new_on(f, SERVER_SILENT, "/");
  case CONNECTING:
    return transfer_new_on(f, SERVER_BLACKHOLE, "/");
  case HANDSHAKE:
    snprintf(url, sizeof url, "https://127.0.0.1:%d/", server_port(f->server, SERVER_SILENT));
    t = transfer_new_url(f, url);
    set_ptr(t->easy, CURLOPT_SSL_CTX_FUNCTION, handshake_begins);
    set_ptr(t->easy, CURLOPT_SSL_CTX_DATA, &crowd.sent[i]);
    return t;
  case WAITING:
    return transfer_new(f, "/hold");
  case RECEIVING:
    t = transfer_new(f, "/trickle/1000000/10/5");
    t->on_write = not_after_close;
    return t;
  case SENDING:
    t = transfer_new(f, "/slow-sink/100/5");
    set_long(t->easy, CURLOPT_UPLOAD, 1);
    set_ptr(t->easy, CURLOPT_READFUNCTION, endless);
    set_ptr(t->easy, CURLOPT_READDATA, &crowd.sent[i]);
    return t;
  default:
    t = transfer_new(f, "/bytes/1000");
    t->on_write = pauses;
    return t;
  }
}

static void open_crowd(void) {
  fixture *f = &crowd.f;
  fixture_open(f);
  for (int i = 0; i < 100; i++) {
    crowd.t[i] = new_in_state(i);
    crowd.t[i]->on_done = crowd_done;
    CHECK_INT(transfer_start(f, crowd.t[i]), 0);
  }
  while (!all_in_state()) {
    uv_run(&f->loop, UV_RUN_NOWAIT);
    usleep(200);
  }
  CHECK_INT(uvcurl_active(f->uc), 100);
  crowd.joins_before = __atomic_load_n(&joins, __ATOMIC_RELAXED);
}

static void nothing(fixture *f, void *arg) {
  (void)f, (void)arg;
}

static void check_crowd(void) {
  fixture *f = &crowd.f;
  int resolving = lookups_can_be_left() ? (100 + STATES - 1) / STATES : 0;
  CHECK_INT(f->closed, 1);
  CHECK_INT(crowd.done, 100);
  /* S46: all that while not one lookup has had its answer, or was waited for. */
  CHECK_INT(lookups_stuck(), resolving);
  CHECK_INT(__atomic_load_n(&joins, __ATOMIC_RELAXED) - crowd.joins_before, 0);
  /* Nothing comes after, whatever the server and the lookups still do. */
  server_release(f->server);
  lookups_release();
  fixture_after(f, 30, nothing, NULL);
  fixture_run(f);
  CHECK_INT(crowd.done, 100);
  for (int i = 0; i < 100; i++)
    transfer_free(crowd.t[i]);
  fixture_close(f);
}

static void closes(transfer *t) {
  fixture_begin_close(t->f);
  CHECK_INT(crowd.done, 0);
  CHECK_INT(uvcurl_active(t->f->uc), 100);
}

TEST(close_in_done_with_a_hundred) {
  open_crowd();
  transfer *t = transfer_new(&crowd.f, "/bytes/10");
  t->on_done = closes;
  CHECK_INT(transfer_start(&crowd.f, t), 0);
  fixture_run(&crowd.f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  check_crowd();
}

TEST(close_with_a_hundred) {
  open_crowd();
  fixture_begin_close(&crowd.f);
  CHECK_INT(crowd.done, 0);
  fixture_run(&crowd.f);
  check_crowd();
}

TEST(cancel_a_hundred) {
  open_crowd();
  fixture *f = &crowd.f;
  f->closing = 1; /* what crowd_done and the callbacks look at: from here on none may run */
  for (int i = 99; i >= 0; i--)
    CHECK_INT(transfer_cancel(f, crowd.t[i]), 0);
  CHECK_INT(crowd.done, 0);
  CHECK_INT(uvcurl_active(f->uc), 100);
  /* The loop ends by itself, lookups or no lookups. */
  fixture_run(f);
  CHECK_INT(crowd.done, 100);
  CHECK_INT(uvcurl_active(f->uc), 0);
  fixture_begin_close(f);
  fixture_run(f);
  check_crowd();
}

TEST(close_before_the_first_turn) {
  fixture f;
  fixture_open(&f);
  transfer *t[10];
  for (int i = 0; i < 10; i++) {
    t[i] = i % 2 ? transfer_new(&f, "/bytes/10") : new_stuck(&f, i);
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  fixture_begin_close(&f);
  CHECK_INT(t[0]->done, 0);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  for (int i = 0; i < 10; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, UV_ECANCELED);
    transfer_free(t[i]);
  }
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 0);
  CHECK_INT(lookups_stuck(), 0);
  fixture_close(&f);
}

/* S46: not even the end of the process waits for a lookup. */
TEST(exit_with_a_lookup) {
  if (!lookups_can_be_left())
    SKIP("libcurl before 7.87 waits for lookups");
  int status = 0;
  fflush(NULL);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    fixture f;
    /* Alarms are not inherited, and an orphan would keep the suite's output open. */
    test_timeout(20);
    fixture_open_bare(&f);
    transfer *t = new_stuck(&f, 0);
    CHECK_INT(transfer_start(&f, t), 0);
    while (lookups_stuck() == 0) {
      uv_run(&f.loop, UV_RUN_NOWAIT);
      usleep(200);
    }
    fixture_begin_close(&f);
    fixture_run(&f);
    CHECK_INT(t->status, UV_ECANCELED);
    transfer_free(t);
    fixture_close(&f);
    exit(0);
  }
  /* If it hangs, this case's own time limit ends it, and the child's alarm the child. */
  CHECK_INT(waitpid(child, &status, 0), child);
  CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

/* Holding the loop. */

TEST(loop_ends_with_pooled_connections) { /* S47 */
  fixture f;
  fixture_open(&f);
  transfer *t[20];
  for (int i = 0; i < 20; i++) {
    t[i] = transfer_new(&f, "/hold/10");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  fixture_when(&f, SERVER_HELD, 20, fixture_release, NULL);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(server_count(f.server, SERVER_OPEN), 20);
  CHECK_INT(uv_loop_alive(&f.loop), 0);
  /* They are usable still. */
  for (int i = 0; i < 20; i++)
    CHECK_INT(transfer_start(&f, t[i]), 0);
  CHECK(uv_loop_alive(&f.loop) != 0);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 20);
  CHECK_INT(uv_loop_alive(&f.loop), 0);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(t[i]->done, 2);
    CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
  fixture_close(&f);
}

/* Fires although nothing of the host's keeps the loop alive. */
static uv_timer_t unreferenced;

static void after_unreferenced(fixture *f, uv_timer_cb cb) {
  CHECK_INT(uv_timer_init(&f->loop, &unreferenced), 0);
  uv_update_time(&f->loop);
  unreferenced.data = f;
  CHECK_INT(uv_timer_start(&unreferenced, cb, 50, 0), 0);
  uv_unref((uv_handle_t *)&unreferenced);
}

static void release_lookups(uv_timer_t *timer) {
  (void)timer;
  lookups_release();
}

/* S47: a transfer that waits for a lookup in a thread has no socket of its own. */
TEST(lookup_holds_the_loop) {
  fixture f;
  fixture_open_bare(&f);
  transfer *t = new_stuck(&f, 0);
  CHECK_INT(transfer_start(&f, t), 0);
  after_unreferenced(&f, release_lookups);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK(lookups.released);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_COULDNT_RESOLVE_HOST);
  uv_close((uv_handle_t *)&unreferenced, NULL);
  transfer_free(t);
  fixture_close(&f);
}

static void release_gate(uv_timer_t *timer) {
  server_release(((fixture *)timer->data)->server);
}

TEST(waiting_holds_the_loop) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, t), 0);
  after_unreferenced(&f, release_gate);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  uv_close((uv_handle_t *)&unreferenced, NULL);
  transfer_free(t);
  fixture_close(&f);
}

TEST(ref_is_a_flag) {
  fixture f;
  fixture_open_bare(&f);
  CHECK_INT(uvcurl_has_ref(f.uc), 1);
  uvcurl_unref(f.uc);
  uvcurl_unref(f.uc);
  CHECK_INT(uvcurl_has_ref(f.uc), 0);
  uvcurl_ref(f.uc);
  CHECK_INT(uvcurl_has_ref(f.uc), 1);
  uvcurl_ref(f.uc);
  uvcurl_unref(f.uc);
  CHECK_INT(uvcurl_has_ref(f.uc), 0);
  uvcurl_ref(f.uc);
  /* Referenced or not, a driver without transfers holds nothing. */
  CHECK_INT(uv_loop_alive(&f.loop), 0);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  fixture_close(&f);
}

TEST(unref_lets_the_loop_end) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10"), *pending = new_stuck(&f, 0);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, pending), 0);
  CHECK(uv_loop_alive(&f.loop) != 0);
  uvcurl_unref(f.uc);
  CHECK_INT(uv_loop_alive(&f.loop), 0);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uvcurl_active(f.uc), 2);
  CHECK_INT(t->done, 0);
  /* While something of the host's keeps the loop going, the transfers go on; it is not held beyond
   * that, though one of them has not ended. */
  fixture_when(&f, SERVER_HELD, 1, nothing, NULL);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(server_count(f.server, SERVER_HELD), 1);
  CHECK_INT(t->done, 0);
  /* A start does not bring the hold back, */
  transfer *more = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, more), 0);
  CHECK_INT(uv_loop_alive(&f.loop), 0);
  /* this does. */
  uvcurl_ref(f.uc);
  CHECK(uv_loop_alive(&f.loop) != 0);
  fixture_after(&f, 10, fixture_release, NULL);
  after_unreferenced(&f, release_lookups);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->done, 1);
  CHECK_INT(more->done, 1);
  CHECK_INT(pending->done, 1);
  uv_close((uv_handle_t *)&unreferenced, NULL);
  transfer_free(t);
  transfer_free(more);
  transfer_free(pending);
  fixture_close(&f);
}

TEST(close_when_unreferenced) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10");
  uvcurl_unref(f.uc);
  CHECK_INT(transfer_start(&f, t), 0);
  /* The host runs the loop once, and that must do for the reports too. */
  fixture_begin_close(&f);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(f.closed, 1);
  transfer_free(t);
  fixture_close(&f);
}

static void *wake_after_300_ms(void *async) {
  usleep(300000);
  CHECK_INT(uv_async_send(async), 0);
  return NULL;
}

static void on_wake_up(uv_async_t *async) {
  uv_close((uv_handle_t *)async, NULL);
}

/* How often the loop turns until another thread wakes it: once, if nothing else does. A timer would
 * not do for the end, libuv may wake for it twice. */
static int turns_of_300_ms(uv_loop_t *loop) {
  uv_async_t async;
  pthread_t thread;
  count_turns(loop);
  CHECK_INT(uv_async_init(loop, &async, on_wake_up), 0);
  CHECK_INT(pthread_create(&thread, NULL, wake_after_300_ms, &async), 0);
  CHECK_INT(uv_run(loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
  int n = turns;
  stop_counting();
  uv_run(loop, UV_RUN_DEFAULT);
  return n;
}

/* Promise 5: there may be a first one. */
static void check_no_more_turns(uv_loop_t *loop) {
  CHECK_BETWEEN(turns_of_300_ms(loop), 1, 2);
  CHECK_INT(turns_of_300_ms(loop), 1);
}

/* Promise 5: what idles in the pool causes no turn of the loop. */
TEST(idle_driver_causes_no_turn) {
  fixture f;
  fixture_open(&f);
  int n = test_slowdown() > 1 ? 20 : 100;
  transfer *t[100];
  for (int i = 0; i < n; i++) {
    t[i] = transfer_new(&f, "/hold/10");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  /* All at once, so that each has a connection of its own. */
  fixture_when(&f, SERVER_HELD, (uint64_t)n, fixture_release, NULL);
  fixture_run(&f);
  CHECK_INT(server_count(f.server, SERVER_OPEN), n);
  check_no_more_turns(&f.loop);
  CHECK_INT(server_count(f.server, SERVER_OPEN), n);
  for (int i = 0; i < n; i++) {
    CHECK_INT(t[i]->status, 0);
    transfer_free(t[i]);
  }
  fixture_close(&f);
}

/* Nor does a driver that was never used, or whose last transfer was cancelled. If the peer ends an
 * idle connection, that is told of once. */
TEST(idle_connection_that_the_peer_closes_causes_one_turn) {
  fixture f;
  fixture_open(&f);
  check_no_more_turns(&f.loop);
  transfer *t = transfer_new(&f, "/late-fin/50/10");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  fixture_run(&f);
  check_no_more_turns(&f.loop);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  check_no_more_turns(&f.loop);
  transfer_free(t);
  fixture_close(&f);
}

/* A transfer that waits costs nothing but libcurl's own first timers and the look after silent
 * transfers once a second: most spans of 300 ms see neither. */
TEST(waiting_transfer_causes_no_turn) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_when(&f, SERVER_HELD, 1, nothing, NULL);
  while (server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_ONCE);
  uvcurl_unref(f.uc);
  fixture_run(&f);
  int fewest = turns_of_300_ms(&f.loop);
  for (int i = 0; i < 20 && fewest > 1; i++) {
    int n = turns_of_300_ms(&f.loop);
    fewest = n < fewest ? n : fewest;
  }
  CHECK_INT(fewest, 1);
  uvcurl_ref(f.uc);
  server_release(f.server);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  fixture_close(&f);
}

static void last_ends_by_timeout(enum server_port_kind kind, const char *path) {
  fixture f;
  fixture_open(&f);
  for (int again = 0; again < 2; again++) {
    double start = test_now_ms();
    transfer *t = transfer_new_on(&f, kind, path);
    set_long(t->easy, CURLOPT_TIMEOUT_MS, 60);
    CHECK_INT(transfer_start(&f, t), 0);
    CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
    CHECK_INT(t->done, 1);
    CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
    CHECK_BETWEEN(test_now_ms() - start, 59, 60 + 3000 * test_slowdown());
    CHECK_INT(uv_loop_alive(&f.loop), 0);
    transfer_free(t);
  }
  fixture_begin_close(&f);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(f.closed, 1);
  fixture_close(&f);
}

TEST(last_transfer_times_out) { /* S2 */
  last_ends_by_timeout(SERVER_HTTP, "/hold");
}

TEST(last_transfer_times_out_connecting) { /* S3 */
  last_ends_by_timeout(SERVER_BLACKHOLE, "/");
}

TEST(last_transfer_times_out_resolving) {
  if (!lookups_can_be_left())
    SKIP("libcurl before 7.87 waits for lookups");
  fixture f;
  fixture_open_bare(&f);
  transfer *t = new_stuck(&f, 0);
  set_long(t->easy, CURLOPT_TIMEOUT_MS, 60L * test_slowdown());
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_OPERATION_TIMEDOUT);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  lookups_release();
  transfer_free(t);
  fixture_close(&f);
}

/* S49: a child that does not use the driver, and what its end does to the parent's. */
TEST(fork_and_exit) {
  fixture f;
  fixture_open(&f);
  transfer *t[3] = {transfer_new(&f, "/trickle/100/10/2"), transfer_new(&f, "/hold/10"),
                    transfer_new(&f, "/bytes/10")};
  CHECK_INT(transfer_start(&f, t[0]), 0);
  CHECK_INT(transfer_start(&f, t[1]), 0);
  while (t[0]->received == 0 || server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  for (int i = 0; i < 3; i++) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      if (i == 0)
        _exit(7);
      exit(7); /* whatever runs at the end of a process runs here too */
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  }
  CHECK_INT(transfer_start(&f, t[2]), 0);
  fixture_after(&f, 20, fixture_release, NULL);
  double start = test_now_ms();
  fixture_run(&f);
  /* Served by their events, not by the look after silent sockets, which takes 5 s. */
  if (test_slowdown() == 1)
    CHECK_BETWEEN(test_now_ms() - start, 0, 4500);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, 0);
    CHECK_INT(t[i]->received, i == 0 ? 100 : 10);
    CHECK(t[i]->content_ok);
    transfer_free(t[i]);
  }
  fixture_close(&f);
}

static void close_as_the_host(uv_handle_t *handle, void *arg) {
  (void)arg;
  if (!uv_is_closing(handle))
    uv_close(handle, NULL);
}

/* S43: the host walks the loop and closes everything, uvcurl's handles included. Nothing crashes,
 * nothing leaks, and closing the driver still reports. */
TEST(host_closes_every_handle) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10"), *late = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  while (server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  uv_walk(&f.loop, close_as_the_host, NULL);
  CHECK_INT(uv_run(&f.loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(t->done, 0);
  CHECK_INT(transfer_start(&f, late), 0);
  uv_run(&f.loop, UV_RUN_DEFAULT);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(late->status, UV_ECANCELED);
  transfer_free(t);
  transfer_free(late);
  fixture_close(&f);
}

/* The same in one breath: the handles are still closing when the driver is closed. */
TEST(host_closes_every_handle_and_the_driver) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, t), 0);
  while (server_count(f.server, SERVER_HELD) == 0)
    uv_run(&f.loop, UV_RUN_NOWAIT);
  uv_walk(&f.loop, close_as_the_host, NULL);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(t->status, UV_ECANCELED);
  transfer_free(t);
  fixture_close(&f);
}

TEST_MAIN(T(close_unused), T(close_after_transfers_leaves_nothing), T(close_twice),
          T(close_in_a_close_callback), T(several_drivers), T(many_drivers_one_after_the_other),
          T(close_with_pooled_connections), T(close_with_pooled_tls_connections),
          T(close_behind_a_limit), T(close_in_done_with_a_hundred), T(close_with_a_hundred),
          T(cancel_a_hundred), T(close_before_the_first_turn), T(exit_with_a_lookup),
          T(loop_ends_with_pooled_connections), T(lookup_holds_the_loop), T(waiting_holds_the_loop),
          T(ref_is_a_flag), T(unref_lets_the_loop_end), T(close_when_unreferenced),
          T(idle_driver_causes_no_turn), T(idle_connection_that_the_peer_closes_causes_one_turn),
          T(waiting_transfer_causes_no_turn), T(last_transfer_times_out),
          T(last_transfer_times_out_connecting), T(last_transfer_times_out_resolving),
          T(fork_and_exit), T(host_closes_every_handle), T(host_closes_every_handle_and_the_driver))
