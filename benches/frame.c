#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct options {
  const char *host, *cacert, *http;
  long port, hosts, in_flight, warm, count, body, delay, upload, limit, cpu, loops, idle_ms,
      close_ms, max_total, max_connects, dns_seconds, timeout_s;
  bool tls, fresh, tick, burst, no_signal;
};

struct slot {
  CURL *easy;
  size_t received, to_send;
};

/* What is read off before and after the part that is measured. */
struct reading {
  int64_t wall_ns, user_us, system_us;
  long wakeups;
};

enum phase { RUNNING, DRAINING, IDLING, WAITING_TO_CLOSE };

struct workload {
  struct options o;
  struct slot *slots;
  size_t started, done, failed, bytes, connects, measured;
  enum phase phase;
  bool timed_out, closing;
  struct reading from, to, idle_from, idle_to;
  int64_t deadline_ns, close_ns;
  long rss_start_kb, rss_slots_kb, rss_peak_kb;
  CURLcode first_error;
  int64_t last_tick_ns;
  uint32_t *late_us;
  size_t ticks, tick_room;
};

/* ---- small things ---- */

int64_t bench_now_ns(void) {
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int bench_ms_until(int64_t at_ns) {
  int64_t left;

  if (at_ns == INT64_MAX)
    return -1;
  left = at_ns - bench_now_ns();
  return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

void bench_fatal(const char *what, const char *why) {
  fprintf(stderr, "%s: %s: %s\n", driver_name, what, why);
  exit(1);
}

void *bench_alloc(size_t size) {
  void *memory = calloc(1, size);

  if (!memory)
    bench_fatal("memory", "none left");
  return memory;
}

size_t bench_slots(const struct bench *bench) {
  return (size_t)bench->work->o.in_flight;
}

CURL *bench_easy(const struct bench *bench, size_t i) {
  return bench->work->slots[i].easy;
}

static long status_kb(const char *name) {
  char line[256];
  long kb = 0;
  size_t size = strlen(name);
  FILE *file = fopen("/proc/self/status", "r");

  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, name, size) && line[size] == ':')
      kb = atol(line + size + 1);
  if (file)
    fclose(file);
  return kb;
}

static int64_t timeval_us(struct timeval t) {
  return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

static struct reading read_now(const struct workload *w) {
  struct rusage usage;
  struct reading r;

  getrusage(w->o.loops > 1 ? RUSAGE_THREAD : RUSAGE_SELF, &usage);
  r.wall_ns = bench_now_ns();
  r.user_us = timeval_us(usage.ru_utime);
  r.system_us = timeval_us(usage.ru_stime);
  r.wakeups = usage.ru_nvcsw;
  return r;
}

/* ---- transfers ---- */

static size_t on_body(char *data, size_t size, size_t count, void *user) {
  struct slot *slot = user;

  (void)data;
  slot->received += size * count;
  return size * count;
}

static size_t on_upload(char *to, size_t size, size_t count, void *user) {
  struct slot *slot = user;
  size_t part = size * count < slot->to_send ? size * count : slot->to_send;

  memset(to, 'u', part);
  slot->to_send -= part;
  return part;
}

static void set_up(struct workload *w, size_t i, const struct curl_slist *headers) {
  struct options *o = &w->o;
  struct slot *slot = &w->slots[i];
  CURL *easy = curl_easy_init();
  char url[128];
  size_t host = i % (size_t)o->hosts;

  if (!easy)
    bench_fatal("curl_easy_init", "no handle");
  slot->easy = easy;
  snprintf(url, sizeof url, "http%s://127.0.%zu.%zu:%ld/b%ld/d%ld%s", o->tls ? "s" : "", host / 250,
           host % 250 + 1, o->port, o->body, o->delay, o->fresh ? "/close" : "");
  curl_easy_setopt(easy, CURLOPT_URL, url);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, (long)o->no_signal);
  if (o->timeout_s)
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, o->timeout_s);
  if (o->dns_seconds)
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, o->dns_seconds);
  if (o->fresh)
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  if (o->tls) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, o->cacert);
    /* The certificate is for 127.0.0.1 alone. */
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (!strcmp(o->http, "2")) {
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     o->tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
  } else {
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  }
  if (o->upload) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_upload);
    curl_easy_setopt(easy, CURLOPT_READDATA, slot);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)o->upload);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  }
}

static void start(struct bench *bench, struct slot *slot) {
  slot->received = 0;
  slot->to_send = (size_t)bench->work->o.upload;
  bench->work->started++;
  driver_start(bench, slot->easy);
}

static void all_done(struct bench *bench) {
  struct workload *w = bench->work;

  driver_timer(bench, 0);
  w->rss_peak_kb = status_kb("VmHWM");
  if (w->o.idle_ms) {
    w->phase = IDLING;
    w->idle_from = read_now(w);
    driver_timer(bench, (unsigned)w->o.idle_ms);
  } else {
    driver_stop(bench);
  }
}

void bench_done(struct bench *bench, CURL *easy, CURLcode result) {
  struct workload *w = bench->work;
  struct slot *slot = NULL;
  long code = 0, connects = 0;

  if (w->closing)
    return;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &slot);
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
  curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
  if (result || code != 200 || slot->received != (size_t)w->o.body || slot->to_send) {
    w->failed++;
    if (!w->first_error)
      w->first_error = result ? result : CURLE_WEIRD_SERVER_REPLY;
  }
  w->done++;
  if (w->phase == RUNNING) {
    if (w->done > (size_t)w->o.warm) {
      w->bytes += slot->received + (size_t)w->o.upload;
      w->connects += (size_t)connects;
      w->measured++;
    }
    if (w->done == (size_t)w->o.warm) {
      w->from = read_now(w);
      w->ticks = 0;
    }
    w->timed_out = !(w->done % 16) && bench_now_ns() > w->deadline_ns;
    if (w->done == (size_t)(w->o.warm + w->o.count) || w->timed_out) {
      w->to = read_now(w);
      w->phase = DRAINING;
    } else if (!w->o.burst) {
      start(bench, slot);
    }
  }
  if (w->phase == DRAINING && w->done == w->started)
    all_done(bench);
}

void bench_drain(struct bench *bench, CURLM *multi) {
  static __thread struct ended {
    CURL *easy;
    CURLcode result;
  } * ended;
  static __thread size_t room;
  size_t count = 0, i;
  CURLMsg *message;
  int left;

  while ((message = curl_multi_info_read(multi, &left))) {
    if (message->msg != CURLMSG_DONE)
      continue;
    if (count == room) {
      room = room ? room * 2 : 64;
      ended = realloc(ended, room * sizeof *ended);
      if (!ended)
        bench_fatal("memory", "none left");
    }
    ended[count].easy = message->easy_handle;
    ended[count++].result = message->data.result;
  }
  for (i = 0; i < count; i++) {
    CURLMcode code = curl_multi_remove_handle(multi, ended[i].easy);
    if (code)
      bench_fatal("curl_multi_remove_handle", curl_multi_strerror(code));
  }
  for (i = 0; i < count; i++)
    bench_done(bench, ended[i].easy, ended[i].result);
}

void bench_tick(struct bench *bench) {
  struct workload *w = bench->work;
  int64_t now = bench_now_ns();

  switch (w->phase) {
  case RUNNING:
    if (w->last_tick_ns && w->ticks < w->tick_room) {
      int64_t late = (now - w->last_tick_ns) / 1000 - 1000;
      w->late_us[w->ticks++] = late < 0 ? 0 : (uint32_t)late;
    }
    w->last_tick_ns = now;
    break;
  case DRAINING:
    break;
  case IDLING:
    w->idle_to = read_now(w);
    driver_timer(bench, 0);
    driver_stop(bench);
    break;
  case WAITING_TO_CLOSE:
    driver_timer(bench, 0);
    driver_stop(bench);
    break;
  }
}

/* ---- one loop ---- */

static void *run(void *argument) {
  struct bench *bench = argument;
  struct workload *w = bench->work;
  struct options *o = &w->o;
  struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
  size_t i;

  w->slots = bench_alloc((size_t)o->in_flight * sizeof *w->slots);
  if (o->tick) {
    w->tick_room = (size_t)(o->limit + 5) * 1000;
    w->late_us = bench_alloc(w->tick_room * sizeof *w->late_us);
  }
  driver_open(bench);
  if (driver_multi(bench)) {
    if (o->max_total)
      curl_multi_setopt(driver_multi(bench), CURLMOPT_MAX_TOTAL_CONNECTIONS, o->max_total);
    if (o->max_connects && driver_max_connects)
      driver_max_connects(bench, o->max_connects);
    else if (o->max_connects)
      curl_multi_setopt(driver_multi(bench), CURLMOPT_MAXCONNECTS, o->max_connects);
  }
  w->rss_start_kb = status_kb("VmRSS");
  for (i = 0; i < (size_t)o->in_flight; i++)
    set_up(w, i, headers);
  w->rss_slots_kb = status_kb("VmRSS");
  w->deadline_ns = bench_now_ns() + (int64_t)o->limit * 1000000000;
  if (!o->warm)
    w->from = read_now(w);
  if (o->close_ms)
    w->phase = WAITING_TO_CLOSE;
  for (i = 0; i < (size_t)o->in_flight; i++)
    start(bench, &w->slots[i]);
  if (o->close_ms)
    driver_timer(bench, (unsigned)o->close_ms);
  else if (o->tick)
    driver_timer(bench, 1);
  driver_run(bench);
  if (!w->rss_peak_kb)
    w->rss_peak_kb = status_kb("VmHWM");
  w->closing = true;
  w->close_ns = -bench_now_ns();
  driver_close(bench);
  w->close_ns += bench_now_ns();
  for (i = 0; i < (size_t)o->in_flight; i++)
    curl_easy_cleanup(w->slots[i].easy);
  curl_slist_free_all(headers);
  free(w->slots);
  return NULL;
}

/* ---- the result ---- */

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

  return (x > y) - (x < y);
}

static void print_result(struct workload *all, size_t loops) {
  struct workload *w = &all[0];
  struct options *o = &w->o;
  size_t measured = 0, failed = 0, bytes = 0, connects = 0, i;
  int64_t user = 0, system = 0;
  double rate = 0, wall = 0;
  bool timed_out = false;

  for (i = 0; i < loops; i++) {
    double seconds = (double)(all[i].to.wall_ns - all[i].from.wall_ns) / 1e9;
    measured += all[i].measured;
    failed += all[i].failed;
    bytes += all[i].bytes;
    connects += all[i].connects;
    user += all[i].to.user_us - all[i].from.user_us;
    system += all[i].to.system_us - all[i].from.system_us;
    rate += seconds > 0 ? (double)all[i].measured / seconds : 0;
    wall = seconds > wall ? seconds : wall;
    timed_out |= all[i].timed_out;
  }
  printf("{\"driver\":\"%s\",\"libcurl\":\"%s\",\"loop\":\"%s\",\"in_flight\":%ld,\"hosts\":%ld,"
         "\"loops\":%zu,\"transfers\":%zu,\"failed\":%zu,\"error\":\"%s\",\"timed_out\":%s",
         driver_name, curl_version_info(CURLVERSION_NOW)->version, driver_loop_version(),
         o->in_flight, o->hosts, loops, measured, failed,
         w->first_error ? curl_easy_strerror(w->first_error) : "", timed_out ? "true" : "false");
  printf(",\"wall_s\":%.6f,\"per_s\":%.1f,\"user_us\":%lld,\"system_us\":%lld,\"bytes\":%zu,"
         "\"connects\":%zu",
         wall, rate, (long long)user, (long long)system, bytes, connects);
  printf(",\"rss_start_kb\":%ld,\"rss_slots_kb\":%ld,\"rss_peak_kb\":%ld", w->rss_start_kb,
         w->rss_slots_kb, w->rss_peak_kb);
  if (w->ticks) {
    qsort(w->late_us, w->ticks, sizeof *w->late_us, compare);
    printf(",\"ticks\":%zu,\"late_p50_us\":%u,\"late_p99_us\":%u,\"late_max_us\":%u", w->ticks,
           w->late_us[w->ticks / 2], w->late_us[w->ticks * 99 / 100], w->late_us[w->ticks - 1]);
  }
  if (o->idle_ms)
    printf(",\"idle_s\":%.3f,\"idle_wakeups\":%ld,\"idle_cpu_us\":%lld",
           (double)(w->idle_to.wall_ns - w->idle_from.wall_ns) / 1e9,
           w->idle_to.wakeups - w->idle_from.wakeups - 1 /* the timer that ends it */,
           (long long)(w->idle_to.user_us + w->idle_to.system_us - w->idle_from.user_us -
                       w->idle_from.system_us));
  printf(",\"close_ms\":%.3f}\n", (double)w->close_ns / 1e6);
}

/* ---- options ---- */

static const char HELP[] = "usage: %s --port N [option ...]\n"
                           "  --port N         the bench server's port\n"
                           "  --tls CA         https, and the bundle to trust\n"
                           "  --http 1.1|2     2 means prior knowledge, with --tls ALPN\n"
                           "  --in-flight N    transfers at once (1)\n"
                           "  --hosts N        spread over so many addresses of 127.0.0.0/8 (1)\n"
                           "  --count N        transfers to measure (1000)\n"
                           "  --warm N         transfers before that (0)\n"
                           "  --burst          each easy handle once: count is in-flight\n"
                           "  --body N         bytes to fetch (100)\n"
                           "  --upload N       bytes to send\n"
                           "  --delay MS       how long the server takes (0)\n"
                           "  --fresh          a new connection for each transfer\n"
                           "  --max-total N    CURLMOPT_MAX_TOTAL_CONNECTIONS\n"
                           "  --max-connects N CURLMOPT_MAXCONNECTS\n"
                           "  --timeout S      CURLOPT_TIMEOUT\n"
                           "  --dns-seconds N  CURLOPT_DNS_CACHE_TIMEOUT; -1 is for ever\n"
                           "  --signal         leave CURLOPT_NOSIGNAL unset\n"
                           "  --tick           a 1 ms timer of the host's beside it\n"
                           "  --idle MS        afterwards, count what wakes the idle program\n"
                           "  --close MS       close after so long with everything in flight\n"
                           "  --loops N        so many loops, a thread each\n"
                           "  --cpu N          run on this processor\n"
                           "  --limit S        stop measuring after so long (60)\n";

static struct options parse(int argc, char **argv) {
  struct options o = {.http = "1.1",
                      .hosts = 1,
                      .in_flight = 1,
                      .count = 1000,
                      .body = 100,
                      .limit = 60,
                      .cpu = -1,
                      .loops = 1,
                      .no_signal = true};
  int i;

  for (i = 1; i < argc; i++) {
    static const char *const flags[] = {"--burst", "--fresh", "--signal", "--tick"};
    const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    struct {
      const char *name;
      long *to;
    } numbers[] = {
        {"--port", &o.port},
        {"--in-flight", &o.in_flight},
        {"--hosts", &o.hosts},
        {"--count", &o.count},
        {"--warm", &o.warm},
        {"--body", &o.body},
        {"--upload", &o.upload},
        {"--delay", &o.delay},
        {"--max-total", &o.max_total},
        {"--max-connects", &o.max_connects},
        {"--dns-seconds", &o.dns_seconds},
        {"--timeout", &o.timeout_s},
        {"--idle", &o.idle_ms},
        {"--close", &o.close_ms},
        {"--loops", &o.loops},
        {"--cpu", &o.cpu},
        {"--limit", &o.limit},
    };
    size_t n;
    bool known = false;

    for (n = 0; n < sizeof flags / sizeof *flags; n++) {
      if (!strcmp(name, flags[n])) {
        *(n == 0 ? &o.burst : n == 1 ? &o.fresh : n == 2 ? &o.no_signal : &o.tick) = n != 2;
        known = true;
      }
    }
    if (known)
      continue;
    for (n = 0; value && n < sizeof numbers / sizeof *numbers; n++) {
      if (!strcmp(name, numbers[n].name)) {
        *numbers[n].to = atol(value);
        known = true;
      }
    }
    if (value && !strcmp(name, "--tls")) {
      o.tls = known = true;
      o.cacert = value;
    } else if (value && !strcmp(name, "--http")) {
      o.http = value;
      known = true;
    }
    if (!known) {
      fprintf(stderr, HELP, argv[0]);
      exit(2);
    }
    i++;
  }
  if (o.port < 1 || o.in_flight < 1 || o.hosts < 1 || o.hosts > 60000 || o.loops < 1 ||
      o.loops > 64 || o.count < 1) {
    fprintf(stderr, HELP, argv[0]);
    exit(2);
  }
  if (o.burst)
    o.count = o.in_flight;
  return o;
}

int main(int argc, char **argv) {
  struct options o = parse(argc, argv);
  struct bench benches[64];
  struct workload *all;
  pthread_t threads[64];
  struct rlimit limit;
  size_t i, failed = 0, loops = (size_t)o.loops;

  signal(SIGPIPE, SIG_IGN);
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (o.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)o.cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  /* Should the loop never come back: the frame cannot look at its clock then. */
  alarm((unsigned)o.limit * 2 + 60);
  if (curl_global_init(CURL_GLOBAL_DEFAULT))
    bench_fatal("curl_global_init", "failed");
  all = bench_alloc(loops * sizeof *all);
  for (i = 0; i < loops; i++) {
    all[i].o = o;
    benches[i].work = &all[i];
    benches[i].driver = NULL;
    if (loops > 1 && pthread_create(&threads[i], NULL, run, &benches[i]))
      bench_fatal("pthread_create", "failed");
  }
  if (loops == 1)
    run(&benches[0]);
  for (i = 0; i < loops; i++) {
    if (loops > 1)
      pthread_join(threads[i], NULL);
    failed += all[i].failed;
  }
  print_result(all, loops);
  for (i = 0; i < loops; i++)
    free(all[i].late_us);
  free(all);
  return failed != 0;
}
