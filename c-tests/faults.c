/* Faults: each call in turn that the libraries make of the system, and each of their allocations,
 * is refused once (the first, the second, and so on, until a scenario runs through without meeting
 * the fault), then twice in a row, and then from there on. Each position has a process of its own.
 *
 * UVCURL_FAULT_FROM is the first position to try. */
/* link: -Wl,--wrap=socket,--wrap=connect,--wrap=epoll_ctl,--wrap=epoll_create1,--wrap=eventfd */
/* link: -Wl,--wrap=pipe2,--wrap=socketpair,--wrap=pthread_create,--wrap=getaddrinfo */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign,--wrap=syscall */
#include "fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Present in a build with the leak checker only. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* ---- refusing ---- */

enum fault {
  SOCKET,
  CONNECT,
  EPOLL_CTL,
  EPOLL_CREATE1,
  EVENTFD,
  PIPE2,
  SOCKETPAIR,
  PTHREAD_CREATE,
  GETADDRINFO,
  OUR_MEMORY,
  UV_MEMORY,
  CURL_MEMORY,
  FAULTS,
};

static const char *const fault_names[FAULTS] = {
    "socket",      "connect",         "epoll_ctl",      "epoll_create1",
    "eventfd",     "pipe2",           "socketpair",     "pthread_create",
    "getaddrinfo", "uvcurl's memory", "libuv's memory", "libcurl's memory"};

/* What a position's process tells the one that tries them all. */
struct report {
  unsigned hits;
  bool by_libuv, by_libcurl; /* it was libuv that called abort(), or libcurl that crashed */
  int refused, failed, good, forgotten;
  int multi; /* of those that failed: because libcurl's multi handle did, and all its transfers with
                it */
};

static struct report *report;
static int words; /* what a position's process writes */
static enum fault fault;
/* Refused: the calls numbered `first` to `last`, and then every `period`th. */
static volatile unsigned calls, first, last, period = 1;
static volatile bool armed;
static pthread_t main_thread;

static bool refuses(enum fault what) {
  if (!armed || what != fault)
    return false;
  /* Those of libcurl's threads would be counted in any order. */
  if (what >= OUR_MEMORY && !pthread_equal(pthread_self(), main_thread))
    return false;
  unsigned call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
  if (call < first || call > last || (call - first) % period != 0)
    return false;
  report->hits++;
  return true;
}

static void arm(void) {
  calls = 0;
  armed = true;
}

static void disarm(void) {
  armed = false;
}

#define REFUSE(what, number)                                                                       \
  if (refuses(what)) {                                                                             \
    errno = number;                                                                                \
    return -1;                                                                                     \
  }

#define WRAP(result, name, parameters)                                                             \
  result __real_##name parameters;                                                                 \
  result __wrap_##name parameters;                                                                 \
  result __wrap_##name parameters

WRAP(int, socket, (int domain, int type, int protocol)) {
  REFUSE(SOCKET, EMFILE)
  return __real_socket(domain, type, protocol);
}

WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t n)) {
  REFUSE(CONNECT, ENETUNREACH)
  return __real_connect(fd, address, n);
}

WRAP(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *event)) {
  if (op == EPOLL_CTL_ADD)
    REFUSE(EPOLL_CTL, ENOMEM)
  return __real_epoll_ctl(set, op, fd, event);
}

WRAP(int, epoll_create1, (int flags)) {
  REFUSE(EPOLL_CREATE1, EMFILE)
  return __real_epoll_create1(flags);
}

WRAP(int, eventfd, (unsigned value, int flags)) {
  REFUSE(EVENTFD, EMFILE)
  return __real_eventfd(value, flags);
}

WRAP(int, pipe2, (int fds[2], int flags)) {
  REFUSE(PIPE2, EMFILE)
  return __real_pipe2(fds, flags);
}

WRAP(int, socketpair, (int domain, int type, int protocol, int fds[2])) {
  REFUSE(SOCKETPAIR, EMFILE)
  return __real_socketpair(domain, type, protocol, fds);
}

WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)) {
  if (refuses(PTHREAD_CREATE))
    return EAGAIN;
  return __real_pthread_create(thread, attributes, run, arg);
}

WRAP(int, getaddrinfo,
     (const char *node, const char *service, const struct addrinfo *hints,
      struct addrinfo **result)) {
  if (refuses(GETADDRINFO))
    return EAI_MEMORY;
  if (node && strcmp(node, "here.test") == 0)
    node = "127.0.0.1";
  return __real_getaddrinfo(node, service, hints, result);
}

/* libuv since 1.45 hands what it adds to its epoll set to an io_uring, where it may; here it has to
 * use epoll_ctl(). */
WRAP(long, syscall, (long number, long a, long b, long c, long d, long e, long f)) {
  if (number == 425) { /* io_uring_setup */
    errno = ENOSYS;
    return -1;
  }
  return __real_syscall(number, a, b, c, d, e, f);
}

/* What is linked statically and not given another allocator: uvcurl, and this program, which
 * allocates nothing while a fault is armed. */
WRAP(void *, malloc, (size_t n)) {
  return refuses(OUR_MEMORY) ? NULL : __real_malloc(n);
}

WRAP(void *, calloc, (size_t n, size_t size)) {
  return refuses(OUR_MEMORY) ? NULL : __real_calloc(n, size);
}

WRAP(void *, realloc, (void *p, size_t n)) {
  return refuses(OUR_MEMORY) ? NULL : __real_realloc(p, n);
}

WRAP(int, posix_memalign, (void **p, size_t alignment, size_t n)) {
  return refuses(OUR_MEMORY) ? ENOMEM : __real_posix_memalign(p, alignment, n);
}

static void *uv_malloc(size_t n) {
  return refuses(UV_MEMORY) ? NULL : __real_malloc(n);
}

static void *uv_calloc(size_t n, size_t size) {
  return refuses(UV_MEMORY) ? NULL : __real_calloc(n, size);
}

/* Not when something is to grow: libuv then frees its table of watchers and goes on using it
 * (uv__reallocf() in maybe_resize(), 1.44 to 1.53). */
static void *uv_realloc(void *p, size_t n) {
  return p == NULL && refuses(UV_MEMORY) ? NULL : __real_realloc(p, n);
}

static void *easy_malloc(size_t n) {
  return refuses(CURL_MEMORY) ? NULL : __real_malloc(n);
}

static void *easy_calloc(size_t n, size_t size) {
  return refuses(CURL_MEMORY) ? NULL : __real_calloc(n, size);
}

static void *easy_realloc(void *p, size_t n) {
  return refuses(CURL_MEMORY) ? NULL : __real_realloc(p, n);
}

static char *easy_strdup(const char *text) {
  size_t n = strlen(text) + 1;
  char *copy = refuses(CURL_MEMORY) ? NULL : __real_malloc(n);
  return copy ? memcpy(copy, text, n) : NULL;
}

/* The name of the function at an address of this program, from its symbol table: most are hidden
 * from dladdr(). */
static const char *name_of(const char *address, const char *base) {
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  off_t size = lseek(fd, 0, SEEK_END);
  const char *file = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
  const ElfW(Ehdr) *head = (const void *)file;
  const ElfW(Shdr) *sections = (const void *)(file + head->e_shoff);
  for (int i = 0; i < head->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB)
      continue;
    const ElfW(Sym) *symbol = (const void *)(file + sections[i].sh_offset);
    for (size_t n = sections[i].sh_size / sizeof *symbol; n > 0; n--, symbol++) {
      const char *start = base + symbol->st_value;
      if ((symbol->st_info & 15) == STT_FUNC && address >= start &&
          address < start + symbol->st_size)
        return file + sections[sections[i].sh_link].sh_offset + symbol->st_name;
    }
  }
  return "";
}

/* Where abort() was called, or a signal raised: the innermost frame that is neither the C library's
 * nor this file's. */
static void on_crash(int signum) {
  void *frames[24];
  int n = backtrace(frames, 24);
  for (int i = 1; i < n; i++) {
    Dl_info info;
    if (!dladdr(frames[i], &info) || info.dli_fname == NULL || strstr(info.dli_fname, "libc.so") ||
        strstr(info.dli_fname, "libasan"))
      continue;
    const char *name = strstr(info.dli_fname, ".so")
                           ? (info.dli_sname ? info.dli_sname : "")
                           : name_of((const char *)frames[i] - 1, info.dli_fbase);
    if (strcmp(name, "on_crash") == 0)
      continue;
    report->by_libuv = strstr(info.dli_fname, "libuv.so") || strncmp(name, "uv_", 3) == 0;
    /* 7.88 divides by the size of a hash table that it had no memory for. */
    report->by_libcurl =
        strstr(info.dli_fname, "libcurl.so") != NULL || strcmp(name, "trhash") == 0;
    fprintf(stderr, "# signal %d came in %s of %s\n", signum, name, info.dli_fname);
    break;
  }
  signal(signum, SIG_DFL);
  raise(signum);
}

/* ---- the scenarios ---- */

static server_t *server;

static void over(uv_timer_t *timer) {
  (void)timer;
  disarm();
}

struct stage {
  fixture f;
  uv_timer_t limit; /* how long a fault lasts at most */
};

static void open_stage(struct stage *s) {
  memset(s, 0, sizeof *s);
  CHECK_INT(uv_loop_init(&s->f.loop), 0);
  s->f.server = server;
  CHECK_INT(uv_timer_init(&s->f.loop, &s->limit), 0);
  uv_unref((uv_handle_t *)&s->limit);
}

static void arm_stage(struct stage *s) {
  uv_update_time(&s->f.loop);
  CHECK_INT(uv_timer_start(&s->limit, over, 300, 0), 0);
  arm();
}

static void new_driver(struct stage *s) {
  CHECK_INT(uvcurl_new(&s->f.loop, &s->f.uc), 0);
  /* No looks after silent transfers, which make up for what the driver forgets; libcurl forgets
   * some by itself where it has no memory, and before 8.22. */
  if (fault < CURL_MEMORY && curl_number() >= 0x081600)
    CHECK_INT(uvcurl_set(s->f.uc, UVCURL_TICK_MS, 3600000), 0);
}

static void close_stage(struct stage *s) {
  disarm();
  uv_close((uv_handle_t *)&s->limit, NULL);
  s->f.server = NULL; /* not ours to stop */
  fixture_close(&s->f);
}

/* Started or refused; if refused, there is nothing to come. */
static bool try_start(struct stage *s, transfer *t) {
  t->user = NULL;
  size_t active = uvcurl_active(s->f.uc);
  int status = transfer_start(&s->f, t);
  CHECK_INT(uvcurl_active(s->f.uc), active + (status == 0));
  if (status != 0) {
    CHECK_MSG(uvcurl_strerror(status)[0] != '\0' && uvcurl_err_name(status)[0] != '\0',
              "no text for %d", status);
    CHECK_MSG(status == UV_ENOMEM || status > 0, "a start gave %d (%s)", status,
              uvcurl_strerror(status));
    report->refused++;
  }
  return status == 0;
}

/* libcurl 8.22 leaves a transfer in its first state, with nothing to call it again, if it cannot
 * watch its own wake-up descriptor just then. */
static bool is_forgotten(transfer *t) {
  return t->user != NULL;
}

/* libcurl keeps the text of a handle's first error, so that a second one shows here only. */
static int on_debug(CURL *easy, curl_infotype kind, char *text, size_t n, void *arg) {
  static const char known[] = "error enabling wakeup";
  transfer *t = arg;
  (void)easy;
  if (kind == CURLINFO_TEXT && n >= sizeof known && memcmp(text, known, sizeof known - 1) == 0)
    t->user = t;
  return 0;
}

static transfer *observed(transfer *t) {
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_VERBOSE, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_DEBUGFUNCTION, on_debug), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_DEBUGDATA, t), CURLE_OK);
  return t;
}

/* Runs the loop until all of `n` transfers that were started have been reported. */
static void run_until_done(struct stage *s, transfer **t, int n) {
  for (;;) {
    int left = 0;
    for (int i = 0; i < n; i++) {
      bool runs = t[i]->done < t[i]->started;
      left += runs;
      if (runs && is_forgotten(t[i])) {
        disarm();
        for (int turn = 0; turn < 25 && t[i]->done < t[i]->started; turn++) {
          usleep(1000);
          uv_run(&s->f.loop, UV_RUN_NOWAIT);
        }
        if (t[i]->done < t[i]->started)
          report->forgotten += transfer_cancel(&s->f, t[i]) == 0;
      }
    }
    if (left == 0)
      return;
    CHECK_MSG(uv_run(&s->f.loop, UV_RUN_ONCE) != 0 || uvcurl_active(s->f.uc) == 0,
              "the loop ends with a transfer in flight");
  }
}

/* Of one start: right, or told of. */
static void judge(transfer *t, size_t size) {
  CHECK_INT(t->done, t->started);
  if (t->status == 0) {
    CHECK_INT(t->code, 200);
    CHECK_INT(t->received, size);
    CHECK(t->content_ok);
    report->good++;
  } else {
    CHECK_MSG(strncmp(uvcurl_err_name(t->status), "Unknown", 7) != 0, "no name for %d", t->status);
    CHECK_MSG(t->status > 0 || t->status == UV_ENOMEM || t->status == UV_EMFILE ||
                  t->status == UVCURL_E_MULTI || (t->status == UV_ECANCELED && is_forgotten(t)),
              "a transfer ended with %d (%s)", t->status, uvcurl_strerror(t->status));
    report->failed++;
    report->multi +=
        t->status == UVCURL_E_MULTI || (t->status == UV_ENOMEM && fault == CURL_MEMORY);
  }
}

/* Once the fault is over all is well. */
static void check_after(struct stage *s) {
  disarm();
  for (int i = 0; i < 2; i++) {
    transfer *t = observed(transfer_new(&s->f, "/bytes/3000"));
    CHECK_INT(transfer_start(&s->f, t), 0);
    run_until_done(s, &t, 1);
    CHECK_MSG(t->status == 0, "after the fault: %d (%s), %s", t->status, uvcurl_strerror(t->status),
              t->error);
    CHECK_INT(t->received, 3000);
    transfer_free(t);
  }
}

static void new_and_close(void) {
  struct stage s;
  uvcurl_t *nothing = (uvcurl_t *)&s;
  open_stage(&s);
  s.f.uc = nothing;
  arm_stage(&s);
  int status = uvcurl_new(&s.f.loop, &s.f.uc);
  if (status != 0) {
    CHECK(s.f.uc == nothing);
    CHECK_MSG(uvcurl_strerror(status)[0] != '\0', "no text for %d", status);
    report->refused++;
  } else {
    report->good++;
    fixture_begin_close(&s.f);
  }
  /* What is left of it goes by the loop. */
  uv_run(&s.f.loop, UV_RUN_DEFAULT);
  disarm();
  CHECK_INT(s.f.closed, status == 0);
  s.f.closing = s.f.closed = 0;
  CHECK_INT(uvcurl_new(&s.f.loop, &s.f.uc), 0);
  check_after(&s);
  close_stage(&s);
}

static void one_get(void) {
  struct stage s;
  open_stage(&s);
  new_driver(&s);
  transfer *t = observed(transfer_new(&s.f, "/bytes/3000"));
  arm_stage(&s);
  if (try_start(&s, t)) {
    run_until_done(&s, &t, 1);
    judge(t, 3000);
  }
  check_after(&s);
  transfer_free(t);
  close_stage(&s);
}

static void get_by_name(void) {
  struct stage s;
  char url[100];
  open_stage(&s);
  new_driver(&s);
  snprintf(url, sizeof url, "http://here.test:%d/bytes/3000", server_port(server, SERVER_HTTP));
  transfer *t = observed(transfer_new_url(&s.f, url));
  arm_stage(&s);
  if (try_start(&s, t)) {
    run_until_done(&s, &t, 1);
    judge(t, 3000);
  }
  check_after(&s);
  transfer_free(t);
  close_stage(&s);
}

/* Three at once, each twice: the second time over what the first has left in the pool. */
static void three_gets(void) {
  static const size_t sizes[] = {10, 3000, 60000};
  static const char *const paths[] = {"/bytes/10", "/chunked/3000", "/bytes/60000"};
  struct stage s;
  transfer *t[3];
  open_stage(&s);
  new_driver(&s);
  for (int i = 0; i < 3; i++)
    t[i] = observed(transfer_new(&s.f, paths[i]));
  arm_stage(&s);
  for (int round = 0; round < 2; round++) {
    bool started[3];
    for (int i = 0; i < 3; i++)
      started[i] = try_start(&s, t[i]);
    run_until_done(&s, t, 3);
    for (int i = 0; i < 3; i++) {
      if (started[i])
        judge(t[i], sizes[i]);
    }
  }
  /* A fault is one transfer's, and one in a row of two as well, but for what libcurl's multi handle
   * cannot go on with. */
  if (last != ~0u && report->multi == 0)
    CHECK_BETWEEN(report->failed + report->refused, 0, (int)(last - first) + 1);
  check_after(&s);
  for (int i = 0; i < 3; i++)
    transfer_free(t[i]);
  close_stage(&s);
}

/* More than libcurl's table has room for at first. */
#define MANY 40

static void many_starts(void) {
  struct stage s;
  transfer *t[MANY];
  open_stage(&s);
  new_driver(&s);
  for (int i = 0; i < MANY; i++)
    t[i] = transfer_new(&s.f, "/bytes/10");
  arm_stage(&s);
  for (int i = 0; i < MANY; i++)
    try_start(&s, t[i]);
  disarm();
  run_until_done(&s, t, MANY);
  for (int i = 0; i < MANY; i++) {
    if (t[i]->started)
      judge(t[i], 10);
    transfer_free(t[i]);
  }
  check_after(&s);
  close_stage(&s);
}

static struct stage *asking;
static transfer *asked[MANY];

/* All that is done only when libcurl has returned; the fault lasts until it is. */
static size_t ask(transfer *t, const char *data, size_t n) {
  (void)data;
  if (t->user)
    return n;
  t->user = t;
  arm_stage(asking);
  transfer_pause(t->f, asked[0], CURLPAUSE_ALL);
  transfer_pause(t->f, asked[0], CURLPAUSE_CONT);
  int status = transfer_cancel(t->f, asked[1]);
  CHECK_MSG(status == 0 || status == UV_ENOMEM, "cancel gave %d", status);
  report->refused += status != 0;
  for (int i = 2; i < MANY; i++)
    try_start(asking, asked[i]);
  return n;
}

static void end_ask(transfer *t) {
  (void)t;
  disarm();
}

static void in_a_callback(void) {
  struct stage s;
  asking = &s;
  open_stage(&s);
  new_driver(&s);
  transfer *t = transfer_new(&s.f, "/trickle/200/50/2");
  t->on_write = ask;
  t->on_done = end_ask;
  for (int i = 0; i < MANY; i++)
    asked[i] = transfer_new(&s.f, i == 0 ? "/trickle/200/50/1" : i == 1 ? "/hold/10" : "/bytes/10");
  for (int i = 0; i < 2; i++)
    CHECK_INT(transfer_start(&s.f, asked[i]), 0);
  while (server_count(server, SERVER_HELD) == 0) {
    uv_run(&s.f.loop, UV_RUN_NOWAIT);
    usleep(200);
  }
  CHECK_INT(transfer_start(&s.f, t), 0);
  while (t->done == 0)
    CHECK(uv_run(&s.f.loop, UV_RUN_ONCE) != 0 || t->done);
  disarm();
  if (asked[0]->done == 0)
    transfer_pause(&s.f, asked[0], CURLPAUSE_CONT);
  if (asked[1]->done == 0)
    transfer_cancel(&s.f, asked[1]);
  run_until_done(&s, asked, MANY);
  if (asked[1]->status != UV_ECANCELED)
    judge(asked[1], 0);
  for (int i = 0; i < MANY; i++) {
    if (i != 1 && asked[i]->started)
      judge(asked[i], i == 0 ? 200 : 10);
    transfer_free(asked[i]);
  }
  transfer_free(t);
  check_after(&s);
  close_stage(&s);
}

static size_t to_send;

static size_t on_read(char *data, size_t size, size_t n, void *unused) {
  (void)unused;
  n *= size;
  if (n > to_send)
    n = to_send;
  memset(data, 'u', n);
  to_send -= n;
  return n;
}

static size_t any_content(transfer *t, const char *data, size_t n) {
  (void)t, (void)data;
  return n;
}

static void upload(void) {
  struct stage s;
  open_stage(&s);
  new_driver(&s);
  transfer *t = observed(transfer_new(&s.f, "/sink"));
  t->on_write = any_content;
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POST, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, 200000L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, on_read), CURLE_OK);
  to_send = 200000;
  arm_stage(&s);
  if (try_start(&s, t)) {
    run_until_done(&s, &t, 1);
    t->content_ok = 1;
    judge(t, 6); /* "200000" */
  }
  check_after(&s);
  transfer_free(t);
  close_stage(&s);
}

static void in_flight(struct stage *s, transfer **t) {
  static const char *const paths[] = {"/hold/10", "/trickle/100000/10/1", "/stall/5/10"};
  open_stage(s);
  new_driver(s);
  for (int i = 0; i < 3; i++) {
    t[i] = observed(transfer_new(&s->f, paths[i]));
    CHECK_INT(transfer_start(&s->f, t[i]), 0);
  }
  while (t[1]->received == 0 || t[2]->received == 0)
    uv_run(&s->f.loop, UV_RUN_ONCE);
}

/* One that is cancelled in spite of the fault, or not at all. */
static void cancel(void) {
  struct stage s;
  transfer *t[3];
  in_flight(&s, t);
  arm_stage(&s);
  for (int i = 0; i < 3; i++) {
    int status = transfer_cancel(&s.f, t[i]);
    if (status == UV_ENOMEM) {
      report->refused++;
      continue;
    }
    CHECK_MSG(status == 0 || (status == UV_EALREADY && last > first), "cancel gave %d", status);
    CHECK_INT(t[i]->done, 0);
  }
  if (report->refused == 0) {
    run_until_done(&s, t, 3);
    report->good += 3;
  }
  disarm();
  for (int i = 0; i < 3; i++) {
    if (t[i]->done == 0)
      transfer_cancel(&s.f, t[i]);
  }
  run_until_done(&s, t, 3);
  for (int i = 0; i < 3; i++)
    CHECK_INT(t[i]->status, UV_ECANCELED);
  check_after(&s);
  for (int i = 0; i < 3; i++)
    transfer_free(t[i]);
  close_stage(&s);
}

static void pause_and_resume(void) {
  struct stage s;
  open_stage(&s);
  new_driver(&s);
  transfer *t = observed(transfer_new(&s.f, "/trickle/200/50/2"));
  CHECK_INT(transfer_start(&s.f, t), 0);
  while (t->received == 0)
    uv_run(&s.f.loop, UV_RUN_ONCE);
  arm_stage(&s);
  static const int masks[] = {CURLPAUSE_RECV, CURLPAUSE_CONT, CURLPAUSE_ALL, CURLPAUSE_CONT};
  for (int i = 0; i < 4 && t->done == 0; i++) {
    int status = transfer_pause(&s.f, t, masks[i]);
    CHECK_MSG(status == 0 || status == UV_ENOMEM || status == UV_EALREADY, "pause gave %d", status);
    report->refused += status == UV_ENOMEM;
    for (int turn = 0; turn < 3; turn++)
      uv_run(&s.f.loop, UV_RUN_NOWAIT);
  }
  disarm();
  if (t->done == 0)
    transfer_pause(&s.f, t, CURLPAUSE_CONT);
  run_until_done(&s, &t, 1);
  judge(t, 200);
  check_after(&s);
  transfer_free(t);
  close_stage(&s);
}

static void close_in_flight(void) {
  struct stage s;
  transfer *t[3];
  in_flight(&s, t);
  arm_stage(&s);
  fixture_begin_close(&s.f);
  uv_run(&s.f.loop, UV_RUN_DEFAULT);
  disarm();
  CHECK_INT(s.f.closed, 1);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_INT(t[i]->status, UV_ECANCELED);
    report->good++;
    transfer_free(t[i]);
  }
  close_stage(&s);
}

/* ---- every position ---- */

static void run_position(void (*scenario)(void)) {
  /* Shown only if it is of interest. */
  dup2(words, STDERR_FILENO);
  dup2(words, STDOUT_FILENO);
  signal(SIGABRT, on_crash);
  signal(SIGSEGV, on_crash);
  signal(SIGFPE, on_crash);
  signal(SIGALRM, SIG_DFL);
  alarm(20 * test_slowdown());
  main_thread = pthread_self();
  CHECK_INT(uv_replace_allocator(uv_malloc, uv_realloc, uv_calloc, free), 0);
  CHECK_INT(curl_global_init_mem(CURL_GLOBAL_ALL, easy_malloc, free, easy_realloc, easy_strdup,
                                 easy_calloc),
            CURLE_OK);
  scenario();
  int leaks = __lsan_do_recoverable_leak_check ? __lsan_do_recoverable_leak_check() : 0;
  fflush(NULL);
  _exit(leaks ? 3 : 0);
}

static void show_words(void) {
  char text[4000];
  ssize_t n = pread(words, text, sizeof text, 0);
  if (n > 0)
    fwrite(text, 1, (size_t)n, stderr);
}

/* Positions tried, by how often in a row the fault is met there. */
static void try_all(const char *name, void (*scenario)(void), enum fault what) {
  const char *from = getenv("UVCURL_FAULT_FROM");
  unsigned tried[3] = {0, 0, 0}, by_libuv = 0, by_libcurl = 0, refused = 0, failed = 0,
           forgotten = 0, multi = 0;
  fault = what;
  for (int lasting = 0; lasting < 3; lasting++) {
    for (unsigned position = from ? (unsigned)atoi(from) : 1;; position++) {
      first = position;
      last = lasting == 2 ? ~0u : position + (unsigned)lasting;
      memset(report, 0, sizeof *report);
      CHECK_INT(ftruncate(words, 0), 0);
      CHECK_INT(lseek(words, 0, SEEK_SET), 0);
      fflush(NULL);
      pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0)
        run_position(scenario);
      int status = 0;
      CHECK_INT(waitpid(child, &status, 0), child);
      /* libuv where its epoll set takes no more, and up to 1.48 where it has no memory; libcurl
       * 7.88 where it has none. */
      bool libuvs = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && report->by_libuv &&
                    (what == EPOLL_CTL || (what == UV_MEMORY && uv_version() < 0x013100));
      bool libcurls = WIFSIGNALED(status) && report->by_libcurl && what == CURL_MEMORY &&
                      curl_number() < 0x080000;
      if (status != 0 && !libuvs && !libcurls)
        show_words();
      CHECK_MSG(status == 0 || libuvs || libcurls,
                "%s: with call %u of %s refused%s: %s %d (UVCURL_FAULT_FROM=%u)", name, position,
                fault_names[what],
                lasting == 0   ? ""
                : lasting == 1 ? " and the next"
                               : " and all that follow",
                WIFSIGNALED(status) ? "signal" : "exit status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), position);
      if (report->hits == 0)
        break;
      tried[lasting]++;
      by_libuv += libuvs;
      by_libcurl += libcurls;
      refused += (unsigned)report->refused;
      failed += (unsigned)report->failed;
      forgotten += (unsigned)report->forgotten;
      multi += (unsigned)report->multi;
    }
  }
  printf("# %s, %s: %u positions refused once, %u twice, %u from there on; %u starts refused, %u "
         "transfers "
         "failed (%u with the multi handle), %u forgotten by libcurl; libuv aborts %u times, "
         "libcurl crashes %u times\n",
         name, fault_names[what], tried[0], tried[1], tried[2], refused, failed, multi, forgotten,
         by_libuv, by_libcurl);
}

static void prepare(void) {
  void *frames[2];
  words = memfd_create("words", MFD_CLOEXEC);
  CHECK(words >= 0);
  test_timeout(600);
  server = server_start(NULL);
  CHECK_MSG(server != NULL, "the test server does not start");
  report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(report != MAP_FAILED);
  backtrace(frames, 2); /* loads what it needs */
}

static void finish(void) {
  close(words);
  munmap(report, sizeof *report);
  server_stop(server);
}

static const struct {
  const char *name;
  void (*run)(void);
} scenarios[] = {
    {"new_and_close", new_and_close}, {"one_get", one_get},       {"get_by_name", get_by_name},
    {"three_gets", three_gets},       {"upload", upload},         {"cancel", cancel},
    {"pause", pause_and_resume},      {"close", close_in_flight}, {"many", many_starts},
    {"in_a_callback", in_a_callback},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

static void try_faults(enum fault from, enum fault to) {
  prepare();
  for (enum fault what = from; what <= to; what++) {
    for (size_t i = 0; i < SCENARIOS; i++)
      try_all(scenarios[i].name, scenarios[i].run, what);
  }
  finish();
}

TEST(sockets) {
  try_faults(SOCKET, CONNECT);
}

TEST(epoll) {
  try_faults(EPOLL_CTL, EPOLL_CREATE1);
}

TEST(wakeups) {
  try_faults(EVENTFD, SOCKETPAIR);
}

TEST(lookups) {
  if (curl_number() >= 0x081400 && curl_number() < 0x081600)
    SKIP("this libcurl forgets a lookup for which no thread could be made");
  try_faults(PTHREAD_CREATE, GETADDRINFO);
}

TEST(memory_of_uvcurl) {
  try_faults(OUR_MEMORY, OUR_MEMORY);
}

TEST(memory_of_libuv) {
  try_faults(UV_MEMORY, UV_MEMORY);
}

static void memory_of_libcurl(size_t from, size_t to) {
  if (curl_number() == 0x081100)
    SKIP("this libcurl keeps a lookup that found no memory as one that found no address");
  prepare();
  for (size_t i = from; i <= to; i++)
    try_all(scenarios[i].name, scenarios[i].run, CURL_MEMORY);
  finish();
}

TEST(memory_of_libcurl) {
  memory_of_libcurl(0, 2);
}

TEST(memory_of_libcurl_at_once) {
  memory_of_libcurl(3, 3);
}

TEST(memory_of_libcurl_later) {
  memory_of_libcurl(4, SCENARIOS - 1);
}

/* ---- among two hundred ---- */

#define CROWD 200

static transfer *crowd[CROWD];

static void open_crowd(struct stage *s) {
  static const char *const paths[] = {"/bytes/3000", "/chunked/3000", "/delay/5/3000",
                                      "/trickle/3000/300/1", "/eof/3000"};
  open_stage(s);
  new_driver(s);
  for (int i = 0; i < CROWD; i++) {
    crowd[i] = observed(transfer_new(&s->f, paths[i % 5]));
    CHECK_INT(transfer_start(&s->f, crowd[i]), 0);
  }
}

static void close_crowd(struct stage *s) {
  run_until_done(s, crowd, CROWD);
  for (int i = 0; i < CROWD; i++) {
    judge(crowd[i], 3000);
    transfer_free(crowd[i]);
  }
}

/* Every so many calls are refused until the crowd has ended: it is told, each once, and what comes
 * after works. */
static void fault_in_a_crowd(void) {
  struct stage s;
  open_crowd(&s);
  first = 1;
  last = ~0u;
  arm_stage(&s);
  close_crowd(&s);
  check_after(&s);
  close_stage(&s);
}

static void faults_in_a_crowd(enum fault from, enum fault to) {
  static const unsigned periods[] = {1, 2, 3, 5, 7, 11, 23};
  prepare();
  for (enum fault what = from; what <= to; what++) {
    unsigned hits = 0, good = 0, failed = 0;
    fault = what;
    for (size_t i = 0; i < sizeof periods / sizeof periods[0]; i++) {
      period = periods[i];
      memset(report, 0, sizeof *report);
      CHECK_INT(ftruncate(words, 0), 0);
      CHECK_INT(lseek(words, 0, SEEK_SET), 0);
      fflush(NULL);
      pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0)
        run_position(fault_in_a_crowd);
      int status = 0;
      CHECK_INT(waitpid(child, &status, 0), child);
      bool libcurls = WIFSIGNALED(status) && report->by_libcurl && what == CURL_MEMORY &&
                      curl_number() < 0x080000;
      if (status != 0 && !libcurls)
        show_words();
      CHECK_MSG(status == 0 || libcurls, "each %uth call of %s refused: wait status %d", period,
                fault_names[what], status);
      hits += report->hits;
      good += (unsigned)report->good;
      failed += (unsigned)report->failed;
    }
    CHECK_MSG(hits > 0 || what == UV_MEMORY, "%s was never asked for", fault_names[what]);
    printf("# a crowd, %s: refused %u times, %u transfers good, %u failed\n", fault_names[what],
           hits, good, failed);
  }
  period = 1;
  finish();
}

TEST(no_descriptors_in_a_crowd) {
  faults_in_a_crowd(SOCKET, CONNECT);
}

TEST(no_memory_in_a_crowd) {
  faults_in_a_crowd(OUR_MEMORY, CURL_MEMORY);
}

/* The server dies in the middle: everyone is told. */
TEST(server_dies) {
  static transfer *t[CROWD];
  fixture f;
  fixture_open(&f);
  for (int i = 0; i < CROWD; i++) {
    t[i] = transfer_new(&f, i % 2 ? "/hold/10" : "/trickle/1000000/100/1");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  while (server_count(f.server, SERVER_HELD) < CROWD / 2)
    uv_run(&f.loop, UV_RUN_ONCE);
  CHECK_INT(kill(server_pid(f.server), SIGKILL), 0);
  fixture_run(&f);
  for (int i = 0; i < CROWD; i++) {
    CHECK_INT(t[i]->done, 1);
    CHECK_MSG(t[i]->status == CURLE_RECV_ERROR || t[i]->status == CURLE_PARTIAL_FILE ||
                  t[i]->status == CURLE_GOT_NOTHING,
              "%d (%s)", t[i]->status, uvcurl_strerror(t[i]->status));
  }
  /* And what is started now. */
  CHECK_INT(transfer_start(&f, t[1]), 0);
  fixture_run(&f);
  CHECK_INT(t[1]->status, CURLE_COULDNT_CONNECT);
  for (int i = 0; i < CROWD; i++)
    transfer_free(t[i]);
  fixture_close(&f);
}

static unsigned turns;

static void on_turn(uv_prepare_t *handle) {
  (void)handle;
  turns++;
}

/* A program that the host starts in the middle, and that keeps whatever it has inherited:
 * before 8.19 libcurl's sockets are among that, and then stay open after the parent has closed
 * them. */
TEST(fork_and_exec) {
  fixture f;
  uv_prepare_t turn;
  int hold[2];
  transfer *t[60];
  fixture_open(&f);
  CHECK_INT(pipe2(hold, O_CLOEXEC), 0);
  CHECK_INT(uv_prepare_init(&f.loop, &turn), 0);
  CHECK_INT(uv_prepare_start(&turn, on_turn), 0);
  uv_unref((uv_handle_t *)&turn);
  for (int i = 0; i < 60; i++) {
    t[i] = transfer_new(&f, i % 3 ? "/trickle/300/30/3" : "/linger-close/3000");
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  while (t[1]->received == 0)
    uv_run(&f.loop, UV_RUN_ONCE);
  fflush(NULL);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(hold[0], STDIN_FILENO);
    execlp("cat", "cat", (char *)NULL);
    _exit(9);
  }
  fixture_run(&f);
  for (int i = 0; i < 60; i++) {
    CHECK_INT(t[i]->status, 0);
    CHECK_INT(t[i]->received, i % 3 ? 300 : 3000);
    CHECK(t[i]->content_ok);
    /* Over new connections, whose descriptors have the numbers of those the child has kept. */
    CHECK_INT(curl_easy_setopt(t[i]->easy, CURLOPT_FRESH_CONNECT, 1L), CURLE_OK);
    CHECK_INT(transfer_start(&f, t[i]), 0);
  }
  fixture_run(&f);
  for (int i = 0; i < 60; i++) {
    CHECK_INT(t[i]->status, 0);
    CHECK_INT(t[i]->received, i % 3 ? 300 : 3000);
  }
  /* Nor does what the child holds open make the loop turn. */
  turns = 0;
  CHECK_INT(transfer_start(&f, t[1]), 0);
  fixture_run(&f);
  CHECK_INT(t[1]->status, 0);
  CHECK_BETWEEN(turns, 1, 500);
  int status = 0;
  close(hold[0]);
  close(hold[1]);
  CHECK_INT(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  for (int i = 0; i < 60; i++)
    transfer_free(t[i]);
  uv_close((uv_handle_t *)&turn, NULL);
  fixture_close(&f);
}

TEST_MAIN(T(sockets), T(epoll), T(wakeups), T(lookups), T(memory_of_uvcurl), T(memory_of_libuv),
          T(memory_of_libcurl), T(memory_of_libcurl_at_once), T(memory_of_libcurl_later),
          T(no_descriptors_in_a_crowd), T(no_memory_in_a_crowd), T(server_dies), T(fork_and_exec))
