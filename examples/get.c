/* get: fetches URLs in parallel on one libuv loop.

   What uses uvcurl stands together, from on_body() to fetch_all(): a pool of easy handles, each of
   which takes the next URL of the queue as soon as its transfer is done. The rest is a program like
   any other: files, progress, a table, options. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <uvcurl.h>

#include "get_server.h"

enum {
  PARALLEL = 50,
  MAX_PARALLEL = 10000,
  OWN_PARALLEL = 200,
  OWN_FILES = 2000,
  MAX_OWN_FILES = 1000000,
  TICK_MS = 10,
  REDRAW_MS = 100,
  ROOM_FOR_ECHO = 3, /* a terminal shows Ctrl-C as ^C, which must not wrap the bar's line */
  MAX_ROWS = 40,     /* with more transfers than this the table becomes a summary */
  MAX_LINES = 100,   /* with more, progress in a file is told per 10 % */
  MAX_FAILURES = 10,
  MAX_WIDTH = 4095, /* of a line that goes into a file */
  EXIT_FAILED = 1,
  EXIT_USAGE = 2,
  EXIT_INTERRUPTED = 130,
};

struct options {
  long parallel, files, timeout_ms; /* 0: not given */
  bool insecure;
  const char *cacert, *output;
};

struct transfer {
  char *url;
  int64_t expected; /* bytes there must be, or -1 where only the server knows */
  int status;       /* as uvcurl gave it */
  bool ok;
  const char *result; /* in words */
  char *detail;       /* more about a failure, or NULL */
  long code, connects;
  int64_t bytes;
  curl_off_t first_byte_us, total_us;
  char *file_name;
  FILE *file;
};

/* One easy handle of the pool, and the transfer it is used for at the moment. */
struct slot {
  struct run *run;
  CURL *easy;
  struct transfer *transfer;
  char error[CURL_ERROR_SIZE];
};

struct run {
  struct options options;
  uvcurl_t *uc;
  struct slot *slots;
  size_t slot_count;
  struct transfer *transfers;
  size_t count, next, done, failed;
  int64_t bytes;
  uint64_t start_ns, wall_ns;
  bool interrupted;
  int directory;

  uv_signal_t interrupt;
  uv_timer_t redraw;
  bool bar;
  int64_t drawn_bytes;
  uint64_t drawn_ns;
  double rate;

  struct get_server *server; /* NULL: URLs were given */
  uv_timer_t tick;
  uint64_t ticks, tick_due_ns, tick_late_ns;
};

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int open_file(struct run *run, struct transfer *t);
static void set_file_error(struct run *run, struct transfer *t, const char *verb);
static void finish(struct slot *slot, int status);
static void watch(struct run *run, uv_loop_t *loop);
static void unwatch(struct run *run);

static size_t on_body(char *data, size_t size, size_t count, void *user_data) {
  struct slot *slot = user_data;
  struct transfer *t = slot->transfer;
  size_t bytes = size * count;

  t->bytes += (int64_t)bytes;
  slot->run->bytes += (int64_t)bytes;
  /* Plain writes hold up the loop while the disk is slow; a server would use uv_fs_write. */
  if (t->file && fwrite(data, 1, bytes, t->file) != bytes) {
    set_file_error(slot->run, t, "write");
    return 0; /* not what it was given: libcurl ends the transfer with CURLE_WRITE_ERROR */
  }
  return bytes;
}

/* Sets all that is the same for every URL; only CURLOPT_URL changes later. */
static CURLcode new_easy(struct slot *slot) {
  const struct options *options = &slot->run->options;
  CURL *easy = slot->easy = curl_easy_init();
  CURLcode rc = easy ? CURLE_OK : CURLE_OUT_OF_MEMORY;

#define SET(option, value) (rc = rc ? rc : curl_easy_setopt(easy, option, value))
  SET(CURLOPT_WRITEFUNCTION, on_body);
  SET(CURLOPT_WRITEDATA, slot);
  SET(CURLOPT_ERRORBUFFER, slot->error);
  SET(CURLOPT_USERAGENT, "uvcurl-get");
  SET(CURLOPT_FOLLOWLOCATION, 1L);
  SET(CURLOPT_MAXREDIRS, 10L);
  SET(CURLOPT_TIMEOUT_MS, options->timeout_ms);
#if LIBCURL_VERSION_NUM >= 0x075500
  SET(CURLOPT_PROTOCOLS_STR, "http,https");
  SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
  SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
  SET(CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  if (options->cacert)
    SET(CURLOPT_CAINFO, options->cacert);
  if (options->insecure) {
    SET(CURLOPT_SSL_VERIFYPEER, 0L);
    SET(CURLOPT_SSL_VERIFYHOST, 0L);
  }
#undef SET
  return rc;
}

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *user_data);

static void start_next(struct slot *slot) {
  struct run *run = slot->run;

  while (run->next < run->count && !run->interrupted) {
    int status;

    slot->transfer = &run->transfers[run->next++];
    slot->error[0] = '\0';
    status = open_file(run, slot->transfer);
    if (!status)
      status = (int)curl_easy_setopt(slot->easy, CURLOPT_URL, slot->transfer->url);
    if (!status)
      status = uvcurl_start(run->uc, slot->easy, on_done, slot);
    if (!status)
      return;
    /* What was not started is not reported either: its failure is known here and now. */
    finish(slot, status);
  }
}

static void on_done(uvcurl_t *uc, CURL *easy, int status, void *user_data) {
  struct slot *slot = user_data;
  struct transfer *t = slot->transfer;

  (void)uc;
  /* One cancelled before it had begun has no figures: the handle still has those of its last. */
  if (status >= 0 || t->bytes > 0) {
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &t->code);
    curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &t->connects);
    curl_easy_getinfo(easy, CURLINFO_STARTTRANSFER_TIME_T, &t->first_byte_us);
    curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &t->total_us);
  }
  finish(slot, status);
  /* libcurl has let go of the handle, so it can start again right here. */
  start_next(slot);
}

static void on_closed(void *user_data) {
  struct run *run = user_data;

  run->uc = NULL;
}

static void on_interrupt(uv_signal_t *handle, int number) {
  struct run *run = handle->data;

  (void)number;
  run->interrupted = true;
  /* on_done gets UV_ECANCELED for everything in flight, and then the loop runs out of work. */
  uvcurl_close(run->uc, on_closed, run);
}

static int fetch_all(struct run *run) {
  uv_loop_t loop;
  size_t i;
  int status;

  status = uv_loop_init(&loop);
  if (status) {
    complain("cannot make a loop: %s", uv_strerror(status));
    return -1;
  }
  status = uvcurl_new(&loop, &run->uc);
  if (status) {
    complain("cannot use libcurl on this loop: %s", uvcurl_strerror(status));
    uv_loop_close(&loop);
    return -1;
  }
  watch(run, &loop);
  run->start_ns = uv_hrtime();
  for (i = 0; i < run->slot_count; i++)
    start_next(&run->slots[i]);
  /* Transfers in flight keep the loop alive; the handles of watch() do not. */
  uv_run(&loop, UV_RUN_DEFAULT);
  run->wall_ns = uv_hrtime() - run->start_ns;

  unwatch(run);
  uvcurl_close(run->uc, on_closed, run); /* NULL after Ctrl-C: then nothing happens */
  uv_run(&loop, UV_RUN_DEFAULT);
  status = uv_loop_close(&loop);
  if (status || run->uc) {
    complain("the loop could not be closed: %s", uv_strerror(status));
    return -1;
  }
  if (run->done < run->count && !run->interrupted) {
    complain("the loop ended with %zu transfers not reported", run->count - run->done);
    return -1;
  }
  return 0;
}

static void complain(const char *format, ...) {
  va_list arguments;

  fputs("get: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
}

/* A string small enough to be returned by value, so that one printf can take several. */
struct text {
  char s[32];
};

static struct text in_units(double value, double step, const char *const *units) {
  struct text text;
  int digits;

  while (value >= step - 0.5 && units[1]) {
    value /= step;
    units++;
  }
  digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  snprintf(text.s, sizeof text.s, "%.*f %s", digits, value, *units);
  return text;
}

static struct text bytes_text(double bytes) {
  static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", NULL};
  struct text text;

  if (bytes >= 1023.5)
    return in_units(bytes / 1024, 1024, units);
  snprintf(text.s, sizeof text.s, "%.0f B", bytes);
  return text;
}

static struct text rate_text(double bytes, double ns) {
  struct text text = bytes_text(ns > 0 ? bytes * 1e9 / ns : 0);

  strcat(text.s, "/s");
  return text;
}

static struct text time_text(double us) {
  static const char *const units[] = {"ms", "s", NULL};

  return in_units(us / 1000, 1000, units);
}

static const char *plural(uint64_t count) {
  return count == 1 ? "" : "s";
}

static struct text code_text(long code) {
  struct text text = {"-"};

  if (code)
    snprintf(text.s, sizeof text.s, "%ld", code);
  return text;
}

static char *format_new(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *format_new(const char *format, ...) {
  va_list arguments;
  char *text;
  int size;

  va_start(arguments, format);
  size = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  text = size < 0 ? NULL : malloc((size_t)size + 1);
  if (text) {
    va_start(arguments, format);
    vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
  }
  return text;
}

static void set_file_error(struct run *run, struct transfer *t, const char *verb) {
  if (!t->detail)
    t->detail =
        format_new("cannot %s %s/%s: %s", verb, run->options.output, t->file_name, strerror(errno));
}

/* The last segment of the URL's path, as it is spelt there: it has no slash, and without decoding
   none can come in, so that a name never leads out of the directory. */
static char *file_name(const char *url) {
  CURLU *parsed = curl_url();
  char *path = NULL, *name;
  const char *last = "";

  if (parsed && !curl_url_set(parsed, CURLUPART_URL, url, CURLU_GUESS_SCHEME) &&
      !curl_url_get(parsed, CURLUPART_PATH, &path, 0) && strrchr(path, '/'))
    last = strrchr(path, '/') + 1;
  if (!*last || !strcmp(last, ".") || !strcmp(last, ".."))
    last = "index";
  name = strdup(last);
  curl_free(path);
  curl_url_cleanup(parsed);
  return name;
}

/* Opens a new file for the body; what is there already stays as it is. */
static int open_file(struct run *run, struct transfer *t) {
  char *base;
  int fd = -1, error;
  unsigned clash = 0;

  if (!run->options.output)
    return 0;
  base = file_name(t->url);
  t->file_name = base ? strdup(base) : NULL;
  while (t->file_name) {
    fd = openat(run->directory, t->file_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST)
      break;
    free(t->file_name);
    t->file_name = format_new("%s.%u", base, ++clash);
  }
  free(base);
  if (!t->file_name)
    return UV_ENOMEM;
  t->file = fd < 0 ? NULL : fdopen(fd, "w");
  if (t->file)
    return 0;
  error = errno;
  set_file_error(run, t, "create");
  if (fd >= 0) {
    close(fd);
    unlinkat(run->directory, t->file_name, 0);
  }
  return uv_translate_sys_error(error);
}

static int close_file(struct run *run, struct transfer *t) {
  FILE *file = t->file;
  int error;

  t->file = NULL;
  if (!file || !fclose(file))
    return 0;
  error = errno;
  set_file_error(run, t, "write");
  return uv_translate_sys_error(error);
}

static void tell_line(const struct transfer *t) {
  fprintf(stderr, "%3s  %8s  %7.3f s  %s", code_text(t->code).s, bytes_text((double)t->bytes).s,
          (double)t->total_us / 1e6, t->url);
  if (!t->ok)
    fprintf(stderr, "  (%s%s%s)", t->result, t->detail ? ": " : "", t->detail ? t->detail : "");
  fputc('\n', stderr);
}

static void tell_tenth(const struct run *run) {
  uint64_t elapsed = uv_hrtime() - run->start_ns;

  fprintf(stderr, "%3zu %%  %zu of %zu  %s  %s  %zu failed\n", run->done * 100 / run->count,
          run->done, run->count, bytes_text((double)run->bytes).s,
          rate_text((double)run->bytes, (double)elapsed).s, run->failed);
}

/* Settles one transfer, whether it was reported or could not even be started. */
static void finish(struct slot *slot, int status) {
  struct run *run = slot->run;
  struct transfer *t = slot->transfer;
  int file_status = close_file(run, t);

  slot->transfer = NULL;
  t->status = status ? status : file_status;
  if (t->status == UV_ECANCELED) {
    t->result = "cancelled";
  } else if (t->status) {
    t->result = uvcurl_strerror(t->status);
    if (!t->detail && slot->error[0])
      t->detail = strdup(slot->error);
  } else if (t->code >= 400) {
    t->result = "HTTP error";
  } else if (t->expected >= 0 && t->bytes != t->expected) {
    t->result = "wrong size";
    t->detail =
        format_new("%lld bytes instead of %lld", (long long)t->bytes, (long long)t->expected);
  } else {
    t->result = "ok";
    t->ok = true;
  }
  /* So that each file in the directory is a whole one. */
  if (!t->ok && t->file_name)
    unlinkat(run->directory, t->file_name, 0);
  run->done++;
  run->failed += !t->ok;
  if (run->bar)
    return;
  if (run->count <= MAX_LINES)
    tell_line(t);
  else if (run->done * 10 / run->count != (run->done - 1) * 10 / run->count)
    tell_tenth(run);
}

static int terminal_width(int fd) {
  struct winsize size;

  if (ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col)
    return 80;
  return size.ws_col < 20 ? 20 : size.ws_col;
}

/* How much of the whole is done, in [0, 1]; a transfer in flight counts as far as it has come. */
static double fraction_done(const struct run *run) {
  double done = (double)run->done;
  size_t i;

  for (i = 0; i < run->slot_count; i++) {
    const struct slot *slot = &run->slots[i];
    curl_off_t length = 0;

    if (!slot->transfer || !slot->transfer->bytes)
      continue;
    curl_easy_getinfo(slot->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length >= slot->transfer->bytes)
      done += (double)slot->transfer->bytes / (double)length;
  }
  return done / (double)run->count;
}

static void put_line(const char *line, int width) {
  /* Filled up with blanks and not erased by an escape sequence, which some terminals lack. */
  fprintf(stderr, "\r%-*.*s", width, width, line);
  fflush(stderr);
}

static void on_redraw(uv_timer_t *timer) {
  struct run *run = timer->data;
  char line[512], numbers[160];
  int width = terminal_width(STDERR_FILENO) - ROOM_FOR_ECHO, bar, full;
  uint64_t now = uv_hrtime();
  double passed = (double)(now - run->drawn_ns) / 1e9;

  if (run->drawn_ns && passed > 0) {
    double rate = (double)(run->bytes - run->drawn_bytes) / passed;
    run->rate = run->rate > 0 ? run->rate * 0.7 + rate * 0.3 : rate;
  }
  run->drawn_ns = now;
  run->drawn_bytes = run->bytes;
  if (width >= (int)sizeof line)
    width = sizeof line - 1;
  snprintf(numbers, sizeof numbers, "%zu/%zu  %8s  %10s  %zu in flight", run->done, run->count,
           bytes_text((double)run->bytes).s, rate_text(run->rate, 1e9).s,
           run->uc ? uvcurl_active(run->uc) : 0);
  bar = width - (int)strlen(numbers) - 4;
  if (bar < 5) {
    put_line(numbers, width);
    return;
  }
  full = (int)(fraction_done(run) * bar);
  line[0] = '[';
  memset(line + 1, '#', (size_t)full);
  memset(line + 1 + full, '.', (size_t)(bar - full));
  snprintf(line + 1 + bar, sizeof line - 1 - (size_t)bar, "]  %s", numbers);
  put_line(line, width);
}

static void note_lateness(struct run *run) {
  uint64_t now = uv_hrtime();

  if (now > run->tick_due_ns && now - run->tick_due_ns > run->tick_late_ns)
    run->tick_late_ns = now - run->tick_due_ns;
}

static void on_tick(uv_timer_t *timer) {
  struct run *run = timer->data;

  note_lateness(run);
  run->ticks++;
  /* libuv counts a repeat from the loop's own time, on the clock of uv_hrtime. */
  run->tick_due_ns = (uv_now(timer->loop) + TICK_MS) * 1000000;
}

/* The host's own handles beside the transfers, none of which is to keep the loop alive. */
static void watch(struct run *run, uv_loop_t *loop) {
  run->interrupt.data = run->redraw.data = run->tick.data = run;
  /* One shot, so that a second Ctrl-C ends the program at once. */
  if (uv_signal_init(loop, &run->interrupt) ||
      uv_signal_start_oneshot(&run->interrupt, on_interrupt, SIGINT))
    complain("Ctrl-C will end the program without a table");
  else
    uv_unref((uv_handle_t *)&run->interrupt);
  if (run->bar) {
    uv_timer_init(loop, &run->redraw);
    uv_timer_start(&run->redraw, on_redraw, 0, REDRAW_MS);
    uv_unref((uv_handle_t *)&run->redraw);
  }
  if (run->server) {
    uv_timer_init(loop, &run->tick);
    uv_update_time(loop);
    uv_timer_start(&run->tick, on_tick, TICK_MS, TICK_MS);
    uv_unref((uv_handle_t *)&run->tick);
    run->tick_due_ns = (uv_now(loop) + TICK_MS) * 1000000;
  }
}

static void unwatch(struct run *run) {
  uv_handle_t *handles[] = {(uv_handle_t *)&run->interrupt, (uv_handle_t *)&run->redraw,
                            (uv_handle_t *)&run->tick};
  size_t i;

  if (run->server)
    note_lateness(run);
  if (run->bar) {
    put_line("", terminal_width(STDERR_FILENO) - 1);
    fputc('\r', stderr);
  }
  for (i = 0; i < sizeof handles / sizeof *handles; i++)
    if (uv_handle_get_loop(handles[i])) /* NULL: it was not needed */
      uv_close(handles[i], NULL);
}

/* Whether a byte goes on with a character of UTF-8 rather than begin one. */
static bool in_character(char byte) {
  return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Shortens text to width by leaving out its middle, and keeps control bytes off the terminal. */
static const char *fit(const char *text, size_t width, char *buffer, size_t size) {
  size_t length = strlen(text), head, tail, i;

  if (width >= size)
    width = size - 1;
  if (length <= width) {
    memcpy(buffer, text, length + 1);
  } else {
    tail = (width - 3) / 2;
    head = width - 3 - tail;
    while (head && in_character(text[head]))
      head--;
    while (tail && in_character(text[length - tail]))
      tail--;
    snprintf(buffer, size, "%.*s...%s", (int)head, text, text + length - tail);
  }
  for (i = 0; buffer[i]; i++)
    if ((unsigned char)buffer[i] < ' ' || buffer[i] == 0x7f)
      buffer[i] = '?';
  return buffer;
}

/* Prints what more there is to say of a failure; the column has its result already if it fitted. */
static void print_reason(const struct transfer *t, bool in_column) {
  char buffer[MAX_WIDTH + 1];
  const char *detail = t->detail && strcmp(t->detail, t->result) ? t->detail : NULL;
  char *both = NULL;

  if (!in_column && detail)
    both = format_new("%s: %s", t->result, detail);
  else if (!in_column)
    detail = t->result;
  if (both || detail)
    printf("  %s\n", fit(both ? both : detail, MAX_WIDTH, buffer, sizeof buffer));
  free(both);
}

static void print_rows(const struct transfer *const *rows, size_t count) {
  enum { FIGURES = 47, MIN_URL = 20, MIN_RESULT = 12 };
  size_t width = isatty(STDOUT_FILENO) ? (size_t)terminal_width(STDOUT_FILENO) : MAX_WIDTH;
  size_t column = strlen("status"), room, i;
  char url[MAX_WIDTH + 1];

  /* A long reason goes below its row rather than take the room of the URLs. */
  room = width > FIGURES + MIN_URL + MIN_RESULT ? width - FIGURES - MIN_URL : MIN_RESULT;
  for (i = 0; i < count; i++) {
    size_t length = strlen(rows[i]->result);

    if (length <= room && length > column)
      column = length;
  }
  if (width < FIGURES + MIN_URL + column)
    width = FIGURES + MIN_URL + column;
  printf("%-*s  code     bytes  1st byte    total  conn    url\n", (int)column, "status");
  for (i = 0; i < count; i++) {
    const struct transfer *t = rows[i];
    bool fits = strlen(t->result) <= column;
    const char *connection = t->connects ? "new" : t->code ? "reused" : "-";

    printf("%-*s  %4s  %8s  %8s  %7s  %-6s  %s\n", (int)column, fits ? t->result : "failed",
           code_text(t->code).s, bytes_text((double)t->bytes).s,
           t->code ? time_text((double)t->first_byte_us).s : "-",
           t->total_us ? time_text((double)t->total_us).s : "-", connection,
           fit(t->url, width - FIGURES - column, url, sizeof url));
    if (!t->ok)
      print_reason(t, fits);
  }
}

static int by_value(const void *a, const void *b) {
  curl_off_t x = *(const curl_off_t *)a, y = *(const curl_off_t *)b;

  return (x > y) - (x < y);
}

static void print_spread(const char *name, curl_off_t *times, size_t count) {
  qsort(times, count, sizeof *times, by_value);
  printf("  %-10s  %8s  %8s  %8s  %8s\n", name, time_text((double)times[0]).s,
         time_text((double)times[count / 2]).s, time_text((double)times[(count * 99 - 1) / 100]).s,
         time_text((double)times[count - 1]).s);
}

static int by_result(const void *a, const void *b) {
  const struct transfer *const *x = a, *const *y = b;

  /* What went well comes first. */
  return (*x)->ok != (*y)->ok ? (*y)->ok - (*x)->ok : strcmp((*x)->result, (*y)->result);
}

static void print_results(const struct transfer **rows, size_t count) {
  size_t i, same;

  qsort(rows, count, sizeof *rows, by_result);
  for (i = 0; i < count; i += same) {
    for (same = 1; i + same < count && !by_result(&rows[i], &rows[i + same]); same++)
      ;
    printf("  %7zu  %s\n", same, rows[i]->result);
  }
}

static void print_times(const struct run *run) {
  curl_off_t *first_byte = calloc(run->count, sizeof *first_byte);
  curl_off_t *total = calloc(run->count, sizeof *total);
  size_t count = 0, i;

  for (i = 0; first_byte && total && i < run->count; i++) {
    if (!run->transfers[i].ok)
      continue;
    first_byte[count] = run->transfers[i].first_byte_us;
    total[count++] = run->transfers[i].total_us;
  }
  if (count) {
    printf("\n  %-10s  %8s  %8s  %8s  %8s\n", "", "min", "median", "p99", "max");
    print_spread("first byte", first_byte, count);
    print_spread("total", total, count);
  }
  free(first_byte);
  free(total);
}

static void print_totals(const struct run *run) {
  size_t reused = 0, i;
  long connections = 0;

  for (i = 0; i < run->count; i++) {
    connections += run->transfers[i].connects;
    reused += run->transfers[i].code && !run->transfers[i].connects;
  }
  printf("%zu of %zu transfer%s ok: %s in %s, %s\n"
         "%ld connection%s opened, %zu transfer%s on a reused one\n",
         run->done - run->failed, run->count, plural(run->count), bytes_text((double)run->bytes).s,
         time_text((double)run->wall_ns / 1e3).s,
         rate_text((double)run->bytes, (double)run->wall_ns).s, connections,
         plural((uint64_t)connections), reused, plural(reused));
}

/* Rows for the first few that went wrong of themselves, not by Ctrl-C. */
static void print_failures(const struct run *run) {
  const struct transfer *rows[MAX_FAILURES];
  size_t count = 0, failures = 0, i;

  for (i = 0; i < run->next; i++) {
    const struct transfer *t = &run->transfers[i];

    if (t->ok || t->status == UV_ECANCELED)
      continue;
    if (count < MAX_FAILURES)
      rows[count++] = t;
    failures++;
  }
  if (!failures)
    return;
  if (count < failures)
    printf("\nThe first %zu of %zu failures:\n", count, failures);
  else
    printf("\nWhat failed:\n");
  print_rows(rows, count);
}

static void print_report(const struct run *run) {
  const struct transfer **rows = calloc(run->count, sizeof *rows);
  size_t i;

  if (!rows) {
    complain("out of memory");
    return;
  }
  for (i = 0; i < run->count; i++)
    rows[i] = &run->transfers[i];
  if (run->count <= MAX_ROWS) {
    print_rows(rows, run->count);
    putchar('\n');
    print_totals(run);
  } else {
    print_totals(run);
    print_results(rows, run->count);
    print_times(run);
    print_failures(run);
  }
  free(rows);
  if (run->ticks)
    printf(
        "\nThe program's own %d ms timer ticked %llu time%s on the same loop, at most %s late%s.\n",
        TICK_MS, (unsigned long long)run->ticks, plural(run->ticks),
        time_text((double)run->tick_late_ns / 1e3).s,
        run->options.output ? ", what it took to write the files included" : "");
}

static const char HELP[] =
    "Usage: get [OPTION]... [URL]...\n"
    "Fetches all URLs in parallel on one libuv loop and prints a table of how that went.\n"
    "Without a URL it fetches files of many sizes from a server of its own on 127.0.0.1.\n"
    "\n"
    "  -o, --output DIR    write each body to a new file in DIR, named after its URL\n"
    "      --parallel N    at most N transfers at once (default 50, without a URL 200)\n"
    "      --timeout S     give up on a transfer after S seconds\n"
    "      --cacert FILE   trust the certificate authorities in FILE\n"
    "      --insecure      do not verify certificates\n"
    "      --files N       how many files to fetch without a URL (default 2000)\n"
    "      --version       print the versions of uvcurl, libuv and libcurl\n"
    "      --help          print this\n"
    "\n"
    "The exit status is 0 if every URL was fetched with an HTTP code below 400, 1 if not,\n"
    "2 for a mistake on the command line and 130 after Ctrl-C.\n";

static void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void usage_error(const char *format, ...) {
  va_list arguments;

  fputs("get: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputs("\nTry 'get --help'.\n", stderr);
  exit(EXIT_USAGE);
}

/* Output that did not arrive is a failure, however well the transfers went. */
static int flush_output(void) {
  static bool told;

  errno = 0;
  if (!fflush(stdout) && !ferror(stdout))
    return 0;
  if (!told)
    complain("cannot write to standard output: %s", errno ? strerror(errno) : "part of it is lost");
  told = true;
  return -1;
}

static long whole_number(const char *option, const char *text, long max) {
  char *end;
  long value;

  errno = 0;
  value = strtol(text, &end, 10);
  if (end == text || *end || errno || value < 1 || value > max)
    usage_error("%s takes a whole number from 1 to %ld, not '%s'", option, max, text);
  return value;
}

static long milliseconds(const char *option, const char *text) {
  char *end;
  double seconds = strtod(text, &end);

  if (end == text || *end || !(seconds >= 0.001 && seconds <= 1e6))
    usage_error("%s takes seconds from 0.001 to 1000000, not '%s'", option, text);
  return (long)(seconds * 1000 + 0.5);
}

static void check_readable(const char *option, const char *path) {
  FILE *file = fopen(path, "r");

  errno = file ? 0 : errno;
  if (!file || (fgetc(file) == EOF))
    usage_error("%s cannot read '%s': %s", option, path, errno ? strerror(errno) : "it is empty");
  fclose(file);
}

static struct options parse_options(int argc, char **argv) {
  enum {
    OPT_PARALLEL = 256,
    OPT_TIMEOUT,
    OPT_CACERT,
    OPT_INSECURE,
    OPT_FILES,
    OPT_VERSION,
    OPT_HELP
  };
  static const struct option long_options[] = {
      {"output", required_argument, NULL, 'o'},
      {"parallel", required_argument, NULL, OPT_PARALLEL},
      {"timeout", required_argument, NULL, OPT_TIMEOUT},
      {"cacert", required_argument, NULL, OPT_CACERT},
      {"insecure", no_argument, NULL, OPT_INSECURE},
      {"files", required_argument, NULL, OPT_FILES},
      {"version", no_argument, NULL, OPT_VERSION},
      {"help", no_argument, NULL, OPT_HELP},
      {NULL, 0, NULL, 0},
  };
  struct options options = {0};
  int option;

  opterr = 0;
  while ((option = getopt_long(argc, argv, ":o:", long_options, NULL)) != -1) {
    switch (option) {
    case 'o':
      options.output = optarg;
      break;
    case OPT_PARALLEL:
      options.parallel = whole_number("--parallel", optarg, MAX_PARALLEL);
      break;
    case OPT_TIMEOUT:
      options.timeout_ms = milliseconds("--timeout", optarg);
      break;
    case OPT_CACERT:
      check_readable("--cacert", optarg);
      options.cacert = optarg;
      break;
    case OPT_INSECURE:
      options.insecure = true;
      break;
    case OPT_FILES:
      options.files = whole_number("--files", optarg, MAX_OWN_FILES);
      break;
    case OPT_VERSION:
      printf("uvcurl %s, libuv %s, libcurl %s\n", uvcurl_version_string(), uv_version_string(),
             curl_version_info(CURLVERSION_NOW)->version);
      exit(flush_output() ? EXIT_FAILED : 0);
    case OPT_HELP:
      fputs(HELP, stdout);
      exit(flush_output() ? EXIT_FAILED : 0);
    case ':':
      usage_error("option '%s' needs a value", argv[optind - 1]);
    default:
      if (optopt > UCHAR_MAX)
        usage_error("option '%s' takes no value", argv[optind - 1]);
      if (optopt)
        usage_error("there is no option '-%c'", optopt);
      usage_error("there is no option '%s'", argv[optind - 1]);
    }
  }
  if (options.files && optind < argc)
    usage_error("--files is for a run without a URL");
  return options;
}

/* A libcurl built to be carried about knows no certificate bundle: finds this system's own. */
static const char *find_cacert(void) {
  static const char *const usual[] = {
      "/etc/ssl/certs/ca-certificates.crt",
      "/etc/pki/tls/certs/ca-bundle.crt",
      "/etc/ssl/ca-bundle.pem",
      "/etc/ssl/cert.pem",
  };
  const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
  size_t i;

  if (!(info->features & CURL_VERSION_SSL))
    return NULL;
  if (info->age >= CURLVERSION_SEVENTH && (info->cainfo || info->capath))
    return NULL;
  for (i = 0; i < sizeof usual / sizeof *usual; i++)
    if (!access(usual[i], R_OK))
      return usual[i];
  return NULL;
}

/* Many sockets are open at once; the usual limit of 1024 files is too low for them. */
static size_t raise_file_limit(size_t parallel, rlim_t each) {
  const rlim_t spare = 64;
  rlim_t wanted = spare + each * parallel;
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
    return parallel;
  limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
  if (!setrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur >= wanted)
    return parallel;
  getrlimit(RLIMIT_NOFILE, &limit);
  parallel = limit.rlim_cur > spare + each ? (limit.rlim_cur - spare) / each : 1;
  complain("%lu files may be open at most, so only %zu transfers run at once",
           (unsigned long)limit.rlim_cur, parallel);
  return parallel;
}

static int64_t own_size(size_t i) {
  static const long sizes[] = {
      300,    8192,  1500,  65536, 0,
      4096,   200,   20000, 1024,  50000,
      2048,   700,   1000,  5000,  262144,
      64,     3000,  16384, 1200,  1,
      24576,  512,   6000,  2500,  GET_SERVER_MAX_SIZE,
      100,    10000, 2000,  32768, 4000,
      100000, 1024,
  };

  return sizes[i % (sizeof sizes / sizeof *sizes)];
}

/* Fills in what is to be fetched: argv's URLs, or with none, files of the program's own server. */
static int make_transfers(struct run *run, char **urls) {
  int64_t bytes = 0;
  size_t i;

  run->transfers = calloc(run->count, sizeof *run->transfers);
  if (!run->transfers) {
    complain("out of memory");
    return -1;
  }
  for (i = 0; i < run->count; i++) {
    struct transfer *t = &run->transfers[i];

    t->expected = run->server ? own_size(i) : -1;
    t->result = "not started";
    if (run->server)
      t->url = format_new("http://127.0.0.1:%d/%lld/%zu", run->server->port, (long long)t->expected,
                          i + 1);
    else
      t->url = strdup(urls[i]);
    if (!t->url) {
      complain("out of memory");
      return -1;
    }
    bytes += t->expected;
  }
  if (run->server)
    printf("No URL given: fetching %zu file%s (%s) from a server of its own on 127.0.0.1:%d,\n"
           "%zu at a time, while a %d ms timer of its own ticks on the same loop.\n",
           run->count, plural(run->count), bytes_text((double)bytes).s, run->server->port,
           run->slot_count, TICK_MS);
  return 0;
}

static int make_slots(struct run *run) {
  size_t i;

  run->slots = calloc(run->slot_count, sizeof *run->slots);
  if (!run->slots) {
    complain("out of memory");
    return -1;
  }
  for (i = 0; i < run->slot_count; i++) {
    CURLcode rc;

    run->slots[i].run = run;
    rc = new_easy(&run->slots[i]);
    if (rc) {
      complain("cannot set up a transfer: %s", curl_easy_strerror(rc));
      return -1;
    }
  }
  return 0;
}

static void free_all(struct run *run) {
  size_t i;

  for (i = 0; run->slots && i < run->slot_count; i++)
    curl_easy_cleanup(run->slots[i].easy);
  free(run->slots);
  for (i = 0; run->transfers && i < run->count; i++) {
    free(run->transfers[i].url);
    free(run->transfers[i].detail);
    free(run->transfers[i].file_name);
  }
  free(run->transfers);
  if (run->directory >= 0)
    close(run->directory);
}

int main(int argc, char **argv) {
  struct run run = {.options = parse_options(argc, argv), .directory = -1};
  struct options *options = &run.options;
  struct get_server server;
  bool own = optind == argc;
  int status, code = EXIT_FAILED;

  if (options->output) {
    run.directory = open(options->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run.directory < 0)
      usage_error("--output cannot use '%s': %s", options->output, strerror(errno));
  }
  if (!options->parallel)
    options->parallel = own ? OWN_PARALLEL : PARALLEL;
  run.count = !own ? (size_t)(argc - optind) : options->files ? (size_t)options->files : OWN_FILES;
  run.slot_count = run.count < (size_t)options->parallel ? run.count : (size_t)options->parallel;
  /* A transfer has a socket, may have a file, and while its host is looked up two more. */
  run.slot_count = raise_file_limit(run.slot_count, 1 + !!options->output + (own ? 0 : 2));
  run.bar = isatty(STDERR_FILENO);
  /* uvcurl asks libcurl to leave signals alone, so this one is the program's business. */
  signal(SIGPIPE, SIG_IGN);

  if (options->insecure)
    complain("warning: certificates are not verified, anybody could be answering");
  else if (!options->cacert)
    options->cacert = find_cacert();
  if (own) {
    status = get_server_start(&server);
    if (status) {
      complain("cannot start a server of its own: %s", uv_strerror(status));
      free_all(&run);
      return EXIT_FAILED;
    }
    run.server = &server;
  }

  if (!make_transfers(&run, argv + optind) && !flush_output() && !make_slots(&run)) {
    status = fetch_all(&run);
    if (run.done)
      print_report(&run);
    if (run.interrupted)
      code = EXIT_INTERRUPTED;
    else if (!status && !run.failed)
      code = 0;
  }
  free_all(&run);
  if (own && get_server_stop(&server)) {
    complain("the server of its own did not end well");
    code = EXIT_FAILED;
  }
  return flush_output() ? EXIT_FAILED : code;
}
