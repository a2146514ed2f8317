/* Every function from every callback: what it answers there, and what comes of it afterwards.
 * Promises 1 to 3. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_ptr(CURL *easy, CURLoption option, const void *value) {
  CHECK_INT(curl_easy_setopt(easy, option, value), CURLE_OK);
}

static void set_long(CURL *easy, CURLoption option, long value) {
  CHECK_INT(curl_easy_setopt(easy, option, value), CURLE_OK);
}

static void never_done(uvcurl_t *uc, CURL *easy, int status, void *arg) {
  (void)uc;
  (void)easy;
  (void)arg;
  test_fail(__FILE__, __LINE__, "a start that failed is reported, with %d", status);
}

static void never_closed(void *arg) {
  (void)arg;
  test_fail(__FILE__, __LINE__, "the close callback of a call that does nothing ran");
}

static void count_close(void *arg) {
  ++*(int *)arg;
}

/* Runs the loop until all of them are done, however often that is. */
static void run_until_done(fixture *f, transfer **t, int n) {
  for (int i = 0; i < n; i++) {
    while (t[i]->done < t[i]->started) {
      uv_run(&f->loop, UV_RUN_NOWAIT);
      usleep(200);
    }
  }
}

/* Turns of the loop. */
static int turns;

static void count_turn(uv_prepare_t *handle) {
  (void)handle;
  turns++;
}

static uv_prepare_t turn_counter;

static void count_turns(fixture *f) {
  turns = 0;
  CHECK_INT(uv_prepare_init(&f->loop, &turn_counter), 0);
  CHECK_INT(uv_prepare_start(&turn_counter, count_turn), 0);
  uv_unref((uv_handle_t *)&turn_counter);
}

static void stop_counting(void) {
  uv_close((uv_handle_t *)&turn_counter, NULL);
}

/* Every callback of libcurl's, every function of uvcurl's. */

enum kind {
  WRITE,
  HEADER,
  READ,
  SEEK,
  XFERINFO,
  DEBUG,
  PREREQ,
  SOCKOPT,
  OPENSOCKET,
  CLOSESOCKET,
  RESOLVER_START,
  SSL_CTX,
  TRAILER,
};

enum action {
  START,
  CANCEL_SELF,
  CANCEL_OTHERS,
  PAUSE_SELF,
  RESUME_OTHER,
  IN_ORDER,
  CLOSE,
  ACTIONS
};

static const char *const action_names[ACTIONS] = {
    "start", "cancel itself", "cancel others", "pause itself", "resume", "in order", "close"};

static struct scene {
  fixture f;
  enum kind kind;
  enum action action;
  int fired, turn_of_pause, resumed;
  transfer *self, *held[2], *paused, *fresh, *later;
  int order, order_of_held[2];
  int other_driver_closed;
  int sent;
} s;

static void everything_is_refused(void) {
  uvcurl_t *uc = s.f.uc;
  CHECK_INT(uvcurl_start(uc, s.fresh->easy, never_done, NULL), UV_ECANCELED);
  CHECK_INT(transfer_cancel(&s.f, s.self), UV_ECANCELED);
  CHECK_INT(transfer_cancel(&s.f, s.held[0]), UV_ECANCELED);
  CHECK_INT(transfer_pause(&s.f, s.paused, CURLPAUSE_CONT), UV_ECANCELED);
  CHECK_INT(uvcurl_set(uc, UVCURL_EASY_UNTOUCHED, 1), UV_ECANCELED);
  CHECK(uvcurl_multi(uc) == NULL);
  uvcurl_close(uc, never_closed, NULL);
}

/* What may be asked at any time, and what is refused at any time. */
static void look_around(void) {
  uvcurl_t *uc = s.f.uc, *other = NULL;
  CHECK_INT(uvcurl_active(uc), 4);
  CHECK(uvcurl_loop(uc) == &s.f.loop);
  CHECK(uvcurl_multi(uc) != NULL);
  CHECK_INT(uvcurl_set(uc, UVCURL_EASY_UNTOUCHED, 1), UV_EBUSY);
  uvcurl_unref(uc);
  CHECK_INT(uvcurl_has_ref(uc), 0);
  uvcurl_ref(uc);
  CHECK_INT(uvcurl_has_ref(uc), 1);
  CHECK_INT(uvcurl_start(uc, s.self->easy, never_done, NULL), UV_EALREADY);
  CHECK_INT(uvcurl_cancel(uc, s.fresh->easy), UV_ENOENT);
  CHECK_INT(uvcurl_pause(uc, s.fresh->easy, CURLPAUSE_ALL), UV_ENOENT);
  CHECK_INT(uvcurl_pause(uc, s.self->easy, 2), UV_EINVAL);
  CHECK_INT(uvcurl_new(&s.f.loop, &other), 0);
  uvcurl_close(other, count_close, &s.other_driver_closed);
}

static void start_fresh(transfer *t) {
  CHECK_INT(transfer_start(&s.f, t), 0);
  CHECK_INT(uvcurl_start(s.f.uc, t->easy, never_done, NULL), UV_EALREADY);
}

static void cancel_now(transfer *t) {
  CHECK_INT(transfer_cancel(&s.f, t), 0);
  CHECK_INT(transfer_cancel(&s.f, t), UV_EALREADY);
  CHECK_INT(transfer_pause(&s.f, t, CURLPAUSE_ALL), UV_EALREADY);
  CHECK_INT(uvcurl_start(s.f.uc, t->easy, never_done, NULL), UV_EALREADY);
  CHECK_INT(t->done, 0);
}

/* Called in the callback under test, each time; acts the first time. */
static void fire(void) {
  if (s.fired)
    return;
  s.fired = 1;
  look_around();
  size_t received = s.paused->received;
  switch (s.action) {
  case START:
    start_fresh(s.fresh);
    CHECK_INT(uvcurl_active(s.f.uc), 5);
    break;
  case CANCEL_SELF:
    cancel_now(s.self);
    CHECK_INT(uvcurl_active(s.f.uc), 4);
    break;
  case CANCEL_OTHERS:
    cancel_now(s.held[1]);
    cancel_now(s.held[0]);
    break;
  case PAUSE_SELF:
    CHECK_INT(transfer_pause(&s.f, s.self, CURLPAUSE_ALL), 0);
    CHECK_INT(transfer_start(&s.f, s.later), 0);
    s.turn_of_pause = turns;
    break;
  case RESUME_OTHER:
    CHECK_INT(transfer_pause(&s.f, s.paused, CURLPAUSE_CONT), 0);
    break;
  case IN_ORDER:
    /* The last word counts: resumed, and not started after all. */
    CHECK_INT(transfer_pause(&s.f, s.paused, CURLPAUSE_CONT), 0);
    CHECK_INT(transfer_pause(&s.f, s.paused, CURLPAUSE_ALL), 0);
    CHECK_INT(transfer_pause(&s.f, s.paused, CURLPAUSE_CONT), 0);
    start_fresh(s.fresh);
    cancel_now(s.fresh);
    start_fresh(s.later);
    CHECK_INT(transfer_pause(&s.f, s.later, CURLPAUSE_ALL), 0);
    CHECK_INT(transfer_pause(&s.f, s.later, CURLPAUSE_CONT), 0);
    break;
  default:
    start_fresh(s.later);
    fixture_begin_close(&s.f);
    everything_is_refused();
    CHECK_INT(uvcurl_active(s.f.uc), 5);
    break;
  }
  /* Nothing may call back into the host from in here. */
  CHECK_INT(s.paused->received, received);
}

/* From 8.9 to 8.14 a pause that was not the write callback's own answer does not keep libcurl from
 * handing on what it next reads. */
static int pauses_leak(void) {
  return curl_number() >= 0x080900 && curl_number() < 0x080f00;
}

static size_t self_writes(transfer *t, const char *data, size_t n) {
  (void)t;
  (void)data;
  if (s.kind == WRITE)
    fire();
  /* What libcurl is at it gets to finish, and no more than that. */
  if (s.fired && s.action == PAUSE_SELF && !s.resumed && !(pauses_leak() && t->received == 0))
    CHECK_MSG(turns == s.turn_of_pause, "a paused transfer goes on");
  return n;
}

static size_t header_fires(char *data, size_t size, size_t n, void *arg) {
  (void)data;
  (void)arg;
  fire();
  return size * n;
}

static size_t read_fires(char *data, size_t size, size_t n, void *arg) {
  (void)arg;
  size_t left = (size_t)(30 - s.sent), some = left < 10 ? left : 10;
  CHECK(size * n >= some);
  if (s.kind == READ)
    fire();
  server_fill(data, (size_t)s.sent, some);
  s.sent += (int)some;
  return some;
}

static int seek_fires(void *arg, curl_off_t offset, int origin) {
  (void)arg;
  CHECK_INT(origin, SEEK_SET);
  fire();
  s.sent = (int)offset;
  return CURL_SEEKFUNC_OK;
}

static int xferinfo_fires(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  (void)arg, (void)a, (void)b, (void)c, (void)d;
  fire();
  return 0;
}

static int debug_fires(CURL *easy, curl_infotype type, char *data, size_t size, void *arg) {
  (void)easy, (void)type, (void)data, (void)size, (void)arg;
  fire();
  return 0;
}

static int prereq_fires(void *arg, char *to, char *from, int to_port, int from_port) {
  (void)arg, (void)to, (void)from, (void)to_port, (void)from_port;
  fire();
  return CURL_PREREQFUNC_OK;
}

static int sockopt_fires(void *arg, curl_socket_t fd, curlsocktype purpose) {
  (void)arg, (void)fd, (void)purpose;
  fire();
  return CURL_SOCKOPT_OK;
}

static curl_socket_t opensocket_fires(void *arg, curlsocktype purpose, struct curl_sockaddr *a) {
  (void)arg, (void)purpose;
  fire();
  return socket(a->family, a->socktype, a->protocol);
}

static int closesocket_fires(void *arg, curl_socket_t fd) {
  (void)arg;
  fire();
  return close(fd);
}

static int resolver_fires(void *state, void *reserved, void *arg) {
  (void)state, (void)reserved, (void)arg;
  fire();
  return 0;
}

static CURLcode ssl_ctx_fires(CURL *easy, void *ctx, void *arg) {
  (void)easy, (void)ctx, (void)arg;
  fire();
  return CURLE_OK;
}

static int trailer_fires(struct curl_slist **list, void *arg) {
  (void)list, (void)arg;
  fire();
  return CURL_TRAILERFUNC_OK;
}

static struct curl_slist *chunked;

static transfer *make_self(enum kind kind) {
  char url[200];
  int upload = kind == READ || kind == SEEK || kind == TRAILER;
  const char *path = upload ? "/sink" : "/trickle/30/10/3";
  transfer *t =
      kind == SSL_CTX ? transfer_new_on(&s.f, SERVER_HTTPS, path) : transfer_new(&s.f, path);
  CURL *easy = t->easy;
  if (upload) {
    set_long(easy, CURLOPT_UPLOAD, 1);
    set_ptr(easy, CURLOPT_READFUNCTION, read_fires);
    if (kind != TRAILER)
      set_long(easy, CURLOPT_INFILESIZE, 30);
  }
  switch (kind) {
  case WRITE:
    break;
  case HEADER:
    set_ptr(easy, CURLOPT_HEADERFUNCTION, header_fires);
    break;
  case READ:
    break;
  case SEEK:
    set_ptr(easy, CURLOPT_SEEKFUNCTION, seek_fires);
    set_long(easy, CURLOPT_RESUME_FROM, 10);
    break;
  case XFERINFO:
    set_ptr(easy, CURLOPT_XFERINFOFUNCTION, xferinfo_fires);
    set_long(easy, CURLOPT_NOPROGRESS, 0);
    break;
  case DEBUG:
    set_ptr(easy, CURLOPT_DEBUGFUNCTION, debug_fires);
    set_long(easy, CURLOPT_VERBOSE, 1);
    break;
  case PREREQ:
    set_ptr(easy, CURLOPT_PREREQFUNCTION, prereq_fires);
    break;
  case SOCKOPT:
    set_ptr(easy, CURLOPT_SOCKOPTFUNCTION, sockopt_fires);
    break;
  case OPENSOCKET:
    set_ptr(easy, CURLOPT_OPENSOCKETFUNCTION, opensocket_fires);
    break;
  case CLOSESOCKET:
    set_ptr(easy, CURLOPT_CLOSESOCKETFUNCTION, closesocket_fires);
    set_long(easy, CURLOPT_FORBID_REUSE, 1);
    break;
  case RESOLVER_START:
    snprintf(url, sizeof url, "http://localhost:%d%s", server_port(s.f.server, SERVER_HTTP), path);
    set_ptr(easy, CURLOPT_URL, url);
    set_long(easy, CURLOPT_IPRESOLVE, CURL_IPRESOLVE_V4);
    set_long(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0);
    set_ptr(easy, CURLOPT_RESOLVER_START_FUNCTION, resolver_fires);
    break;
  case SSL_CTX:
    set_ptr(easy, CURLOPT_SSL_CTX_FUNCTION, ssl_ctx_fires);
    set_long(easy, CURLOPT_FRESH_CONNECT, 1);
    break;
  case TRAILER:
    chunked = curl_slist_append(chunked, "Transfer-Encoding: chunked");
    set_ptr(easy, CURLOPT_HTTPHEADER, chunked);
    set_ptr(easy, CURLOPT_TRAILERFUNCTION, trailer_fires);
    break;
  }
  t->on_write = self_writes;
  /* So that each has a connection to make. */
  set_long(easy, CURLOPT_FRESH_CONNECT, 1);
  return t;
}

static size_t pauses_once(transfer *t, const char *data, size_t n) {
  (void)data;
  if (t->user)
    return n;
  t->user = t;
  return CURL_WRITEFUNC_PAUSE;
}

static void keeps_order(transfer *t) {
  s.order++;
  for (int i = 0; i < 2; i++) {
    if (t == s.held[i])
      s.order_of_held[i] = s.order;
  }
}

/* By now the rest of it has long arrived. */
static void resume_self(transfer *t) {
  (void)t;
  s.resumed = 1;
  if (!s.self->done)
    CHECK_INT(transfer_pause(&s.f, s.self, CURLPAUSE_CONT), 0);
}

static void set_the_scene(enum kind kind, enum action action) {
  char path[40];
  s.kind = kind;
  s.action = action;
  s.fired = s.resumed = s.order = s.sent = s.other_driver_closed = 0;
  CHECK_INT(uvcurl_set(s.f.uc, UVCURL_EASY_UNTOUCHED, kind == CLOSESOCKET), 0);
  server_hold(s.f.server);
  for (int i = 0; i < 2; i++) {
    s.held[i] = transfer_new(&s.f, "/hold/10");
    s.held[i]->on_done = keeps_order;
    CHECK_INT(transfer_start(&s.f, s.held[i]), 0);
  }
  s.paused = transfer_new(&s.f, "/bytes/1000");
  s.paused->on_write = pauses_once;
  CHECK_INT(transfer_start(&s.f, s.paused), 0);
  s.fresh = transfer_new(&s.f, "/bytes/10");
  snprintf(path, sizeof path, "/delay/%u/10", 60 * test_slowdown());
  s.later = transfer_new(&s.f, path);
  s.self = make_self(kind);
  while (s.paused->user == NULL || server_count(s.f.server, SERVER_HELD) != 2) {
    uv_run(&s.f.loop, UV_RUN_NOWAIT);
    usleep(200);
  }
  CHECK_INT(s.paused->received, 0);
}

static void play(enum kind kind, enum action action) {
  fprintf(stderr, "# %s\n", action_names[action]);
  set_the_scene(kind, action);
  fixture *f = &s.f;
  if (action == PAUSE_SELF)
    s.later->on_done = resume_self;
  CHECK_INT(transfer_start(f, s.self), 0);
  transfer *all[6] = {s.self, s.held[0], s.held[1], s.paused, s.fresh, s.later};

  if (action == CLOSE) {
    fixture_run(f);
    CHECK_INT(f->closed, 1);
    for (int i = 0; i < 6; i++) {
      CHECK_INT(all[i]->done, all[i] == s.fresh ? 0 : 1);
      /* What closes its connection has all but ended. */
      if (all[i] != s.fresh && (kind != CLOSESOCKET || all[i] != s.self))
        CHECK_INT(all[i]->status, UV_ECANCELED);
    }
  } else {
    run_until_done(f, &s.self, 1);
    run_until_done(f, all, action == CANCEL_OTHERS ? 3 : 1);
    if (action == RESUME_OTHER || action == IN_ORDER)
      run_until_done(f, &s.paused, 1);
    run_until_done(f, &s.fresh, 1);
    run_until_done(f, &s.later, 1);
    CHECK(s.fired);
    CHECK_INT(s.self->status, action == CANCEL_SELF ? UV_ECANCELED : 0);
    if (action == START)
      CHECK_INT(s.fresh->received, 10);
    if (action == START)
      CHECK_INT(s.fresh->status, 0);
    if (action == CANCEL_OTHERS) {
      CHECK_INT(s.held[0]->status, UV_ECANCELED);
      CHECK_INT(s.held[1]->status, UV_ECANCELED);
      CHECK(s.order_of_held[1] < s.order_of_held[0]);
    }
    if (action == RESUME_OTHER || action == IN_ORDER) {
      CHECK_INT(s.paused->status, 0);
      CHECK_INT(s.paused->received, 1000);
      CHECK(s.paused->content_ok);
    }
    if (action == IN_ORDER) {
      CHECK_INT(s.fresh->status, UV_ECANCELED);
      CHECK_INT(s.fresh->received, 0);
      CHECK_INT(s.later->status, 0);
      CHECK_INT(s.later->received, 10);
    }
    /* The rest goes its way, undisturbed. */
    for (int i = 1; i < 4; i++) {
      if (all[i]->done == 0 && all[i] != s.paused)
        CHECK_INT(all[i]->status, 0);
    }
    server_release(f->server);
    if (!s.paused->done)
      CHECK_INT(transfer_pause(f, s.paused, CURLPAUSE_CONT), 0);
    fixture_run(f);
    for (int i = 1; i < 4; i++) {
      if (action != CANCEL_OTHERS || i == 3) {
        CHECK_INT(all[i]->status, 0);
        CHECK_INT(all[i]->received, i == 3 ? 1000 : 10);
      }
    }
    CHECK_INT(uvcurl_active(f->uc), 0);
  }
  CHECK_INT(s.other_driver_closed, 1);
  for (int i = 0; i < 6; i++) {
    CHECK_INT(all[i]->done, all[i]->started);
    transfer_free(all[i]);
  }
  curl_slist_free_all(chunked);
  chunked = NULL;
  if (action == CLOSE) {
    f->closing = f->closed = 0;
    CHECK_INT(uvcurl_new(&f->loop, &f->uc), 0);
  }
}

static void inside(enum kind kind) {
  fixture_open(&s.f);
  if (kind == SSL_CTX)
    fixture_need_tls(&s.f);
  count_turns(&s.f);
  for (int action = 0; action < ACTIONS; action++)
    play(kind, (enum action)action);
  stop_counting();
  fixture_close(&s.f);
}

TEST(in_write) {
  inside(WRITE);
}

TEST(in_header) {
  inside(HEADER);
}

TEST(in_read) {
  inside(READ);
}

TEST(in_seek) {
  inside(SEEK);
}

TEST(in_xferinfo) {
  inside(XFERINFO);
}

TEST(in_debug) {
  inside(DEBUG);
}

TEST(in_prereq) {
  inside(PREREQ);
}

TEST(in_sockopt) {
  inside(SOCKOPT);
}

TEST(in_opensocket) {
  inside(OPENSOCKET);
}

TEST(in_closesocket) {
  inside(CLOSESOCKET);
}

TEST(in_resolver_start) {
  inside(RESOLVER_START);
}

TEST(in_ssl_ctx) {
  inside(SSL_CTX);
}

TEST(in_trailer) {
  inside(TRAILER);
}

/* A start inside a callback is accepted before libcurl has been asked; what libcurl then says is
 * the transfer's result, and cannot be a second one. */
static size_t starts_a_taken_one(transfer *t, const char *data, size_t n) {
  (void)data;
  transfer *taken = t->user;
  if (taken && !taken->started)
    CHECK_INT(transfer_start(t->f, taken), 0);
  return n;
}

TEST(start_of_a_taken_handle_in_a_callback) {
  fixture f;
  fixture_open(&f);
  CURLM *multi = curl_multi_init();
  transfer *t = transfer_new(&f, "/bytes/10"), *taken = transfer_new(&f, "/bytes/10");
  CHECK_INT(curl_multi_add_handle(multi, taken->easy), CURLM_OK);
  t->on_write = starts_a_taken_one;
  t->user = taken;
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(taken->done, 1);
  CHECK_INT(taken->status, UV_EBUSY);
  CHECK_INT(curl_multi_remove_handle(multi, taken->easy), CURLM_OK);
  CHECK_INT(curl_multi_cleanup(multi), CURLM_OK);
  transfer_free(t);
  transfer_free(taken);
  fixture_close(&f);
}

/* In the done callback. */

static void again(transfer *t) {
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 10);
  if (t->done < 5)
    CHECK_INT(transfer_start(t->f, t), 0);
}

TEST(done_restarts_the_same_handle) { /* S35 */
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  t->on_done = again;
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 5);
  transfer_free(t);
  fixture_close(&f);
}

static int freed;

static void frees_itself(transfer *t) {
  freed++;
  transfer_free(t);
}

TEST(done_cleans_up) { /* S31 */
  fixture f;
  fixture_open(&f);
  /* Some end in one batch, some later. */
  for (int i = 0; i < 30; i++) {
    transfer *t = i % 3 == 0   ? transfer_new(&f, "/bytes/10")
                  : i % 3 == 1 ? transfer_new_url(&f, "nope://127.0.0.1/")
                               : transfer_new_on(&f, SERVER_REFUSED, "/");
    t->on_done = frees_itself;
    CHECK_INT(transfer_start(&f, t), 0);
    if (i % 5 == 0)
      CHECK_INT(transfer_cancel(&f, t), 0);
  }
  fixture_run(&f);
  CHECK_INT(freed, 30);
  fixture_close(&f);
}

#define BATCH 8

/* All of them end in one call of libcurl's. */
static void start_batch(fixture *f, transfer **t, void (*on_done)(transfer *)) {
  for (int i = 0; i < BATCH; i++) {
    t[i] = transfer_new_url(f, "nope://127.0.0.1/");
    t[i]->on_done = on_done;
    t[i]->user = t;
    CHECK_INT(transfer_start(f, t[i]), 0);
  }
}

static void check_batch(transfer **t) {
  for (int i = 0; i < BATCH; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, CURLE_UNSUPPORTED_PROTOCOL);
    transfer_free(t[i]);
  }
}

static int turn_of_first;

static void cancels_the_batch(transfer *t) {
  transfer **all = t->user;
  size_t left = 0;
  if (turn_of_first == 0)
    turn_of_first = turns + 1;
  for (int i = 0; i < BATCH; i++) {
    if (all[i]->done)
      continue;
    left++;
    /* They have ended, and how is settled. */
    CHECK_INT(transfer_cancel(t->f, all[i]), UV_EALREADY);
    CHECK_INT(transfer_pause(t->f, all[i], CURLPAUSE_CONT), UV_EALREADY);
    CHECK_INT(transfer_start(t->f, all[i]), UV_EALREADY);
  }
  CHECK_INT(uvcurl_active(t->f->uc), left);
  CHECK_INT(turns + 1, turn_of_first);
}

TEST(done_cancels_what_has_ended) {
  fixture f;
  transfer *t[BATCH];
  fixture_open_bare(&f);
  count_turns(&f);
  start_batch(&f, t, cancels_the_batch);
  fixture_run(&f);
  check_batch(t);
  stop_counting();
  fixture_close(&f);
}

static void cancels_the_held(transfer *t) {
  transfer *held = t->user;
  CHECK_INT(transfer_cancel(t->f, held), 0);
  CHECK_INT(held->done, 0);
}

TEST(done_cancels_what_runs) {
  fixture f;
  fixture_open(&f);
  transfer *held = transfer_new(&f, "/hold/10"), *t = transfer_new(&f, "/delay/20/10");
  t->on_done = cancels_the_held;
  t->user = held;
  CHECK_INT(transfer_start(&f, held), 0);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(held->done, 1);
  CHECK_INT(held->status, UV_ECANCELED);
  transfer_free(held);
  transfer_free(t);
  fixture_close(&f);
}

static void closes(transfer *t) {
  if (!t->f->closing) {
    fixture_begin_close(t->f);
    uvcurl_close(t->f->uc, never_closed, NULL);
  }
  CHECK_INT(uvcurl_start(t->f->uc, t->easy, never_done, NULL), UV_ECANCELED);
}

/* S31, S42: the others have their own results, and get them. */
TEST(done_closes_with_reports_due) {
  fixture f;
  transfer *t[BATCH];
  fixture_open_bare(&f);
  start_batch(&f, t, closes);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  check_batch(t);
  fixture_close(&f);
}

static void closes_and_frees(transfer *t) {
  closes(t);
  freed++;
  transfer_free(t);
}

TEST(done_closes_and_cleans_up) {
  fixture f;
  transfer *t[BATCH], *held[BATCH];
  fixture_open(&f);
  for (int i = 0; i < BATCH; i++) {
    held[i] = transfer_new(&f, "/hold/10");
    held[i]->on_done = closes_and_frees;
    CHECK_INT(transfer_start(&f, held[i]), 0);
  }
  start_batch(&f, t, closes_and_frees);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  CHECK_INT(freed, 2 * BATCH);
  fixture_close(&f);
}

/* S32. */
static struct chain {
  int left;
  char *low, *high;
  int ticks;
} chain;

static void next_link(transfer *t) {
  char *here = __builtin_frame_address(0);
  CHECK_INT(t->status, CURLE_UNSUPPORTED_PROTOCOL);
  if (chain.low == NULL)
    chain.low = chain.high = here;
  if (here < chain.low)
    chain.low = here;
  if (here > chain.high)
    chain.high = here;
  if (chain.left > 0 && --chain.left > 0)
    CHECK_INT(transfer_start(t->f, t), 0);
}

static void tick(uv_timer_t *timer) {
  (void)timer;
  chain.ticks++;
}

TEST(chain_of_starts) {
  fixture f;
  uv_timer_t timer;
  fixture_open_bare(&f);
  int links = 100000 / (int)test_slowdown();
  chain.left = links;
  test_timeout(60);
  /* The host's own timer, which the chain must not keep waiting. */
  CHECK_INT(uv_timer_init(&f.loop, &timer), 0);
  CHECK_INT(uv_timer_start(&timer, tick, 1, 1), 0);
  uv_unref((uv_handle_t *)&timer);
  count_turns(&f);
  transfer *t = transfer_new_url(&f, "nope://127.0.0.1/");
  t->on_done = next_link;
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, links);
  CHECK_MSG(chain.high - chain.low < 4096, "the stack grew by %ld", (long)(chain.high - chain.low));
  /* A link a turn, but for the rare one that some timer of uvcurl's adds: so every turn's other
   * work gets its chance. */
  CHECK(turns >= links - links / 100);
  CHECK(chain.ticks >= 10);
  transfer_free(t);
  stop_counting();
  uv_close((uv_handle_t *)&timer, NULL);
  fixture_close(&f);
}

static void next_cancelled(transfer *t) {
  CHECK_INT(t->status, UV_ECANCELED);
  if (--chain.left > 0) {
    CHECK_INT(transfer_start(t->f, t), 0);
    CHECK_INT(transfer_cancel(t->f, t), 0);
  }
}

/* The same with transfers that have ended before the callback returns. */
TEST(chain_of_cancels) {
  fixture f;
  fixture_open_bare(&f);
  int links = 10000 / (int)test_slowdown();
  chain.left = links;
  count_turns(&f);
  transfer *t = transfer_new_url(&f, "nope://127.0.0.1/");
  t->on_done = next_cancelled;
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, links);
  CHECK(turns >= links - links / 100);
  transfer_free(t);
  stop_counting();
  fixture_close(&f);
}

/* Cancel. */

TEST(cancel_before_the_first_turn) {
  fixture f;
  fixture_open(&f);
  count_turns(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  CHECK_INT(t->done, 0);
  CHECK_INT(uvcurl_active(f.uc), 1);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK(turns <= 2);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 0);
  transfer_free(t);
  stop_counting();
  fixture_close(&f);
}

static int turn_of_cancel, turn_of_report;

static void cancel_it(fixture *f, void *t) {
  turn_of_cancel = turns;
  CHECK_INT(transfer_cancel(f, t), 0);
  /* The other one keeps the loop in its poll: nothing but the cancel can end that any sooner. */
  fixture_after(f, 300, fixture_release, NULL);
}

static void note_turn(transfer *t) {
  (void)t;
  turn_of_report = turns;
}

TEST(cancel_takes_one_turn) { /* S37 */
  fixture f;
  fixture_open(&f);
  count_turns(&f);
  transfer *t = transfer_new(&f, "/hold/10"), *other = transfer_new(&f, "/hold/20");
  t->on_done = note_turn;
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, other), 0);
  fixture_when(&f, SERVER_HELD, 2, cancel_it, t);
  fixture_run(&f);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(other->status, 0);
  CHECK_BETWEEN(turn_of_report - turn_of_cancel, 0, 1);
  transfer_free(t);
  transfer_free(other);
  stop_counting();
  fixture_close(&f);
}

static size_t cancels_itself(transfer *t, const char *data, size_t n) {
  (void)data;
  turn_of_cancel = turns;
  CHECK_INT(transfer_cancel(t->f, t), 0);
  return n;
}

TEST(cancel_in_a_callback_takes_no_turn_more) {
  fixture f;
  fixture_open(&f);
  count_turns(&f);
  transfer *t = transfer_new(&f, "/stall/100/1000"), *other = transfer_new(&f, "/hold/20");
  t->on_write = cancels_itself;
  t->on_done = note_turn;
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, other), 0);
  fixture_after(&f, 300, fixture_release, NULL);
  fixture_run(&f);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_BETWEEN(turn_of_report - turn_of_cancel, 0, 1);
  transfer_free(t);
  transfer_free(other);
  stop_counting();
  fixture_close(&f);
}

static int calls; /* of any of the easy handle's callbacks */

static size_t count_write(transfer *t, const char *data, size_t n) {
  (void)t, (void)data;
  calls++;
  return n;
}

static size_t count_header(char *data, size_t size, size_t n, void *arg) {
  (void)data, (void)arg;
  calls++;
  return size * n;
}

static int count_xferinfo(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  (void)arg, (void)a, (void)b, (void)c, (void)d;
  calls++;
  return 0;
}

static int count_debug(CURL *easy, curl_infotype type, char *data, size_t size, void *arg) {
  (void)easy, (void)type, (void)data, (void)size, (void)arg;
  calls++;
  return 0;
}

static int calls_at_cancel;

static void cancel_and_count(fixture *f, void *arg) {
  transfer *t = arg;
  CHECK(t->received > 0);
  CHECK_INT(transfer_cancel(f, t), 0);
  calls_at_cancel = calls;
}

TEST(no_callback_after_cancel) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/trickle/100000/10/1"), *other = transfer_new(&f, "/delay/80/10");
  t->on_write = count_write;
  set_ptr(t->easy, CURLOPT_HEADERFUNCTION, count_header);
  set_ptr(t->easy, CURLOPT_XFERINFOFUNCTION, count_xferinfo);
  set_long(t->easy, CURLOPT_NOPROGRESS, 0);
  set_ptr(t->easy, CURLOPT_DEBUGFUNCTION, count_debug);
  set_long(t->easy, CURLOPT_VERBOSE, 1);
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->received < 50)
    uv_run(&f.loop, UV_RUN_ONCE);
  CHECK_INT(transfer_start(&f, other), 0);
  fixture_after(&f, 10, cancel_and_count, t);
  fixture_run(&f);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(other->status, 0);
  CHECK(calls > 0);
  CHECK_INT(calls, calls_at_cancel);
  transfer_free(t);
  transfer_free(other);
  fixture_close(&f);
}

/* Pause. */

/* Fires although nothing of the host's keeps the loop alive, as only the transfer does. */
static uv_timer_cb when_due;

static void on_due(uv_timer_t *timer) {
  uv_timer_cb cb = when_due;
  when_due = NULL;
  cb(timer);
}

static void after_ms_unreferenced(fixture *f, uint64_t ms, uv_timer_t *timer, uv_timer_cb cb,
                                  transfer *t) {
  when_due = cb;
  CHECK_INT(uv_timer_init(&f->loop, timer), 0);
  timer->data = t;
  uv_update_time(&f->loop);
  CHECK_INT(uv_timer_start(timer, on_due, ms, 0), 0);
  uv_unref((uv_handle_t *)timer);
}

static void after_unreferenced(fixture *f, uv_timer_t *timer, uv_timer_cb cb, transfer *t) {
  after_ms_unreferenced(f, 50, timer, cb, t);
}

/* It has fired, so the transfer was still there then. */
static void end_timer(uv_timer_t *timer) {
  CHECK(when_due == NULL);
  uv_close((uv_handle_t *)timer, NULL);
}

static void resume_on_timer(uv_timer_t *timer) {
  transfer *t = timer->data;
  CHECK_INT(t->done, 0);
  if (!pauses_leak())
    CHECK_INT(t->received, 0);
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), 0);
  CHECK_INT(t->done, 0);
}

static void paused_then_resumed(enum server_port_kind kind,
                                size_t (*pauses)(transfer *, const char *, size_t)) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  if (kind == SERVER_HTTPS)
    fixture_need_tls(&f);
  transfer *t = transfer_new_on(&f, kind, "/bytes/200000");
  t->on_write = pauses;
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->user == NULL)
    uv_run(&f.loop, UV_RUN_ONCE);
  /* A transfer that is paused has neither socket nor timer; it holds the loop all the same. */
  after_unreferenced(&f, &timer, resume_on_timer, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 200000);
  CHECK(t->content_ok);
  end_timer(&timer);
  transfer_free(t);
  fixture_close(&f);
}

TEST(pause_by_return_value) { /* S34 */
  paused_then_resumed(SERVER_HTTP, pauses_once);
}

TEST(pause_by_return_value_over_tls) {
  paused_then_resumed(SERVER_HTTPS, pauses_once);
}

static size_t received_at_pause;

static size_t pauses_by_call(transfer *t, const char *data, size_t n) {
  (void)data;
  if (t->user == NULL) {
    t->user = t;
    CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_RECV), 0);
    received_at_pause = n;
  }
  return n;
}

/* Whether a transfer paused by call stands still, and goes on when resumed. */
static void resume_and_look(uv_timer_t *timer) {
  transfer *t = timer->data;
  CHECK_INT(t->done, 0);
  CHECK(t->received < 60);
  /* Twice is as good as once. */
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_RECV), 0);
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), 0);
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), 0);
}

TEST(pause_by_call) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  char path[60];
  /* Were it not paused, it would be through when the timer fires. */
  snprintf(path, sizeof path, "/trickle/60/10/%u", 30 * test_slowdown());
  transfer *t = transfer_new(&f, path);
  t->on_write = pauses_by_call;
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->user == NULL)
    uv_run(&f.loop, UV_RUN_ONCE);
  after_ms_unreferenced(&f, 200 * test_slowdown(), &timer, resume_and_look, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 60);
  CHECK(t->content_ok);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_CONT), UV_ENOENT);
  end_timer(&timer);
  transfer_free(t);
  fixture_close(&f);
}

TEST(pause_before_connect) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  /* Not so fast that connection and answer are one step. */
  transfer *t = transfer_new(&f, "/delay/10/1000");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_RECV), 0);
  after_unreferenced(&f, &timer, resume_on_timer, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 1000);
  /* Resumed before it could act, it never acts. */
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_ALL), 0);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_CONT), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 2);
  CHECK_INT(t->status, 0);
  /* The pause of a transfer that was cancelled is not the next one's. */
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_ALL), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 4);
  CHECK_INT(t->status, 0);
  end_timer(&timer);
  transfer_free(t);
  fixture_close(&f);
}

static int inside_pause, writes_inside;

static size_t pauses_then_fails(transfer *t, const char *data, size_t n) {
  (void)data;
  if (t->user == NULL) {
    t->user = t;
    return CURL_WRITEFUNC_PAUSE;
  }
  writes_inside += inside_pause;
  return n + 1;
}

static void resume_in_vain(uv_timer_t *timer) {
  transfer *t = timer->data;
  inside_pause = 1;
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), 0);
  inside_pause = 0;
  /* Settled, and told from the loop. */
  CHECK_INT(t->done, 0);
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), UV_EALREADY);
  CHECK_INT(transfer_cancel(t->f, t), UV_EALREADY);
}

TEST(write_fails_inside_resume) { /* S34, R14 */
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/1000");
  t->on_write = pauses_then_fails;
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->user == NULL)
    uv_run(&f.loop, UV_RUN_ONCE);
  after_unreferenced(&f, &timer, resume_in_vain, t);
  fixture_run(&f);
  CHECK_INT(writes_inside, 1);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, CURLE_WRITE_ERROR);
  end_timer(&timer);
  /* And the driver goes on. */
  t->on_write = NULL;
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  fixture_close(&f);
}

/* What the write callback that runs inside uvcurl_pause() or curl_easy_pause() asks for. */
static struct inner {
  transfer *fresh;
  int step;
} inner;

static size_t asks_inside_resume(transfer *t, const char *data, size_t n) {
  (void)data;
  switch (inner.step++) {
  case 0:
    t->user = t;
    return CURL_WRITEFUNC_PAUSE;
  case 1:
    CHECK_INT(transfer_start(t->f, inner.fresh), 0);
    CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_RECV), 0);
    CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), 0);
    CHECK_INT(transfer_cancel(t->f, t), 0);
    CHECK_INT(transfer_cancel(t->f, t), UV_EALREADY);
    /* Cancelled is settled, so this failure is not what gets reported. */
    return n + 1;
  default:
    return n;
  }
}

static void resume_by_pause(uv_timer_t *timer) {
  transfer *t = timer->data;
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), 0);
  CHECK_INT(inner.step, 2);
  /* As soon as libcurl has returned, not some time later: the new one is in the multi handle. */
  if (inner.fresh) {
    CURLM *scratch = curl_multi_init();
    CHECK_INT(curl_multi_add_handle(scratch, inner.fresh->easy), CURLM_ADDED_ALREADY);
    CHECK_INT(curl_multi_cleanup(scratch), CURLM_OK);
  }
}

static void resume_by_libcurl(uv_timer_t *timer) {
  transfer *t = timer->data;
  curl_easy_pause(t->easy, CURLPAUSE_CONT);
  CHECK_INT(inner.step, 2);
}

static void asks_while_resumed(uv_timer_cb resume) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/stall/1000/2000");
  inner.fresh = transfer_new(&f, "/bytes/10");
  t->on_write = asks_inside_resume;
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->user == NULL)
    uv_run(&f.loop, UV_RUN_ONCE);
  after_unreferenced(&f, &timer, resume, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(inner.fresh->done, 1);
  CHECK_INT(inner.fresh->status, 0);
  end_timer(&timer);
  transfer_free(t);
  transfer_free(inner.fresh);
  fixture_close(&f);
}

TEST(asks_inside_uvcurl_pause) {
  asks_while_resumed(resume_by_pause);
}

/* The host need not, but may: the driver does not know that libcurl is on the stack. */
TEST(asks_inside_curl_easy_pause) {
  asks_while_resumed(resume_by_libcurl);
}

static size_t closes_inside_resume(transfer *t, const char *data, size_t n) {
  (void)data;
  if (inner.step++ == 0) {
    t->user = t;
    return CURL_WRITEFUNC_PAUSE;
  }
  if (!t->f->closing)
    fixture_begin_close(t->f);
  return n;
}

static void closes_while_resumed(uv_timer_cb resume) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/stall/1000/2000");
  t->on_write = closes_inside_resume;
  CHECK_INT(transfer_start(&f, t), 0);
  while (t->user == NULL)
    uv_run(&f.loop, UV_RUN_ONCE);
  after_unreferenced(&f, &timer, resume, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(f.closed, 1);
  end_timer(&timer);
  transfer_free(t);
  fixture_close(&f);
}

TEST(close_inside_uvcurl_pause) {
  closes_while_resumed(resume_by_pause);
}

TEST(close_inside_curl_easy_pause) {
  closes_while_resumed(resume_by_libcurl);
}

#define UPLOAD 300000

static struct upload {
  size_t sent;
  size_t pause_at;
  int paused;
} upload;

static size_t read_and_pause(char *data, size_t size, size_t n, void *arg) {
  (void)arg;
  size_t some = size * n;
  if (!upload.paused && upload.sent >= upload.pause_at) {
    upload.paused = 1;
    return CURL_READFUNC_PAUSE;
  }
  if (some > 10000)
    some = 10000;
  if (some > UPLOAD - upload.sent)
    some = UPLOAD - upload.sent;
  server_fill(data, upload.sent, some);
  upload.sent += some;
  return some;
}

static transfer *make_upload(fixture *f, const char *path) {
  transfer *t = transfer_new(f, path);
  set_long(t->easy, CURLOPT_UPLOAD, 1);
  set_long(t->easy, CURLOPT_INFILESIZE, UPLOAD);
  set_ptr(t->easy, CURLOPT_READFUNCTION, read_and_pause);
  t->keep_body = 1;
  return t;
}

static void check_upload(transfer *t) {
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(upload.sent, UPLOAD);
  CHECK_STR((char *)t->body, "300000");
}

TEST(pause_of_an_upload_by_return_value) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  transfer *t = make_upload(&f, "/sink");
  upload.pause_at = 100000;
  CHECK_INT(transfer_start(&f, t), 0);
  while (!upload.paused)
    uv_run(&f.loop, UV_RUN_ONCE);
  after_unreferenced(&f, &timer, resume_on_timer, t);
  fixture_run(&f);
  check_upload(t);
  end_timer(&timer);
  transfer_free(t);
  fixture_close(&f);
}

static size_t sent_at_pause;

static void resume_upload(uv_timer_t *timer) {
  transfer *t = timer->data;
  /* Before 8.4 libcurl still does what it had noted down to do, which is one read. */
  CHECK_BETWEEN(upload.sent, sent_at_pause, sent_at_pause + (curl_number() < 0x080400 ? 10000 : 0));
  resume_on_timer(timer);
  CHECK_INT(t->done, 0);
}

TEST(pause_of_an_upload_by_call) {
  fixture f;
  uv_timer_t timer;
  fixture_open(&f);
  transfer *t = make_upload(&f, "/sink");
  upload.pause_at = SIZE_MAX;
  /* Slow enough that it is not all read in one go. */
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_MAX_SEND_SPEED_LARGE, (curl_off_t)1000000), CURLE_OK);
  CHECK_INT(transfer_start(&f, t), 0);
  while (upload.sent == 0)
    uv_run(&f.loop, UV_RUN_ONCE);
  CHECK(upload.sent < UPLOAD);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_SEND), 0);
  sent_at_pause = upload.sent;
  after_unreferenced(&f, &timer, resume_upload, t);
  fixture_run(&f);
  check_upload(t);
  end_timer(&timer);
  transfer_free(t);
  fixture_close(&f);
}

/* The loop, run in other ways (S44). */

static size_t runs_the_loop(transfer *t, const char *data, size_t n) {
  (void)data;
  transfer *other = t->user;
  if (!other->started) {
    CHECK_INT(transfer_start(t->f, other), 0);
    CHECK_INT(transfer_start(t->f, other), UV_EALREADY);
  }
  for (int i = 0; i < 3; i++)
    uv_run(&t->f->loop, UV_RUN_NOWAIT);
  return n;
}

TEST(loop_run_inside_write) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/trickle/100/10/2"), *other = transfer_new(&f, "/bytes/1000");
  transfer *third = transfer_new(&f, "/delay/10/500");
  t->on_write = runs_the_loop;
  t->user = other;
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, third), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 100);
  CHECK(t->content_ok);
  CHECK_INT(other->done, 1);
  CHECK_INT(other->status, 0);
  CHECK_INT(other->received, 1000);
  CHECK_INT(third->status, 0);
  CHECK_INT(third->received, 500);
  transfer_free(t);
  transfer_free(other);
  transfer_free(third);
  fixture_close(&f);
}

/* The deadline passes, and a reset arrives, while libcurl cannot be told; neither is forgotten. */
static size_t sleeps_in_the_loop(transfer *t, const char *data, size_t n) {
  (void)data;
  if (t->user == NULL) {
    t->user = t;
    double end = test_now_ms() + 60;
    while (test_now_ms() < end) {
      uv_run(&t->f->loop, UV_RUN_NOWAIT);
      usleep(2000);
    }
  }
  return n;
}

TEST(deadline_and_reset_inside_write) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/trickle/40/10/40"), *late = transfer_new(&f, "/hold");
  transfer *reset = transfer_new(&f, "/reset/10/1000");
  t->on_write = reset->on_write = sleeps_in_the_loop;
  set_long(late->easy, CURLOPT_TIMEOUT_MS, 30);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, late), 0);
  CHECK_INT(transfer_start(&f, reset), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 40);
  CHECK_INT(late->done, 1);
  CHECK_INT(late->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_INT(reset->done, 1);
  CHECK_INT(reset->status, CURLE_RECV_ERROR);
  transfer_free(t);
  transfer_free(late);
  transfer_free(reset);
  fixture_close(&f);
}

static void runs_until_other(transfer *t) {
  transfer *other = t->user;
  while (other->done == 0) {
    uv_run(&t->f->loop, UV_RUN_NOWAIT);
    usleep(200);
  }
  CHECK_INT(other->status, 0);
}

TEST(loop_run_inside_done) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10"), *other = transfer_new(&f, "/delay/50/1000");
  t->on_done = runs_until_other;
  t->user = other;
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, other), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(other->done, 1);
  transfer_free(t);
  transfer_free(other);
  fixture_close(&f);
}

/* Below that done callback are frames of a driver that is gone before they return. */
static void closes_and_runs(transfer *t) {
  fixture *f = t->f;
  fixture_begin_close(f);
  while (!f->closed)
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

TEST(driver_gone_inside_done) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/delay/20/10"), *held = transfer_new(&f, "/hold");
  transfer *first = transfer_new_url(&f, "nope://127.0.0.1/");
  t->on_done = closes_and_runs;
  CHECK_INT(transfer_start(&f, first), 0);
  CHECK_INT(transfer_start(&f, held), 0);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(held->status, UV_ECANCELED);
  CHECK_INT(f.closed, 1);
  transfer_free(t);
  transfer_free(held);
  transfer_free(first);
  fixture_close(&f);
}

static void stops(transfer *t) {
  uv_stop(&t->f->loop);
}

TEST(stop_and_run_again) {
  fixture f;
  transfer *t[BATCH];
  fixture_open(&f);
  for (int i = 0; i < BATCH; i++) {
    t[i] = i % 2 ? transfer_new(&f, "/bytes/10") : transfer_new_url(&f, "nope://127.0.0.1/");
    t[i]->on_done = stops;
    CHECK_INT(transfer_start(&f, t[i]), 0);
    /* The mark is not lost either when it is set before the loop runs. */
    uv_stop(&f.loop);
  }
  while (uv_run(&f.loop, UV_RUN_DEFAULT) != 0) {
  }
  for (int i = 0; i < BATCH; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, i % 2 ? 0 : CURLE_UNSUPPORTED_PROTOCOL);
    transfer_free(t[i]);
  }
  fixture_close(&f);
}

static void driven(uv_run_mode mode) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/trickle/50/10/2"), *bad = transfer_new_url(&f, "nope://x/");
  transfer *late = transfer_new(&f, "/hold");
  set_long(late->easy, CURLOPT_TIMEOUT_MS, 50);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_start(&f, bad), 0);
  CHECK_INT(transfer_start(&f, late), 0);
  /* uv_run() says when there is nothing left to run for. */
  while (uv_run(&f.loop, mode) != 0) {
    if (mode == UV_RUN_NOWAIT)
      usleep(200);
  }
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 50);
  CHECK_INT(bad->status, CURLE_UNSUPPORTED_PROTOCOL);
  CHECK_INT(late->status, CURLE_OPERATION_TIMEDOUT);
  CHECK_INT(uvcurl_active(f.uc), 0);
  transfer_free(t);
  transfer_free(bad);
  transfer_free(late);
  fixture_close(&f);
}

TEST(loop_run_once) {
  driven(UV_RUN_ONCE);
}

TEST(loop_run_nowait) {
  driven(UV_RUN_NOWAIT);
}

TEST_MAIN(T(in_write), T(in_header), T(in_read), T(in_seek), T(in_xferinfo), T(in_debug),
          T(in_prereq), T(in_sockopt), T(in_opensocket), T(in_closesocket), T(in_resolver_start),
          T(in_ssl_ctx), T(in_trailer), T(start_of_a_taken_handle_in_a_callback),
          T(done_restarts_the_same_handle), T(done_cleans_up), T(done_cancels_what_has_ended),
          T(done_cancels_what_runs), T(done_closes_with_reports_due), T(done_closes_and_cleans_up),
          T(chain_of_starts), T(chain_of_cancels), T(cancel_before_the_first_turn),
          T(cancel_takes_one_turn), T(cancel_in_a_callback_takes_no_turn_more),
          T(no_callback_after_cancel), T(pause_by_return_value), T(pause_by_return_value_over_tls),
          T(pause_by_call), T(pause_before_connect), T(write_fails_inside_resume),
          T(asks_inside_uvcurl_pause), T(asks_inside_curl_easy_pause), T(close_inside_uvcurl_pause),
          T(close_inside_curl_easy_pause), T(pause_of_an_upload_by_return_value),
          T(pause_of_an_upload_by_call), T(loop_run_inside_write),
          T(deadline_and_reset_inside_write), T(loop_run_inside_done), T(driver_gone_inside_done),
          T(stop_and_run_again), T(loop_run_once), T(loop_run_nowait))
