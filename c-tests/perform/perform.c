/* link: -Wl,--wrap=curl_easy_cleanup -Wl,--wrap=curl_easy_pause -Wl,--wrap=curl_easy_setopt */
/* curl_easy_perform(), and the functions that need to know of it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perform.h"

/* The value of an option is handed on as a pointer, whatever it is. */
_Static_assert(sizeof(void *) == sizeof(curl_off_t) && sizeof(void *) == sizeof(long), "not LP64");

void broken(const char *what) {
  fprintf(stderr, "libuvcurl-perform: %s\n", what);
  abort();
}

void *real_function(const char *name) {
  void *function = dlsym(RTLD_NEXT, name);
  if (!function)
    broken(name);
  return function;
}

/* At once, so that a program that is killed, or leaves without its exit handlers, has told all the
 * same. */
void log_line(const char *how, int status) {
  const char *path = getenv("UVCURL_PERFORM_LOG");
  if (!path)
    return;
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0 || dprintf(fd, "%s %d\n", how, status) < 0)
    broken("the log cannot be written");
  close(fd);
}

bool sigpipe_ignore(void) {
  struct sigaction action;
  if (sigaction(SIGPIPE, NULL, &action) != 0 || (action.sa_flags & SA_SIGINFO) ||
      action.sa_handler != SIG_DFL)
    return false;
  action.sa_handler = SIG_IGN;
  return sigaction(SIGPIPE, &action, NULL) == 0;
}

void sigpipe_restore(bool ignored) {
  if (ignored)
    signal(SIGPIPE, SIG_DFL);
}

/* ---- The program's easy handles
 * ------------------------------------------------------------------------------ */

/* Guards the table, and the lists of drivers. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct easy *easies[1024];

static struct easy **slot(CURL *handle) {
  struct easy **at = &easies[((size_t)handle >> 6) % (sizeof easies / sizeof *easies)];
  while (*at && (*at)->handle != handle)
    at = &(*at)->next;
  return at;
}

struct easy *easy_find(CURL *handle) {
  pthread_mutex_lock(&lock);
  struct easy *easy = *slot(handle);
  pthread_mutex_unlock(&lock);
  return easy;
}

struct easy *easy_make(CURL *handle) {
  pthread_mutex_lock(&lock);
  struct easy **at = slot(handle);
  if (!*at && (*at = calloc(1, sizeof **at)) != NULL)
    (*at)->handle = handle;
  struct easy *easy = *at;
  pthread_mutex_unlock(&lock);
  if (!easy)
    broken("out of memory");
  return easy;
}

static void on_done(uvcurl_t *uc, CURL *handle, int status, void *user_data) {
  struct easy *easy = user_data;
  if (easy->flying != uc || easy->handle != handle)
    broken("uvcurl reported a transfer that is not in flight");
  easy->flying = NULL;
  easy->status = status;
  log_line(easy->multi ? "multi" : "easy", status);
}

int easy_start(struct easy *easy, uvcurl_t *uc) {
  int status = uvcurl_start(uc, easy->handle, on_done, easy);
  if (status == 0)
    easy->flying = uc;
  return status;
}

CURLcode easy_result(int status) {
  switch (status) {
  case UV_ENOMEM:
    return CURLE_OUT_OF_MEMORY;
  case UV_ECANCELED:
    return CURLE_ABORTED_BY_CALLBACK;
  case UV_EALREADY:
  case UV_EBUSY:
    return CURLE_FAILED_INIT;
  default:
    return status < 0 ? CURLE_BAD_FUNCTION_ARGUMENT : (CURLcode)status;
  }
}

/* ---- Loops and drivers
 * --------------------------------------------------------------------------------------- */

/* A thread has a second loop if a callback of a transfer calls curl_easy_perform() for another, and
 * so on. */
struct loop {
  struct loop *deeper;
  uv_loop_t uv;
  bool running;
  struct driver *drivers;
  struct driver *shared; /* UVCURL_PERFORM_DRIVER=thread */
};

struct driver {
  struct driver *next;
  uvcurl_t *uc;
  struct loop *loop;
  struct thread *thread;
  struct easy
      *easy; /* whose it is; NULL if it is shared, or to be closed when its thread next looks */
  bool closed;
};

struct thread {
  struct loop *loops;
};

static pthread_key_t thread_key;

void run_once(uv_loop_t *loop, uv_run_mode mode) {
  if (!uv_loop_alive(loop))
    broken("the loop ends, and uvcurl owes a report");
  uv_run(loop, mode);
}

static void on_closed(void *user_data) {
  ((struct driver *)user_data)->closed = true;
}

/* On the driver's own thread. A loop that is on the stack does the rest when it runs on. */
static void driver_close(struct driver *driver) {
  struct loop *loop = driver->loop;
  uvcurl_close(driver->uc, on_closed, driver);
  if (loop->running)
    return;
  loop->running = true;
  while (!driver->closed)
    run_once(&loop->uv, UV_RUN_ONCE);
  loop->running = false;
}

/* Closes those that nobody wants any more, and frees what is closed. */
static void loop_sweep(struct loop *loop, bool all) {
  for (struct driver **at = &loop->drivers, *driver; (driver = *at) != NULL;) {
    pthread_mutex_lock(&lock);
    if (all && driver->easy) {
      driver->easy->driver = NULL;
      driver->easy = NULL;
    }
    bool wanted = driver->easy || (!all && driver == loop->shared);
    pthread_mutex_unlock(&lock);
    if (!wanted && !driver->closed)
      driver_close(driver);
    if (driver->closed) {
      *at = driver->next;
      free(driver);
    } else {
      at = &driver->next;
    }
  }
}

static void thread_close(void *value) {
  struct thread *thread = value;
  for (struct loop *loop; (loop = thread->loops) != NULL;) {
    loop->shared = NULL;
    loop_sweep(loop, true);
    if (uv_loop_close(&loop->uv) != 0)
      broken("something is left on the loop");
    thread->loops = loop->deeper;
    free(loop);
  }
  free(thread);
}

/* A driver is of no use in a child after fork(), so the child begins anew, and its parent's loops
 * are left alone. */
static void forked(void) {
  pthread_mutex_init(&lock, NULL);
  pthread_setspecific(thread_key, NULL);
  for (size_t i = 0; i < sizeof easies / sizeof *easies; i++)
    for (struct easy *easy = easies[i]; easy; easy = easy->next)
      easy->driver = NULL;
}

__attribute__((constructor)) static void set_up(void) {
  if (pthread_key_create(&thread_key, thread_close) != 0 || pthread_atfork(NULL, NULL, forked) != 0)
    broken("there is no key for a thread's own");
}

static struct loop *idle_loop(struct thread **thread) {
  *thread = pthread_getspecific(thread_key);
  if (!*thread) {
    *thread = calloc(1, sizeof **thread);
    if (!*thread || pthread_setspecific(thread_key, *thread) != 0)
      broken("out of memory");
  }
  struct loop **at = &(*thread)->loops;
  while (*at && (*at)->running)
    at = &(*at)->deeper;
  if (!*at) {
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop || uv_loop_init(&loop->uv) != 0)
      broken("no loop can be made");
    *at = loop;
  }
  return *at;
}

/* The driver for an easy handle on this thread and on a loop that is not running. */
static struct driver *driver_for(struct easy *easy, int *status) {
  struct thread *thread;
  struct loop *loop = idle_loop(&thread);
  const char *mode = getenv("UVCURL_PERFORM_DRIVER");
  bool shared = mode && strcmp(mode, "thread") == 0;
  struct driver *driver = shared ? loop->shared : easy->driver;
  if (driver && driver->loop != loop) {
    /* The handle has come from another thread. */
    pthread_mutex_lock(&lock);
    driver->easy = NULL;
    pthread_mutex_unlock(&lock);
    driver = easy->driver = NULL;
  }
  loop_sweep(loop, false);
  if (!driver) {
    driver = calloc(1, sizeof *driver);
    if (!driver)
      broken("out of memory");
    if ((*status = uvcurl_new(&loop->uv, &driver->uc)) != 0) {
      free(driver);
      return NULL;
    }
    driver->loop = loop;
    driver->thread = thread;
    driver->next = loop->drivers;
    loop->drivers = driver;
    if (shared) {
      loop->shared = driver;
    } else {
      driver->easy = easy;
      easy->driver = driver;
    }
  }
  /* What an easy handle shares is shared with handles of other drivers, if each has its own. */
  *status = uvcurl_set(driver->uc, UVCURL_EASY_UNTOUCHED,
                       easy->closes_sockets || (easy->shares && !shared));
  if (*status == 0 && !shared)
    *status =
        uvcurl_set(driver->uc, UVCURL_MAXCONNECTS, easy->max_connects ? easy->max_connects : 5);
  return driver;
}

/* ---- In place of libcurl's functions
 * ------------------------------------------------------------------------- */

EXPORT CURLcode curl_easy_perform(CURL *handle) {
  struct easy *easy = handle ? easy_make(handle) : NULL;
  /* What is in flight or in a multi handle is refused, which libcurl does itself. */
  if (!easy || easy->flying || easy->multi)
    return REAL(curl_easy_perform)(handle);
  /* A multi handle closes the connection of a connect-only transfer when it lets go of it. */
  if (easy->connect_only) {
    CURLcode result = REAL(curl_easy_perform)(handle);
    log_line("real", (int)result);
    return result;
  }
  bool ignored = sigpipe_ignore();
  int status;
  struct driver *driver = driver_for(easy, &status);
  if (driver && status == 0 && (status = easy_start(easy, driver->uc)) == 0) {
    struct loop *loop = driver->loop;
    loop->running = true;
    while (easy->flying)
      run_once(&loop->uv, UV_RUN_ONCE);
    loop->running = false;
    status = easy->status;
  }
  sigpipe_restore(ignored);
  return easy_result(status);
}

EXPORT void curl_easy_cleanup(CURL *handle) {
  struct easy *easy = handle ? easy_find(handle) : NULL;
  if (easy) {
    bool ignored = sigpipe_ignore();
    if (easy->flying && !easy->multi)
      broken("an easy handle was cleaned up in flight");
    multi_forget(easy);
    struct driver *driver = easy->driver;
    pthread_mutex_lock(&lock);
    if (driver)
      driver->easy = NULL;
    struct easy **at = slot(handle);
    *at = easy->next;
    pthread_mutex_unlock(&lock);
    if (driver && driver->thread == pthread_getspecific(thread_key))
      loop_sweep(driver->loop, false);
    free(easy);
    sigpipe_restore(ignored);
  }
  REAL(curl_easy_cleanup)(handle);
}

EXPORT CURLcode curl_easy_pause(CURL *handle, int bitmask) {
  struct easy *easy = handle ? easy_find(handle) : NULL;
  if (!easy || !easy->flying)
    return REAL(curl_easy_pause)(handle, bitmask);
  int status = uvcurl_pause(easy->flying, handle, bitmask & CURLPAUSE_ALL);
  return status == UV_EALREADY ? CURLE_OK : easy_result(status);
}

EXPORT CURLcode curl_easy_setopt(CURL *handle, CURLoption option, ...) {
  va_list arguments;
  va_start(arguments, option);
  void *value = va_arg(arguments, void *);
  va_end(arguments);
  CURLcode result = REAL(curl_easy_setopt)(handle, option, value);
  if (result == CURLE_OK) {
    if (option == CURLOPT_CONNECT_ONLY)
      easy_make(handle)->connect_only = value;
    else if (option == CURLOPT_CLOSESOCKETFUNCTION)
      easy_make(handle)->closes_sockets = value;
    else if (option == CURLOPT_SHARE)
      easy_make(handle)->shares = value;
    else if (option == CURLOPT_MAXCONNECTS)
      easy_make(handle)->max_connects = (long)value;
  }
  return result;
}

EXPORT CURL *curl_easy_duphandle(CURL *handle) {
  CURL *copy = REAL(curl_easy_duphandle)(handle);
  struct easy *from = copy ? easy_find(handle) : NULL;
  if (from) {
    struct easy *to = easy_make(copy);
    to->connect_only = from->connect_only;
    to->closes_sockets = from->closes_sockets;
    to->max_connects = from->max_connects;
    to->shares = from->shares;
  }
  return copy;
}

EXPORT void curl_easy_reset(CURL *handle) {
  struct easy *easy = handle ? easy_find(handle) : NULL;
  if (easy) {
    easy->connect_only = easy->closes_sockets = false;
    easy->max_connects = 0;
  }
  REAL(curl_easy_reset)(handle);
}

/* What a program has not cleaned up by now, its connections included, is not to outlive libcurl. */
EXPORT void curl_global_cleanup(void) {
  struct thread *thread = pthread_getspecific(thread_key);
  bool running = false;
  for (struct loop *loop = thread ? thread->loops : NULL; loop; loop = loop->deeper)
    running |= loop->running;
  if (thread && !running) {
    pthread_setspecific(thread_key, NULL);
    thread_close(thread);
  }
  REAL(curl_global_cleanup)();
}

/* ---- What uvcurl itself calls
 * -------------------------------------------------------------------------------- */

/* The linker (--wrap) leads its calls here, past the functions above. */
void __wrap_curl_easy_cleanup(CURL *handle);
CURLcode __wrap_curl_easy_pause(CURL *handle, int bitmask);
CURLcode __wrap_curl_easy_setopt(CURL *handle, CURLoption option, void *value);

void __wrap_curl_easy_cleanup(CURL *handle) {
  REAL(curl_easy_cleanup)(handle);
}

CURLcode __wrap_curl_easy_pause(CURL *handle, int bitmask) {
  return REAL(curl_easy_pause)(handle, bitmask);
}

CURLcode __wrap_curl_easy_setopt(CURL *handle, CURLoption option, void *value) {
  return REAL(curl_easy_setopt)(handle, option, value);
}
