/*
 * uvcurl_node: uvcurl in an addon of Node, on Node's own loop. Header only; plain Node-API (version
 * 8 or later), C and C++.
 *
 *     napi_value init(napi_env env, napi_value exports) {
 *       uvcurl_node_t *node;                      one per environment, which frees it
 *       int status = uvcurl_node_attach(env, &node);
 *       if (status) {
 *         uvcurl_node_throw(env, status, NULL);   require() of the addon throws
 *         return NULL;
 *       }
 *       napi_set_instance_data(env, node, NULL, NULL);
 *       ...
 *     }
 *
 *     status = uvcurl_node_start(node, &my->transfer, my->easy, on_done, my);
 *
 *     void on_done(uvcurl_node_t *node, uvcurl_node_transfer_t *transfer, CURL *easy, int status,
 *                  void *user_data) {
 *       if (uvcurl_node_env(node)) ...            settle a promise, call a function
 *       ...                                       free what is yours, in any case
 *     }
 *
 * LIFE. uvcurl_node_attach() makes a driver on the loop of an environment, which is the main thread
 * or one worker. Each has its own, on its own thread, and an addon is initialised once for each.
 * The driver ends by itself with the environment: at the end of a worker, by worker.terminate() or
 * by itself, and of the main thread when it has nothing more to do. Transfers still in flight then
 * are reported with UV_ECANCELED, without waiting for anything, and no JavaScript can run any more:
 * uvcurl_node_env() is NULL, and the done callback only frees. process.exit() on the main thread
 * ends the process with no callback at all.
 *
 * A transfer in flight keeps Node alive as an open socket would; a driver without transfers does
 * not, however many connections idle in its pool. uvcurl_unref(uvcurl_node_driver(node)) turns the
 * first half off.
 *
 * THREADS. Everything here is called on the thread of the environment.
 *
 * JAVASCRIPT IN CALLBACKS. Callbacks of libcurl and uvcurl run from the loop, where Node expects
 * native code to open a callback scope before it calls into JavaScript, lest process.nextTick() and
 * promises run late. The done callback is called inside one. In write, header, read and progress
 * callbacks use uvcurl_node_enter() and uvcurl_node_leave(). An exception that JavaScript threw
 * there becomes an 'uncaughtException', as in a listener of a socket.
 *
 * The scopes are in the asynchronous context in which the transfer was started. Before Node 24 that
 * gives callbacks the stores of AsyncLocalStorage; since then no addon gets them by Node-API, and
 * AsyncLocalStorage.snapshot() in JavaScript does it for every version. A promise that is awaited
 * has the right store in any case.
 *
 * STATUS. As in uvcurl.h. uvcurl_node_error() makes a JavaScript Error of one.
 *
 * Link with libuvcurl_node.a and -Wl,--exclude-libs,ALL, and with no other libuv, libcurl or
 * OpenSSL: docs/node.md says why.
 */
#ifndef UVCURL_NODE_H
#define UVCURL_NODE_H

#include <stdlib.h>
#include <string.h>

#include <node_api.h>

#include <uvcurl.h>

#if !defined(NAPI_VERSION) || NAPI_VERSION < 8
#error "uvcurl_node.h needs asynchronous cleanup hooks: define NAPI_VERSION as 8 or later"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Every function may be left unused. */
#if defined(__GNUC__)
#define UVCURL_NODE_FN static __attribute__((unused))
#else
#define UVCURL_NODE_FN static
#endif

/** A driver in a napi_env. Opaque: use the functions below. It is freed with the environment, not
 * by the addon. */
typedef struct uvcurl_node_t uvcurl_node_t;

/** One transfer, in memory of the addon's, usually a member of its own struct. All members are
 * private. */
typedef struct uvcurl_node_transfer_t uvcurl_node_transfer_t;

/**
 * Reports that a transfer has ended; as uvcurl_done_cb, and inside a callback scope if there is
 * still JavaScript to call.
 *
 * The memory of `transfer` is the addon's again and may be freed here, or started again.
 * uvcurl_node_env(node) is NULL if the environment is ending: free what belongs to the transfer,
 * and do not call JavaScript.
 */
typedef void (*uvcurl_node_done_cb)(uvcurl_node_t *node, uvcurl_node_transfer_t *transfer,
                                    CURL *easy, int status, void *user_data);

struct uvcurl_node_t {
  napi_env env;
  uvcurl_t *driver;
  napi_async_cleanup_hook_handle hook;
  int closing;
};

struct uvcurl_node_transfer_t {
  uvcurl_node_t *node;
  uvcurl_node_done_cb cb;
  void *user_data;
  napi_async_context context;
};

/** Scopes around a call into JavaScript, see uvcurl_node_enter(). All members are private. */
typedef struct uvcurl_node_scope_t {
  napi_handle_scope handles;
  napi_callback_scope callback;
} uvcurl_node_scope_t;

UVCURL_NODE_FN void uvcurl_node_closed_(void *user_data) {
  uvcurl_node_t *node = (uvcurl_node_t *)user_data;
  napi_async_cleanup_hook_handle hook = node->hook;
  free(node);
  /* Node goes on with its end, and may free the environment, in here. */
  (void)napi_remove_async_cleanup_hook(hook);
}

/* The environment ends. Node runs the loop until the hook has been removed. */
UVCURL_NODE_FN void uvcurl_node_cleanup_(napi_async_cleanup_hook_handle hook, void *user_data) {
  uvcurl_node_t *node = (uvcurl_node_t *)user_data;
  (void)hook;
  node->closing = 1;
  uvcurl_close(node->driver, uvcurl_node_closed_, node);
}

/**
 * Makes a driver on the loop of an environment.
 *
 * It lives as long as the environment does. Call it once per environment, in the function that
 * initialises the addon; a second call makes a second driver with its own connections.
 *
 * \param env  the environment
 * \param out  where the driver goes; written only on success
 * \return 0; as uvcurl_new(), UVCURL_E_LIBUV_MISMATCH and UVCURL_E_LIBCURL_MISMATCH above all;
 * UV_EINVAL if Node gives no loop; UV_ENOMEM
 */
UVCURL_NODE_FN int uvcurl_node_attach(napi_env env, uvcurl_node_t **out) {
  uv_loop_t *loop = NULL;
  uvcurl_node_t *node;
  int status;

  if (!env || !out || napi_get_uv_event_loop(env, &loop) != napi_ok || !loop)
    return UV_EINVAL;
  node = (uvcurl_node_t *)calloc(1, sizeof *node);
  if (!node)
    return UV_ENOMEM;
  node->env = env;
  status = uvcurl_new(loop, &node->driver);
  if (status) {
    free(node);
    return status;
  }
  if (napi_add_async_cleanup_hook(env, uvcurl_node_cleanup_, node, &node->hook) != napi_ok) {
    /* It cannot outlive the environment now; the loop still has to run for its handles to go. */
    uvcurl_close(node->driver, NULL, NULL);
    free(node);
    return UV_ENOMEM;
  }
  *out = node;
  return 0;
}

/** The driver, for uvcurl_pause(), _cancel(), _set(), _multi(), _ref() and the rest. Do not close
 * it. */
UVCURL_NODE_FN uvcurl_t *uvcurl_node_driver(const uvcurl_node_t *node) {
  return node->driver;
}

/** The environment as long as JavaScript can be called, NULL once it is ending. */
UVCURL_NODE_FN napi_env uvcurl_node_env(const uvcurl_node_t *node) {
  return node->closing ? NULL : node->env;
}

/**
 * Opens the scopes in which a callback of a transfer may call into JavaScript: one for handles, and
 * a callback scope in the transfer's asynchronous context.
 *
 * \param transfer  a transfer that is in flight
 * \param scope     the callback's own, for uvcurl_node_leave()
 * \return the environment; NULL if JavaScript cannot be called (any more): then there is nothing to
 * leave
 */
UVCURL_NODE_FN napi_env uvcurl_node_enter(uvcurl_node_transfer_t *transfer,
                                          uvcurl_node_scope_t *scope) {
  napi_env env = uvcurl_node_env(transfer->node);

  if (!env || napi_open_handle_scope(env, &scope->handles) != napi_ok)
    return NULL;
  /* The resource is that of the context; Node ignores the one given here. */
  if (napi_open_callback_scope(env, NULL, transfer->context, &scope->callback) != napi_ok) {
    (void)napi_close_handle_scope(env, scope->handles);
    return NULL;
  }
  return env;
}

/**
 * Closes what uvcurl_node_enter() opened, and so runs what process.nextTick() and promises have
 * waiting. An exception that is pending becomes an 'uncaughtException' first.
 *
 * \param env    what uvcurl_node_enter() returned
 * \param scope  the same scope
 */
UVCURL_NODE_FN void uvcurl_node_leave(napi_env env, uvcurl_node_scope_t *scope) {
  bool pending = false;
  napi_value error;

  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok)
    (void)napi_fatal_exception(env, error);
  (void)napi_close_callback_scope(env, scope->callback);
  (void)napi_close_handle_scope(env, scope->handles);
}

UVCURL_NODE_FN void uvcurl_node_done_(uvcurl_t *uc, CURL *easy, int status, void *user_data) {
  uvcurl_node_transfer_t *transfer = (uvcurl_node_transfer_t *)user_data;
  /* The callback may free the transfer. */
  uvcurl_node_transfer_t copy = *transfer;
  uvcurl_node_scope_t scope;
  napi_env env = uvcurl_node_enter(transfer, &scope);

  (void)uc;
  transfer->context = NULL;
  copy.cb(copy.node, transfer, easy, status, copy.user_data);
  if (env)
    uvcurl_node_leave(env, &scope);
  (void)napi_async_destroy(copy.node->env, copy.context);
}

/**
 * Starts a transfer, as uvcurl_start().
 *
 * The scopes of its callbacks are in the asynchronous context of this call. Call it where there is
 * a handle scope, as in every function that JavaScript has called.
 *
 * \param node       the driver
 * \param transfer   memory for it, which must stay until the done callback
 * \param easy       the easy handle, with all its options
 * \param cb         called once when the transfer has ended
 * \param user_data  handed to the callback
 * \return as uvcurl_start(); UV_ECANCELED if the environment is ending. After a failure no callback
 * runs for this call.
 */
UVCURL_NODE_FN int uvcurl_node_start(uvcurl_node_t *node, uvcurl_node_transfer_t *transfer,
                                     CURL *easy, uvcurl_node_done_cb cb, void *user_data) {
  napi_value name;
  napi_async_context context = NULL;
  int status;

  if (!node || !transfer || !cb)
    return UV_EINVAL;
  if (node->closing)
    return UV_ECANCELED;
  if (napi_create_string_utf8(node->env, "uvcurl", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(node->env, NULL, name, &context) != napi_ok)
    return UV_ENOMEM;
  transfer->node = node;
  transfer->cb = cb;
  transfer->user_data = user_data;
  transfer->context = context;
  status = uvcurl_start(node->driver, easy, uvcurl_node_done_, transfer);
  if (status) {
    transfer->context = NULL;
    (void)napi_async_destroy(node->env, context);
  }
  return status;
}

/**
 * A JavaScript Error for a status: `code` is uvcurl_err_name(), such as 'CURLE_COULDNT_CONNECT',
 * `errno` the number, and `message` uvcurl_strerror() or, after it, `detail`.
 *
 * \param env     the environment
 * \param status  the status
 * \param detail  more words for the message, such as CURLOPT_ERRORBUFFER; or NULL
 * \return the Error; NULL if Node could not make one
 */
UVCURL_NODE_FN napi_value uvcurl_node_error(napi_env env, int status, const char *detail) {
  char text[256 + CURL_ERROR_SIZE];
  const char *separator = detail && *detail ? ": " : "";
  napi_value code, message, number, error;
  size_t used = 0;
  const char *parts[3];
  int i;

  parts[0] = uvcurl_strerror(status);
  parts[1] = separator;
  parts[2] = *separator ? detail : "";
  for (i = 0; i < 3; i++) {
    size_t length = strlen(parts[i]);
    if (length > sizeof text - used)
      length = sizeof text - used;
    memcpy(text + used, parts[i], length);
    used += length;
  }
  if (napi_create_string_utf8(env, uvcurl_err_name(status), NAPI_AUTO_LENGTH, &code) != napi_ok ||
      napi_create_string_utf8(env, text, used, &message) != napi_ok ||
      napi_create_int32(env, status, &number) != napi_ok ||
      napi_create_error(env, code, message, &error) != napi_ok ||
      napi_set_named_property(env, error, "errno", number) != napi_ok)
    return NULL;
  return error;
}

/** Throws uvcurl_node_error() in the JavaScript that called the addon. */
UVCURL_NODE_FN void uvcurl_node_throw(napi_env env, int status, const char *detail) {
  napi_value error = uvcurl_node_error(env, status, detail);
  if (error)
    (void)napi_throw(env, error);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* UVCURL_NODE_H */
