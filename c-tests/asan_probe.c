/* Proves that the suite under AddressSanitizer is under AddressSanitizer: the mistakes below are
 * made inside libuv and libcurl, so they are seen only if those are instrumented too. Elsewhere
 * there is nothing to see. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uvcurl.h>

#include "test.h"

/* Runs `mistake` in a child, whose report goes nowhere; true if AddressSanitizer ended it. */
static int is_caught(void (*mistake)(void)) {
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    mistake();
    _exit(0);
  }
  int status = 0;
  CHECK_INT(waitpid(pid, &status, 0), pid);
  return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void in_libcurl(void) {
  char *text = malloc(16);
  memset(text, 'a', 16);
  char *volatile freed = text;
  free(text);
  curl_free(curl_easy_escape(NULL, freed, 16));
}

static void in_libuv(void) {
  uv_loop_t *loop = malloc(sizeof(*loop));
  CHECK_INT(uv_loop_init(loop), 0);
  uv_loop_t *volatile freed = loop;
  free(loop);
  uv_update_time(freed);
}

TEST(mistakes_inside_the_libraries_are_seen) {
  CHECK(is_caught(in_libcurl));
  CHECK(is_caught(in_libuv));
}

TEST_MAIN(T(mistakes_inside_the_libraries_are_seen))
