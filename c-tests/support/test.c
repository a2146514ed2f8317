#include "test.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define DEFAULT_SECONDS 20

/* Present in a build with the leak checker only. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static char case_name[200];
static char timeout_text[300];

static int *open_at_start;
static size_t n_open_at_start;

unsigned test_slowdown(void) {
  const char *text = getenv("UVCURL_TEST_SLOWDOWN");
  int factor = text ? atoi(text) : 1;
  return factor > 1 ? (unsigned)factor : 1;
}

double test_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The stack may be full of the code under test, in any state: no exit handlers. */
__attribute__((noreturn)) static void end_case(int code) {
  fflush(NULL);
  _exit(code);
}

void test_fail(const char *file, int line, const char *format, ...) {
  char reason[1000];
  va_list args;
  va_start(args, format);
  vsnprintf(reason, sizeof reason, format, args);
  va_end(args);
  for (char *c = reason; *c != '\0'; c++) {
    if (*c == '\n')
      *c = ' ';
  }
  printf("not ok 1 - %s: %s:%d: %s\n", case_name, file, line, reason);
  end_case(1);
}

void test_skip(const char *format, ...) {
  va_list args;
  printf("ok 1 - %s # SKIP ", case_name);
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  putchar('\n');
  end_case(0);
}

void test_check_int(const char *file, int line, const char *what, long long actual,
                    long long expected) {
  if (actual != expected)
    test_fail(file, line, "%s is %lld, should be %lld", what, actual, expected);
}

void test_check_between(const char *file, int line, const char *what, long long actual,
                        long long low, long long high) {
  if (actual < low || actual > high)
    test_fail(file, line, "%s is %lld, should be %lld to %lld", what, actual, low, high);
}

void test_check_str(const char *file, int line, const char *what, const char *actual,
                    const char *expected) {
  if (actual == NULL || expected == NULL ? actual != expected : strcmp(actual, expected) != 0)
    test_fail(file, line, "%s is \"%s\", should be \"%s\"", what, actual ? actual : "(null)",
              expected ? expected : "(null)");
}

static void on_alarm(int signum) {
  (void)signum;
  ssize_t n = write(STDERR_FILENO, "# timed out\n", 12);
  n = write(STDOUT_FILENO, timeout_text, strlen(timeout_text));
  (void)n;
  _exit(1);
}

void test_timeout(unsigned seconds) {
  alarm(seconds * test_slowdown());
}

/* The open descriptors in a new array, without the one that looking at them takes. */
static int *list_descriptors(size_t *n) {
  int *list = NULL;
  DIR *dir = opendir("/proc/self/fd");
  struct dirent *entry;
  *n = 0;
  while (dir && (entry = readdir(dir)) != NULL) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(dir))
      continue;
    list = realloc(list, (*n + 1) * sizeof *list);
    if (list == NULL)
      abort();
    list[(*n)++] = fd;
  }
  if (dir == NULL) {
    perror("# /proc/self/fd");
    abort();
  }
  closedir(dir);
  return list;
}

int test_descriptors(void) {
  size_t n;
  free(list_descriptors(&n));
  return (int)n;
}

void test_rebase_descriptors(void) {
  free(open_at_start);
  open_at_start = list_descriptors(&n_open_at_start);
}

static bool contains(const int *list, size_t n, int fd) {
  for (size_t i = 0; i < n; i++) {
    if (list[i] == fd)
      return true;
  }
  return false;
}

static bool same_descriptors(bool report) {
  size_t n;
  int *now = list_descriptors(&n);
  bool same = true;
  for (size_t i = 0; i < n; i++) {
    if (contains(open_at_start, n_open_at_start, now[i]))
      continue;
    same = false;
    if (report) {
      char path[64], target[300] = "";
      snprintf(path, sizeof path, "/proc/self/fd/%d", now[i]);
      if (readlink(path, target, sizeof target - 1) < 0)
        strcpy(target, "?");
      fprintf(stderr, "# descriptor %d was left open: %s\n", now[i], target);
    }
  }
  for (size_t i = 0; i < n_open_at_start; i++) {
    if (contains(now, n, open_at_start[i]))
      continue;
    same = false;
    if (report)
      fprintf(stderr, "# descriptor %d was closed\n", open_at_start[i]);
  }
  free(now);
  return same;
}

/* A thread that was left to itself, as libcurl's resolver threads are, may need a moment more. */
static bool descriptors_settle(void) {
  double end = test_now_ms() + 1000.0 * test_slowdown();
  while (!same_descriptors(false)) {
    if (test_now_ms() > end)
      return same_descriptors(true);
    usleep(5000);
  }
  return true;
}

static int run_case(const test_case *c, const char *file) {
  const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
  snprintf(case_name, sizeof case_name, "%.*s/%s", (int)strcspn(base, "."), base, c->name);
  snprintf(timeout_text, sizeof timeout_text, "not ok 1 - %s: takes too long\n", case_name);
  printf("1..1\n");
  fflush(stdout);

  /* libuv opens a pipe with the first loop and keeps it. */
  uv_loop_t scratch;
  if (uv_loop_init(&scratch) != 0 || uv_loop_close(&scratch) != 0)
    test_fail(__FILE__, __LINE__, "libuv does not work");
  test_rebase_descriptors();
  signal(SIGALRM, on_alarm);
  test_timeout(DEFAULT_SECONDS);

  c->run();

  bool settled = descriptors_settle();
  free(open_at_start);
  open_at_start = NULL;
  if (settled && __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
    settled = false;
  alarm(0);
  printf(settled ? "ok 1 - %s\n" : "not ok 1 - %s: something was left\n", case_name);
  fflush(stdout);
  return settled ? 0 : 1;
}

int test_main(int argc, char **argv, const char *file, const test_case *cases, size_t n) {
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (size_t i = 0; i < n; i++)
      puts(cases[i].name);
    return 0;
  }
  for (size_t i = 0; argc == 2 && i < n; i++) {
    if (strcmp(argv[1], cases[i].name) == 0)
      return run_case(&cases[i], file);
  }
  fprintf(stderr, "usage: %s --list | NAME\n", argv[0]);
  return 2;
}
