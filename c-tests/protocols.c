/* What HTTP, WebSocket and file transfers ask of the driver beside a plain download. */
#include <fcntl.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

static void begin(fixture *f, transfer *t) {
  CHECK_INT(transfer_start(f, t), 0);
}

static void run_to(fixture *f, transfer *t, int status) {
  begin(f, t);
  fixture_run(f);
  CHECK_INT(t->done, 1);
  CHECK_MSG(t->status == status, "%s (%s)", uvcurl_strerror(t->status), t->error);
}

static void expect_body(enum server_port_kind kind, const char *path, size_t size) {
  fixture f;
  fixture_open(&f);
  if (kind == SERVER_HTTPS)
    fixture_need_tls(&f);
  for (int i = 0; i < 3; i++) {
    transfer *t = transfer_new_on(&f, kind, path);
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_FOLLOWLOCATION, 1L), CURLE_OK);
    run_to(&f, t, 0);
    CHECK_INT(t->code, 200);
    CHECK_INT(t->received, size);
    CHECK(t->content_ok);
    transfer_free(t);
  }
  fixture_close(&f);
}

TEST(chunked) {
  expect_body(SERVER_HTTP, "/chunked/100000", 100000);
}

TEST(chunked_tls) {
  expect_body(SERVER_HTTPS, "/chunked/100000", 100000);
}

/* The end of the body is the end of the connection. */
TEST(until_eof) {
  expect_body(SERVER_HTTP, "/eof/100000", 100000);
}

TEST(until_eof_tls) {
  expect_body(SERVER_HTTPS, "/eof/100000", 100000);
}

/* One report for six requests; libcurl takes the socket away and back at each. */
TEST(redirects) {
  expect_body(SERVER_HTTP, "/redirect/5/1000", 1000);
}

TEST(redirects_tls) {
  expect_body(SERVER_HTTPS, "/redirect/5/1000", 1000);
}

TEST(redirect_to_another_address) {
  char path[300], url[200];
  fixture f;
  fixture_open_with(&f, &(server_options){.extra_addresses = 1});
  server_extra_url(f.server, url, sizeof url, 0, "/bytes/1000");
  snprintf(path, sizeof path, "/redirect-to?URL=%s", url);
  transfer *t = transfer_new(&f, path);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_FOLLOWLOCATION, 1L), CURLE_OK);
  run_to(&f, t, 0);
  CHECK_INT(t->received, 1000);
  CHECK_INT(server_count(f.server, SERVER_ACCEPTED), 2);
  transfer_free(t);
  fixture_close(&f);
}

/* S55: a name that is not ASCII, in a program that never called setlocale(). libcurl resolves it or
 * says that it cannot; which of the two is libcurl's own, and no lookup leaves this machine. */
TEST(name_outside_ascii) {
  char url[100], map[200];
  fixture f;
  fixture_open(&f);
  int port = server_port(f.server, SERVER_HTTP);
  snprintf(url, sizeof url,
           "http://b\xc3\xbc"
           "cher.test:%d/bytes/10",
           port);
  struct curl_slist *list = NULL;
  snprintf(map, sizeof map, "xn--bcher-kva.test:%d:127.0.0.1", port);
  list = curl_slist_append(list, map);
  snprintf(map, sizeof map,
           "b\xc3\xbc"
           "cher.test:%d:127.0.0.1",
           port);
  list = curl_slist_append(list, map);
  for (int utf8 = 0; utf8 < 2; utf8++) {
    if (utf8 && setlocale(LC_ALL, "C.UTF-8") == NULL)
      break;
    transfer *t = transfer_new_url(&f, url), *beside = transfer_new(&f, "/bytes/10");
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_RESOLVE, list), CURLE_OK);
    CHECK_INT(transfer_start(&f, t), 0);
    CHECK_INT(transfer_start(&f, beside), 0);
    fixture_run(&f);
    CHECK_INT(t->done, 1);
    CHECK_MSG(t->status == 0 || (!utf8 && t->status == CURLE_URL_MALFORMAT), "%d", t->status);
    CHECK_INT(t->received, t->status == 0 ? 10 : 0);
    CHECK_INT(beside->status, 0);
    printf("# %s: %d\n", utf8 ? "UTF-8" : "C", t->status);
    transfer_free(t);
    transfer_free(beside);
  }
  curl_slist_free_all(list);
  fixture_close(&f);
}

TEST(too_many_redirects) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/redirect/5/1000");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_FOLLOWLOCATION, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_MAXREDIRS, 2L), CURLE_OK);
  run_to(&f, t, CURLE_TOO_MANY_REDIRECTS);
  CHECK_INT(t->received, 0);
  transfer_free(t);
  fixture_close(&f);
}

/* ---- bodies that are sent ---- */

static transfer *post(fixture *f, enum server_port_kind kind, const char *path, source *s,
                      bool length) {
  transfer *t = transfer_new_on(f, kind, path);
  s->at = 0;
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POST, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, source_read), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READDATA, s), CURLE_OK);
  if (length)
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->size),
              CURLE_OK);
  t->keep_body = 1;
  return t;
}

static void expect_echo(enum server_port_kind kind) {
  static const size_t sizes[] = {0, 1, 70000, 900000};
  fixture f;
  fixture_open(&f);
  if (kind == SERVER_HTTPS)
    fixture_need_tls(&f);
  for (int i = 0; i < 8; i++) {
    source s = {0, sizes[i / 2]};
    /* Every other one in chunks. */
    transfer *t = post(&f, kind, "/echo", &s, i % 2 == 0);
    run_to(&f, t, 0);
    CHECK_INT(t->code, 200);
    CHECK_INT(t->received, s.size);
    CHECK(t->content_ok);
    transfer_free(t);
  }
  fixture_close(&f);
}

TEST(echo) {
  expect_echo(SERVER_HTTP);
}

TEST(echo_tls) {
  expect_echo(SERVER_HTTPS);
}

static transfer *expecting(fixture *f, const char *path, source *s, struct curl_slist *headers) {
  transfer *t = post(f, SERVER_HTTP, path, s, true);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, headers), CURLE_OK);
  return t;
}

/* S39: the server says 100 Continue, and nobody waits for the second that libcurl would. */
TEST(expect_100_continue) {
  fixture f;
  fixture_open(&f);
  struct curl_slist *headers = curl_slist_append(NULL, "Expect: 100-continue");
  source s = {0, 50000};
  transfer *t = expecting(&f, "/sink", &s, headers);
  /* Far longer than a case may take. */
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 60000L), CURLE_OK);
  run_to(&f, t, 0);
  CHECK_STR((char *)t->body, "50000");
  transfer_free(t);
  curl_slist_free_all(headers);
  fixture_close(&f);
}

/* S39: the server does not, so the body goes out by libcurl's timer alone. */
TEST(expect_100_that_does_not_come) {
  fixture f;
  fixture_open(&f);
  struct curl_slist *headers = curl_slist_append(NULL, "Expect: 100-continue");
  source s = {0, 50000};
  transfer *t = expecting(&f, "/quiet-sink", &s, headers);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 200L), CURLE_OK);
  double start = test_now_ms();
  run_to(&f, t, 0);
  CHECK_BETWEEN(test_now_ms() - start, 198, 200 + 4000 * test_slowdown());
  CHECK_STR((char *)t->body, "50000");
  transfer_free(t);
  curl_slist_free_all(headers);
  fixture_close(&f);
}

/* The answer comes before the body was asked for. */
TEST(refused_instead_of_100) {
  fixture f;
  fixture_open(&f);
  struct curl_slist *headers = curl_slist_append(NULL, "Expect: 100-continue");
  source s = {0, 50000};
  transfer *t = expecting(&f, "/early/417/10", &s, headers);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 60000L), CURLE_OK);
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->code, 417);
  transfer_free(t);
  curl_slist_free_all(headers);
  fixture_close(&f);
}

/* S38: with no body and no read callback libcurl reads standard input, and the loop waits for that.
 * What keeps it from doing so, and that it does if nothing keeps it: uvcurl sets nothing of a
 * request. */
TEST(post_without_a_body) {
  enum { SIZE_0, EMPTY, STANDARD_INPUT, WAYS };
  fixture f;
  int input[2];
  CHECK_INT(pipe(input), 0);
  CHECK_INT(dup2(input[0], STDIN_FILENO), STDIN_FILENO);
  fixture_open(&f);
  for (int way = 0; way < WAYS; way++) {
    transfer *t = transfer_new(&f, "/echo");
    CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POST, 1L), CURLE_OK);
    if (way == SIZE_0)
      CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, 0L), CURLE_OK);
    if (way == EMPTY)
      CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, ""), CURLE_OK);
    if (way == STANDARD_INPUT) {
      /* Up to here it would have been waited for without end. */
      CHECK_INT(write(input[1], "uvcurl", 6), 6);
      CHECK_INT(close(input[1]), 0);
      t->keep_body = 1;
    }
    begin(&f, t);
    fixture_run(&f);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->code, 200);
    if (way == STANDARD_INPUT)
      CHECK_STR((const char *)t->body, "uvcurl");
    else
      CHECK_INT(t->received, 0);
    transfer_free(t);
  }
  fixture_close(&f);
  CHECK_INT(close(input[0]), 0);
}

TEST(authentication) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/auth/100");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_USERPWD, "name:word"), CURLE_OK);
  /* libcurl asks first without, so there are two requests and one report. */
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_ANY), CURLE_OK);
  run_to(&f, t, 0);
  CHECK_INT(t->code, 200);
  CHECK_INT(t->received, 100);
  CHECK_INT(server_count(f.server, SERVER_REQUESTS), 2);
  transfer_free(t);
  fixture_close(&f);
}

TEST(huge_header) {
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new(&f, "/huge-header/60000");
  run_to(&f, t, 0);
  CHECK_INT(t->received, 0);
  transfer_free(t);
  /* libcurl has a limit for all of them together. */
  t = transfer_new(&f, "/huge-header/1000000");
  begin(&f, t);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK(t->status > 0);
  transfer_free(t);
  fixture_close(&f);
}

/* ---- a proxy ---- */

TEST(http_proxy) {
  char proxy[100];
  fixture f;
  fixture_open(&f);
  transfer *t = transfer_new_url(&f, "http://nowhere.test/bytes/1000");
  server_url(f.server, proxy, sizeof proxy, SERVER_HTTP, "");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_PROXY, proxy), CURLE_OK);
  run_to(&f, t, 0);
  CHECK_INT(t->received, 1000);
  CHECK(t->content_ok);
  transfer_free(t);
  fixture_close(&f);
}

/* ---- file:// ---- */

/* It is done within one call and has no socket at all, so the report has only the loop to come
 * from, and the loop only the driver to live for. */
TEST(file) {
  char path[] = "/tmp/uvcurl-test-XXXXXX", url[100];
  unsigned char bytes[50000];
  fixture f;
  fixture_open_bare(&f);
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  server_fill(bytes, 0, sizeof bytes);
  CHECK_INT(write(fd, bytes, sizeof bytes), sizeof bytes);
  close(fd);
  snprintf(url, sizeof url, "file://%s", path);
  for (int i = 0; i < 3; i++) {
    transfer *t = transfer_new_url(&f, url);
    begin(&f, t);
    CHECK_INT(t->received, 0);
    fixture_run(&f);
    CHECK_INT(t->done, 1);
    CHECK_INT(t->status, 0);
    CHECK_INT(t->received, sizeof bytes);
    CHECK(t->content_ok);
    transfer_free(t);
  }
  CHECK_INT(unlink(path), 0);
  transfer *t = transfer_new_url(&f, url);
  run_to(&f, t, CURLE_FILE_COULDNT_READ_FILE);
  transfer_free(t);
  fixture_close(&f);
}

/* ---- WebSocket ---- */

/* The curl-sys releases before libcurl 8.12 compile it without, and 7.85 does not know it. */
static void need_websocket(void) {
  const char *const *protocol = curl_version_info(CURLVERSION_NOW)->protocols;
  while (*protocol && strcmp(*protocol, "ws") != 0)
    protocol++;
  if (!*protocol)
    SKIP("libcurl %s was compiled without WebSocket", curl_version_info(CURLVERSION_NOW)->version);
}

static transfer *websocket(fixture *f, bool tls) {
  char url[200];
  snprintf(url, sizeof url, "%s://127.0.0.1:%d/ws", tls ? "wss" : "ws",
           server_port(f->server, tls ? SERVER_HTTPS : SERVER_HTTP));
  return transfer_new_url(f, url);
}

/* With CURLOPT_CONNECT_ONLY 2 the upgrade is the transfer, and the report is all libcurl says. */
static void expect_upgrade(bool tls) {
  fixture f;
  need_websocket();
  fixture_open(&f);
  if (tls)
    fixture_need_tls(&f);
  transfer *t = websocket(&f, tls), *other = transfer_new(&f, "/bytes/100");
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_CONNECT_ONLY, 2L), CURLE_OK);
  begin(&f, t);
  begin(&f, other);
  fixture_run(&f);
  CHECK_INT(t->done, 1);
  CHECK_INT(t->status, 0);
  CHECK_INT(t->code, 101);
  CHECK_INT(other->status, 0);
  transfer_free(t);
  transfer_free(other);
  fixture_close(&f);
}

TEST(websocket_upgrade) {
  expect_upgrade(false);
}

TEST(websocket_upgrade_tls) {
  expect_upgrade(true);
}

#if LIBCURL_VERSION_NUM >= 0x075600
#pragma weak curl_ws_meta
static int is_binary_frame(CURL *easy) {
  const struct curl_ws_frame *frame = curl_ws_meta(easy);
  return frame && frame->flags & CURLWS_BINARY;
}
#else
static int is_binary_frame(CURL *easy) {
  (void)easy;
  return 0;
}
#endif

/* What the server echoes arrives in the write callback, frame by frame. Once it is complete the
 * callback cancels: a WebSocket has no end of its own. */
static size_t on_frame(transfer *t, const char *data, size_t n) {
  source *s = t->user;
  (void)data;
  CHECK(is_binary_frame(t->easy));
  if (t->received + n == s->size)
    CHECK_INT(transfer_cancel(t->f, t), 0);
  return n;
}

/* A frame of libcurl's making per call, each short enough for the server. */
static size_t source_read_frame(char *to, size_t size, size_t count, void *arg) {
  size_t n = size * count;
  return source_read(to, 1, n < 4000 ? n : 4000, arg);
}

static void expect_ws_echo(bool tls) {
  source s = {0, 100000};
  fixture f;
  need_websocket();
  if (curl_number() < 0x081000)
    SKIP("libcurl before 8.16 does not ask the read callback for frames");
  fixture_open(&f);
  if (tls)
    fixture_need_tls(&f);
  transfer *t = websocket(&f, tls);
  t->user = &s;
  t->on_write = on_frame;
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_UPLOAD, 1L), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, source_read_frame), CURLE_OK);
  CHECK_INT(curl_easy_setopt(t->easy, CURLOPT_READDATA, &s), CURLE_OK);
  run_to(&f, t, UV_ECANCELED);
  CHECK_INT(t->received, s.size);
  CHECK(t->content_ok);
  transfer_free(t);
  fixture_close(&f);
}

TEST(websocket_echo) {
  expect_ws_echo(false);
}

TEST(websocket_echo_tls) {
  expect_ws_echo(true);
}

TEST_MAIN(T(chunked), T(chunked_tls), T(until_eof), T(until_eof_tls), T(redirects),
          T(redirects_tls), T(redirect_to_another_address), T(too_many_redirects),
          T(name_outside_ascii), T(echo), T(echo_tls), T(expect_100_continue),
          T(expect_100_that_does_not_come), T(refused_instead_of_100), T(post_without_a_body),
          T(authentication), T(huge_header), T(http_proxy), T(file), T(websocket_upgrade),
          T(websocket_upgrade_tls), T(websocket_echo), T(websocket_echo_tls))
