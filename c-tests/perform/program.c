/* What curl_easy_perform() and a multi handle owe a program, told line by line: to be run with and
 * without libuvcurl-perform.so, and to say the same. `program --list` names its parts, `program
 * PART` runs one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

static const char *base; /* UVCURL_TEST_PROGRAM_BASE: the scripted server */

struct sink {
  CURL *easy;
  size_t bytes;
  unsigned sum;
  int calls, pauses, ticks;
  char url[300];
};

static size_t take(char *data, size_t one, size_t size, void *user_data) {
  struct sink *sink = user_data;
  (void)one;
  for (size_t i = 0; i < size; i++)
    sink->sum = sink->sum * 31 + (unsigned char)data[i];
  sink->bytes += size;
  sink->calls++;
  return size;
}

static CURL *make(struct sink *sink, const char *path) {
  memset(sink, 0, sizeof *sink);
  snprintf(sink->url, sizeof sink->url, "%s%s", base, path);
  CURL *easy = sink->easy = curl_easy_init();
  curl_easy_setopt(easy, CURLOPT_URL, sink->url);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, sink);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 20000L);
  return easy;
}

static void tell(const char *what, CURL *easy, CURLcode result, const struct sink *sink) {
  long code = 0, connects = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
  curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
  printf("%s: %d, status %ld, connects %ld, %zu bytes, sum %u\n", what, (int)result, code, connects,
         sink->bytes, sink->sum);
}

static void perform(const char *what, CURL *easy, struct sink *sink) {
  sink->bytes = sink->sum = 0;
  tell(what, easy, curl_easy_perform(easy), sink);
}

/* A connection lives as long as its easy handle, across a reset and another URL, and belongs to no
 * other handle. */
static void connections(void) {
  struct sink one, two;
  make(&one, "/bytes/1000");
  make(&two, "/bytes/1000");
  perform("one", one.easy, &one);
  perform("one again", one.easy, &one);
  perform("two", two.easy, &two);
  perform("one, third", one.easy, &one);
  curl_easy_reset(one.easy);
  curl_easy_setopt(one.easy, CURLOPT_URL, one.url);
  curl_easy_setopt(one.easy, CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(one.easy, CURLOPT_WRITEDATA, &one);
  perform("one, reset", one.easy, &one);
  CURL *copy = curl_easy_duphandle(one.easy);
  perform("copy", copy, &one);
  curl_easy_setopt(one.easy, CURLOPT_FRESH_CONNECT, 1L);
  perform("one, fresh", one.easy, &one);
  curl_easy_cleanup(one.easy);
  perform("two again", two.easy, &two);
  curl_easy_cleanup(copy);
  curl_easy_cleanup(two.easy);
}

static void errors(void) {
  char text[CURL_ERROR_SIZE] = "left over";
  struct sink sink;
  CURL *easy = make(&sink, "/short/10/20");
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
  perform("short", easy, &sink);
  printf("%s\n", text);
  curl_easy_setopt(easy, CURLOPT_URL, "http://127.0.0.1:1/");
  perform("refused", easy, &sink);
  curl_easy_setopt(easy, CURLOPT_URL, sink.url);
  curl_easy_setopt(easy, CURLOPT_RANGE, "0-4");
  perform("range", easy, &sink);
  curl_easy_setopt(easy, CURLOPT_URL, "nonsense://x");
  perform("nonsense", easy, &sink);
  curl_easy_cleanup(easy);
  printf("NULL: %d\n", (int)curl_easy_perform(NULL));
  easy = curl_easy_init();
  printf("no URL: %d\n", (int)curl_easy_perform(easy));
  curl_easy_cleanup(easy);
}

static size_t take_and_perform(char *data, size_t one, size_t size, void *user_data) {
  struct sink *sink = user_data;
  if (sink->calls == 0) {
    printf("itself: %d\n", (int)curl_easy_perform(sink->easy));
    struct sink inner;
    CURL *easy = make(&inner, "/bytes/50");
    perform("inner", easy, &inner);
    perform("inner again", easy, &inner);
    curl_easy_cleanup(easy);
  }
  return take(data, one, size, user_data);
}

/* Inside a callback of another transfer. */
static void nested(void) {
  struct sink sink;
  CURL *easy = make(&sink, "/bytes/100");
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_and_perform);
  perform("outer", easy, &sink);
  perform("outer again", easy, &sink);
  curl_easy_cleanup(easy);
}

static void *perform_on_thread(void *user_data) {
  struct sink *sink = user_data;
  sink->bytes = sink->sum = 0;
  if (curl_easy_perform(sink->easy) != CURLE_OK || curl_easy_perform(sink->easy) != CURLE_OK)
    puts("failed");
  return NULL;
}

/* Several at once; and an easy handle that goes from one thread to another. */
static void threads(void) {
  struct sink sinks[8];
  pthread_t ids[8];
  for (int i = 0; i < 8; i++) {
    make(&sinks[i], "/bytes/20000");
    pthread_create(&ids[i], NULL, perform_on_thread, &sinks[i]);
  }
  for (int i = 0; i < 8; i++) {
    pthread_join(ids[i], NULL);
    printf("thread: %zu bytes\n", sinks[i].bytes);
    if (i > 0)
      curl_easy_cleanup(sinks[i].easy);
  }
  sinks[0].bytes = 0;
  printf("here: %d\n", (int)curl_easy_perform(sinks[0].easy));
  pthread_create(&ids[0], NULL, perform_on_thread, &sinks[0]);
  pthread_join(ids[0], NULL);
  printf("there: %zu bytes\n", sinks[0].bytes);
  curl_easy_cleanup(sinks[0].easy);
}

static size_t take_with_pauses(char *data, size_t one, size_t size, void *user_data) {
  struct sink *sink = user_data;
  if (sink->pauses < 3) {
    sink->pauses++;
    return CURL_WRITEFUNC_PAUSE;
  }
  return take(data, one, size, user_data);
}

static int resume(void *user_data, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  struct sink *sink = user_data;
  (void)a, (void)b, (void)c, (void)d;
  if (sink->pauses > sink->ticks) {
    sink->ticks = sink->pauses;
    if (curl_easy_pause(sink->easy, CURLPAUSE_CONT) != CURLE_OK)
      puts("no resuming");
  }
  return 0;
}

static int give_up(void *user_data, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  struct sink *sink = user_data;
  (void)a, (void)b, (void)c, (void)d;
  return sink->bytes > 5000;
}

/* A progress callback aborts, while there is something to tell. */
static void aborted(void) {
  struct sink sink;
  CURL *easy = make(&sink, "/trickle/100000/1000/5");
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, give_up);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &sink);
  printf("aborted: %d\n", (int)curl_easy_perform(easy));
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
  curl_easy_setopt(easy, CURLOPT_URL, base);
  perform("another", easy, &sink);
  curl_easy_cleanup(easy);
}

/* The progress callback, which is called while the transfer is paused, resumes it. */
static void paused(void) {
  struct sink sink;
  CURL *easy = make(&sink, "/bytes/100000");
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_with_pauses);
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, resume);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &sink);
  perform("paused", easy, &sink);
  printf("%d pauses\n", sink.pauses);
  curl_easy_cleanup(easy);
}

static int closed;
static int close_socket(void *user_data, curl_socket_t socket) {
  (void)user_data;
  closed++;
  return close(socket);
}

/* The program's own close-socket function is called for each connection. */
static void sockets(void) {
  struct sink sink;
  CURL *easy = make(&sink, "/bytes/10");
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
  perform("kept", easy, &sink);
  printf("closed %d\n", closed);
  perform("kept again", easy, &sink);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  perform("closed", easy, &sink);
  printf("closed %d\n", closed);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 0L);
  perform("opened", easy, &sink);
  curl_easy_cleanup(easy);
  printf("closed %d\n", closed);
}

static void shared(void) {
  CURLSH *share = curl_share_init();
  curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT);
  curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
  for (int i = 0; i < 5; i++) {
    struct sink sink;
    CURL *easy = make(&sink, "/bytes/5000");
    curl_easy_setopt(easy, CURLOPT_SHARE, share);
    perform("shared", easy, &sink);
    curl_easy_cleanup(easy);
  }
  struct sink one, two;
  make(&one, "/bytes/10");
  make(&two, "/eof/10");
  curl_easy_setopt(one.easy, CURLOPT_SHARE, share);
  curl_easy_setopt(two.easy, CURLOPT_SHARE, share);
  for (int i = 0; i < 4; i++) {
    perform("one", one.easy, &one);
    perform("two", two.easy, &two);
  }
  curl_easy_cleanup(one.easy);
  curl_easy_cleanup(two.easy);
  printf("share: %d\n", (int)curl_share_cleanup(share));
}

/* A child after fork() uses handles of its own, and the parent's go on. */
static void forked(void) {
  struct sink sink;
  CURL *easy = make(&sink, "/bytes/10");
  perform("parent", easy, &sink);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    struct sink own;
    CURL *another = make(&own, "/bytes/20");
    perform("child", another, &own);
    curl_easy_cleanup(another);
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  printf("child ended with %d\n", status);
  perform("parent again", easy, &sink);
  curl_easy_cleanup(easy);
}

/* Removed in flight, added again, and the same handle performed on its own between. */
static void multi(void) {
  struct sink sinks[6];
  static const char *const paths[] = {"/bytes/100",   "/hold/10",      "/bytes/100000",
                                      "/short/10/20", "/delay/200/30", "/status/404/9"};
  CURLM *multi = curl_multi_init();
  for (int i = 0; i < 6; i++)
    printf("add: %d\n", (int)curl_multi_add_handle(multi, make(&sinks[i], paths[i])));
  printf("add twice: %d\n", (int)curl_multi_add_handle(multi, sinks[0].easy));
  printf("performed meanwhile: %d\n", (int)curl_easy_perform(sinks[0].easy));
  int running = 6, queued, messages = 0;
  CURLcode results[6];
  while (messages < 5) {
    curl_multi_perform(multi, &running);
    for (CURLMsg *message; (message = curl_multi_info_read(multi, &queued)) != NULL; messages++)
      for (int i = 0; i < 6; i++)
        if (message->easy_handle == sinks[i].easy)
          results[i] = message->data.result;
    curl_multi_poll(multi, NULL, 0, 1000, NULL);
  }
  printf("running %d\n", running);
  results[1] = CURLE_OK;
  for (int i = 0; i < 6; i++) {
    tell("multi", sinks[i].easy, results[i], &sinks[i]);
    printf("remove: %d\n", (int)curl_multi_remove_handle(multi, sinks[i].easy));
  }
  printf("remove twice: %d\n", (int)curl_multi_remove_handle(multi, sinks[0].easy));
  perform("alone", sinks[0].easy, &sinks[0]);
  sinks[0].bytes = sinks[0].sum = 0;
  curl_multi_add_handle(multi, sinks[0].easy);
  /* And now with select(). */
  do {
    fd_set in, out, error;
    int max = -1;
    long timeout;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&error);
    curl_multi_perform(multi, &running);
    curl_multi_timeout(multi, &timeout);
    curl_multi_fdset(multi, &in, &out, &error, &max);
    struct timeval wait = {0, timeout >= 0 && timeout < 100 ? timeout * 1000 : 100000};
    if (running)
      select(max + 1, &in, &out, &error, &wait);
  } while (running);
  CURLMsg *message = curl_multi_info_read(multi, &queued);
  tell("selected", sinks[0].easy, message ? message->data.result : CURLE_GOT_NOTHING, &sinks[0]);
  printf("queued %d, then %s\n", queued, curl_multi_info_read(multi, &queued) ? "more" : "none");
  /* Cleaned up while in it, in flight and not. */
  curl_multi_add_handle(multi, sinks[1].easy);
  curl_multi_perform(multi, &running);
  printf("running %d\n", running);
  for (int i = 0; i < 6; i++)
    curl_easy_cleanup(sinks[i].easy);
  curl_multi_perform(multi, &running);
  printf("running %d\n", running);
  printf("cleanup: %d\n", (int)curl_multi_cleanup(multi));
}

static void *wake(void *multi) {
  struct timespec soon = {0, 50000000};
  nanosleep(&soon, NULL);
  curl_multi_wakeup(multi);
  return NULL;
}

/* curl_multi_poll() ends when another thread says so, and for a descriptor of the program's. */
static void waiting(void) {
  CURLM *multi = curl_multi_init();
  struct sink sink;
  pthread_t id;
  int ready = -1, running;
  CURL *easy = make(&sink, "/hold/10");
  curl_multi_add_handle(multi, easy);
  pthread_create(&id, NULL, wake, multi);
  time_t before = time(NULL);
  for (int i = 0; i < 3; i++)
    curl_multi_perform(multi, &running);
  pthread_join(id, NULL);
  curl_multi_poll(multi, NULL, 0, 10000, &ready);
  printf("woken %s\n", time(NULL) - before < 8 ? "early" : "late");
  int ends[2];
  if (pipe(ends) != 0 || write(ends[1], "x", 1) != 1)
    abort();
  struct curl_waitfd extra = {.fd = ends[0], .events = CURL_WAIT_POLLIN};
  before = time(NULL);
  curl_multi_wait(multi, &extra, 1, 10000, &ready);
  printf("read %s, %d\n", time(NULL) - before < 8 ? "early" : "late", extra.revents);
  curl_multi_remove_handle(multi, easy);
  curl_easy_cleanup(easy);
  before = time(NULL);
  curl_multi_wait(multi, NULL, 0, 10000, &ready);
  printf("nothing %s\n", time(NULL) - before < 8 ? "early" : "late");
  curl_multi_cleanup(multi);
}

static int sockets_told;
static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user_data,
                     void *socket_data) {
  (void)easy, (void)socket, (void)what, (void)user_data, (void)socket_data;
  sockets_told++;
  return 0;
}

/* A program with libcurl's socket interface keeps it; and so do connect-only transfers. */
static void left_alone(void) {
  CURLM *multi = curl_multi_init();
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  struct sink sink;
  CURL *easy = make(&sink, "/bytes/10");
  curl_multi_add_handle(multi, easy);
  int running = 1;
  while (running) {
    curl_multi_perform(multi, &running);
    curl_multi_poll(multi, NULL, 0, 100, NULL);
  }
  printf("told of sockets: %s, %zu bytes\n", sockets_told ? "yes" : "no", sink.bytes);
  curl_multi_remove_handle(multi, easy);
  curl_multi_cleanup(multi);
  curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
  printf("connect-only: %d\n", (int)curl_easy_perform(easy));
  size_t sent = 0;
  printf("send: %d\n", (int)curl_easy_send(easy, "GET /", 5, &sent));
  curl_easy_cleanup(easy);
}

/* The program's own way out: what it has not cleaned up, libcurl does without. */
static void left_behind(void) {
  struct sink *sink = malloc(sizeof *sink);
  CURL *easy = make(sink, "/bytes/10");
  perform("left", easy, sink);
  curl_global_cleanup();
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } parts[] = {{"connections", connections}, {"errors", errors},
               {"nested", nested},           {"threads", threads},
               {"aborted", aborted},         {"paused", paused},
               {"sockets", sockets},         {"shared", shared},
               {"forked", forked},           {"multi", multi},
               {"waiting", waiting},         {"left_alone", left_alone},
               {"left_behind", left_behind}};
  base = getenv("UVCURL_TEST_PROGRAM_BASE");
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
      puts(parts[i].name);
    } else if (argc > 1 && strcmp(argv[1], parts[i].name) == 0) {
      curl_global_init(CURL_GLOBAL_ALL);
      parts[i].run();
      return 0;
    }
  }
  return argc > 1 && strcmp(argv[1], "--list") == 0 ? 0 : 2;
}
