/* The frame around every driver: it makes the easy handles, starts each again when it is done,
   counts, and prints one line of JSON. A program is the frame and one driver. */
#ifndef BENCH_H
#define BENCH_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench {
  void *driver;          /* the driver's own */
  struct workload *work; /* the frame's own */
};

/* What a driver provides. */

extern const char driver_name[];

/* Makes loop and multi handle. */
void driver_open(struct bench *bench);

/* The multi handle, for connection limits and the like; NULL if there is none. */
CURLM *driver_multi(struct bench *bench);

/* Starts a transfer. bench_done() must not be called before this has returned. */
void driver_start(struct bench *bench, CURL *easy);

/* The host's own repeating timer: bench_tick() every so many milliseconds; 0 stops it. */
void driver_timer(struct bench *bench, unsigned ms);

/* Runs the loop until driver_stop() is called. */
void driver_run(struct bench *bench);
void driver_stop(struct bench *bench);

/* Ends loop and multi handle, whatever is in flight. */
void driver_close(struct bench *bench);

/* The version of what the loop is made of, such as "libuv 1.53.0". */
const char *driver_loop_version(void);

/* Only where CURLMOPT_MAXCONNECTS is the driver's: the limit of idle connections. */
void driver_max_connects(struct bench *bench, long count) __attribute__((weak));

/* What the frame provides. */

/* A transfer has ended and its easy handle is out of the multi handle. */
void bench_done(struct bench *bench, CURL *easy, CURLcode result);

/* The host's timer has fired. */
void bench_tick(struct bench *bench);

/* Reads all of libcurl's messages, then removes the handles, then bench_done() for each. Not
 * uvcurl's. */
void bench_drain(struct bench *bench, CURLM *multi);

/* How many easy handles there are, and one of them; for drivers that clean up what is in flight. */
size_t bench_slots(const struct bench *bench);
CURL *bench_easy(const struct bench *bench, size_t i);

/* Monotonic time. */
int64_t bench_now_ns(void);

/* Ends the program with a message. */
void bench_fatal(const char *what, const char *why) __attribute__((noreturn));

/* The driver's memory, or the end. */
void *bench_alloc(size_t size);

/* ceil of a time in nanoseconds in milliseconds from now, not below 0; -1 for "never", which is
 * INT64_MAX. */
int bench_ms_until(int64_t at_ns);

#endif
