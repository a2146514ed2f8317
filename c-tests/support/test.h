/* A small test harness. Every case runs in a process of its own:
 *
 *   prog --list   prints the names of the cases
 *   prog NAME     runs one case, says in TAP how it went, and exits with 0 or 1
 *
 * A failed check ends the case at once. A case also fails when it runs too long or ends with other
 * descriptors open than it began with. */
#ifndef UVCURL_TEST_H
#define UVCURL_TEST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct test_case {
  const char *name;
  void (*run)(void);
} test_case;

/*   TEST(cancel_inside_write) { ... }
 *   TEST_MAIN(T(cancel_inside_write), T(another)) */
#define TEST(name) static void test_##name(void)
#define T(name)                                                                                    \
  { #name, test_##name }
#define TEST_MAIN(...)                                                                             \
  int main(int argc, char **argv) {                                                                \
    static const test_case cases[] = {__VA_ARGS__};                                                \
    return test_main(argc, argv, __FILE__, cases, sizeof cases / sizeof cases[0]);                 \
  }

/* Each evaluates its arguments once. */
#define CHECK(cond) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, "%s", #cond))
/* CHECK_MSG(cond, format, ...) */
#define CHECK_MSG(cond, ...) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, __VA_ARGS__))
#define CHECK_INT(actual, expected)                                                                \
  test_check_int(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))
#define CHECK_BETWEEN(actual, low, high)                                                           \
  test_check_between(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(low),           \
                     (long long)(high))
#define CHECK_STR(actual, expected)                                                                \
  test_check_str(__FILE__, __LINE__, #actual, (actual), (expected))

/* SKIP(format, ...) ends the case as one that this machine cannot run. */
#define SKIP(...) test_skip(__VA_ARGS__)

/* How much longer everything may take: UVCURL_TEST_SLOWDOWN in the environment, or 1. */
unsigned test_slowdown(void);

/* Allows the case this many seconds from now, times the slowdown, instead of 20 from its start. */
void test_timeout(unsigned seconds);

/* A steady clock, not the loop's. */
double test_now_ms(void);

/* How many descriptors the process has open. */
int test_descriptors(void);

/* What is open now is what may be open at the end. For a case that loads a library which keeps
 * descriptors of its own. */
void test_rebase_descriptors(void);

int test_main(int argc, char **argv, const char *file, const test_case *cases, size_t n);
void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
void test_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void test_check_int(const char *file, int line, const char *what, long long actual,
                    long long expected);
void test_check_between(const char *file, int line, const char *what, long long actual,
                        long long low, long long high);
void test_check_str(const char *file, int line, const char *what, const char *actual,
                    const char *expected);

#ifdef __cplusplus
}
#endif

#endif
