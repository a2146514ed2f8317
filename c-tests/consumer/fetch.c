/* fetch [--ca FILE] [--threads N] [--refused NAME] URL ...
 *
 * Fetches the URLs at once on a loop of its own, in each of N threads. With --refused it is
 * uvcurl_new() that must fail, with the status of that name. */
#include <uvcurl.h>

#include "transfer.h"

#define MAX_URLS 16
#define MAX_THREADS 8

#ifdef OTHER_RUST /* a second library written in Rust, in the same program */
int other_rust(int value);
#endif

static const char *ca, *refused;
static char **urls;
static int url_count;

typedef struct run {
  uv_loop_t loop;
  transfer transfers[MAX_URLS];
  int reported, wrong, closed;
} run;

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *user_data) {
  run *r = uvcurl_loop(uc)->data;
  transfer *t = user_data;
  r->reported++;
  r->wrong += transfer_check(t, status, uvcurl_strerror(status)) + (easy != t->easy);
}

static void on_closed(void *user_data) {
  ((run *)user_data)->closed++;
}

static int refusal(int status, uvcurl_t *uc) {
  printf("%s (%d): %s\n", uvcurl_err_name(status), status, uvcurl_strerror(status));
  return status && !uc && strcmp(uvcurl_err_name(status), refused) == 0 ? 0 : 1;
}

static int fetch(run *r) {
  uvcurl_t *uc = NULL;
  int i, status;

  if (uv_loop_init(&r->loop))
    return 1;
  r->loop.data = r;
  status = uvcurl_new(&r->loop, &uc);
  if (refused)
    return refusal(status, uc) || uv_loop_close(&r->loop);
  if (status) {
    fprintf(stderr, "uvcurl_new: %s\n", uvcurl_strerror(status));
    return 1;
  }
  for (i = 0; i < url_count; i++) {
    if (transfer_init(&r->transfers[i], urls[i], ca) ||
        uvcurl_start(uc, r->transfers[i].easy, on_done, &r->transfers[i]))
      return 1;
  }
  uv_run(&r->loop, UV_RUN_DEFAULT);
  if (r->reported != url_count || uvcurl_active(uc) != 0)
    return 1;
  uvcurl_close(uc, on_closed, r);
  uv_run(&r->loop, UV_RUN_DEFAULT);
  for (i = 0; i < url_count; i++)
    curl_easy_cleanup(r->transfers[i].easy);
  return r->wrong || r->closed != 1 || uv_loop_close(&r->loop);
}

static void thread(void *argument) {
  run *r = argument;
  r->wrong = fetch(r);
}

int main(int argc, char **argv) {
  static run runs[MAX_THREADS];
  uv_thread_t ids[MAX_THREADS];
  int i, threads = 0, result = 0;

  for (i = 1; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
    if (strcmp(argv[i], "--ca") == 0)
      ca = argv[i + 1];
    else if (strcmp(argv[i], "--threads") == 0)
      threads = atoi(argv[i + 1]);
    else if (strcmp(argv[i], "--refused") == 0)
      refused = argv[i + 1];
    else
      return 2;
  }
  urls = argv + i;
  url_count = argc - i;
  if (url_count > MAX_URLS || threads > MAX_THREADS || (!url_count && !refused))
    return 2;
  printf("uvcurl %s, libuv %s, %s\n", uvcurl_version_string(), uv_version_string(), curl_version());
  if (strcmp(uvcurl_version_string(), UVCURL_VERSION) != 0 ||
      uvcurl_version() != UVCURL_VERSION_NUMBER)
    return 1;
#ifdef OTHER_RUST
  if (other_rust(20) != 41 || other_rust(-1) != -1)
    return 1;
#endif
  if (!threads)
    return fetch(&runs[0]);
  for (i = 0; i < threads; i++)
    result |= uv_thread_create(&ids[i], thread, &runs[i]);
  for (i = 0; i < threads && !result; i++)
    uv_thread_join(&ids[i]);
  for (i = 0; i < threads; i++)
    result |= runs[i].wrong;
  return result;
}
