/* Compiles if bindings.rs, beside it, is right for the uv.h that is found, on aarch64-unknown-linux-musl.
 * Written by `make bindings`. */
#include <stddef.h>
#include <uv.h>

#define IS(what, number) _Static_assert((what) == (number), "uvcurl's ready bindings: " #what " is not " #number)

typedef enum uv_poll_event uv_poll_event;
IS(UV_ASYNC, 1);
IS(UV_CHECK, 2);
IS(UV_EALREADY, -114);
IS(UV_EBUSY, -16);
IS(UV_ECANCELED, -125);
IS(UV_EEXIST, -17);
IS(UV_EINVAL, -22);
IS(UV_ENOENT, -2);
IS(UV_ENOMEM, -12);
IS(UV_ENOTSUP, -95);
IS(UV_IDLE, 6);
IS(UV_POLL, 8);
IS(UV_READABLE, 1);
IS(UV_TIMER, 13);
IS(UV_WRITABLE, 2);
IS(_Alignof(uv_async_t), 8);
IS(_Alignof(uv_check_t), 8);
IS(_Alignof(uv_handle_t), 8);
IS(_Alignof(uv_idle_t), 8);
IS(_Alignof(uv_loop_t), 8);
IS(_Alignof(uv_poll_t), 8);
IS(_Alignof(uv_timer_t), 8);
IS(offsetof(uv_async_t, async_cb), 96);
IS(offsetof(uv_loop_t, wq_async), 176);
IS(sizeof(uv_async_t), 128);
IS(sizeof(uv_async_t) - offsetof(uv_async_t, async_cb) - sizeof(uv_async_cb), 24);
IS(sizeof(uv_check_t), 120);
IS(sizeof(uv_handle_t), 96);
IS(sizeof(uv_idle_t), 120);
IS(sizeof(uv_loop_t), 848);
IS(sizeof(uv_loop_t) - offsetof(uv_loop_t, wq_async) - sizeof(uv_async_t), 544);
IS(sizeof(uv_poll_t), 160);
IS(sizeof(uv_timer_t), 152);

/* Each of these is an error if uv.h declares it otherwise. */
IS(sizeof(uv_os_sock_t), sizeof(int));
IS((uv_os_sock_t)-1 < (uv_os_sock_t)1, (int)-1 < (int)1);
IS(sizeof(uv_errno_t), sizeof(int));
IS((uv_errno_t)-1 < (uv_errno_t)1, (int)-1 < (int)1);
IS(sizeof(uv_handle_type), sizeof(unsigned));
IS((uv_handle_type)-1 < (uv_handle_type)1, (unsigned)-1 < (unsigned)1);
IS(sizeof(uv_poll_event), sizeof(unsigned));
IS((uv_poll_event)-1 < (uv_poll_event)1, (unsigned)-1 < (unsigned)1);
typedef struct uv_handle_s uv_handle_t;
typedef struct uv_poll_s uv_poll_t;
typedef struct uv_timer_s uv_timer_t;
typedef struct uv_idle_s uv_idle_t;
typedef struct uv_check_s uv_check_t;
typedef struct uv_async_s uv_async_t;
typedef struct uv_loop_s uv_loop_t;
typedef void (*uv_close_cb)(uv_handle_t *);
typedef void (*uv_poll_cb)(uv_poll_t *, int, int);
typedef void (*uv_timer_cb)(uv_timer_t *);
typedef void (*uv_async_cb)(uv_async_t *);
typedef void (*uv_idle_cb)(uv_idle_t *);
typedef void (*uv_check_cb)(uv_check_t *);
unsigned uv_version(void);
size_t uv_loop_size(void);
int uv_loop_init(uv_loop_t *);
int uv_loop_close(uv_loop_t *);
uint64_t uv_now(const uv_loop_t *);
uint64_t uv_hrtime(void);
const char * uv_strerror(int);
const char * uv_err_name(int);
char * uv_err_name_r(int, char *, size_t);
size_t uv_handle_size(uv_handle_type);
void uv_ref(uv_handle_t *);
void uv_unref(uv_handle_t *);
int uv_is_closing(const uv_handle_t *);
void uv_close(uv_handle_t *, uv_close_cb);
int uv_poll_init_socket(uv_loop_t *, uv_poll_t *, uv_os_sock_t);
int uv_poll_start(uv_poll_t *, int, uv_poll_cb);
int uv_poll_stop(uv_poll_t *);
int uv_timer_init(uv_loop_t *, uv_timer_t *);
int uv_timer_start(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
int uv_timer_stop(uv_timer_t *);
int uv_idle_init(uv_loop_t *, uv_idle_t *);
int uv_idle_start(uv_idle_t *, uv_idle_cb);
int uv_idle_stop(uv_idle_t *);
int uv_check_init(uv_loop_t *, uv_check_t *);
int uv_check_start(uv_check_t *, uv_check_cb);
int uv_check_stop(uv_check_t *);
int uv_async_init(uv_loop_t *, uv_async_t *, uv_async_cb);
