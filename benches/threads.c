/* The transfers through curl_easy_perform(), a thread for each that is in flight. There is no loop,
   so there is no host's timer either. */
#include "bench.h"

#include <pthread.h>
#include <stdlib.h>

const char driver_name[] = "threads";

struct driver {
  struct bench *bench;
  pthread_mutex_t lock; /* around the frame */
  pthread_t *threads;
  size_t count;
};

struct worker {
  struct driver *driver;
  CURL *easy;
};

/* What the worker of this thread is to do next, as the frame has asked for in bench_done(). */
static __thread CURL *next;
static __thread bool is_worker;

static void *work(void *user) {
  struct worker *worker = user;
  struct driver *d = worker->driver;

  is_worker = true;
  next = worker->easy;
  free(worker);
  while (next) {
    CURL *easy = next;
    CURLcode result = curl_easy_perform(easy);

    next = NULL;
    pthread_mutex_lock(&d->lock);
    bench_done(d->bench, easy, result);
    pthread_mutex_unlock(&d->lock);
  }
  return NULL;
}

void driver_open(struct bench *bench) {
  struct driver *d = bench->driver = bench_alloc(sizeof *d);

  d->bench = bench;
  pthread_mutex_init(&d->lock, NULL);
  d->threads = bench_alloc(bench_slots(bench) * sizeof *d->threads);
}

CURLM *driver_multi(struct bench *bench) {
  (void)bench;
  return NULL;
}

void driver_start(struct bench *bench, CURL *easy) {
  struct driver *d = bench->driver;

  if (is_worker) {
    next = easy;
  } else {
    struct worker *worker = bench_alloc(sizeof *worker);
    pthread_attr_t small;

    worker->driver = d;
    worker->easy = easy;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    /* The frame starts all before it runs the loop; nobody may be done before that. */
    if (d->count == 0)
      pthread_mutex_lock(&d->lock);
    if (pthread_create(&d->threads[d->count++], &small, work, worker))
      bench_fatal("pthread_create", "failed");
    pthread_attr_destroy(&small);
  }
}

void driver_timer(struct bench *bench, unsigned ms) {
  (void)bench;
  (void)ms;
}

void driver_run(struct bench *bench) {
  struct driver *d = bench->driver;
  size_t i;

  pthread_mutex_unlock(&d->lock);
  for (i = 0; i < d->count; i++)
    pthread_join(d->threads[i], NULL);
}

void driver_stop(struct bench *bench) {
  (void)bench;
}

void driver_close(struct bench *bench) {
  struct driver *d = bench->driver;

  pthread_mutex_destroy(&d->lock);
  free(d->threads);
}

const char *driver_loop_version(void) {
  return "threads";
}
