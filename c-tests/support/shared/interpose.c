/* Some tests put functions of the C library aside with --wrap, which reaches what is linked
 * statically only. These reach calls that a shared libcurl or libuv makes: the program's definition
 * comes first in the process, and hands on what comes from outside to the test's. */
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

extern char __executable_start, etext;

/* From the program itself it is the test's own call of the real function. (The suite is compiled
 * without sibling calls, which would hide the caller.) */
#define FROM_OUTSIDE()                                                                             \
  ((char *)__builtin_return_address(0) < &__executable_start ||                                    \
   (char *)__builtin_return_address(0) >= &etext)

#define INTERPOSE(name, parameters, arguments)                                                     \
  int __wrap_##name parameters __attribute__((weak));                                              \
  int name parameters {                                                                            \
    static int(*next) parameters;                                                                  \
    if (__wrap_##name != NULL && FROM_OUTSIDE())                                                   \
      return __wrap_##name arguments;                                                              \
    if (next == NULL)                                                                              \
      *(void **)&next = dlsym(RTLD_NEXT, #name);                                                   \
    return next arguments;                                                                         \
  }

INTERPOSE(getaddrinfo,
          (const char *name, const char *service, const struct addrinfo *hints,
           struct addrinfo **out),
          (name, service, hints, out))
INTERPOSE(pthread_join, (pthread_t thread, void **result), (thread, result))
INTERPOSE(clock_gettime, (clockid_t id, struct timespec *t), (id, t))
INTERPOSE(sigaction, (int number, const struct sigaction *act, struct sigaction *old),
          (number, act, old))
INTERPOSE(epoll_ctl, (int set, int op, int fd, struct epoll_event *event), (set, op, fd, event))
INTERPOSE(ioctl, (int fd, unsigned long request, void *argument), (fd, request, argument))
INTERPOSE(epoll_create1, (int flags), (flags))
INTERPOSE(socket, (int domain, int type, int protocol), (domain, type, protocol))
INTERPOSE(connect, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))
INTERPOSE(socketpair, (int domain, int type, int protocol, int fds[2]),
          (domain, type, protocol, fds))
INTERPOSE(pipe2, (int fds[2], int flags), (fds, flags))
INTERPOSE(eventfd, (unsigned value, int flags), (value, flags))
INTERPOSE(pthread_create,
          (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg),
          (thread, attributes, run, arg))
