//! Door IN: the functions of `uvcurl.h`.
//!
//! Each body checks its arguments and hands on to the driver. What the host may rely on stands in the doc comments,
//! which become the header; they are written for a C reader.
#![allow(
    unsafe_code,
    reason = "door IN: raw pointers from C; every SAFETY note rests on the contract in the header"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the docs are the C header's, where every function is unsafe in this sense"
)]
#![allow(
    non_camel_case_types,
    reason = "the types carry their names in the header"
)]

mod insight;
mod status;

use std::alloc::{self, Layout};
use std::ptr;

use curl_sys::{curl_version_info_data, CURL, CURLM};
use libc::{c_int, c_long, c_void, size_t};
use libuv_sys2::uv_loop_t;

pub use self::insight::{uvcurl_dump, uvcurl_log_cb, uvcurl_set_log, uvcurl_stats, uvcurl_stats_t};
pub use self::status::{
    uvcurl_err_name, uvcurl_libcurl_warning, uvcurl_strerror, uvcurl_version, uvcurl_version_string,
};

use crate::callbacks::{self, guard, guard_driver, Frame};
use crate::driver::{Driver, Phase};
use crate::error;
use crate::sys::{self, CloseFn, DoneFn, Easy, Loop, Multi};

/// A driver: one libcurl multi handle driven by one libuv loop. Opaque.
///
/// A driver belongs to the thread that runs its loop. Before the loop first runs, loop and driver may be handed from one
/// thread to another. A program may have any number of drivers, also several on one loop; they share nothing.
///
/// uvcurl_new() makes one, uvcurl_close() ends it.
pub struct uvcurl_t {
    _opaque: [u8; 0],
}

/// Reports that a transfer has ended.
///
/// It runs exactly once for every uvcurl_start() that returned 0, from the loop, on the loop's thread, and never inside
/// a function of uvcurl. libcurl has let go of the easy handle by then: read its curl_easy_getinfo(), start it again, or
/// clean it up, here or later. Every function of uvcurl may be called here, uvcurl_close() included.
///
/// \param uc         the driver the transfer was started on
/// \param easy       the easy handle, the host's again
/// \param status     0: the transfer succeeded; above 0: the CURLcode it failed with; below 0: UV_ECANCELED after
///                   uvcurl_cancel() or uvcurl_close(), or what kept the loop or uvcurl from going on with it
/// \param user_data  what was given to uvcurl_start()
pub type uvcurl_done_cb = Option<
    unsafe extern "C-unwind" fn(
        uc: *mut uvcurl_t,
        easy: *mut CURL,
        status: c_int,
        user_data: *mut c_void,
    ),
>;

/// Reports that a driver is gone.
///
/// It runs once, from the loop, after the done callbacks of all transfers that were in flight. Nothing of uvcurl is left on
/// the loop and the pointer to the driver is no longer valid.
///
/// \param user_data  what was given to uvcurl_close()
pub type uvcurl_close_cb = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// An option of uvcurl_set().
pub type uvcurl_option = c_int;

/// Leave every option of the easy handles alone: 1, or 0, the default.
///
/// By default uvcurl_start() sets two options of the easy handle. CURLOPT_NOSIGNAL becomes 1, which spares several system
/// calls per transfer, and stays. CURLOPT_CLOSESOCKETFUNCTION is set while the transfer is in flight and becomes NULL
/// before the done callback; connections opened meanwhile keep the function, which only closes the descriptor once
/// uvcurl has taken note. On libcurl 7.87 to 8.19 CURLOPT_QUICK_EXIT becomes 1 as well, and stays, lest the end of a
/// transfer whose name is still being looked up stop the loop; with this option, and before 7.87, it may.
///
/// It costs a few system calls per transfer, and nothing else.
///
/// Set this to 1 if the host has a close-socket function of its own, or lets easy handles of this driver share
/// connections (CURL_LOCK_DATA_CONNECT) with handles that are not the driver's. It can be changed while no transfer is
/// in flight.
pub const UVCURL_EASY_UNTOUCHED: uvcurl_option = 1;

/// How many connections libcurl may keep for later transfers: a number above 0, or 0, the default.
///
/// By default the limit follows what is in flight: it is at least as high as the number of transfers that have been in flight
/// at once, and sinks slowly when there are fewer. libcurl's own default sinks at once, so that it closes connections at the
/// end of a crowd of transfers that the next one would have used. Use this instead of CURLMOPT_MAXCONNECTS, which uvcurl sets.
pub const UVCURL_MAXCONNECTS: uvcurl_option = 2;

/// How often transfers that show no life are looked at, in milliseconds: 1000, the default; at least 10; 0: hardly ever.
///
/// While something is in flight uvcurl wakes up this often and has libcurl run what has been silent for as long. That is how
/// progress callbacks run on transfers that wait or are paused, as curl_easy_perform() has them run, and how timeouts
/// fire for which libcurl asks for no call: the default connect timeout, CURLOPT_SERVER_RESPONSE_TIMEOUT (FTP, IMAP, POP3
/// and SMTP are looked at more often), and those of a TFTP transfer. docs/timeouts.md has the table.
///
/// It costs one wake-up per interval while a transfer is in flight and none without; some microseconds for each silent
/// socket; and, when a transfer has no socket, because it is paused or its name is being looked up, one call of libcurl
/// over all transfers, which is left out where it would take more than 5 ms or 3 % of the time. With 0, silent sockets are
/// looked at every 5 seconds and nothing more is done: progress callbacks do not run, and the timeouts named above are late.
///
/// Whatever the value, a connection of HTTP/2 over TLS is looked at once, 40 ms after one of its transfers has ended while
/// others go on: libcurl from 8.15 on may forget those.
pub const UVCURL_TICK_MS: uvcurl_option = 3;

/// Makes a driver on a loop.
///
/// The driver lives until uvcurl_close(). The loop must be initialised, and must outlive the driver. The first call in a
/// process runs curl_global_init(); uvcurl never runs curl_global_cleanup().
///
/// In C and C++ this name is also a macro, which hands over the program's own curl_version_info() as well, so that two
/// copies of libcurl in one process are found out. Two copies of libuv are found out either way. A program that loads
/// uvcurl at run time looks up `uvcurl_new_checked` for both checks, or `uvcurl_new` for that of libuv alone.
///
/// \param loop  the loop
/// \param out   where the driver's address goes; written only on success
/// \return 0; UV_EINVAL if an argument is NULL; UVCURL_E_LIBUV_MISMATCH; UVCURL_E_LIBCURL_MISMATCH;
///         UVCURL_E_LIBUV_TOO_OLD; UVCURL_E_LIBCURL_TOO_OLD; UV_ENOMEM; another number of libuv's if the loop takes no
///         more handles; above 0 the CURLcode of curl_global_init()
#[no_mangle]
pub unsafe extern "C" fn uvcurl_new(r#loop: *mut uv_loop_t, out: *mut *mut uvcurl_t) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: pointers are NULL or valid for their type.
        status(unsafe { new(r#loop, out, None) })
    })
}

/// uvcurl_new() with the check for two copies of libcurl. The macro of that name calls this.
///
/// \param loop       the loop
/// \param out        where the driver's address goes; written only on success
/// \param curl_info  curl_version_info(CURLVERSION_NOW), called by the program
/// \return as uvcurl_new()
#[no_mangle]
pub unsafe extern "C" fn uvcurl_new_checked(
    r#loop: *mut uv_loop_t,
    out: *mut *mut uvcurl_t,
    curl_info: *const curl_version_info_data,
) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        if curl_info.is_null() {
            return error::EINVAL;
        }
        // SAFETY: the host's contract: pointers are NULL or valid for their type.
        status(unsafe { new(r#loop, out, Some(curl_info as usize)) })
    })
}

/// Ends a driver: cancels what is in flight, closes every connection, and takes everything of uvcurl off the loop.
///
/// It never waits, neither for a peer nor for a name lookup. Run the loop: each transfer in flight is reported with
/// UV_ECANCELED (one that had already ended, with its own result), then the close callback runs and the driver's memory
/// is gone. Until then uvcurl_start(), _cancel(), _pause() and _set() answer UV_ECANCELED for this driver.
///
/// It may be called from every callback. Called with NULL, a second time, or from another thread than the loop's it does
/// nothing, and the callback does not run.
///
/// \param uc         the driver, or NULL
/// \param cb         called when the driver is gone, or NULL
/// \param user_data  handed to the callback
#[no_mangle]
pub unsafe extern "C" fn uvcurl_close(
    uc: *mut uvcurl_t,
    cb: uvcurl_close_cb,
    user_data: *mut c_void,
) {
    guard((), || {
        // SAFETY: the host's contract: NULL or a live driver.
        if let Ok(driver) = unsafe { enter(uc) } {
            let close = CloseFn {
                function: cb,
                user_data,
            };
            guard_driver(&driver, (), |driver| driver.close(close));
        }
    });
}

/// Starts the transfer that an easy handle describes.
///
/// The easy handle stays the host's, with all its options and callbacks; it must stay alive until the done callback.
/// Cleaning it up while it is in flight is the one mistake uvcurl cannot catch. No callback runs inside this function: the
/// transfer begins in the next turn of the loop, and even one that cannot succeed is reported from there. What has no
/// result yet keeps the loop alive, see uvcurl_ref().
///
/// uvcurl does not use CURLOPT_PRIVATE. See UVCURL_EASY_UNTOUCHED for the options it does use. CURLOPT_CONNECT_ONLY is of
/// no use here: libcurl closes the connection when it lets go of the handle, which is before the done callback.
///
/// \param uc         the driver
/// \param easy       the easy handle
/// \param cb         called once when the transfer has ended
/// \param user_data  handed to the callback
/// \return 0; UV_EINVAL if an argument is NULL or the handle is none; UV_EALREADY if it is in flight on this driver;
///         UV_EBUSY if it is in another multi handle; UV_ECANCELED if the driver is closing; UV_ENOMEM;
///         UVCURL_E_WRONG_THREAD; UVCURL_E_MULTI or UVCURL_E_INTERNAL if something is broken. After a failure no callback
///         runs for this call.
#[no_mangle]
pub unsafe extern "C" fn uvcurl_start(
    uc: *mut uvcurl_t,
    easy: *mut CURL,
    cb: uvcurl_done_cb,
    user_data: *mut c_void,
) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        let driver = match unsafe { enter_open(uc) } {
            Ok(driver) => driver,
            Err(error) => return error,
        };
        match (easy.is_null(), cb) {
            (false, Some(function)) => {
                let done = DoneFn {
                    function,
                    user_data,
                };
                act(&driver, |driver| driver.start(Easy(easy), done))
            }
            _ => error::EINVAL,
        }
    })
}

/// Cancels a transfer. Its done callback runs with UV_ECANCELED in the next turn of the loop.
///
/// None of the easy handle's own callbacks runs after this has returned, unless it was called inside one of libcurl's
/// callbacks: libcurl then gets to finish what it is doing.
///
/// \param uc    the driver
/// \param easy  the easy handle
/// \return 0; UV_ENOENT if the handle is not in flight on this driver; UV_EALREADY if how it ends is settled, by an
///         earlier cancel or because it has ended, and the report is on its way; UV_EINVAL if an argument is NULL;
///         UV_ECANCELED if the driver is closing; UV_ENOMEM; UVCURL_E_WRONG_THREAD
#[no_mangle]
pub unsafe extern "C" fn uvcurl_cancel(uc: *mut uvcurl_t, easy: *mut CURL) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        match unsafe { enter_open(uc) } {
            Ok(_) if easy.is_null() => error::EINVAL,
            Ok(driver) => act(&driver, |driver| driver.cancel(Easy(easy))),
            Err(error) => error,
        }
    })
}

/// Pauses and resumes a transfer, as curl_easy_pause() does.
///
/// Use this instead of curl_easy_pause(), so that it is right from every callback. Outside of libcurl's callbacks it acts at
/// once: data that libcurl has kept may be given to the write callback before it returns. Inside them it acts when
/// libcurl has returned. A pause before there is a connection takes effect as soon as there is one. If pausing or
/// resuming fails, because the write callback fails for example, that is the transfer's result.
///
/// A stream of HTTP/2 may still be given what is on its way already, a megabyte or more (libcurl 8.9.0 to 8.22.0 at least).
/// To have no more data at once, return CURL_WRITEFUNC_PAUSE from the write callback, and resume with this function.
///
/// A paused transfer keeps the loop alive like any other.
///
/// \param uc       the driver
/// \param easy     the easy handle
/// \param bitmask  CURLPAUSE_RECV, CURLPAUSE_SEND, CURLPAUSE_ALL or CURLPAUSE_CONT: the new state
/// \return 0; UV_ENOENT and UV_EALREADY as uvcurl_cancel(); UV_EINVAL if a pointer is NULL or the bitmask has other bits;
///         UV_ECANCELED if the driver is closing; UV_ENOMEM; UVCURL_E_WRONG_THREAD
#[no_mangle]
pub unsafe extern "C" fn uvcurl_pause(uc: *mut uvcurl_t, easy: *mut CURL, bitmask: c_int) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        match unsafe { enter_open(uc) } {
            Ok(_) if easy.is_null() || bitmask & !PAUSE_ALL != 0 => error::EINVAL,
            Ok(driver) => act(&driver, |driver| driver.pause(Easy(easy), bitmask)),
            Err(error) => error,
        }
    })
}

/// Lets transfers in flight keep the loop alive. This is the default.
///
/// Paused and rate-limited transfers count, although they have neither socket nor timer. A driver without transfers never
/// keeps the loop alive, however many connections idle in its pool: uv_run() then returns as soon as the last transfer
/// is reported. It is a flag, as uv_ref() is: calling it twice is calling it once.
///
/// \param uc  the driver; NULL does nothing
#[no_mangle]
pub unsafe extern "C" fn uvcurl_ref(uc: *mut uvcurl_t) {
    // SAFETY: the host's contract: NULL or a live driver.
    unsafe { set_referenced(uc, true) }
}

/// Keeps transfers in flight from keeping the loop alive.
///
/// \param uc  the driver; NULL does nothing
#[no_mangle]
pub unsafe extern "C" fn uvcurl_unref(uc: *mut uvcurl_t) {
    // SAFETY: the host's contract: NULL or a live driver.
    unsafe { set_referenced(uc, false) }
}

/// Whether transfers in flight keep the loop alive.
///
/// \param uc  the driver
/// \return 1 after uvcurl_new() and uvcurl_ref(), 0 after uvcurl_unref() and for NULL
#[no_mangle]
pub unsafe extern "C" fn uvcurl_has_ref(uc: *const uvcurl_t) -> c_int {
    guard(0, || {
        // SAFETY: the host's contract: NULL or a live driver.
        unsafe { enter(uc.cast_mut()) }.map_or(0, |driver| c_int::from(driver.is_referenced()))
    })
}

/// Sets an option of the driver.
///
/// \param uc      the driver
/// \param option  one of the UVCURL_ options above
/// \param value   its value
/// \return 0; UV_ENOTSUP for an unknown option; UV_EINVAL for a value out of range or a NULL driver; UV_EBUSY if the
///         option cannot change while transfers are in flight; UV_ECANCELED if the driver is closing;
///         UVCURL_E_WRONG_THREAD
#[no_mangle]
pub unsafe extern "C" fn uvcurl_set(
    uc: *mut uvcurl_t,
    option: uvcurl_option,
    value: c_long,
) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        match (unsafe { enter_open(uc) }, option, value) {
            (Err(error), ..) => error,
            (Ok(driver), UVCURL_EASY_UNTOUCHED, 0 | 1) => status(driver.set_untouched(value == 1)),
            (Ok(driver), UVCURL_MAXCONNECTS, 0..) => {
                let fixed = usize::try_from(value).ok().filter(|limit| *limit > 0);
                act(&driver, |driver| driver.set_max_connects(fixed))
            }
            (Ok(driver), UVCURL_TICK_MS, 0 | LEAST_TICK_MS..=MOST_TICK_MS) => {
                let ms = u64::try_from(value).unwrap_or(0);
                act(&driver, |driver| driver.set_tick(ms))
            }
            (Ok(_), UVCURL_EASY_UNTOUCHED | UVCURL_MAXCONNECTS | UVCURL_TICK_MS, _) => {
                error::EINVAL
            }
            (Ok(_), ..) => error::ENOTSUP,
        }
    })
}

/// The loop a driver was made on.
///
/// \param uc  the driver
/// \return the loop; NULL for NULL
#[no_mangle]
pub unsafe extern "C" fn uvcurl_loop(uc: *const uvcurl_t) -> *mut uv_loop_t {
    guard(ptr::null_mut(), || {
        // SAFETY: the host's contract: NULL or a live driver.
        unsafe { enter(uc.cast_mut()) }.map_or(ptr::null_mut(), |driver| driver.uv().raw())
    })
}

/// The multi handle of a driver, lent for curl_multi_setopt() of what uvcurl does not own.
///
/// Connection limits, CURLMOPT_PIPELINING and the like are the host's; for CURLMOPT_MAXCONNECTS see UVCURL_MAXCONNECTS.
/// CURLMOPT_SOCKETFUNCTION, CURLMOPT_TIMERFUNCTION and their data are uvcurl's, as is every other curl_multi_ function on
/// this handle; leave CURLMOPT_PUSHFUNCTION alone too, for the transfers it adds are nobody's. libcurl refuses
/// curl_multi_setopt() inside its own callbacks.
///
/// \param uc  the driver
/// \return the multi handle, valid until uvcurl_close(); NULL for NULL and for a driver that is closing
#[no_mangle]
pub unsafe extern "C" fn uvcurl_multi(uc: *mut uvcurl_t) -> *mut CURLM {
    guard(ptr::null_mut(), || {
        // SAFETY: the host's contract: NULL or a live driver.
        match unsafe { enter(uc) } {
            Ok(driver) if driver.phase() == Phase::Open => driver.multi.raw(),
            _ => ptr::null_mut(),
        }
    })
}

/// How many transfers have been started and not yet reported.
///
/// Inside a done callback the transfer it reports no longer counts.
///
/// \param uc  the driver
/// \return their number; 0 for NULL
#[no_mangle]
pub unsafe extern "C" fn uvcurl_active(uc: *const uvcurl_t) -> size_t {
    guard(0, || {
        // SAFETY: the host's contract: NULL or a live driver.
        unsafe { enter(uc.cast_mut()) }.map_or(0, |driver| driver.active())
    })
}

// ---- what the functions share ----

/// Ticks that come faster than this, or less than once a day, are a mistake.
const LEAST_TICK_MS: c_long = 10;
const MOST_TICK_MS: c_long = 86_400_000;

/// CURLPAUSE_ALL, which curl-sys leaves out.
const PAUSE_ALL: c_int = curl_sys::CURLPAUSE_RECV | curl_sys::CURLPAUSE_SEND;

/// 1.44.0, as `uv_version` has it: handles of an older one must not outlive their descriptors, and tests of it are gone.
const OLDEST_LIBUV: u32 = 0x01_2c_00;
/// 7.84.0, as `curl_version_info` has it: `curl_global_init` of an older one may be called by one thread at a time only.
const OLDEST_LIBCURL: u32 = 0x07_54_00;

/// Lets a driver do what was asked of it.
fn act(driver: &Driver, what: impl FnOnce(&Driver) -> Result<(), c_int>) -> c_int {
    guard_driver(driver, error::UVCURL_E_INTERNAL, |driver| {
        status(what(driver))
    })
}

fn status(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(error::OK)
}

/// The driver behind a pointer from the host, if it is one and this is its loop's thread.
///
/// # Safety
/// `uc` is NULL or a driver whose close callback has not run.
#[inline]
unsafe fn enter(uc: *mut uvcurl_t) -> Result<Frame, c_int> {
    let driver: *const Driver = uc.cast_const().cast();
    if driver.is_null() || !driver.is_aligned() {
        return Err(error::EINVAL);
    }
    // SAFETY: the caller's promise. The mark catches pointers to something else where reading them does no harm.
    unsafe {
        if !(*driver).is_marked() {
            return Err(error::EINVAL);
        }
        // Before the frame: its count is not for other threads to touch.
        if !(*driver).is_on(callbacks::current_thread()) {
            if (*driver).is_settled() {
                return Err(error::UVCURL_E_WRONG_THREAD);
            }
            callbacks::move_to_this_thread(&*driver, false);
        }
        Ok(Frame::new(driver))
    }
}

/// [`enter`] for what a driver that is closing no longer does.
///
/// # Safety
/// As for [`enter`].
#[inline(always)]
unsafe fn enter_open(uc: *mut uvcurl_t) -> Result<Frame, c_int> {
    // SAFETY: the caller's promise.
    let driver = unsafe { enter(uc) }?;
    match driver.phase() {
        Phase::Open => Ok(driver),
        Phase::Closing | Phase::Closed => Err(error::ECANCELED),
    }
}

/// # Safety
/// As for [`enter`].
unsafe fn set_referenced(uc: *mut uvcurl_t, referenced: bool) {
    guard((), || {
        // SAFETY: the caller's promise.
        if let Ok(driver) = unsafe { enter(uc) } {
            driver.set_referenced(referenced);
        }
    });
}

/// # Safety
/// The pointers are NULL or valid; the loop is initialised.
unsafe fn new(
    raw: *mut uv_loop_t,
    out: *mut *mut uvcurl_t,
    curl_info: Option<usize>,
) -> Result<(), c_int> {
    if raw.is_null() || out.is_null() {
        return Err(error::EINVAL);
    }
    // Whatever was there when the library was built: another may be loaded (S58).
    if sys::libuv() < OLDEST_LIBUV {
        return Err(error::UVCURL_E_LIBUV_TOO_OLD);
    }
    if sys::libcurl() < OLDEST_LIBCURL {
        return Err(error::UVCURL_E_LIBCURL_TOO_OLD);
    }
    // SAFETY: the caller's promise.
    if unsafe { sys::foreign_loop(raw)? } {
        return Err(error::UVCURL_E_LIBUV_MISMATCH);
    }
    // libcurl answers with the address of a static struct, one in each copy of it. After libuv: where both are wrong, as with
    // an embedded shared library, the program hears of the same one from either function.
    if curl_info.is_some_and(|theirs| theirs != sys::VERSION_INFO.address) {
        return Err(error::UVCURL_E_LIBCURL_MISMATCH);
    }
    sys::global_init()?;
    let multi = Multi::new()?;
    // SAFETY: the caller's promise; the header asks that the loop outlive the driver.
    let uv = unsafe { Loop::new(raw) };
    // By hand, because Box aborts the process where memory is refused.
    // SAFETY: a Driver is not of size 0.
    let driver = unsafe { alloc::alloc(Layout::new::<Driver>()).cast::<Driver>() };
    if driver.is_null() {
        multi.cleanup();
        return Err(error::ENOMEM);
    }
    // SAFETY: fresh memory of the right layout.
    unsafe { driver.write(Driver::new(uv, multi, callbacks::current_thread())) };
    // SAFETY: just made, on this thread.
    let frame = unsafe { Frame::new(driver) };
    let opened = callbacks::register(driver).and_then(|()| frame.open(driver));
    if let Err(error) = opened {
        frame.close(CloseFn::none());
        if frame.uv().open_handles() == 0 {
            drop(frame);
            // SAFETY: no handle and nobody else knows the driver.
            unsafe { callbacks::discard(driver) };
        }
        return Err(error);
    }
    // SAFETY: `out` is not NULL.
    unsafe { out.write(driver.cast()) };
    Ok(())
}
