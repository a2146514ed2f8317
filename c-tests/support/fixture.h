/* What nearly every test needs: a loop, a driver on it, a server, and transfers whose results are
 * kept and checked. A check that fails in here ends the case. */
#ifndef UVCURL_TEST_FIXTURE_H
#define UVCURL_TEST_FIXTURE_H

#include <uvcurl.h>

#include "server.h"
#include "test.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fixture fixture;
typedef struct transfer transfer;

typedef void (*fixture_cb)(fixture *f, void *arg);

struct fixture {
  uv_loop_t loop;
  uvcurl_t *uc;     /* NULL once closed */
  server_t *server; /* NULL without one */
  int closing;      /* fixture_begin_close was called */
  int closed;       /* how often the close callback ran */
  int in_api;       /* inside an uvcurl_* call, where no done or close callback may run */
  struct fixture_timer *timers;
};

/* With HTTPS if UVCURL_TEST_CERTS names a directory that certs.sh filled. Zeroes the rest. */
void fixture_open(fixture *f);
/* `options` may leave the certificate to UVCURL_TEST_CERTS; NULL are the defaults. */
void fixture_open_with(fixture *f, const server_options *options);
/* Without a server. */
void fixture_open_bare(fixture *f);

/* Closes the driver and what fixture_after and fixture_when still wait for, runs the loop to its
 * end, and checks that nothing is left on it. A test that closes the driver with a callback of its
 * own sets `uc` to NULL. */
void fixture_close(fixture *f);
/* uvcurl_close with a callback that fixture_close accounts for; before that, with a libcurl that is
 * sound in this respect, no socket may have been told of as ready for nothing. */
void fixture_begin_close(fixture *f);
void fixture_run(fixture *f);

/* Runs `cb` once, `ms` from now (the slowdown is not applied). */
void fixture_after(fixture *f, uint64_t ms, fixture_cb cb, void *arg);
/* Runs `cb` once, when the server's counter is `at_least` that; looks every millisecond. */
void fixture_when(fixture *f, enum server_counter counter, uint64_t at_least, fixture_cb cb,
                  void *arg);
/* A fixture_cb for both: opens the server's gate. */
void fixture_release(fixture *f, void *unused);

/* The running libcurl as a number: 0x081600 is 8.22.0. What depends on it says which behaviour of
 * libcurl's that is. */
unsigned curl_number(void);

/* Skips the case if UVCURL_TEST_UNTOUCHED is set, for it is about options that uvcurl sets. */
void fixture_need_options(void);
/* Skips the case if there are no certificates. */
void fixture_need_tls(const fixture *f);

struct transfer {
  fixture *f;
  CURL *easy;
  int started; /* how often it was started successfully */
  int done;    /* how often transfer_done ran; never more often than `started` */
  int status;  /* of the last end */
  long code;   /* HTTP's, of the last end */

  /* Of the last start. */
  size_t received;
  int content_ok; /* all of it was what server_byte says */
  unsigned char *body;
  size_t body_len, body_cap;
  char error[CURL_ERROR_SIZE];

  int keep_body; /* keep what is received in `body`, which a NUL follows */
  /* Called with what arrives. What it returns goes to libcurl, and is counted only if it is `n`. */
  size_t (*on_write)(transfer *t, const char *data, size_t n);
  /* The last thing transfer_done does, so it may start the transfer again, or free it. */
  void (*on_done)(transfer *t);
  void *user;
};

/* An easy handle for this path on the HTTP port, for a whole URL, or for a port of this kind. It
 * ignores proxies from the environment and trusts the test CA. */
transfer *transfer_new(fixture *f, const char *path);
transfer *transfer_new_url(fixture *f, const char *url);
transfer *transfer_new_on(fixture *f, enum server_port_kind kind, const char *path);

int transfer_start(fixture *f, transfer *t);
int transfer_cancel(fixture *f, transfer *t);
int transfer_pause(fixture *f, transfer *t, int bitmask);

/* The callback that transfer_start gives; `t` is the transfer. */
void transfer_done(uvcurl_t *uc, CURL *easy, int status, void *t);

/* Cleans the easy handle up too. NULL is ignored. */
void transfer_free(transfer *t);

/* So many bytes to be sent, which server_byte names, and how many of them libcurl has taken. */
typedef struct source {
  size_t at, size;
} source;

/* For CURLOPT_READFUNCTION; `s` is a source. */
size_t source_read(char *to, size_t size, size_t count, void *s);
/* The transfer sends that, from its beginning, with its length. */
void transfer_upload(transfer *t, source *s);

#ifdef __cplusplus
}
#endif

#endif
