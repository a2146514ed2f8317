/* What uvcurl uses of libuv, on aarch64-unknown-linux-musl: ready bindings for a build without libclang.
 *
 * They take the place of what libuv-sys2's build script writes with bindgen, and have its names, so that uvcurl is
 * compiled from the same sources with either. docs/cross.md says how they are put there.
 *
 * Written by `make bindings` from cmake/bindings/bindings.rs.in: a C compiler for the target has measured every number in
 * the libuv's own uv.h. tests/bindings.rs, and check.c beside this file, hold them against the uv.h that is in use.
 * The numbers are the same for libuv 1.44 to 1.53. */

pub type uv_os_sock_t = ::core::ffi::c_int;

pub type uv_errno_t = ::core::ffi::c_int;
pub const uv_errno_t_UV_EALREADY: uv_errno_t = -114;
pub const uv_errno_t_UV_EBUSY: uv_errno_t = -16;
pub const uv_errno_t_UV_ECANCELED: uv_errno_t = -125;
pub const uv_errno_t_UV_EEXIST: uv_errno_t = -17;
pub const uv_errno_t_UV_EINVAL: uv_errno_t = -22;
pub const uv_errno_t_UV_ENOENT: uv_errno_t = -2;
pub const uv_errno_t_UV_ENOMEM: uv_errno_t = -12;
pub const uv_errno_t_UV_ENOTSUP: uv_errno_t = -95;

pub type uv_handle_type = ::core::ffi::c_uint;
pub const uv_handle_type_UV_ASYNC: uv_handle_type = 1;
pub const uv_handle_type_UV_CHECK: uv_handle_type = 2;
pub const uv_handle_type_UV_IDLE: uv_handle_type = 6;
pub const uv_handle_type_UV_POLL: uv_handle_type = 8;
pub const uv_handle_type_UV_TIMER: uv_handle_type = 13;

pub type uv_poll_event = ::core::ffi::c_uint;
pub const uv_poll_event_UV_READABLE: uv_poll_event = 1;
pub const uv_poll_event_UV_WRITABLE: uv_poll_event = 2;

#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_handle_s {
    _opaque: [u8; 96],
}
pub type uv_handle_t = uv_handle_s;

#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_poll_s {
    _opaque: [u8; 160],
}
pub type uv_poll_t = uv_poll_s;

#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_timer_s {
    _opaque: [u8; 152],
}
pub type uv_timer_t = uv_timer_s;

#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_idle_s {
    _opaque: [u8; 120],
}
pub type uv_idle_t = uv_idle_s;

#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_check_s {
    _opaque: [u8; 120],
}
pub type uv_check_t = uv_check_s;

/* async_cb tells two copies of libuv apart, so it is the one field with a name, and with a place that matters. */
#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_async_s {
    _before: [u8; 96],
    pub async_cb: uv_async_cb,
    _after: [u8; 24],
}
pub type uv_async_t = uv_async_s;

#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub struct uv_loop_s {
    _before: [u8; 176],
    pub wq_async: uv_async_t,
    _after: [u8; 544],
}
pub type uv_loop_t = uv_loop_s;

/* That rustc lays them out as the C compiler does. */
const _: () = {
    ["Size of uv_handle_s"][::core::mem::size_of::<uv_handle_s>() - 96];
    ["Size of uv_poll_s"][::core::mem::size_of::<uv_poll_s>() - 160];
    ["Size of uv_timer_s"][::core::mem::size_of::<uv_timer_s>() - 152];
    ["Size of uv_idle_s"][::core::mem::size_of::<uv_idle_s>() - 120];
    ["Size of uv_check_s"][::core::mem::size_of::<uv_check_s>() - 120];
    ["Size of uv_async_s"][::core::mem::size_of::<uv_async_s>() - 128];
    ["Size of uv_loop_s"][::core::mem::size_of::<uv_loop_s>() - 848];
    ["Offset of async_cb"][::core::mem::offset_of!(uv_async_s, async_cb) - 96];
    ["Offset of wq_async"][::core::mem::offset_of!(uv_loop_s, wq_async) - 176];
};

pub type uv_close_cb = ::core::option::Option<unsafe extern "C" fn(handle: *mut uv_handle_t)>;
pub type uv_poll_cb = ::core::option::Option<
    unsafe extern "C" fn(
        handle: *mut uv_poll_t,
        status: ::core::ffi::c_int,
        events: ::core::ffi::c_int,
    ),
>;
pub type uv_timer_cb = ::core::option::Option<unsafe extern "C" fn(handle: *mut uv_timer_t)>;
pub type uv_async_cb = ::core::option::Option<unsafe extern "C" fn(handle: *mut uv_async_t)>;
pub type uv_idle_cb = ::core::option::Option<unsafe extern "C" fn(handle: *mut uv_idle_t)>;
pub type uv_check_cb = ::core::option::Option<unsafe extern "C" fn(handle: *mut uv_check_t)>;

unsafe extern "C" {
    pub fn uv_version() -> ::core::ffi::c_uint;
    pub fn uv_loop_size() -> usize;
    pub fn uv_loop_init(loop_: *mut uv_loop_t) -> ::core::ffi::c_int;
    pub fn uv_loop_close(loop_: *mut uv_loop_t) -> ::core::ffi::c_int;
    pub fn uv_now(arg1: *const uv_loop_t) -> u64;
    pub fn uv_hrtime() -> u64;

    pub fn uv_strerror(err: ::core::ffi::c_int) -> *const ::core::ffi::c_char;
    pub fn uv_err_name(err: ::core::ffi::c_int) -> *const ::core::ffi::c_char;
    pub fn uv_err_name_r(
        err: ::core::ffi::c_int,
        buf: *mut ::core::ffi::c_char,
        buflen: usize,
    ) -> *mut ::core::ffi::c_char;

    pub fn uv_handle_size(type_: uv_handle_type) -> usize;
    pub fn uv_ref(arg1: *mut uv_handle_t);
    pub fn uv_unref(arg1: *mut uv_handle_t);
    pub fn uv_is_closing(handle: *const uv_handle_t) -> ::core::ffi::c_int;
    pub fn uv_close(handle: *mut uv_handle_t, close_cb: uv_close_cb);

    pub fn uv_poll_init_socket(
        loop_: *mut uv_loop_t,
        handle: *mut uv_poll_t,
        socket: uv_os_sock_t,
    ) -> ::core::ffi::c_int;
    pub fn uv_poll_start(
        handle: *mut uv_poll_t,
        events: ::core::ffi::c_int,
        cb: uv_poll_cb,
    ) -> ::core::ffi::c_int;
    pub fn uv_poll_stop(handle: *mut uv_poll_t) -> ::core::ffi::c_int;

    pub fn uv_timer_init(arg1: *mut uv_loop_t, handle: *mut uv_timer_t) -> ::core::ffi::c_int;
    pub fn uv_timer_start(
        handle: *mut uv_timer_t,
        cb: uv_timer_cb,
        timeout: u64,
        repeat: u64,
    ) -> ::core::ffi::c_int;
    pub fn uv_timer_stop(handle: *mut uv_timer_t) -> ::core::ffi::c_int;

    pub fn uv_idle_init(arg1: *mut uv_loop_t, idle: *mut uv_idle_t) -> ::core::ffi::c_int;
    pub fn uv_idle_start(idle: *mut uv_idle_t, cb: uv_idle_cb) -> ::core::ffi::c_int;
    pub fn uv_idle_stop(idle: *mut uv_idle_t) -> ::core::ffi::c_int;

    pub fn uv_check_init(arg1: *mut uv_loop_t, check: *mut uv_check_t) -> ::core::ffi::c_int;
    pub fn uv_check_start(check: *mut uv_check_t, cb: uv_check_cb) -> ::core::ffi::c_int;
    pub fn uv_check_stop(check: *mut uv_check_t) -> ::core::ffi::c_int;

    pub fn uv_async_init(
        arg1: *mut uv_loop_t,
        async_: *mut uv_async_t,
        async_cb: uv_async_cb,
    ) -> ::core::ffi::c_int;
}
