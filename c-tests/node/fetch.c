/* An addon that fetches URLs with libcurl on Node's own loop: the C half of fetch.js. Plain
 * Node-API. */
#define NAPI_VERSION 8
#include <stdio.h>
#include <uvcurl_node.h>

enum { POOL = 64 };

/* Per environment. Easy handles are kept, for making one costs more than resetting one. */
typedef struct {
  uvcurl_node_t *node;
  CURL *pool[POOL];
  int pooled;
  int made; /* jobs whose memory is in use */
} addon_t;

/* One fetch. It lives while it is in flight and while JavaScript holds on to it. */
typedef struct {
  uvcurl_node_transfer_t transfer;
  addon_t *addon;
  CURL *easy;
  struct curl_slist *headers;
  napi_ref handlers; /* { onhead, ondata, ondrain, ondone } */
  napi_ref body;     /* the Buffer that is sent, if it is one */
  char *head;        /* the response's header lines */
  size_t head_size, head_room;
  int status, informational, head_told, follow;
  char *out; /* what is to be uploaded */
  size_t out_start, out_end, out_room;
  int out_over, starved, paused;
  int holders;
  char error[CURL_ERROR_SIZE];
} job_t;

static addon_t *addon_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

static void job_release(job_t *job) {
  if (--job->holders)
    return;
  job->addon->made--;
  free(job->head);
  free(job->out);
  free(job);
}

static void job_finalize(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  job_release(data);
}

/* Appends to a buffer that grows; 0 if there is no memory. */
static int append(char **buffer, size_t *end, size_t *room, const char *data, size_t size) {
  if (size > *room - *end) {
    size_t larger = (*end + size) * 2;
    char *moved = realloc(*buffer, larger);
    if (!moved)
      return 0;
    *buffer = moved;
    *room = larger;
  }
  memcpy(*buffer + *end, data, size);
  *end += size;
  return 1;
}

/* Calls handlers[name](...). What it throws stays pending. */
static void call(napi_env env, job_t *job, const char *name, size_t count, napi_value *arguments) {
  napi_value handlers, function;
  if (napi_get_reference_value(env, job->handlers, &handlers) == napi_ok &&
      napi_get_named_property(env, handlers, name, &function) == napi_ok)
    napi_call_function(env, handlers, function, count, arguments, NULL);
}

static void tell_head(napi_env env, job_t *job) {
  napi_value arguments[2];
  job->head_told = 1;
  if (napi_create_int32(env, job->status, &arguments[0]) == napi_ok &&
      napi_create_string_latin1(env, job->head ? job->head : "", job->head_size, &arguments[1]) ==
          napi_ok)
    call(env, job, "onhead", 2, arguments);
}

/* ---- libcurl's callbacks ---- */

static size_t on_header(char *data, size_t one, size_t size, void *user_data) {
  job_t *job = user_data;
  uvcurl_node_scope_t scope;
  napi_env env;
  (void)one;

  if (job->head_told)
    return size; /* trailers */
  if (size > 5 && !memcmp(data, "HTTP/", 5)) {
    const char *space = memchr(data, ' ', size);
    job->head_size = 0;
    job->status = space && space + 3 < data + size ? atoi(space + 1) : 0;
  }
  if (!append(&job->head, &job->head_size, &job->head_room, data, size))
    return 0;
  /* A blank line ends a header. One of a redirect is told only if there is a body, or nothing else,
   * after it. */
  if (size <= 2 && job->status >= 200 && !(job->follow && job->status / 100 == 3) &&
      (env = uvcurl_node_enter(&job->transfer, &scope))) {
    tell_head(env, job);
    uvcurl_node_leave(env, &scope);
  }
  return size;
}

static size_t on_data(char *data, size_t one, size_t size, void *user_data) {
  job_t *job = user_data;
  uvcurl_node_scope_t scope;
  napi_env env = uvcurl_node_enter(&job->transfer, &scope);
  napi_value chunk;
  (void)one;

  if (!env)
    return CURL_WRITEFUNC_ERROR;
  if (!job->head_told)
    tell_head(env, job);
  if (napi_create_buffer_copy(env, size, data, NULL, &chunk) == napi_ok)
    call(env, job, "ondata", 1, &chunk);
  uvcurl_node_leave(env, &scope);
  return size;
}

static size_t on_read(char *data, size_t one, size_t room, void *user_data) {
  job_t *job = user_data;
  size_t size = job->out_end - job->out_start;
  uvcurl_node_scope_t scope;
  napi_env env;
  (void)one;

  if (!size) {
    if (job->out_over)
      return 0;
    job->starved = 1;
    return CURL_READFUNC_PAUSE;
  }
  if (size > room)
    size = room;
  memcpy(data, job->out + job->out_start, size);
  job->out_start += size;
  if (job->out_start == job->out_end) {
    job->out_start = job->out_end = 0;
    if ((env = uvcurl_node_enter(&job->transfer, &scope))) {
      call(env, job, "ondrain", 0, NULL);
      uvcurl_node_leave(env, &scope);
    }
  }
  return size;
}

static void on_done(uvcurl_node_t *node, uvcurl_node_transfer_t *transfer, CURL *easy, int status,
                    void *user_data) {
  job_t *job = user_data;
  addon_t *addon = job->addon;
  napi_env env = uvcurl_node_env(node);
  napi_value error;
  (void)transfer;

  job->easy = NULL;
  if (env) {
    if (!status && !job->head_told)
      tell_head(env, job);
    napi_get_undefined(env, &error);
    if (status)
      error = uvcurl_node_error(env, status, job->error);
    if (error)
      call(env, job, "ondone", 1, &error);
  }
  /* Unlike a call, this may be done to the last. */
  if (job->body)
    napi_delete_reference(node->env, job->body);
  napi_delete_reference(node->env, job->handlers);
  curl_slist_free_all(job->headers);
  if (addon->pooled < POOL) {
    curl_easy_reset(easy);
    addon->pool[addon->pooled++] = easy;
  } else {
    curl_easy_cleanup(easy);
  }
  job_release(job);
}

/* ---- what fetch.js calls ---- */

static char *string_of(napi_env env, napi_value value) {
  size_t size = 0;
  char *text;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &size) != napi_ok ||
      !(text = malloc(size + 1)))
    return NULL;
  napi_get_value_string_utf8(env, value, text, size + 1, &size);
  return text;
}

static int is_string(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  return napi_typeof(env, value, &type) == napi_ok && type == napi_string;
}

/* NULL if JavaScript cannot be asked any more, as in a worker that is being terminated. */
static napi_value member_of(napi_env env, napi_value object, const char *name) {
  napi_value value;
  return napi_get_named_property(env, object, name, &value) == napi_ok ? value : NULL;
}

static double number_of(napi_env env, napi_value object, const char *name) {
  napi_value value;
  double number = 0;
  if (napi_get_named_property(env, object, name, &value) == napi_ok)
    napi_get_value_double(env, value, &number);
  return number;
}

static void set_string(napi_env env, napi_value object, const char *name, CURL *easy,
                       CURLoption to) {
  napi_value value;
  char *text;
  if (napi_get_named_property(env, object, name, &value) == napi_ok && is_string(env, value) &&
      (text = string_of(env, value))) {
    curl_easy_setopt(easy, to, text);
    free(text);
  }
}

/* 0 if the options could not be read. */
static int set_options(napi_env env, job_t *job, napi_value options) {
  CURL *easy = job->easy;
  napi_value value, item;
  uint32_t count = 0, i;
  void *data;
  size_t size;
  bool is_buffer = false;

  set_string(env, options, "url", easy, CURLOPT_URL);
  set_string(env, options, "method", easy, CURLOPT_CUSTOMREQUEST);
  set_string(env, options, "cafile", easy, CURLOPT_CAINFO);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)number_of(env, options, "http"));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)number_of(env, options, "timeout"));
  curl_easy_setopt(easy, CURLOPT_NOBODY, (long)number_of(env, options, "nobody"));
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, (long)number_of(env, options, "pipewait"));
  job->follow = number_of(env, options, "redirects") > 0;
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, (long)job->follow);
  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)number_of(env, options, "redirects"));
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, job->error);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, job);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, job);

  value = member_of(env, options, "headers");
  if (!value || napi_get_array_length(env, value, &count) != napi_ok)
    return 0;
  for (i = 0; i < count; i++) {
    char *line;
    struct curl_slist *longer;
    if (napi_get_element(env, value, i, &item) != napi_ok)
      return 0;
    if ((line = string_of(env, item))) {
      longer = curl_slist_append(job->headers, line);
      if (longer)
        job->headers = longer;
      free(line);
    }
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, job->headers);

  if (!(value = member_of(env, options, "ca")))
    return 0;
  if (napi_is_buffer(env, value, &is_buffer) == napi_ok && is_buffer &&
      napi_get_buffer_info(env, value, &data, &size) == napi_ok) {
    struct curl_blob blob = {data, size, CURL_BLOB_COPY};
    curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
  }
  if (!(value = member_of(env, options, "body")))
    return 0;
  if (napi_is_buffer(env, value, &is_buffer) == napi_ok && is_buffer &&
      napi_get_buffer_info(env, value, &data, &size) == napi_ok) {
    napi_create_reference(env, value, 1, &job->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, size ? (char *)data : "");
  } else if (number_of(env, options, "upload") > 0) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, job);
  }
  return 1;
}

/* start(options, handlers): the job, for the functions below */
static napi_value start(napi_env env, napi_callback_info info) {
  addon_t *addon = addon_of(env);
  size_t count = 2;
  napi_value arguments[2], external;
  job_t *job = calloc(1, sizeof *job);
  int status = UV_ENOMEM;

  if (!job || napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count < 2) {
    free(job);
    napi_throw_error(env, NULL, "start(options, handlers)");
    return NULL;
  }
  job->addon = addon;
  job->holders = 1;
  addon->made++;
  job->easy = addon->pooled ? addon->pool[--addon->pooled] : curl_easy_init();
  if (job->easy && napi_create_external(env, job, job_finalize, NULL, &external) == napi_ok) {
    job->holders++;
    napi_create_reference(env, arguments[1], 1, &job->handlers);
    status = UV_ECANCELED;
    if (set_options(env, job, arguments[0]))
      status = uvcurl_node_start(addon->node, &job->transfer, job->easy, on_done, job);
    if (!status)
      return external;
    napi_delete_reference(env, job->handlers);
    if (job->body)
      napi_delete_reference(env, job->body);
  }
  uvcurl_node_throw(env, status, NULL);
  curl_slist_free_all(job->headers);
  curl_easy_cleanup(job->easy);
  job->easy = NULL;
  job_release(job);
  return NULL;
}

/* The job that is the first argument, if it is in flight. */
static job_t *in_flight(napi_env env, napi_callback_info info, size_t count,
                        napi_value *arguments) {
  void *job = NULL;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok ||
      napi_get_value_external(env, arguments[0], &job) != napi_ok || !((job_t *)job)->easy)
    return NULL;
  return job;
}

static void set_pause(job_t *job) {
  uvcurl_pause(uvcurl_node_driver(job->addon->node), job->easy,
               (job->paused ? CURLPAUSE_RECV : 0) | (job->starved ? CURLPAUSE_SEND : 0));
}

/* pause(job), resume(job): the download */
static napi_value pause_job(napi_env env, napi_callback_info info) {
  napi_value argument;
  job_t *job = in_flight(env, info, 1, &argument);
  if (job && !job->paused) {
    job->paused = 1;
    set_pause(job);
  }
  return NULL;
}

static napi_value resume_job(napi_env env, napi_callback_info info) {
  napi_value argument;
  job_t *job = in_flight(env, info, 1, &argument);
  if (job && job->paused) {
    job->paused = 0;
    set_pause(job);
  }
  return NULL;
}

/* cancel(job) */
static napi_value cancel(napi_env env, napi_callback_info info) {
  napi_value argument;
  job_t *job = in_flight(env, info, 1, &argument);
  if (job)
    uvcurl_cancel(uvcurl_node_driver(job->addon->node), job->easy);
  return NULL;
}

/* write(job, buffer), write(job): more to upload, the end of it; ondrain asks for more */
static napi_value write_job(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  void *data = NULL;
  size_t size = 0;
  bool is_buffer = false;
  job_t *job = in_flight(env, info, 2, arguments);

  if (!job)
    return NULL;
  if (napi_is_buffer(env, arguments[1], &is_buffer) == napi_ok && is_buffer)
    napi_get_buffer_info(env, arguments[1], &data, &size);
  else
    job->out_over = 1;
  if (size && !append(&job->out, &job->out_end, &job->out_room, data, size)) {
    uvcurl_node_throw(env, UV_ENOMEM, NULL);
    return NULL;
  }
  if (job->starved) {
    job->starved = 0;
    set_pause(job);
  }
  return NULL;
}

/* unref(): transfers in flight keep Node alive no longer */
static napi_value unref(napi_env env, napi_callback_info info) {
  (void)info;
  uvcurl_unref(uvcurl_node_driver(addon_of(env)->node));
  return NULL;
}

/* stats(): { active, jobs, curl } */
static napi_value stats(napi_env env, napi_callback_info info) {
  addon_t *addon = addon_of(env);
  napi_value object, value;
  (void)info;
  napi_create_object(env, &object);
  napi_create_uint32(env, (uint32_t)uvcurl_active(uvcurl_node_driver(addon->node)), &value);
  napi_set_named_property(env, object, "active", value);
  napi_create_int32(env, addon->made, &value);
  napi_set_named_property(env, object, "jobs", value);
  napi_create_string_utf8(env, curl_version(), NAPI_AUTO_LENGTH, &value);
  napi_set_named_property(env, object, "curl", value);
  return object;
}

static void addon_finalize(napi_env env, void *data, void *hint) {
  addon_t *addon = data;
  (void)env, (void)hint;
  while (addon->pooled)
    curl_easy_cleanup(addon->pool[--addon->pooled]);
  free(addon);
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"start", NULL, start, NULL, NULL, NULL, napi_default, NULL},
      {"pause", NULL, pause_job, NULL, NULL, NULL, napi_default, NULL},
      {"resume", NULL, resume_job, NULL, NULL, NULL, napi_default, NULL},
      {"cancel", NULL, cancel, NULL, NULL, NULL, napi_default, NULL},
      {"write", NULL, write_job, NULL, NULL, NULL, napi_default, NULL},
      {"unref", NULL, unref, NULL, NULL, NULL, napi_default, NULL},
      {"stats", NULL, stats, NULL, NULL, NULL, napi_default, NULL},
  };
  addon_t *addon = calloc(1, sizeof *addon);
  int status = addon ? uvcurl_node_attach(env, &addon->node) : UV_ENOMEM;

  if (status) {
    free(addon);
    uvcurl_node_throw(env, status, NULL);
    return NULL;
  }
  napi_set_instance_data(env, addon, addon_finalize, NULL);
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}
