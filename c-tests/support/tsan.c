/* For the suite under ThreadSanitizer: what Rust's instrumentation calls and GCC's runtime does not
 * have, and what is not uvcurl's. */
#include <string.h>

#ifdef __SANITIZE_THREAD__
void *__tsan_memcpy(void *to, const void *from, size_t n);
void *__tsan_memmove(void *to, const void *from, size_t n);
void *__tsan_memset(void *to, int c, size_t n);
const char *__tsan_default_suppressions(void);

void *__tsan_memcpy(void *to, const void *from, size_t n) {
  return memcpy(to, from, n);
}

void *__tsan_memmove(void *to, const void *from, size_t n) {
  return memmove(to, from, n);
}

void *__tsan_memset(void *to, int c, size_t n) {
  return memset(to, c, n);
}

/* curl_version_info() fills the same static buffers with the same text in each thread. And a poll
 * handle is closed when its number may be another thread's by now: libuv takes it off its own epoll
 * set, on which that other socket is not. */
const char *__tsan_default_suppressions(void) {
  return "race:curl_version_info\n"
         "race:uv__platform_invalidate_fd\n";
}
#endif
