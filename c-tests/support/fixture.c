#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture_timer {
  uv_timer_t timer;
  fixture *f;
  fixture_cb cb;
  void *arg;
  int polls;
  enum server_counter counter;
  uint64_t at_least;
  struct fixture_timer *next;
};

/* The path of a file that certs.sh made, or NULL. */
static const char *cert_path(char *buf, size_t size, const char *name) {
  const char *dir = getenv("UVCURL_TEST_CERTS");
  if (dir == NULL || *dir == '\0')
    return NULL;
  snprintf(buf, size, "%s/%s", dir, name);
  return buf;
}

void fixture_open_bare(fixture *f) {
  memset(f, 0, sizeof *f);
  CHECK_INT(uv_loop_init(&f->loop), 0);
  CHECK_INT(uvcurl_new(&f->loop, &f->uc), 0);
  CHECK(f->uc != NULL);
  /* The whole suite in this mode: UVCURL_TEST_UNTOUCHED=1 in the environment. */
  if (getenv("UVCURL_TEST_UNTOUCHED"))
    CHECK_INT(uvcurl_set(f->uc, UVCURL_EASY_UNTOUCHED, 1), 0);
}

void fixture_need_options(void) {
  if (getenv("UVCURL_TEST_UNTOUCHED"))
    SKIP("needs the options that uvcurl sets");
}

void fixture_open_with(fixture *f, const server_options *options) {
  char cert[4096], key[4096];
  server_options with = {0};
  if (options)
    with = *options;
  if (with.cert_file == NULL) {
    with.cert_file = cert_path(cert, sizeof cert, "server.pem");
    with.key_file = cert_path(key, sizeof key, "server.key");
  }
  /* The server first: it forks, and libcurl's threads should not be there yet. */
  server_t *server = server_start(&with);
  CHECK_MSG(server != NULL, "the test server does not start");
  fixture_open_bare(f);
  f->server = server;
}

void fixture_open(fixture *f) {
  fixture_open_with(f, NULL);
}

static void on_closed(void *arg) {
  fixture *f = arg;
  CHECK_INT(f->in_api, 0);
  f->closed++;
  CHECK_INT(f->closed, 1);
  f->uc = NULL;
}

/* A driver that watches for what libcurl does not want, or that takes work for none, would be
 * slowed down by itself. Older versions of libcurl do keep sockets ready for nothing. */
static void expect_no_spin(const fixture *f) {
  uvcurl_stats_t stats;
  CHECK_INT(uvcurl_stats(f->uc, &stats, sizeof stats), 0);
  if (curl_number() >= 0x081600)
    CHECK_INT(stats.spins, 0);
}

void fixture_begin_close(fixture *f) {
  f->closing = 1;
  f->in_api++;
  expect_no_spin(f);
  uvcurl_close(f->uc, on_closed, f);
  f->in_api--;
}

void fixture_run(fixture *f) {
  uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void free_timer(uv_handle_t *handle) {
  free(handle->data);
}

static void end_timer(struct fixture_timer *t) {
  struct fixture_timer **at = &t->f->timers;
  while (*at != t)
    at = &(*at)->next;
  *at = t->next;
  uv_close((uv_handle_t *)&t->timer, free_timer);
}

static void on_timer(uv_timer_t *timer) {
  struct fixture_timer *t = timer->data;
  if (t->polls && server_count(t->f->server, t->counter) < t->at_least)
    return;
  end_timer(t);
  t->cb(t->f, t->arg);
}

static struct fixture_timer *new_timer(fixture *f, fixture_cb cb, void *arg) {
  struct fixture_timer *t = calloc(1, sizeof *t);
  CHECK(t != NULL);
  t->f = f;
  t->cb = cb;
  t->arg = arg;
  t->next = f->timers;
  f->timers = t;
  CHECK_INT(uv_timer_init(&f->loop, &t->timer), 0);
  t->timer.data = t;
  return t;
}

void fixture_after(fixture *f, uint64_t ms, fixture_cb cb, void *arg) {
  struct fixture_timer *t = new_timer(f, cb, arg);
  /* The loop's idea of now is as old as the callback we may be in. */
  uv_update_time(&f->loop);
  CHECK_INT(uv_timer_start(&t->timer, on_timer, ms, 0), 0);
}

void fixture_when(fixture *f, enum server_counter counter, uint64_t at_least, fixture_cb cb,
                  void *arg) {
  struct fixture_timer *t = new_timer(f, cb, arg);
  t->polls = 1;
  t->counter = counter;
  t->at_least = at_least;
  CHECK_INT(uv_timer_start(&t->timer, on_timer, 0, 1), 0);
}

void fixture_release(fixture *f, void *unused) {
  (void)unused;
  server_release(f->server);
}

unsigned curl_number(void) {
  return curl_version_info(CURLVERSION_NOW)->version_num;
}

void fixture_need_tls(const fixture *f) {
  if (f->server == NULL || server_port(f->server, SERVER_HTTPS) == 0)
    SKIP("UVCURL_TEST_CERTS is not set");
}

static void report_handle(uv_handle_t *handle, void *count) {
  const char *name = uv_handle_type_name(uv_handle_get_type(handle));
  fprintf(stderr, "# a handle was left on the loop: %s%s%s\n", name ? name : "unknown",
          uv_is_active(handle) ? ", active" : "", uv_is_closing(handle) ? ", closing" : "");
  ++*(int *)count;
}

void fixture_close(fixture *f) {
  int left = 0;
  while (f->timers)
    end_timer(f->timers);
  if (f->uc && !f->closing)
    fixture_begin_close(f);
  while (uv_run(&f->loop, UV_RUN_DEFAULT) != 0) {
  }
  if (f->closing)
    CHECK_INT(f->closed, 1);
  uv_walk(&f->loop, report_handle, &left);
  CHECK_INT(left, 0);
  CHECK_INT(uv_loop_close(&f->loop), 0);
  server_stop(f->server);
  f->server = NULL;
}

static void keep(transfer *t, const char *data, size_t n) {
  if (t->body_len + n + 1 > t->body_cap) {
    t->body_cap = 2 * (t->body_len + n + 1);
    t->body = realloc(t->body, t->body_cap);
    CHECK(t->body != NULL);
  }
  memcpy(t->body + t->body_len, data, n);
  t->body_len += n;
  t->body[t->body_len] = '\0';
}

static size_t on_data(char *data, size_t size, size_t count, void *arg) {
  transfer *t = arg;
  size_t n = size * count;
  if (t->on_write) {
    size_t result = t->on_write(t, data, n);
    if (result != n)
      return result;
  }
  if (!server_match(data, t->received, n))
    t->content_ok = 0;
  t->received += n;
  if (t->keep_body)
    keep(t, data, n);
  return n;
}

transfer *transfer_new_url(fixture *f, const char *url) {
  char ca[4096];
  transfer *t = calloc(1, sizeof *t);
  CHECK(t != NULL);
  t->f = f;
  t->easy = curl_easy_init();
  CHECK(t->easy != NULL);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_URL, url), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_PROXY, ""), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_data), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->error), CURLE_OK);
  if (cert_path(ca, sizeof ca, "ca.pem"))
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_CAINFO, ca), CURLE_OK);
  return t;
}

transfer *transfer_new_on(fixture *f, enum server_port_kind kind, const char *path) {
  char url[4096];
  CHECK(f->server != NULL && server_port(f->server, kind) != 0);
  return transfer_new_url(f, server_url(f->server, url, sizeof url, kind, path));
}

transfer *transfer_new(fixture *f, const char *path) {
  return transfer_new_on(f, SERVER_HTTP, path);
}

int transfer_start(fixture *f, transfer *t) {
  /* Before the call, which may already deliver data; and a start that is refused, say because the
   * transfer is in flight, must not disturb what is there. */
  int before = t->started;
  if (t->done == before) {
    t->received = t->body_len = 0;
    t->content_ok = 1;
    t->error[0] = '\0';
  }
  f->in_api++;
  int status = uvcurl_start(f->uc, t->easy, transfer_done, t);
  f->in_api--;
  if (status == 0)
    t->started = before + 1;
  return status;
}

int transfer_cancel(fixture *f, transfer *t) {
  f->in_api++;
  int status = uvcurl_cancel(f->uc, t->easy);
  f->in_api--;
  return status;
}

int transfer_pause(fixture *f, transfer *t, int bitmask) {
  f->in_api++;
  int status = uvcurl_pause(f->uc, t->easy, bitmask);
  f->in_api--;
  return status;
}

void transfer_done(uvcurl_t *uc, CURL *easy, int status, void *arg) {
  transfer *t = arg;
  CHECK_MSG(t->f->in_api == 0, "the done callback ran inside an uvcurl_* call");
  CHECK_MSG(t->done < t->started, "the done callback ran %d times for %d starts", t->done + 1,
            t->started);
  CHECK_MSG(t->f->closed == 0, "the done callback ran after the close callback");
  CHECK(uc != NULL);
  CHECK(easy == t->easy);
  t->done++;
  t->status = status;
  t->code = 0;
  CHECK_INT(curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &t->code), CURLE_OK);
  if (t->on_done)
    t->on_done(t);
}

void transfer_free(transfer *t) {
  if (t == NULL)
    return;
  CHECK_MSG(t->done == t->started, "a transfer in flight is freed");
  curl_easy_cleanup(t->easy);
  free(t->body);
  free(t);
}

size_t source_read(char *to, size_t size, size_t count, void *arg) {
  source *s = arg;
  size_t n = size * count;
  if (n > s->size - s->at)
    n = s->size - s->at;
  server_fill(to, s->at, n);
  s->at += n;
  return n;
}

void transfer_upload(transfer *t, source *s) {
  s->at = 0;
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_UPLOAD, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, source_read), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READDATA, s), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)s->size), CURLE_OK);
}
