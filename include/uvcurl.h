/*
 * uvcurl: libcurl transfers on a libuv loop that the program already has.
 *
 * The program owns a uv_loop_t and its easy handles. uvcurl owns one libcurl multi handle per driver and answers
 * libcurl's socket and timer callbacks with handles on that loop. It has no thread and no loop of its own.
 *
 *     uvcurl_t *uc;
 *     int status = uvcurl_new(loop, &uc);
 *     ...
 *     status = uvcurl_start(uc, easy, on_done, user_data);     on_done runs once, from the loop
 *     uv_run(loop, UV_RUN_DEFAULT);
 *     ...
 *     uvcurl_close(uc, on_closed, user_data);                  then run the loop until on_closed
 *
 * THE CONTRACT
 *
 *  1. For every uvcurl_start() that returned 0 the done callback runs exactly once: from the loop, on its thread, never
 *     inside uvcurl_start(), _cancel(), _pause() or _close(), never after the close callback. A start that failed calls
 *     nothing.
 *  2. When the done callback runs, libcurl has let go of the easy handle: the program may use it again, start it again at
 *     once, or clean it up there and then.
 *  3. Every function may be called from every callback that libcurl or uvcurl makes, the easy handle's own write, header,
 *     progress and debug callbacks included. What libcurl forbids there is done, in order, as soon as libcurl has
 *     returned; what can be refused is refused at once.
 *  4. uvcurl_close() cancels what is in flight, never waits for a name lookup or anything else, and calls its callback
 *     once nothing of uvcurl is left on the loop.
 *  5. Transfers in flight keep the loop alive, paused and rate-limited ones too. A driver without transfers does not,
 *     however many connections idle in its pool, and causes no turn of the loop after the first, but for one when the
 *     peer of an idle connection ends it. See uvcurl_ref().
 *  6. libcurl's own timeouts fire in every state, also (since libcurl 8.8) while a transfer waits behind a connection
 *     limit.
 *  7. What goes wrong with one socket or one transfer is that transfer's result and nobody else's.
 *  8. The easy handle stays the program's. uvcurl never uses CURLOPT_PRIVATE; see UVCURL_EASY_UNTOUCHED for what it sets.
 *  9. NULL, a closing driver or a handle in the wrong state gives a negative status, not a crash.
 * 10. Two copies of libuv or of libcurl in one process are found out by uvcurl_new().
 *
 * Not caught: cleaning up an easy handle that is in flight, and using a driver after its close callback. In a child after
 * fork() a driver must not be used at all. A C++ exception that leaves a callback ends the process.
 *
 * STATUS. 0 is success. Above 0 it is a CURLcode, below 0 a number of libuv's (UV_ECANCELED ...) or one of uvcurl's own,
 * UVCURL_E_..., which lie below -10000. uvcurl_strerror() knows them all.
 *
 * THREADS. A driver is used on the thread that runs its loop. From others, functions with a status give
 * UVCURL_E_WRONG_THREAD and the rest 0, NULL or nothing. Until the loop has made its first turn with the driver, that is not
 * checked: loop and driver may be set up on one thread and handed to another, but not used by both at a time.
 *
 * This rests on https://curl.se/libcurl/c/libcurl-multi.html (the multi_socket interface) and
 * https://docs.libuv.org/en/v1.x/poll.html.
 */
#ifndef UVCURL_H
#define UVCURL_H

#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>
#include <uv.h>

/* This header's version; uvcurl_version() tells the library's. */
#define UVCURL_VERSION_MAJOR 0
#define UVCURL_VERSION_MINOR 1
#define UVCURL_VERSION_PATCH 0
#define UVCURL_VERSION "0.1.0"
#define UVCURL_VERSION_NUMBER \
  ((UVCURL_VERSION_MAJOR << 16) | (UVCURL_VERSION_MINOR << 8) | UVCURL_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Life ---------------------------------------------------------------------------------------------------- */

/**
 * A driver: one libcurl multi handle driven by one libuv loop. Opaque.
 *
 * A driver belongs to the thread that runs its loop. Before the loop first runs, loop and driver may be handed from one
 * thread to another. A program may have any number of drivers, also several on one loop; they share nothing.
 *
 * uvcurl_new() makes one, uvcurl_close() ends it.
 */
typedef struct uvcurl_t uvcurl_t;

/**
 * Reports that a driver is gone.
 *
 * It runs once, from the loop, after the done callbacks of all transfers that were in flight. Nothing of uvcurl is left on
 * the loop and the pointer to the driver is no longer valid.
 *
 * \param user_data  what was given to uvcurl_close()
 */
typedef void (*uvcurl_close_cb)(void *user_data);

/**
 * Makes a driver on a loop.
 *
 * The driver lives until uvcurl_close(). The loop must be initialised, and must outlive the driver. The first call in a
 * process runs curl_global_init(); uvcurl never runs curl_global_cleanup().
 *
 * In C and C++ this name is also a macro, which hands over the program's own curl_version_info() as well, so that two
 * copies of libcurl in one process are found out. Two copies of libuv are found out either way. A program that loads
 * uvcurl at run time looks up `uvcurl_new_checked` for both checks, or `uvcurl_new` for that of libuv alone.
 *
 * \param loop  the loop
 * \param out   where the driver's address goes; written only on success
 * \return 0; UV_EINVAL if an argument is NULL; UVCURL_E_LIBUV_MISMATCH; UVCURL_E_LIBCURL_MISMATCH;
 *         UVCURL_E_LIBUV_TOO_OLD; UVCURL_E_LIBCURL_TOO_OLD; UV_ENOMEM; another number of libuv's if the loop takes no
 *         more handles; above 0 the CURLcode of curl_global_init()
 */
int uvcurl_new(uv_loop_t *loop, uvcurl_t **out);

/**
 * uvcurl_new() with the check for two copies of libcurl. The macro of that name calls this.
 *
 * \param loop       the loop
 * \param out        where the driver's address goes; written only on success
 * \param curl_info  curl_version_info(CURLVERSION_NOW), called by the program
 * \return as uvcurl_new()
 */
int uvcurl_new_checked(uv_loop_t *loop, uvcurl_t **out, const curl_version_info_data *curl_info);

/**
 * Ends a driver: cancels what is in flight, closes every connection, and takes everything of uvcurl off the loop.
 *
 * It never waits, neither for a peer nor for a name lookup. Run the loop: each transfer in flight is reported with
 * UV_ECANCELED (one that had already ended, with its own result), then the close callback runs and the driver's memory
 * is gone. Until then uvcurl_start(), _cancel(), _pause() and _set() answer UV_ECANCELED for this driver.
 *
 * It may be called from every callback. Called with NULL, a second time, or from another thread than the loop's it does
 * nothing, and the callback does not run.
 *
 * \param uc         the driver, or NULL
 * \param cb         called when the driver is gone, or NULL
 * \param user_data  handed to the callback
 */
void uvcurl_close(uvcurl_t *uc, uvcurl_close_cb cb, void *user_data);

/* ---- Transfers ----------------------------------------------------------------------------------------------- */

/**
 * Reports that a transfer has ended.
 *
 * It runs exactly once for every uvcurl_start() that returned 0, from the loop, on the loop's thread, and never inside
 * a function of uvcurl. libcurl has let go of the easy handle by then: read its curl_easy_getinfo(), start it again, or
 * clean it up, here or later. Every function of uvcurl may be called here, uvcurl_close() included.
 *
 * \param uc         the driver the transfer was started on
 * \param easy       the easy handle, the host's again
 * \param status     0: the transfer succeeded; above 0: the CURLcode it failed with; below 0: UV_ECANCELED after
 *                   uvcurl_cancel() or uvcurl_close(), or what kept the loop or uvcurl from going on with it
 * \param user_data  what was given to uvcurl_start()
 */
typedef void (*uvcurl_done_cb)(uvcurl_t *uc, CURL *easy, int status, void *user_data);

/**
 * Starts the transfer that an easy handle describes.
 *
 * The easy handle stays the host's, with all its options and callbacks; it must stay alive until the done callback.
 * Cleaning it up while it is in flight is the one mistake uvcurl cannot catch. No callback runs inside this function: the
 * transfer begins in the next turn of the loop, and even one that cannot succeed is reported from there. What has no
 * result yet keeps the loop alive, see uvcurl_ref().
 *
 * uvcurl does not use CURLOPT_PRIVATE. See UVCURL_EASY_UNTOUCHED for the options it does use. CURLOPT_CONNECT_ONLY is of
 * no use here: libcurl closes the connection when it lets go of the handle, which is before the done callback.
 *
 * \param uc         the driver
 * \param easy       the easy handle
 * \param cb         called once when the transfer has ended
 * \param user_data  handed to the callback
 * \return 0; UV_EINVAL if an argument is NULL or the handle is none; UV_EALREADY if it is in flight on this driver;
 *         UV_EBUSY if it is in another multi handle; UV_ECANCELED if the driver is closing; UV_ENOMEM;
 *         UVCURL_E_WRONG_THREAD; UVCURL_E_MULTI or UVCURL_E_INTERNAL if something is broken. After a failure no callback
 *         runs for this call.
 */
int uvcurl_start(uvcurl_t *uc, CURL *easy, uvcurl_done_cb cb, void *user_data);

/**
 * Cancels a transfer. Its done callback runs with UV_ECANCELED in the next turn of the loop.
 *
 * None of the easy handle's own callbacks runs after this has returned, unless it was called inside one of libcurl's
 * callbacks: libcurl then gets to finish what it is doing.
 *
 * \param uc    the driver
 * \param easy  the easy handle
 * \return 0; UV_ENOENT if the handle is not in flight on this driver; UV_EALREADY if how it ends is settled, by an
 *         earlier cancel or because it has ended, and the report is on its way; UV_EINVAL if an argument is NULL;
 *         UV_ECANCELED if the driver is closing; UV_ENOMEM; UVCURL_E_WRONG_THREAD
 */
int uvcurl_cancel(uvcurl_t *uc, CURL *easy);

/**
 * Pauses and resumes a transfer, as curl_easy_pause() does.
 *
 * Use this instead of curl_easy_pause(), so that it is right from every callback. Outside of libcurl's callbacks it acts at
 * once: data that libcurl has kept may be given to the write callback before it returns. Inside them it acts when
 * libcurl has returned. A pause before there is a connection takes effect as soon as there is one. If pausing or
 * resuming fails, because the write callback fails for example, that is the transfer's result.
 *
 * A stream of HTTP/2 may still be given what is on its way already, a megabyte or more (libcurl 8.9.0 to 8.22.0 at least).
 * To have no more data at once, return CURL_WRITEFUNC_PAUSE from the write callback, and resume with this function.
 *
 * A paused transfer keeps the loop alive like any other.
 *
 * \param uc       the driver
 * \param easy     the easy handle
 * \param bitmask  CURLPAUSE_RECV, CURLPAUSE_SEND, CURLPAUSE_ALL or CURLPAUSE_CONT: the new state
 * \return 0; UV_ENOENT and UV_EALREADY as uvcurl_cancel(); UV_EINVAL if a pointer is NULL or the bitmask has other bits;
 *         UV_ECANCELED if the driver is closing; UV_ENOMEM; UVCURL_E_WRONG_THREAD
 */
int uvcurl_pause(uvcurl_t *uc, CURL *easy, int bitmask);

/**
 * How many transfers have been started and not yet reported.
 *
 * Inside a done callback the transfer it reports no longer counts.
 *
 * \param uc  the driver
 * \return their number; 0 for NULL
 */
size_t uvcurl_active(const uvcurl_t *uc);

/* ---- The loop ------------------------------------------------------------------------------------------------ */

/**
 * Lets transfers in flight keep the loop alive. This is the default.
 *
 * Paused and rate-limited transfers count, although they have neither socket nor timer. A driver without transfers never
 * keeps the loop alive, however many connections idle in its pool: uv_run() then returns as soon as the last transfer
 * is reported. It is a flag, as uv_ref() is: calling it twice is calling it once.
 *
 * \param uc  the driver; NULL does nothing
 */
void uvcurl_ref(uvcurl_t *uc);

/**
 * Keeps transfers in flight from keeping the loop alive.
 *
 * \param uc  the driver; NULL does nothing
 */
void uvcurl_unref(uvcurl_t *uc);

/**
 * Whether transfers in flight keep the loop alive.
 *
 * \param uc  the driver
 * \return 1 after uvcurl_new() and uvcurl_ref(), 0 after uvcurl_unref() and for NULL
 */
int uvcurl_has_ref(const uvcurl_t *uc);

/**
 * The loop a driver was made on.
 *
 * \param uc  the driver
 * \return the loop; NULL for NULL
 */
uv_loop_t *uvcurl_loop(const uvcurl_t *uc);

/* ---- Settings ------------------------------------------------------------------------------------------------ */

/**
 * An option of uvcurl_set().
 */
typedef int uvcurl_option;

/**
 * Leave every option of the easy handles alone: 1, or 0, the default.
 *
 * By default uvcurl_start() sets two options of the easy handle. CURLOPT_NOSIGNAL becomes 1, which spares several system
 * calls per transfer, and stays. CURLOPT_CLOSESOCKETFUNCTION is set while the transfer is in flight and becomes NULL
 * before the done callback; connections opened meanwhile keep the function, which only closes the descriptor once
 * uvcurl has taken note. On libcurl 7.87 to 8.19 CURLOPT_QUICK_EXIT becomes 1 as well, and stays, lest the end of a
 * transfer whose name is still being looked up stop the loop; with this option, and before 7.87, it may.
 *
 * It costs a few system calls per transfer, and nothing else.
 *
 * Set this to 1 if the host has a close-socket function of its own, or lets easy handles of this driver share
 * connections (CURL_LOCK_DATA_CONNECT) with handles that are not the driver's. It can be changed while no transfer is
 * in flight.
 */
#define UVCURL_EASY_UNTOUCHED 1

/**
 * How many connections libcurl may keep for later transfers: a number above 0, or 0, the default.
 *
 * By default the limit follows what is in flight: it is at least as high as the number of transfers that have been in flight
 * at once, and sinks slowly when there are fewer. libcurl's own default sinks at once, so that it closes connections at the
 * end of a crowd of transfers that the next one would have used. Use this instead of CURLMOPT_MAXCONNECTS, which uvcurl sets.
 */
#define UVCURL_MAXCONNECTS 2

/**
 * How often transfers that show no life are looked at, in milliseconds: 1000, the default; at least 10; 0: hardly ever.
 *
 * While something is in flight uvcurl wakes up this often and has libcurl run what has been silent for as long. That is how
 * progress callbacks run on transfers that wait or are paused, as curl_easy_perform() has them run, and how timeouts
 * fire for which libcurl asks for no call: the default connect timeout, CURLOPT_SERVER_RESPONSE_TIMEOUT (FTP, IMAP, POP3
 * and SMTP are looked at more often), and those of a TFTP transfer. docs/timeouts.md has the table.
 *
 * It costs one wake-up per interval while a transfer is in flight and none without; some microseconds for each silent
 * socket; and, when a transfer has no socket, because it is paused or its name is being looked up, one call of libcurl
 * over all transfers, which is left out where it would take more than 5 ms or 3 % of the time. With 0, silent sockets are
 * looked at every 5 seconds and nothing more is done: progress callbacks do not run, and the timeouts named above are late.
 *
 * Whatever the value, a connection of HTTP/2 over TLS is looked at once, 40 ms after one of its transfers has ended while
 * others go on: libcurl from 8.15 on may forget those.
 */
#define UVCURL_TICK_MS 3

/**
 * Sets an option of the driver.
 *
 * \param uc      the driver
 * \param option  one of the UVCURL_ options above
 * \param value   its value
 * \return 0; UV_ENOTSUP for an unknown option; UV_EINVAL for a value out of range or a NULL driver; UV_EBUSY if the
 *         option cannot change while transfers are in flight; UV_ECANCELED if the driver is closing;
 *         UVCURL_E_WRONG_THREAD
 */
int uvcurl_set(uvcurl_t *uc, uvcurl_option option, long value);

/**
 * The multi handle of a driver, lent for curl_multi_setopt() of what uvcurl does not own.
 *
 * Connection limits, CURLMOPT_PIPELINING and the like are the host's; for CURLMOPT_MAXCONNECTS see UVCURL_MAXCONNECTS.
 * CURLMOPT_SOCKETFUNCTION, CURLMOPT_TIMERFUNCTION and their data are uvcurl's, as is every other curl_multi_ function on
 * this handle; leave CURLMOPT_PUSHFUNCTION alone too, for the transfers it adds are nobody's. libcurl refuses
 * curl_multi_setopt() inside its own callbacks.
 *
 * \param uc  the driver
 * \return the multi handle, valid until uvcurl_close(); NULL for NULL and for a driver that is closing
 */
CURLM *uvcurl_multi(uvcurl_t *uc);

/* ---- What is going on ---------------------------------------------------------------------------------------- */

/**
 * What a driver has done since it was made, and what it has in hand; see uvcurl_stats().
 *
 * Later versions may add members at the end, and change none.
 */
typedef struct {
  /**
   * Transfers: started, ever.
   */
  uint64_t started;
  /**
   * Reported with 0.
   */
  uint64_t succeeded;
  /**
   * Reported with anything but 0 and UV_ECANCELED.
   */
  uint64_t failed;
  /**
   * Reported with UV_ECANCELED.
   */
  uint64_t cancelled;
  /**
   * Started and not yet reported, now.
   */
  uint64_t in_flight;
  /**
   * Those of them that libcurl has.
   */
  uint64_t running;
  /**
   * Those of them that uvcurl_pause() has paused; what a callback has paused only libcurl knows.
   */
  uint64_t paused;
  /**
   * Those that libcurl holds back behind a connection limit; 0 before libcurl 8.16 and inside its callbacks.
   */
  uint64_t held_back;
  /**
   * Sockets that libcurl wants watched and that are, now.
   */
  uint64_t sockets_watched;
  /**
   * Sockets that libcurl wants watched and that are not, or not for all it wants: they cannot be, or are ready time after
   * time with nothing done about it. They are looked at 20 times a second.
   */
  uint64_t sockets_unwatched;
  /**
   * Sockets of pooled connections of which uvcurl has a handle.
   */
  uint64_t sockets_idle;
  /**
   * How often the loop has called uvcurl.
   */
  uint64_t turns;
  /**
   * Those of them in which libcurl was not called and nothing was reported: wake-ups without progress.
   */
  uint64_t idle_turns;
  /**
   * How often uvcurl has asked the loop for a turn without a wait ("kicks") and got it.
   */
  uint64_t kicks;
  /**
   * Calls of libcurl on behalf of a socket or the deadline.
   */
  uint64_t actions;
  /**
   * Those of them to look at a silent socket.
   */
  uint64_t looks;
  /**
   * Those of them to look at all transfers, because one had no socket; see UVCURL_TICK_MS.
   */
  uint64_t ticks;
  /**
   * Transfers that libcurl had forgotten, and sockets that the loop had: each is a bug, and a line of the log.
   */
  uint64_t stalls;
  /**
   * Sockets that were ready time after time with nothing done about it: each is a bug, and a line of the log.
   */
  uint64_t spins;
  /**
   * Log lines that were dropped because there were too many in one turn.
   */
  uint64_t log_lost;
} uvcurl_stats_t;

/**
 * Tells what a driver has done and what it has in hand.
 *
 * It takes as long as there are sockets to count, some nanoseconds each, and may be called from every callback.
 *
 * \param uc    the driver
 * \param out   where the numbers go; written only on success
 * \param size  sizeof(uvcurl_stats_t), as the program was compiled: no more than that is written, and members that the
 *              library does not know become 0
 * \return 0; UV_EINVAL if a pointer is NULL or the size is 0 or no multiple of 8; UV_ECANCELED if the driver is closing;
 *         UVCURL_E_WRONG_THREAD
 */
int uvcurl_stats(const uvcurl_t *uc, uvcurl_stats_t *out, size_t size);

/**
 * Receives one line of text, without a newline.
 *
 * For uvcurl_set_log() it runs from the loop, never while libcurl is on the stack; for uvcurl_dump(), inside that. Every
 * function of uvcurl may be called here, uvcurl_close() included.
 *
 * \param uc         the driver
 * \param line       the line, UTF-8, valid until the callback returns
 * \param user_data  what was given along with the callback
 */
typedef void (*uvcurl_log_cb)(uvcurl_t *uc, const char *line, void *user_data);

/**
 * Describes a driver and each of its transfers for a person, line by line.
 *
 * Two lines are about the driver, one about each transfer, oldest first: where it goes (scheme, host and port, never a
 * path, a query or credentials), how long ago it was started, what it is at, what has come and gone, and what it waits for,
 * with its sockets. The text is not for programs, and changes with the version. It may be called from every callback.
 *
 * \param uc         the driver
 * \param cb         called for each line before this returns
 * \param user_data  handed to the callback
 * \return 0; UV_EINVAL if a pointer is NULL; UV_ECANCELED if the driver is closing; UV_ENOMEM; UVCURL_E_WRONG_THREAD
 */
int uvcurl_dump(const uvcurl_t *uc, uvcurl_log_cb cb, void *user_data);

/**
 * Has a driver tell of what must not be.
 *
 * A line comes for each transfer that libcurl turns out to have forgotten, for each socket that is ready time after time
 * with nothing done about it, and for each one that something else in the program has taken off the loop. It says what
 * uvcurl has done about it, and which libcurl is known to have that bug. A program with a sound libcurl hears nothing.
 *
 * \param uc         the driver
 * \param cb         called from the loop for each line; NULL: nobody any more, as at first
 * \param user_data  handed to the callback
 * \return 0; UV_EINVAL if the driver is NULL; UV_ECANCELED if it is closing; UVCURL_E_WRONG_THREAD
 */
int uvcurl_set_log(uvcurl_t *uc, uvcurl_log_cb cb, void *user_data);

/* ---- Errors and versions ------------------------------------------------------------------------------------- */

/**
 * The call came from another thread than the one that runs the loop.
 */
#define UVCURL_E_WRONG_THREAD (-10001)

/**
 * The program and uvcurl use two different copies of libuv.
 */
#define UVCURL_E_LIBUV_MISMATCH (-10002)

/**
 * The program and uvcurl use two different copies of libcurl.
 */
#define UVCURL_E_LIBCURL_MISMATCH (-10003)

/**
 * libcurl's multi handle failed; every transfer in flight ends with this status and the driver goes on.
 */
#define UVCURL_E_MULTI (-10004)

/**
 * An error inside uvcurl itself was contained; close the driver and report the bug.
 */
#define UVCURL_E_INTERNAL (-10005)

/**
 * The libuv that is loaded is older than 1.44.0.
 */
#define UVCURL_E_LIBUV_TOO_OLD (-10006)

/**
 * The libcurl that is loaded is older than 7.84.0.
 */
#define UVCURL_E_LIBCURL_TOO_OLD (-10007)

/**
 * The text of a status: of uvcurl's own, of libcurl's CURLcode, or of libuv's.
 *
 * \param status  what a function or a done callback gave
 * \return a text that is not the caller's to free; never NULL. It stays valid, but for that of a number nobody knows:
 *         until the next call on this thread
 */
const char *uvcurl_strerror(int status);

/**
 * The name of a status as it stands in a header, such as `UV_ECANCELED`, `CURLE_COULDNT_CONNECT` or
 * `UVCURL_E_WRONG_THREAD`.
 *
 * \param status  what a function or a done callback gave
 * \return the name, `OK` for 0; not the caller's to free; never NULL. It stays valid until the next call on this thread
 */
const char *uvcurl_err_name(int status);

/**
 * The version of this library as a number: major << 16 | minor << 8 | patch, as UVCURL_VERSION_NUMBER in the header.
 *
 * \return the number
 */
unsigned int uvcurl_version(void);

/**
 * The version of this library as text, such as `0.1.0`.
 *
 * \return a text that stays valid
 */
const char *uvcurl_version_string(void);

/**
 * What is known against the libcurl that is running, for a program to log when it starts.
 *
 * It names the version, each bug that a program may meet, where libcurl's developers or others describe it, and what
 * uvcurl does about it or the program can do. A system's libcurl may have the fix and keep the old number.
 *
 * \return a text that stays valid; NULL if nothing is known
 */
const char *uvcurl_libcurl_warning(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

/* After the declarations, which it would otherwise replace. (uvcurl_new)(loop, out) is the function without the check. */
#define uvcurl_new(loop, out) uvcurl_new_checked((loop), (out), curl_version_info(CURLVERSION_NOW))

#endif /* UVCURL_H */
