/* What the consumer programs have in common: one URL, what is expected of it, and what came. For C
 * and C++.
 *
 * The files served are those of nginx.sh. A URL with "h2:" before it must be answered over HTTP/2.
 */
#ifndef TRANSFER_H
#define TRANSFER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

typedef struct transfer {
  const char *url;
  CURL *easy;
  size_t wanted, got;
  int h2, wrong_byte, done;
} transfer;

static inline size_t transfer_write(char *data, size_t size, size_t count, void *user_data) {
  transfer *t = (transfer *)user_data;
  size_t i;
  for (i = 0; i < size * count; i++) {
    size_t at = (t->got + i) % 65521;
    if ((unsigned char)data[i] != ((at * 167 + (at >> 8) * 13) & 255))
      t->wrong_byte = 1;
  }
  t->got += size * count;
  return size * count;
}

/* Returns 0 if the handle could be made. */
static inline int transfer_init(transfer *t, const char *url, const char *ca) {
  const char *file;
  char unit = 0;
  memset(t, 0, sizeof *t);
  t->h2 = strncmp(url, "h2:", 3) == 0;
  t->url = t->h2 ? url + 3 : url;
  file = strrchr(t->url, '/');
  if (!file || sscanf(file, "/%zu%c", &t->wanted, &unit) != 2)
    return -1;
  t->wanted <<= unit == 'm' ? 20 : 10;
  t->easy = curl_easy_init();
  if (!t->easy || curl_easy_setopt(t->easy, CURLOPT_URL, t->url) ||
      curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, transfer_write) ||
      curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t))
    return -1;
  if (ca && curl_easy_setopt(t->easy, CURLOPT_CAINFO, ca))
    return -1;
  return t->h2 ? (int)curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS)
               : 0;
}

/* In the done callback: returns how many things are wrong, and says which. */
static inline int transfer_check(transfer *t, int status, const char *text) {
  long code = 0, version = 0;
  curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code);
  curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
  if (!t->done++ && !status && code == 200 && t->got == t->wanted && !t->wrong_byte &&
      (version == CURL_HTTP_VERSION_2_0) == t->h2)
    return 0;
  fprintf(stderr, "%s: %s, HTTP %ld (version %ld), %zu of %zu bytes%s, report no. %d\n", t->url,
          text, code, version, t->got, t->wanted, t->wrong_byte ? ", not those sent" : "", t->done);
  return 1;
}

#endif /* TRANSFER_H */
