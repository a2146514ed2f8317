#include <stdio.h>
#include <uvcurl.h>

/* A driver is made and closed, which takes libuv, libcurl and uvcurl to be the right ones. */
int main(void) {
  uvcurl_t *uc;
  int status = uvcurl_new(uv_default_loop(), &uc);
  printf("uvcurl %s: %s\n", uvcurl_version_string(), uvcurl_strerror(status));
  if (status)
    return 1;
  uvcurl_close(uc, NULL, NULL);
  uv_run(uv_default_loop(), UV_RUN_DEFAULT);
  return uv_loop_close(uv_default_loop());
}
