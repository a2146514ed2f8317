/* For tests that are linked with -Wl,--wrap=getaddrinfo: a lookup of a name that begins with
 * "stuck" gets no answer until lookups_release(). */
#ifndef UVCURL_TEST_LOOKUPS_H
#define UVCURL_TEST_LOOKUPS_H

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int stuck;
  bool released;
} lookups = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result);

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result) {
  if (node == NULL || strncmp(node, "stuck", 5) != 0)
    return __real_getaddrinfo(node, service, hints, result);
  pthread_mutex_lock(&lookups.lock);
  lookups.stuck++;
  while (!lookups.released)
    pthread_cond_wait(&lookups.changed, &lookups.lock);
  lookups.stuck--;
  pthread_cond_broadcast(&lookups.changed);
  pthread_mutex_unlock(&lookups.lock);
  return EAI_NONAME;
}

/* Waits for the threads, too: they may end after the test otherwise, with descriptors of libcurl's.
 */
static void lookups_release(void) {
  pthread_mutex_lock(&lookups.lock);
  lookups.released = true;
  pthread_cond_broadcast(&lookups.changed);
  while (lookups.stuck > 0)
    pthread_cond_wait(&lookups.changed, &lookups.lock);
  pthread_mutex_unlock(&lookups.lock);
}

#endif
