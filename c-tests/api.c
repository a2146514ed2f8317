/* What the functions answer: bad input, wrong states, wrong threads, a closing driver; and what
 * they leave of the easy handle. Promises 8 to 10. */
/* link: -Wl,--wrap=curl_easy_setopt,--wrap=uv_version,--wrap=curl_version_info */
#include "fixture.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* curl_easy_setopt, watched.
 * The library's calls come through here too, and the linker leaves nothing else of what it sets to
 * be seen from outside. */
static CURL *watched;
static int watched_calls;
static int close_calls;      /* those for CURLOPT_CLOSESOCKETFUNCTION */
static void *close_function; /* what the last one set */
static int nosignal_calls, quick_exit_calls;
/* CURLOPT_QUICK_EXIT, which 7.85 does not declare. */
#define QUICK_EXIT 322
static long nosignal;

#undef curl_easy_setopt
CURLcode __real_curl_easy_setopt(CURL *easy, CURLoption option, ...);
CURLcode __wrap_curl_easy_setopt(CURL *easy, CURLoption option, ...);

CURLcode __wrap_curl_easy_setopt(CURL *easy, CURLoption option, ...) {
  va_list args;
  va_start(args, option);
  /* A long, a curl_off_t and a pointer come the same way on the machines these tests run on. */
  void *value = va_arg(args, void *);
  va_end(args);
  if (easy != NULL && easy == watched) {
    watched_calls++;
    if (option == CURLOPT_CLOSESOCKETFUNCTION) {
      close_calls++;
      close_function = value;
    } else if (option == CURLOPT_NOSIGNAL) {
      nosignal_calls++;
      nosignal = (long)(intptr_t)value;
    } else if (option == QUICK_EXIT) {
      quick_exit_calls++;
      CHECK_INT((intptr_t)value, 1);
    }
  }
  return __real_curl_easy_setopt(easy, option, value);
}

static void watch(CURL *easy) {
  watched = easy;
  watched_calls = close_calls = nosignal_calls = quick_exit_calls = 0;
  close_function = NULL;
  nosignal = -1;
}

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

/* Bad input. ---------------------------------------------------------------------------------- */

TEST(null_driver) {
  CURL *easy = curl_easy_init();
  CHECK_INT(uvcurl_start(NULL, easy, never_done, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_cancel(NULL, easy), UV_EINVAL);
  CHECK_INT(uvcurl_pause(NULL, easy, CURLPAUSE_ALL), UV_EINVAL);
  CHECK_INT(uvcurl_set(NULL, UVCURL_EASY_UNTOUCHED, 1), UV_EINVAL);
  CHECK_INT(uvcurl_active(NULL), 0);
  CHECK_INT(uvcurl_has_ref(NULL), 0);
  CHECK(uvcurl_loop(NULL) == NULL);
  CHECK(uvcurl_multi(NULL) == NULL);
  uvcurl_ref(NULL);
  uvcurl_unref(NULL);
  uvcurl_close(NULL, never_closed, NULL);
  uvcurl_close(NULL, NULL, NULL);
  curl_easy_cleanup(easy);
}

TEST(null_arguments) {
  fixture f;
  fixture_open_bare(&f);
  CURL *easy = curl_easy_init();
  CHECK_INT(uvcurl_start(f.uc, NULL, never_done, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_start(f.uc, easy, NULL, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_start(f.uc, NULL, NULL, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_cancel(f.uc, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_pause(f.uc, NULL, CURLPAUSE_ALL), UV_EINVAL);
  CHECK_INT(uvcurl_active(f.uc), 0);
  /* Had one of them taken the handle, this would be UV_EALREADY or UV_EBUSY. */
  transfer *t = transfer_new_url(&f, "http://127.0.0.1:1/");
  CHECK_INT(uvcurl_start(f.uc, t->easy, NULL, t), UV_EINVAL);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  transfer_free(t);
  curl_easy_cleanup(easy);
  fixture_close(&f);
}

TEST(new_writes_nothing_on_failure) {
  uv_loop_t loop;
  const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
  uvcurl_t *const before = (uvcurl_t *)(uintptr_t)0x1230;
  uvcurl_t *uc = before;
  CHECK_INT(uv_loop_init(&loop), 0);
  CHECK_INT(uvcurl_new(NULL, &uc), UV_EINVAL);
  CHECK_INT(uvcurl_new(&loop, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_new(NULL, NULL), UV_EINVAL);
  CHECK_INT((uvcurl_new)(NULL, &uc), UV_EINVAL);
  CHECK_INT((uvcurl_new)(&loop, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_new_checked(NULL, &uc, info), UV_EINVAL);
  CHECK_INT(uvcurl_new_checked(&loop, NULL, info), UV_EINVAL);
  CHECK_INT(uvcurl_new_checked(&loop, &uc, NULL), UV_EINVAL);
  CHECK(uc == before);
  /* Nor is anything left on the loop. */
  CHECK_INT(uv_loop_close(&loop), 0);
}

TEST(not_an_easy_handle) {
  fixture f;
  fixture_open_bare(&f);
  size_t size = 64 * 1024;
  unsigned char *memory = calloc(1, size);
  CURLM *multi = curl_multi_init();
  CHECK_INT(uvcurl_start(f.uc, (CURL *)memory, never_done, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_cancel(f.uc, (CURL *)memory), UV_ENOENT);
  CHECK_INT(uvcurl_pause(f.uc, (CURL *)memory, CURLPAUSE_ALL), UV_ENOENT);
  /* Before 8.22 curl_easy_setopt() writes to whatever it is given; curl_multi_add_handle() looks.
   */
  for (size_t i = 0; i < size && curl_number() >= 0x081600; i++)
    CHECK_INT(memory[i], 0);
  /* What it writes lies behind the end of a multi handle. */
  if (curl_number() >= 0x081600)
    CHECK_INT(uvcurl_start(f.uc, (CURL *)multi, never_done, NULL), UV_EINVAL);
  CHECK_INT(uvcurl_active(f.uc), 0);
  CHECK_INT(curl_multi_cleanup(multi), CURLM_OK);
  free(memory);
  fixture_close(&f);
}

/* States of a transfer. ------------------------------------------------------------------------ */

TEST(start_in_flight) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(uvcurl_active(f.uc), 1);
  CHECK_INT(uvcurl_start(f.uc, t->easy, never_done, NULL), UV_EALREADY);
  CHECK_INT(uvcurl_active(f.uc), 1);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 10);
  CHECK_INT(uvcurl_active(f.uc), 0);
  /* Cancelled, and the report has not run yet. */
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  CHECK_INT(uvcurl_start(f.uc, t->easy, never_done, NULL), UV_EALREADY);
  CHECK_INT(uvcurl_active(f.uc), 1);
  fixture_run(&f);
  CHECK_INT(t->done, 2);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  fixture_close(&f);
}

static void run_by_hand(CURLM *multi) {
  int running = 1;
  while (running > 0) {
    CHECK_INT(curl_multi_perform(multi, &running), CURLM_OK);
    CHECK_INT(curl_multi_poll(multi, NULL, 0, 100, NULL), CURLM_OK);
  }
}

TEST(start_in_a_multi_handle_of_the_hosts) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  CURLM *multi = curl_multi_init();
  CHECK_INT(curl_multi_add_handle(multi, t->easy), CURLM_OK);
  watch(t->easy);
  t->content_ok = 1;
  CHECK_INT(uvcurl_start(f.uc, t->easy, never_done, NULL), UV_EBUSY);
  /* The connection it makes there must not get a function of ours. */
  CHECK_INT(close_calls, 0);
  CHECK_INT(uvcurl_active(f.uc), 0);
  CHECK_INT(uvcurl_cancel(f.uc, t->easy), UV_ENOENT);
  /* It is still whole where it is. */
  run_by_hand(multi);
  CHECK_INT(t->received, 10);
  CHECK_INT(t->content_ok, 1);
  CHECK_INT(curl_multi_remove_handle(multi, t->easy), CURLM_OK);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(curl_multi_cleanup(multi), CURLM_OK);
  transfer_free(t);
  fixture_close(&f);
}

static void count_close(void *arg) {
  ++*(int *)arg;
}

TEST(start_in_another_driver) {
  fixture f;
  uvcurl_t *other;
  int closed = 0;
  fixture_open(&f);
  CHECK_INT(uvcurl_new(&f.loop, &other), 0);
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(uvcurl_start(other, t->easy, never_done, NULL), UV_EBUSY);
  CHECK_INT(uvcurl_cancel(other, t->easy), UV_ENOENT);
  CHECK_INT(uvcurl_pause(other, t->easy, CURLPAUSE_ALL), UV_ENOENT);
  CHECK_INT(uvcurl_active(other), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 10);
  uvcurl_close(other, count_close, &closed);
  fixture_run(&f);
  CHECK_INT(closed, 1);
  transfer_free(t);
  fixture_close(&f);
}

TEST(unknown_handle) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_cancel(&f, t), UV_ENOENT);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_RECV), UV_ENOENT);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  /* Reported, so no longer known. */
  CHECK_INT(transfer_cancel(&f, t), UV_ENOENT);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_CONT), UV_ENOENT);
  CHECK_INT(t->done, 1);
  transfer_free(t);
  fixture_close(&f);
}

static void known_no_more(transfer *t) {
  /* The transfer that is being reported neither counts nor is it known. */
  CHECK_INT(uvcurl_active(t->f->uc), 0);
  CHECK_INT(transfer_cancel(t->f, t), UV_ENOENT);
  CHECK_INT(transfer_pause(t->f, t, CURLPAUSE_CONT), UV_ENOENT);
}

TEST(unknown_in_its_own_report) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  t->on_done = known_no_more;
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  transfer_free(t);
  fixture_close(&f);
}

TEST(second_cancel) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), UV_EALREADY);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_ALL), UV_EALREADY);
  CHECK_INT(transfer_pause(&f, t, CURLPAUSE_CONT), UV_EALREADY);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, UV_ECANCELED);
  transfer_free(t);
  fixture_close(&f);
}

TEST(pause_mask) {
  fixture f;
  fixture_open(&f);
  static const int good[] = {CURLPAUSE_RECV, CURLPAUSE_SEND, CURLPAUSE_ALL, CURLPAUSE_CONT};
  static const int bad[] = {2, 3, 6, 7, 8, 16, 32, 0x100, 0x10000, -1, -2, 0x7fffffff};
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    CHECK_MSG(transfer_pause(&f, t, bad[i]) == UV_EINVAL, "the mask %d is taken", bad[i]);
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
    CHECK_MSG(transfer_pause(&f, t, good[i]) == 0, "the mask %d is refused", good[i]);
  /* The last good one was CURLPAUSE_CONT, and no bad one left a pause behind. */
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->received, 10);
  transfer_free(t);
  fixture_close(&f);
}

TEST(options) {
  fixture f;
  fixture_open(&f);
  CHECK_INT(uvcurl_set(f.uc, 0, 0), UV_ENOTSUP);
  CHECK_INT(uvcurl_set(f.uc, 4, 0), UV_ENOTSUP);
  CHECK_INT(uvcurl_set(f.uc, -1, 1), UV_ENOTSUP);
  CHECK_INT(uvcurl_set(f.uc, 0x7fffffff, 1), UV_ENOTSUP);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 2), UV_EINVAL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, -1), UV_EINVAL);
  if (sizeof(long) > sizeof(int))
    CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, (long)0x100000001LL), UV_EINVAL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_MAXCONNECTS, -1), UV_EINVAL);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_MAXCONNECTS, 5), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_MAXCONNECTS, 0), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 0), 0);
  transfer *t = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), UV_EBUSY);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 0), UV_EBUSY);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 2), UV_EINVAL);
  /* Cancelled, but not yet reported, is still in flight. */
  CHECK_INT(transfer_cancel(&f, t), 0);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), UV_EBUSY);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  transfer_free(t);
  fixture_close(&f);
}

TEST(loop_and_multi) {
  fixture f;
  fixture_open(&f);
  CURLM *multi = uvcurl_multi(f.uc);
  CHECK(uvcurl_loop(f.uc) == &f.loop);
  CHECK(multi != NULL);
  /* It is the one transfers are added to, and what uvcurl does not own can be set. */
  CHECK_INT(curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, 1L), CURLM_OK);
  transfer *t = transfer_new(&f, "/conn");
  t->keep_body = 1;
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(curl_multi_add_handle(multi, t->easy), CURLM_ADDED_ALREADY);
  CHECK(uvcurl_multi(f.uc) == multi);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  fixture_close(&f);
}

/* A driver that is closing. ---------------------------------------------------------------------
 */

static void refused_everything(fixture *f, CURL *easy, CURL *fresh, size_t active) {
  CHECK_INT(uvcurl_start(f->uc, fresh, never_done, NULL), UV_ECANCELED);
  CHECK_INT(uvcurl_start(f->uc, easy, never_done, NULL), UV_ECANCELED);
  CHECK_INT(uvcurl_cancel(f->uc, easy), UV_ECANCELED);
  CHECK_INT(uvcurl_cancel(f->uc, fresh), UV_ECANCELED);
  CHECK_INT(uvcurl_pause(f->uc, easy, CURLPAUSE_ALL), UV_ECANCELED);
  CHECK_INT(uvcurl_set(f->uc, UVCURL_EASY_UNTOUCHED, 1), UV_ECANCELED);
  CHECK_INT(uvcurl_set(f->uc, UVCURL_EASY_UNTOUCHED, 0), UV_ECANCELED);
  CHECK(uvcurl_multi(f->uc) == NULL);
  CHECK(uvcurl_loop(f->uc) == &f->loop);
  CHECK_INT(uvcurl_active(f->uc), active);
  uvcurl_unref(f->uc);
  CHECK_INT(uvcurl_has_ref(f->uc), 0);
  uvcurl_ref(f->uc);
  CHECK_INT(uvcurl_has_ref(f->uc), 1);
  uvcurl_close(f->uc, never_closed, NULL);
}

struct closing {
  transfer *held[2];
  CURL *fresh;
};

static void closes(transfer *t) {
  struct closing *c = t->user;
  fixture_begin_close(t->f);
  refused_everything(t->f, c->held[0]->easy, c->fresh, 2);
}

static void held_done(transfer *t) {
  struct closing *c = t->user;
  size_t left = (size_t)(2 - c->held[0]->done - c->held[1]->done);
  CHECK_INT(t->status, UV_ECANCELED);
  refused_everything(t->f, t->easy, c->fresh, left);
}

TEST(closing_in_a_done_callback) {
  fixture f;
  fixture_open(&f);
  struct closing c = {.fresh = curl_easy_init()};
  transfer *t = transfer_new(&f, "/delay/20/10");
  t->on_done = closes;
  t->user = &c;
  for (int i = 0; i < 2; i++) {
    c.held[i] = transfer_new(&f, "/hold/10");
    c.held[i]->on_done = held_done;
    c.held[i]->user = &c;
    CHECK_INT(transfer_start(&f, c.held[i]), 0);
  }
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(c.held[0]->done, 1);
  CHECK_INT(c.held[1]->done, 1);
  CHECK_INT(f.closed, 1);
  transfer_free(t);
  transfer_free(c.held[0]);
  transfer_free(c.held[1]);
  curl_easy_cleanup(c.fresh);
  fixture_close(&f);
}

TEST(closing_outside_the_loop) {
  fixture f;
  fixture_open(&f);
  CURL *fresh = curl_easy_init();
  transfer *t = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_begin_close(&f);
  refused_everything(&f, t->easy, fresh, 1);
  CHECK_INT(t->done, 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, UV_ECANCELED);
  transfer_free(t);
  curl_easy_cleanup(fresh);
  fixture_close(&f);
}

/* Threads. --------------------------------------------------------------------------------------
 */

struct elsewhere {
  fixture *f;
  transfer *t;
  CURL *fresh;
};

static void call_everything(void *arg) {
  struct elsewhere *e = arg;
  fixture *f = e->f;
  CHECK_INT(uvcurl_start(f->uc, e->fresh, never_done, NULL), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_start(f->uc, e->t->easy, never_done, NULL), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_cancel(f->uc, e->t->easy), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_pause(f->uc, e->t->easy, CURLPAUSE_ALL), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_set(f->uc, UVCURL_EASY_UNTOUCHED, 1), UVCURL_E_WRONG_THREAD);
  CHECK(uvcurl_multi(f->uc) == NULL);
  /* These have no status to give: nothing happens. */
  CHECK_INT(uvcurl_active(f->uc), 0);
  CHECK_INT(uvcurl_has_ref(f->uc), 0);
  uvcurl_unref(f->uc);
  uvcurl_close(f->uc, never_closed, NULL);
  uvcurl_close(f->uc, NULL, NULL);
}

static void call_elsewhere(fixture *f, void *arg) {
  uv_thread_t thread;
  (void)f;
  CHECK_INT(uv_thread_create(&thread, call_everything, arg), 0);
  CHECK_INT(uv_thread_join(&thread), 0);
}

TEST(wrong_thread) {
  fixture f;
  fixture_open(&f);
  struct elsewhere e = {&f, transfer_new(&f, "/hold/10"), curl_easy_init()};
  CHECK_INT(transfer_start(&f, e.t), 0);
  /* Once the loop has run here, and the transfer is under way. */
  fixture_when(&f, SERVER_HELD, 1, call_elsewhere, &e);
  fixture_when(&f, SERVER_HELD, 1, fixture_release, NULL);
  fixture_run(&f);
  /* None of it left a trace: not cancelled, not paused, not closed, not unreferenced. */
  CHECK_INT(e.t->done, 1);
  CHECK_INT(e.t->status, 0);
  CHECK_INT(e.t->received, 10);
  CHECK_INT(uvcurl_has_ref(f.uc), 1);
  CHECK(uvcurl_multi(f.uc) != NULL);
  CHECK_INT(uvcurl_start(f.uc, e.fresh, NULL, NULL), UV_EINVAL);
  transfer_free(e.t);
  curl_easy_cleanup(e.fresh);
  fixture_close(&f);
}

#define THREADS 8

static struct race {
  fixture *f;
  CURL *easy;
  int stop, rounds;
} race;

static void refused_over_and_over(void *unused) {
  (void)unused;
  while (!__atomic_load_n(&race.stop, __ATOMIC_RELAXED)) {
    CHECK_INT(uvcurl_start(race.f->uc, race.easy, never_done, NULL), UVCURL_E_WRONG_THREAD);
    CHECK_INT(uvcurl_cancel(race.f->uc, race.easy), UVCURL_E_WRONG_THREAD);
    CHECK_INT(uvcurl_pause(race.f->uc, race.easy, CURLPAUSE_ALL), UVCURL_E_WRONG_THREAD);
    uvcurl_close(race.f->uc, never_closed, NULL);
    __atomic_add_fetch(&race.rounds, 1, __ATOMIC_RELAXED);
  }
}

/* S48: what eight threads ask for while the loop's own starts, cancels and ends transfers is
 * refused each time, and none of it is noticed there. */
TEST(wrong_threads_at_once) {
  fixture f;
  uv_thread_t threads[THREADS];
  transfer *t[20];
  fixture_open(&f);
  for (int i = 0; i < 20; i++)
    t[i] = transfer_new(&f, i % 4 ? "/bytes/3000" : "/hold/10");
  transfer *first = transfer_new(&f, "/bytes/10");
  CHECK_INT(transfer_start(&f, first), 0);
  fixture_run(&f);
  race.f = &f;
  race.easy = t[4]->easy;
  for (int i = 0; i < THREADS; i++)
    CHECK_INT(uv_thread_create(&threads[i], refused_over_and_over, NULL), 0);
  for (int round = 0; round < 5 || __atomic_load_n(&race.rounds, __ATOMIC_RELAXED) < 1000;
       round++) {
    for (int i = 0; i < 20; i++)
      CHECK_INT(transfer_start(&f, t[i]), 0);
    while (t[1]->done < t[1]->started)
      CHECK(uv_run(&f.loop, UV_RUN_ONCE) != 0);
    for (int i = 0; i < 20; i += 4)
      CHECK_INT(transfer_cancel(&f, t[i]), 0);
    fixture_run(&f);
    for (int i = 0; i < 20; i++) {
      CHECK_INT(t[i]->done, t[i]->started);
      CHECK_INT(t[i]->status, i % 4 ? 0 : UV_ECANCELED);
    }
  }
  __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < THREADS; i++)
    CHECK_INT(uv_thread_join(&threads[i]), 0);
  for (int i = 0; i < 20; i++)
    transfer_free(t[i]);
  transfer_free(first);
  fixture_close(&f);
}

static void run_there(void *arg) {
  fixture_run(arg);
}

static void start_again_there(transfer *t) {
  /* From the first callback on this is the thread. */
  if (t->done == 1)
    CHECK_INT(transfer_start(t->f, t), 0);
}

static void on_thread(void (*run)(void *), void *arg) {
  uv_thread_t thread;
  CHECK_INT(uv_thread_create(&thread, run, arg), 0);
  CHECK_INT(uv_thread_join(&thread), 0);
}

TEST(made_here_run_elsewhere) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  t->on_done = start_again_there;
  CHECK_INT(transfer_start(&f, t), 0);
  on_thread(run_there, &f);
  CHECK_INT(t->done, 2);
  CHECK_INT(t->status, 0);
  /* Now it belongs there. */
  CHECK_INT(uvcurl_start(f.uc, t->easy, never_done, NULL), UVCURL_E_WRONG_THREAD);
  CHECK_INT(uvcurl_cancel(f.uc, t->easy), UVCURL_E_WRONG_THREAD);
  transfer_free(t);
  on_thread((void (*)(void *))fixture_close, &f);
}

static void start_there(fixture *f, void *arg) {
  CHECK_INT(transfer_start(f, arg), 0);
}

/* Made here, but all the host does with it is done in callbacks of the loop, on the loop's thread:
 * nothing of uvcurl's has run there yet when the first call comes. */
TEST(made_here_first_used_elsewhere) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  fixture_after(&f, 0, start_there, t);
  on_thread(run_there, &f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  transfer_free(t);
  on_thread((void (*)(void *))fixture_close, &f);
}

static void close_there(fixture *f, void *arg) {
  (void)arg;
  fixture_begin_close(f);
}

TEST(made_here_closed_elsewhere) {
  fixture f;
  fixture_open_bare(&f);
  fixture_after(&f, 0, close_there, NULL);
  on_thread(run_there, &f);
  CHECK_INT(f.closed, 1);
  on_thread((void (*)(void *))fixture_close, &f);
}

/* Texts and numbers. ----------------------------------------------------------------------------
 */

static void check_text(int status, const char *name, const char *text) {
  CHECK_STR(uvcurl_err_name(status), name);
  if (text)
    CHECK_STR(uvcurl_strerror(status), text);
  else
    CHECK(uvcurl_strerror(status)[0] != '\0');
}

TEST(texts_of_statuses) {
  check_text(0, "OK", NULL);
  check_text(UVCURL_E_WRONG_THREAD, "UVCURL_E_WRONG_THREAD", NULL);
  check_text(UVCURL_E_LIBUV_MISMATCH, "UVCURL_E_LIBUV_MISMATCH", NULL);
  check_text(UVCURL_E_LIBCURL_MISMATCH, "UVCURL_E_LIBCURL_MISMATCH", NULL);
  check_text(UVCURL_E_MULTI, "UVCURL_E_MULTI", NULL);
  check_text(UVCURL_E_INTERNAL, "UVCURL_E_INTERNAL", NULL);
  check_text(CURLE_UNSUPPORTED_PROTOCOL, "CURLE_UNSUPPORTED_PROTOCOL", NULL);
  check_text(CURLE_COULDNT_CONNECT, "CURLE_COULDNT_CONNECT", NULL);
  check_text(CURLE_OPERATION_TIMEDOUT, "CURLE_OPERATION_TIMEDOUT", NULL);
  check_text(CURLE_PEER_FAILED_VERIFICATION, "CURLE_PEER_FAILED_VERIFICATION", NULL);
  check_text(CURLE_RECURSIVE_API_CALL, "CURLE_RECURSIVE_API_CALL", NULL);
  for (int code = 1; code < CURL_LAST; code++)
    CHECK_STR(uvcurl_strerror(code), curl_easy_strerror((CURLcode)code));
#define UV_TEXT(name, text) check_text(UV_##name, "UV_" #name, text);
  UV_ERRNO_MAP(UV_TEXT)
#undef UV_TEXT
}

TEST(texts_of_numbers_nobody_knows) {
  /* 102 is the first after what libcurl 8.22 has. */
  static const int unknown[] = {CURL_LAST > 102 ? CURL_LAST : 102,
                                1000,
                                0x7fffffff,
                                -1000,
                                -9999,
                                -10000,
                                -10998,
                                -0x7fffffff - 1};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    const char *name = uvcurl_err_name(unknown[i]);
    char number[20];
    snprintf(number, sizeof number, "%d", unknown[i]);
    CHECK(name != NULL);
    CHECK_MSG(strstr(name, number) != NULL, "the name of %s is %s", number, name);
    CHECK(uvcurl_strerror(unknown[i]) != NULL);
    CHECK(uvcurl_strerror(unknown[i])[0] != '\0');
  }
}

TEST(names_of_all_curl_codes) {
  /* A number libcurl still uses has a name; 20, say, is obsolete and has none. */
  for (int code = 1; code < CURL_LAST; code++) {
    const char *name = uvcurl_err_name(code);
    CHECK(name != NULL);
    if (strcmp(curl_easy_strerror((CURLcode)code), "Unknown error") != 0)
      CHECK_MSG(strncmp(name, "CURLE_", 6) == 0, "%d is %s", code, name);
  }
}

TEST(version) {
  char text[40];
  CHECK_INT(uvcurl_version(), UVCURL_VERSION_NUMBER);
  CHECK_STR(uvcurl_version_string(), UVCURL_VERSION);
  snprintf(text, sizeof text, "%d.%d.%d", UVCURL_VERSION_MAJOR, UVCURL_VERSION_MINOR,
           UVCURL_VERSION_PATCH);
  CHECK_STR(UVCURL_VERSION, text);
}

/* The libcurls of the matrix, and what is known against each, written down once more. */
TEST(warning_about_libcurl) {
  static const struct {
    unsigned number;
    int sentences;
    const char *reports[8];
  } known[] = {
      {0x075500, 5, {"curl#8515", "lib/http2.c", "curl#13227", "curl#14976", "curl#17636"}},
      {0x075801, 5, {"CURLOPT_QUICK_EXIT", "curl#10618", "curl#13227", "curl#14976", "curl#17636"}},
      {0x080400, 4, {"CURLOPT_QUICK_EXIT", "curl#13227", "curl#14976", "curl#17636"}},
      {0x080900, 6, {"CURLOPT_QUICK_EXIT", "curl#14280", "curl#15100", "curl#17636", "curl#21671"}},
      {0x080a00,
       9,
       {"curl#14870", "curl#15201", "curl#15100", "curl#15185", "curl#15627", "curl#17636",
        "curl#21671"}},
      {0x080c00, 5, {"CURLOPT_QUICK_EXIT", "curl#16236", "curl#17636", "curl#21671"}},
      {0x081100, 4, {"CURLOPT_QUICK_EXIT", "curl#21671", "CVE-2026-9080", "h2_progress_ingress()"}},
      {0x081400,
       5,
       {"curl#21547", "curl#21671", "CVE-2026-9080", "lib/thrdqueue.c", "h2_progress_ingress()"}},
      {0x081500, 3, {"lib/thrdqueue.c", "curl#22282", "h2_progress_ingress()"}},
      {0x081600, 1, {"h2_progress_ingress()"}},
  };
  const char *text = uvcurl_libcurl_warning();
  CHECK(text == uvcurl_libcurl_warning());
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (known[i].number != curl_number())
      continue;
    char version[40];
    snprintf(version, sizeof version, "libcurl %u.%u.%u: ", curl_number() >> 16,
             curl_number() >> 8 & 0xff, curl_number() & 0xff);
    CHECK(text != NULL);
    CHECK_MSG(strncmp(text, version, strlen(version)) == 0, "%s", text);
    for (const char *const *report = known[i].reports; *report; report++)
      CHECK_MSG(strstr(text, *report) != NULL, "%s is not in %s", *report, text);
    int sentences = 1;
    for (const char *at = text; (at = strstr(at, " Also: ")) != NULL; at++)
      sentences++;
    CHECK_INT(sentences, known[i].sentences);
  }
}

/* Two copies of one library. ---------------------------------------------------------------------
 */

static void foreign_wakeup(uv_async_t *handle) {
  (void)handle;
}

TEST(another_libuv) {
  uv_loop_t loop;
  uvcurl_t *const before = (uvcurl_t *)(uintptr_t)0x1230;
  uvcurl_t *uc = before;
  CHECK_INT(uv_loop_init(&loop), 0);
  uv_async_cb own = loop.wq_async.async_cb;
  /* What a loop of another copy shows is a pointer to that copy's function. */
  loop.wq_async.async_cb = foreign_wakeup;
  CHECK_INT(uvcurl_new(&loop, &uc), UVCURL_E_LIBUV_MISMATCH);
  CHECK_INT((uvcurl_new)(&loop, &uc), UVCURL_E_LIBUV_MISMATCH);
  CHECK(uc == before);
  loop.wq_async.async_cb = own;
  CHECK_INT(uvcurl_new(&loop, &uc), 0);
  CHECK(uc != before);
  uvcurl_close(uc, NULL, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);
}

TEST(another_libcurl) {
  uv_loop_t loop;
  const curl_version_info_data *own = curl_version_info(CURLVERSION_NOW);
  curl_version_info_data copy = *own;
  uvcurl_t *const before = (uvcurl_t *)(uintptr_t)0x1230;
  uvcurl_t *uc = before;
  CHECK_INT(uv_loop_init(&loop), 0);
  /* The same version in every word, and yet another copy. */
  CHECK_INT(uvcurl_new_checked(&loop, &uc, &copy), UVCURL_E_LIBCURL_MISMATCH);
  CHECK(uc == before);
  CHECK_INT(uvcurl_new_checked(&loop, &uc, own), 0);
  CHECK(uc != before);
  uvcurl_close(uc, NULL, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);
}

/* S58: whatever the library was compiled on, another may be loaded. */
static unsigned old_libuv, old_libcurl;

unsigned __real_uv_version(void);
unsigned __wrap_uv_version(void);
unsigned __wrap_uv_version(void) {
  return old_libuv ? old_libuv : __real_uv_version();
}

curl_version_info_data *__real_curl_version_info(CURLversion version);
curl_version_info_data *__wrap_curl_version_info(CURLversion version);
curl_version_info_data *__wrap_curl_version_info(CURLversion version) {
  static curl_version_info_data old;
  if (old_libcurl == 0)
    return __real_curl_version_info(version);
  old = *__real_curl_version_info(version);
  old.version_num = old_libcurl;
  return &old;
}

static void new_gives(int status) {
  uv_loop_t loop;
  uvcurl_t *uc = NULL;
  CHECK_INT(uv_loop_init(&loop), 0);
  CHECK_INT(uvcurl_new(&loop, &uc), status);
  CHECK_INT(uc != NULL, status == 0);
  uvcurl_close(uc, NULL, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);
}

TEST(libuv_too_old) {
  old_libuv = 0x012bff;
  new_gives(UVCURL_E_LIBUV_TOO_OLD);
  CHECK(strstr(uvcurl_strerror(UVCURL_E_LIBUV_TOO_OLD), "1.44") != NULL);
  old_libuv = 0x012c00;
  new_gives(0);
}

TEST(libcurl_too_old) {
  old_libcurl = 0x0753ff;
  new_gives(UVCURL_E_LIBCURL_TOO_OLD);
  CHECK(strstr(uvcurl_strerror(UVCURL_E_LIBCURL_TOO_OLD), "7.84") != NULL);
}

TEST(libcurl_just_new_enough) {
  old_libcurl = 0x075400;
  new_gives(0);
}

TEST(new_without_the_macro) {
  uv_loop_t loop;
  uvcurl_t *uc = NULL;
  CHECK_INT(uv_loop_init(&loop), 0);
  CHECK_INT((uvcurl_new)(&loop, &uc), 0);
  CHECK(uc != NULL);
  CHECK(uvcurl_loop(uc) == &loop);
  uvcurl_close(uc, NULL, NULL);
  CHECK_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
  CHECK_INT(uv_loop_close(&loop), 0);
}

/* What libcurl refuses. -------------------------------------------------------------------------
 */

/* S9: neither an answer of uvcurl_start() nor silence, but one report with libcurl's reason. */
static void check_refused(const char *url, int code) {
  fixture f;
  fixture_open_bare(&f);
  transfer *t = transfer_new_url(&f, url ? url : "");
  if (url == NULL)
    set_ptr(t->easy, CURLOPT_URL, NULL);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(t->done, 0);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, code);
  /* And again, because the same deadline twice is what an old libcurl forgets. */
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->done, 2);
  CHECK_INT(t->status, code);
  transfer_free(t);
  fixture_close(&f);
}

TEST(url_unsupported) {
  check_refused("nope://127.0.0.1/", CURLE_UNSUPPORTED_PROTOCOL);
}

TEST(url_malformed) {
  check_refused("http://[::1/", CURLE_URL_MALFORMAT);
}

TEST(url_missing) {
  check_refused(NULL, CURLE_URL_MALFORMAT);
}

TEST(url_refused_among_others) {
  fixture f;
  fixture_open(&f);
  transfer *t[3] = {transfer_new(&f, "/bytes/10"), transfer_new_url(&f, "nope://127.0.0.1/"),
                    transfer_new(&f, "/bytes/20")};
  for (int i = 0; i < 3; i++)
    CHECK_INT(transfer_start(&f, t[i]), 0);
  fixture_run(&f);
  CHECK_INT(t[0]->status, 0);
  CHECK_INT(t[1]->status, CURLE_UNSUPPORTED_PROTOCOL);
  CHECK_INT(t[2]->status, 0);
  CHECK_INT(t[2]->received, 20);
  for (int i = 0; i < 3; i++)
    transfer_free(t[i]);
  fixture_close(&f);
}

/* The easy handle stays the host's. --------------------------------------------------------------
 */

static int sockopt_calls, closesocket_calls;

static int host_sockopt(void *arg, curl_socket_t fd, curlsocktype purpose) {
  (void)fd;
  (void)purpose;
  ++*(int *)arg;
  return CURL_SOCKOPT_OK;
}

static int host_closesocket(void *arg, curl_socket_t fd) {
  ++*(int *)arg;
  return close(fd);
}

static size_t host_header(char *data, size_t size, size_t n, void *arg) {
  (void)data;
  ++*(int *)arg;
  return size * n;
}

TEST(host_options_survive) {
  fixture f;
  fixture_open(&f);
  int mark = 0, headers = 0;
  void *got = NULL;
  transfer *t = transfer_new(&f, "/status/404/10");
  set_ptr(t->easy, CURLOPT_PRIVATE, &mark);
  set_ptr(t->easy, CURLOPT_SOCKOPTFUNCTION, host_sockopt);
  set_ptr(t->easy, CURLOPT_SOCKOPTDATA, &sockopt_calls);
  set_ptr(t->easy, CURLOPT_HEADERFUNCTION, host_header);
  set_ptr(t->easy, CURLOPT_HEADERDATA, &headers);
  set_long(t->easy, CURLOPT_FAILONERROR, 1);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(curl_easy_getinfo(t->easy, CURLINFO_PRIVATE, &got), CURLE_OK);
  CHECK(got == &mark);
  fixture_run(&f);
  CHECK_INT(t->status, CURLE_HTTP_RETURNED_ERROR);
  CHECK(t->error[0] != '\0');
  CHECK_INT(sockopt_calls, 1);
  CHECK(headers > 0);
  CHECK_INT(curl_easy_getinfo(t->easy, CURLINFO_PRIVATE, &got), CURLE_OK);
  CHECK(got == &mark);
  transfer_free(t);
  fixture_close(&f);
}

static void nothing_is_set(transfer *t) {
  (void)t;
  CHECK(close_function == NULL);
}

/* Promise 8: what is set in flight, and that it is gone when the host gets the handle back. */
TEST(what_is_set_and_taken_back) {
  fixture f;
  fixture_need_options();
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  t->on_done = nothing_is_set;
  watch(t->easy);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(nosignal, 1);
  CHECK(close_function != NULL);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(close_calls, 2);
  CHECK_INT(nosignal, 1);
  /* These wait for a lookup that nobody needs any more; before 7.87 there is no option against it.
   */
  CHECK_INT(quick_exit_calls, curl_number() >= 0x075700 && curl_number() < 0x081400);
  /* Nothing else. */
  CHECK_INT(watched_calls, close_calls + nosignal_calls + quick_exit_calls);

  /* Cancelled, */
  watch(t->easy);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK(close_function != NULL);
  CHECK_INT(transfer_cancel(&f, t), 0);
  CHECK(close_function == NULL);
  fixture_run(&f);
  CHECK_INT(t->done, 2);

  /* and with the driver closed. */
  watch(t->easy);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK(close_function != NULL);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(t->done, 3);
  CHECK(close_function == NULL);
  transfer_free(t);
  fixture_close(&f);
}

TEST(untouched_sets_nothing) {
  fixture f;
  fixture_open(&f);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  transfer *t = transfer_new(&f, "/bytes/10");
  watch(t->easy);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(transfer_start(&f, t), 0);
  CHECK_INT(transfer_cancel(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, UV_ECANCELED);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(t->done, 3);
  CHECK_INT(watched_calls, 0);
  transfer_free(t);
  fixture_close(&f);
}

TEST(untouched_keeps_the_hosts_closesocket) {
  fixture f;
  fixture_open(&f);
  CHECK_INT(uvcurl_set(f.uc, UVCURL_EASY_UNTOUCHED, 1), 0);
  transfer *t = transfer_new(&f, "/bytes/10");
  set_ptr(t->easy, CURLOPT_CLOSESOCKETFUNCTION, host_closesocket);
  set_ptr(t->easy, CURLOPT_CLOSESOCKETDATA, &closesocket_calls);
  set_long(t->easy, CURLOPT_FORBID_REUSE, 1);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  CHECK_INT(closesocket_calls, 1);
  /* It still is the host's afterwards. */
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(closesocket_calls, 2);
  /* Also for a connection that only the end of the driver closes. */
  set_long(t->easy, CURLOPT_FORBID_REUSE, 0);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(closesocket_calls, 2);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(closesocket_calls, 3);
  transfer_free(t);
  fixture_close(&f);
}

/* The same handle in curl_easy_perform(), while the driver lives and when it is gone: a connection
 * opened in flight may still carry our function. */
TEST(easy_perform_afterwards) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/bytes/10");
  watch(t->easy);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  for (int gone = 0; gone < 2; gone++) {
    set_long(t->easy, CURLOPT_FORBID_REUSE, gone);
    t->received = 0;
    CHECK_INT(curl_easy_perform(t->easy), CURLE_OK);
    CHECK_INT(t->received, 10);
    CHECK(close_function == NULL);
    if (!gone) {
      fixture_begin_close(&f);
      fixture_run(&f);
      CHECK_INT(f.closed, 1);
    }
  }
  transfer_free(t);
  fixture_close(&f);
}

TEST(duplicate_of_a_handle_in_flight) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/hold/10");
  CHECK_INT(transfer_start(&f, t), 0);
  /* Its copy has all its options, the function set in flight included. */
  CURL *copy = curl_easy_duphandle(t->easy);
  CHECK(copy != NULL);
  char url[200];
  set_ptr(copy, CURLOPT_URL, server_url(f.server, url, sizeof url, SERVER_HTTP, "/bytes/10"));
  set_long(copy, CURLOPT_FORBID_REUSE, 1);
  for (int gone = 0; gone < 2; gone++) {
    t->received = 0;
    CHECK_INT(curl_easy_perform(copy), CURLE_OK);
    CHECK_INT(t->received, 10);
    if (!gone) {
      fixture_begin_close(&f);
      fixture_run(&f);
      CHECK_INT(t->status, UV_ECANCELED);
      CHECK_INT(f.closed, 1);
    }
  }
  /* A connection that stays open until the copy goes. */
  set_long(copy, CURLOPT_FORBID_REUSE, 0);
  CHECK_INT(curl_easy_perform(copy), CURLE_OK);
  curl_easy_cleanup(copy);
  transfer_free(t);
  fixture_close(&f);
}

/* A connection of the driver's that outlives it, in a share, and closes with the function it got.
 */
TEST(connection_outlives_the_driver) {
  fixture f;
  fixture_open(&f);
  CURLSH *share = curl_share_init();
  CHECK_INT(curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT), CURLSHE_OK);
  transfer *t = transfer_new(&f, "/bytes/10");
  set_ptr(t->easy, CURLOPT_SHARE, share);
  CHECK_INT(transfer_start(&f, t), 0);
  fixture_run(&f);
  CHECK_INT(t->status, 0);
  fixture_begin_close(&f);
  fixture_run(&f);
  CHECK_INT(f.closed, 1);
  int open = test_descriptors();
  set_ptr(t->easy, CURLOPT_SHARE, NULL);
  CHECK_INT(curl_share_cleanup(share), CURLSHE_OK);
  CHECK_INT(test_descriptors(), open - 1);
  transfer_free(t);
  fixture_close(&f);
}

TEST_MAIN(T(null_driver), T(null_arguments), T(new_writes_nothing_on_failure),
          T(not_an_easy_handle), T(start_in_flight), T(start_in_a_multi_handle_of_the_hosts),
          T(start_in_another_driver), T(unknown_handle), T(unknown_in_its_own_report),
          T(second_cancel), T(pause_mask), T(options), T(loop_and_multi),
          T(closing_in_a_done_callback), T(closing_outside_the_loop), T(wrong_thread),
          T(wrong_threads_at_once), T(made_here_run_elsewhere), T(made_here_first_used_elsewhere),
          T(made_here_closed_elsewhere), T(texts_of_statuses), T(texts_of_numbers_nobody_knows),
          T(names_of_all_curl_codes), T(version), T(warning_about_libcurl), T(another_libuv),
          T(another_libcurl), T(libuv_too_old), T(libcurl_too_old), T(libcurl_just_new_enough),
          T(new_without_the_macro), T(url_unsupported), T(url_malformed), T(url_missing),
          T(url_refused_among_others), T(host_options_survive), T(what_is_set_and_taken_back),
          T(untouched_sets_nothing), T(untouched_keeps_the_hosts_closesocket),
          T(easy_perform_afterwards), T(duplicate_of_a_handle_in_flight),
          T(connection_outlives_the_driver))
