/* Fetches one URL on a libuv loop: the body goes to stdout, the outcome to stderr. */
#include <stdio.h>
#include <uvcurl.h>

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *user_data) {
  long code = 0;
  (void)uc;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
  fprintf(stderr, "%s, HTTP %ld\n", uvcurl_strerror(status), code);
  *(int *)user_data = status;
}

int main(int argc, char **argv) {
  uv_loop_t *loop = uv_default_loop();
  CURL *easy = curl_easy_init();
  uvcurl_t *uc = NULL;
  int status;

  if (argc != 2 || !loop || !easy) {
    fprintf(stderr, "usage: hello URL\n");
    return 2;
  }
  curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
  status = uvcurl_new(loop, &uc);
  if (!status)
    status = uvcurl_start(uc, easy, on_done, &status);
  if (status)
    fprintf(stderr, "not started: %s\n", uvcurl_strerror(status));
  uv_run(loop, UV_RUN_DEFAULT); /* returns once nothing is in flight */
  uvcurl_close(uc, NULL, NULL);
  uv_run(loop, UV_RUN_DEFAULT); /* lets go of idle connections */
  curl_easy_cleanup(easy);
  return uv_loop_close(loop) || status;
}
