/* dlopen [--ca FILE] [--refused NAME] [--unchecked yes] LIBRARY URL ...
 *
 * A program that is not linked with uvcurl: it loads LIBRARY at run time and looks every function
 * up. The header gives it types alone. With --unchecked it calls uvcurl_new() as the plain
 * function, which looks at libuv only. */
#include <dlfcn.h>

#include <uvcurl.h>

#include "transfer.h"

#define MAX_URLS 16

#define FUNCTIONS(f)                                                                               \
  f(uvcurl_new_checked) f(uvcurl_start) f(uvcurl_close) f(uvcurl_active) f(uvcurl_loop)            \
      f(uvcurl_strerror) f(uvcurl_err_name) f(uvcurl_version) f(uvcurl_version_string)

#define POINTER(name) static __typeof__(&name) p_##name;
FUNCTIONS(POINTER)
static int (*p_uvcurl_new)(uv_loop_t *loop, uvcurl_t **out);

static int reported, wrong, closed;

static int look_up(void *library, const char *name, void *pointer) {
  void *address = dlsym(library, name);
  if (!address)
    fprintf(stderr, "%s\n", dlerror());
  memcpy(pointer, &address, sizeof address);
  return !address;
}

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *user_data) {
  (void)uc;
  (void)easy;
  reported++;
  wrong += transfer_check(user_data, status, p_uvcurl_strerror(status));
}

static void on_closed(void *user_data) {
  closed++;
  (void)user_data;
}

int main(int argc, char **argv) {
  static transfer transfers[MAX_URLS];
  const char *ca = NULL, *refused = NULL, *unchecked = NULL;
  uvcurl_t *uc = NULL;
  uv_loop_t loop;
  void *library;
  int i, count, status, missing = 0;

  for (i = 1; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
    if (strcmp(argv[i], "--ca") == 0)
      ca = argv[i + 1];
    else if (strcmp(argv[i], "--refused") == 0)
      refused = argv[i + 1];
    else if (strcmp(argv[i], "--unchecked") == 0)
      unchecked = argv[i + 1];
    else
      return 2;
  }
  if (i == argc || argc - i - 1 > MAX_URLS || (argc - i < 2 && !refused))
    return 2;
  library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  argv += i + 1;
  count = argc - i - 1;
#define LOOK_UP(name) missing += look_up(library, #name, &p_##name);
  FUNCTIONS(LOOK_UP)
  missing += look_up(library,
                     "uvcurl_"
                     "new",
                     &p_uvcurl_new);
  if (missing || p_uvcurl_version() != UVCURL_VERSION_NUMBER)
    return 1;
  printf("uvcurl %s, libuv %s, %s\n", p_uvcurl_version_string(), uv_version_string(),
         curl_version());

  if (uv_loop_init(&loop))
    return 1;
  status = unchecked ? p_uvcurl_new(&loop, &uc)
                     : p_uvcurl_new_checked(&loop, &uc, curl_version_info(CURLVERSION_NOW));
  if (refused) {
    printf("%s (%d): %s\n", p_uvcurl_err_name(status), status, p_uvcurl_strerror(status));
    return !status || uc || strcmp(p_uvcurl_err_name(status), refused) != 0 || uv_loop_close(&loop);
  }
  if (status) {
    fprintf(stderr, "uvcurl_new: %s\n", p_uvcurl_strerror(status));
    return 1;
  }
  for (i = 0; i < count; i++) {
    if (transfer_init(&transfers[i], argv[i], ca) ||
        p_uvcurl_start(uc, transfers[i].easy, on_done, &transfers[i]))
      return 1;
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  if (reported != count || wrong || p_uvcurl_active(uc) != 0 || p_uvcurl_loop(uc) != &loop)
    return 1;
  p_uvcurl_close(uc, on_closed, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  for (i = 0; i < count; i++)
    curl_easy_cleanup(transfers[i].easy);
  if (closed != 1 || uv_loop_close(&loop))
    return 1;
  /* Unloading is a call like any other: the library stays in memory, for threads of libcurl's may
   * still be in it. */
  if (dlclose(library))
    return 1;
  return p_uvcurl_version() != UVCURL_VERSION_NUMBER;
}
