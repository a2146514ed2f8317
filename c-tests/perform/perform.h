/* libuvcurl-perform.so: preloaded into a program that knows nothing of uvcurl, it takes the place
 * of the functions with which programs run libcurl's transfers, and lets uvcurl run them on a libuv
 * loop.
 *
 *   LD_PRELOAD=.../libuvcurl-perform.so UVCURL_PERFORM_LOG=log curl https://...
 *
 * UVCURL_PERFORM_LOG: a file to which each transfer adds a line when it ends. `easy 0` is one of
 * curl_easy_perform()'s and `multi 28` one of a multi handle's, with the status that uvcurl
 * reported; `real 0` is one that libcurl ran itself, because uvcurl cannot serve it.
 *
 * UVCURL_PERFORM_DRIVER: `easy`, the default, is a driver per easy handle, as curl_easy_perform()
 * has a multi handle for each; `thread` is one for all easy handles of a thread.
 *
 * It is made of uvcurl's public interface only. A promise of uvcurl's that turns out broken ends
 * the program. */
#ifndef UVCURL_TEST_PERFORM_H
#define UVCURL_TEST_PERFORM_H

#include <stdbool.h>

#include <curl/curl.h>
#include <uv.h>

#include "uvcurl.h"

/* curl.h has macros of these names, which check types. */
#undef curl_easy_setopt
#undef curl_multi_setopt

#define EXPORT __attribute__((visibility("default")))

/* The function of this name that is libcurl's. */
#define REAL(name) ((__typeof__(&name))real_function(#name))
void *real_function(const char *name);

/* What is known of an easy handle of the program. */
struct easy {
  struct easy *next;
  CURL *handle;
  bool connect_only, closes_sockets, shares;
  long max_connects;
  uvcurl_t *flying; /* the driver it is in flight on */
  int status;
  struct driver *driver; /* curl_easy_perform()'s */
  struct multi *multi;   /* the program's multi handle it is in */
  struct easy *multi_next;
  bool told; /* the program has read its message */
  CURLMsg message;
};

struct easy *easy_find(CURL *handle); /* NULL if nothing is known */
struct easy *easy_make(CURL *handle);

/* Starts a transfer. Its report sets `status`, clears `flying` and adds the line. */
int easy_start(struct easy *easy, uvcurl_t *uc);
CURLcode easy_result(int status);

/* Takes an easy handle that is about to be cleaned up out of the program's multi handle. */
void multi_forget(struct easy *easy);

void run_once(uv_loop_t *loop, uv_run_mode mode);
void log_line(const char *how, int status);
void broken(const char *what) __attribute__((noreturn));

/* SIGPIPE is ignored while libcurl is at work, which curl_easy_perform() sees to as well. */
bool sigpipe_ignore(void);
void sigpipe_restore(bool ignored);

#endif
