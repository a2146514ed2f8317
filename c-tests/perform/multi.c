/* link: -Wl,--wrap=curl_multi_init -Wl,--wrap=curl_multi_cleanup */
/* link: -Wl,--wrap=curl_multi_setopt -Wl,--wrap=curl_multi_add_handle */
/* link: -Wl,--wrap=curl_multi_remove_handle -Wl,--wrap=curl_multi_info_read */
/* link: -Wl,--wrap=curl_multi_timeout */
/* curl_multi_perform() and its like, for programs with an event loop of their own around them:
 * their transfers run on a libuv loop, which the program runs a turn of with each
 * curl_multi_perform(), and waits for as for any other descriptor.
 *
 * The program keeps a multi handle of libcurl's, with nothing in it, so that what is not replaced
 * here does no harm. If it asks for libcurl's socket interface, then that handle is what it uses.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

#include "perform.h"

struct multi {
  struct multi *next;
  CURLM *handle;
  uv_loop_t loop;
  uvcurl_t *uc;
  bool running, closed;
  int wakeup;
  struct easy *easies;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct multi *multis;

/* NULL for one that libcurl runs. */
static struct multi *multi_find(CURLM *handle) {
  pthread_mutex_lock(&lock);
  struct multi *multi = multis;
  while (multi && multi->handle != handle)
    multi = multi->next;
  pthread_mutex_unlock(&lock);
  return multi;
}

static void on_closed(void *user_data) {
  ((struct multi *)user_data)->closed = true;
}

static void multi_close(struct multi *multi) {
  pthread_mutex_lock(&lock);
  struct multi **at = &multis;
  while (*at != multi)
    at = &(*at)->next;
  *at = multi->next;
  pthread_mutex_unlock(&lock);
  bool ignored = sigpipe_ignore();
  multi->running = true;
  uvcurl_close(multi->uc, on_closed, multi);
  while (!multi->closed)
    run_once(&multi->loop, UV_RUN_ONCE);
  sigpipe_restore(ignored);
  for (struct easy *easy = multi->easies; easy; easy = easy->multi_next) {
    if (easy->flying)
      broken("a transfer was not reported before the close callback");
    easy->multi = NULL;
  }
  if (uv_loop_close(&multi->loop) != 0)
    broken("something is left on the loop");
  close(multi->wakeup);
  free(multi);
}

EXPORT CURLM *curl_multi_init(void) {
  CURLM *handle = REAL(curl_multi_init)();
  struct multi *multi = handle ? calloc(1, sizeof *multi) : NULL;
  if (!multi)
    return handle;
  multi->handle = handle;
  multi->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (multi->wakeup < 0 || uv_loop_init(&multi->loop) != 0 ||
      uvcurl_new(&multi->loop, &multi->uc) != 0)
    broken("no driver can be made");
  pthread_mutex_lock(&lock);
  multi->next = multis;
  multis = multi;
  pthread_mutex_unlock(&lock);
  return handle;
}

EXPORT CURLMcode curl_multi_cleanup(CURLM *handle) {
  struct multi *multi = multi_find(handle);
  if (multi) {
    if (multi->running)
      return CURLM_RECURSIVE_API_CALL;
    multi_close(multi);
  }
  return REAL(curl_multi_cleanup)(handle);
}

EXPORT CURLMcode curl_multi_setopt(CURLM *handle, CURLMoption option, ...) {
  va_list arguments;
  va_start(arguments, option);
  void *value = va_arg(arguments, void *);
  va_end(arguments);
  struct multi *multi = multi_find(handle);
  if (multi && multi->running)
    return CURLM_RECURSIVE_API_CALL;
  CURLMcode code = REAL(curl_multi_setopt)(handle, option, value);
  if (!multi || code != CURLM_OK || !value)
    return code;
  switch (option) {
  case CURLMOPT_SOCKETFUNCTION:
  case CURLMOPT_TIMERFUNCTION:
  case CURLMOPT_PUSHFUNCTION:
    if (multi->easies)
      broken("the program asks for libcurl's socket interface too late");
    multi_close(multi);
    return code;
  case CURLMOPT_SOCKETDATA:
  case CURLMOPT_TIMERDATA:
  case CURLMOPT_PUSHDATA:
    return code;
  case CURLMOPT_MAXCONNECTS:
    return uvcurl_set(multi->uc, UVCURL_MAXCONNECTS, (long)value) == 0
               ? CURLM_OK
               : CURLM_BAD_FUNCTION_ARGUMENT;
  default:
    return REAL(curl_multi_setopt)(uvcurl_multi(multi->uc), option, value);
  }
}

/* ---- Transfers
 * -----------------------------------------------------------------------------------------------
 */

EXPORT CURLMcode curl_multi_add_handle(CURLM *handle, CURL *transfer) {
  struct multi *multi = multi_find(handle);
  if (!multi || !transfer) {
    CURLMcode code = REAL(curl_multi_add_handle)(handle, transfer);
    log_line("real", (int)code);
    return code;
  }
  struct easy *easy = easy_make(transfer);
  if (multi->running)
    return CURLM_RECURSIVE_API_CALL;
  if (easy->multi || easy->flying)
    return CURLM_ADDED_ALREADY;
  if (easy->connect_only)
    broken("a connect-only transfer in a multi handle is not served");
  if (easy->closes_sockets && uvcurl_set(multi->uc, UVCURL_EASY_UNTOUCHED, 1) != 0)
    broken("a close-socket function comes too late");
  int status = easy_start(easy, multi->uc);
  if (status != 0)
    return status == UV_ENOMEM  ? CURLM_OUT_OF_MEMORY
           : status == UV_EBUSY ? CURLM_ADDED_ALREADY
                                : CURLM_BAD_EASY_HANDLE;
  easy->multi = multi;
  easy->told = false;
  /* At the end, for messages are told in the order in which the transfers were added. */
  easy->multi_next = NULL;
  struct easy **at = &multi->easies;
  while (*at)
    at = &(*at)->multi_next;
  *at = easy;
  return CURLM_OK;
}

/* The handle is the program's again when this returns, so its report is waited for, which is at the
 * next turn. */
static void easy_remove(struct multi *multi, struct easy *easy) {
  if (easy->flying) {
    int status = uvcurl_cancel(multi->uc, easy->handle);
    if (status != 0 && status != UV_EALREADY)
      broken(uvcurl_strerror(status));
    multi->running = true;
    while (easy->flying)
      run_once(&multi->loop, UV_RUN_NOWAIT);
    multi->running = false;
  }
  struct easy **at = &multi->easies;
  while (*at != easy)
    at = &(*at)->multi_next;
  *at = easy->multi_next;
  easy->multi = NULL;
}

EXPORT CURLMcode curl_multi_remove_handle(CURLM *handle, CURL *transfer) {
  struct multi *multi = multi_find(handle);
  struct easy *easy = transfer ? easy_find(transfer) : NULL;
  if (!multi || !transfer)
    return REAL(curl_multi_remove_handle)(handle, transfer);
  if (multi->running)
    return CURLM_RECURSIVE_API_CALL;
  if (!easy || !easy->multi)
    return CURLM_OK;
  if (easy->multi != multi)
    return CURLM_BAD_EASY_HANDLE;
  bool ignored = sigpipe_ignore();
  easy_remove(multi, easy);
  sigpipe_restore(ignored);
  return CURLM_OK;
}

void multi_forget(struct easy *easy) {
  if (!easy->multi)
    return;
  if (easy->multi->running)
    broken("an easy handle was cleaned up inside a callback");
  easy_remove(easy->multi, easy);
}

EXPORT CURLMcode curl_multi_perform(CURLM *handle, int *running_handles) {
  struct multi *multi = multi_find(handle);
  if (!multi)
    return REAL(curl_multi_perform)(handle, running_handles);
  if (multi->running)
    return CURLM_RECURSIVE_API_CALL;
  bool ignored = sigpipe_ignore();
  multi->running = true;
  if (uvcurl_active(multi->uc) > 0)
    run_once(&multi->loop, UV_RUN_NOWAIT);
  else
    uv_run(&multi->loop, UV_RUN_NOWAIT);
  multi->running = false;
  sigpipe_restore(ignored);
  *running_handles = (int)uvcurl_active(multi->uc);
  return CURLM_OK;
}

EXPORT CURLMsg *curl_multi_info_read(CURLM *handle, int *msgs_in_queue) {
  struct multi *multi = multi_find(handle);
  if (!multi)
    return REAL(curl_multi_info_read)(handle, msgs_in_queue);
  CURLMsg *message = NULL;
  *msgs_in_queue = 0;
  for (struct easy *easy = multi->running ? NULL : multi->easies; easy; easy = easy->multi_next) {
    if (easy->flying || easy->told)
      continue;
    if (message) {
      ++*msgs_in_queue;
      continue;
    }
    easy->told = true;
    message = &easy->message;
    message->msg = CURLMSG_DONE;
    message->easy_handle = easy->handle;
    message->data.result = easy_result(easy->status);
  }
  return message;
}

/* ---- Waiting
 * -------------------------------------------------------------------------------------------------
 */

/* The loop's own descriptor is ready when one of those it watches is, and its timeout tells when it
 * wants to run next. */

EXPORT CURLMcode curl_multi_fdset(CURLM *handle, fd_set *in, fd_set *out, fd_set *error,
                                  int *max_fd) {
  struct multi *multi = multi_find(handle);
  if (!multi)
    return REAL(curl_multi_fdset)(handle, in, out, error, max_fd);
  if (multi->running)
    return CURLM_RECURSIVE_API_CALL;
  int fd = uv_backend_fd(&multi->loop);
  *max_fd = -1;
  if (uvcurl_active(multi->uc) > 0 && fd < FD_SETSIZE) {
    FD_SET(fd, in);
    *max_fd = fd;
  }
  return CURLM_OK;
}

EXPORT CURLMcode curl_multi_timeout(CURLM *handle, long *timeout) {
  struct multi *multi = multi_find(handle);
  if (!multi)
    return REAL(curl_multi_timeout)(handle, timeout);
  if (multi->running)
    return CURLM_RECURSIVE_API_CALL;
  *timeout = uvcurl_active(multi->uc) > 0 ? uv_backend_timeout(&multi->loop) : -1;
  return CURLM_OK;
}

static CURLMcode multi_wait(struct multi *multi, struct curl_waitfd *extra, unsigned extra_count,
                            int timeout, int *ready, bool poll_even_nothing) {
  if (multi->running)
    return CURLM_RECURSIVE_API_CALL;
  struct pollfd *fds = calloc(extra_count + 2, sizeof *fds);
  if (!fds)
    return CURLM_OUT_OF_MEMORY;
  for (unsigned i = 0; i < extra_count; i++) {
    fds[i].fd = extra[i].fd;
    fds[i].events = (short)((extra[i].events & CURL_WAIT_POLLIN ? POLLIN : 0) |
                            (extra[i].events & CURL_WAIT_POLLPRI ? POLLPRI : 0) |
                            (extra[i].events & CURL_WAIT_POLLOUT ? POLLOUT : 0));
  }
  bool active = uvcurl_active(multi->uc) > 0;
  fds[extra_count].fd = active ? uv_backend_fd(&multi->loop) : -1;
  fds[extra_count].events = POLLIN;
  fds[extra_count + 1].fd = poll_even_nothing ? multi->wakeup : -1;
  fds[extra_count + 1].events = POLLIN;
  int wanted = active ? uv_backend_timeout(&multi->loop) : -1;
  if (wanted >= 0 && wanted < timeout)
    timeout = wanted;
  if (!active && extra_count == 0 && !poll_even_nothing)
    timeout = 0;
  int count = poll(fds, extra_count + 2, timeout);
  if (count < 0 && errno != EINTR)
    broken("poll");
  for (unsigned i = 0; i < extra_count; i++)
    extra[i].revents = (short)((fds[i].revents & POLLIN ? CURL_WAIT_POLLIN : 0) |
                               (fds[i].revents & POLLPRI ? CURL_WAIT_POLLPRI : 0) |
                               (fds[i].revents & POLLOUT ? CURL_WAIT_POLLOUT : 0));
  if (count > 0 && fds[extra_count + 1].revents) {
    eventfd_t value;
    eventfd_read(multi->wakeup, &value);
    count--;
  }
  if (ready)
    *ready = count > 0 ? count : 0;
  free(fds);
  return CURLM_OK;
}

EXPORT CURLMcode curl_multi_wait(CURLM *handle, struct curl_waitfd extra[], unsigned count,
                                 int timeout, int *ready) {
  struct multi *multi = multi_find(handle);
  return multi ? multi_wait(multi, extra, count, timeout, ready, false)
               : REAL(curl_multi_wait)(handle, extra, count, timeout, ready);
}

EXPORT CURLMcode curl_multi_poll(CURLM *handle, struct curl_waitfd extra[], unsigned count,
                                 int timeout, int *ready) {
  struct multi *multi = multi_find(handle);
  return multi ? multi_wait(multi, extra, count, timeout, ready, true)
               : REAL(curl_multi_poll)(handle, extra, count, timeout, ready);
}

EXPORT CURLMcode curl_multi_wakeup(CURLM *handle) {
  struct multi *multi = multi_find(handle);
  if (!multi)
    return REAL(curl_multi_wakeup)(handle);
  return eventfd_write(multi->wakeup, 1) == 0 || errno == EAGAIN ? CURLM_OK : CURLM_WAKEUP_FAILURE;
}

/* ---- What uvcurl itself calls
 * -------------------------------------------------------------------------------- */

CURLM *__wrap_curl_multi_init(void);
CURLMcode __wrap_curl_multi_cleanup(CURLM *handle);
CURLMcode __wrap_curl_multi_setopt(CURLM *handle, CURLMoption option, void *value);
CURLMcode __wrap_curl_multi_add_handle(CURLM *handle, CURL *transfer);
CURLMcode __wrap_curl_multi_remove_handle(CURLM *handle, CURL *transfer);
CURLMsg *__wrap_curl_multi_info_read(CURLM *handle, int *msgs_in_queue);
CURLMcode __wrap_curl_multi_timeout(CURLM *handle, long *timeout);

CURLM *__wrap_curl_multi_init(void) {
  return REAL(curl_multi_init)();
}

CURLMcode __wrap_curl_multi_cleanup(CURLM *handle) {
  return REAL(curl_multi_cleanup)(handle);
}

CURLMcode __wrap_curl_multi_setopt(CURLM *handle, CURLMoption option, void *value) {
  return REAL(curl_multi_setopt)(handle, option, value);
}

CURLMcode __wrap_curl_multi_add_handle(CURLM *handle, CURL *transfer) {
  return REAL(curl_multi_add_handle)(handle, transfer);
}

CURLMcode __wrap_curl_multi_remove_handle(CURLM *handle, CURL *transfer) {
  return REAL(curl_multi_remove_handle)(handle, transfer);
}

CURLMsg *__wrap_curl_multi_info_read(CURLM *handle, int *msgs_in_queue) {
  return REAL(curl_multi_info_read)(handle, msgs_in_queue);
}

CURLMcode __wrap_curl_multi_timeout(CURLM *handle, long *timeout) {
  return REAL(curl_multi_timeout)(handle, timeout);
}
