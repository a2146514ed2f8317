//! Numbers, lines for a person, and a log.

use std::mem::size_of;
use std::ptr;

use libc::{c_char, c_int, c_void, size_t};

use super::{act, enter_open, uvcurl_t};
use crate::callbacks::guard;
use crate::driver::Driver;
use crate::error;
use crate::sys::LogFn;

/// Receives one line of text, without a newline.
///
/// For uvcurl_set_log() it runs from the loop, never while libcurl is on the stack; for uvcurl_dump(), inside that. Every
/// function of uvcurl may be called here, uvcurl_close() included.
///
/// \param uc         the driver
/// \param line       the line, UTF-8, valid until the callback returns
/// \param user_data  what was given along with the callback
pub type uvcurl_log_cb = Option<
    unsafe extern "C-unwind" fn(uc: *mut uvcurl_t, line: *const c_char, user_data: *mut c_void),
>;

/// What a driver has done since it was made, and what it has in hand; see uvcurl_stats().
///
/// Later versions may add members at the end, and change none.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub struct uvcurl_stats_t {
    /// Transfers: started, ever.
    pub started: u64,
    /// Reported with 0.
    pub succeeded: u64,
    /// Reported with anything but 0 and UV_ECANCELED.
    pub failed: u64,
    /// Reported with UV_ECANCELED.
    pub cancelled: u64,
    /// Started and not yet reported, now.
    pub in_flight: u64,
    /// Those of them that libcurl has.
    pub running: u64,
    /// Those of them that uvcurl_pause() has paused; what a callback has paused only libcurl knows.
    pub paused: u64,
    /// Those that libcurl holds back behind a connection limit; 0 before libcurl 8.16 and inside its callbacks.
    pub held_back: u64,
    /// Sockets that libcurl wants watched and that are, now.
    pub sockets_watched: u64,
    /// Sockets that libcurl wants watched and that are not, or not for all it wants: they cannot be, or are ready time after
    /// time with nothing done about it. They are looked at 20 times a second.
    pub sockets_unwatched: u64,
    /// Sockets of pooled connections of which uvcurl has a handle.
    pub sockets_idle: u64,
    /// How often the loop has called uvcurl.
    pub turns: u64,
    /// Those of them in which libcurl was not called and nothing was reported: wake-ups without progress.
    pub idle_turns: u64,
    /// How often uvcurl has asked the loop for a turn without a wait ("kicks") and got it.
    pub kicks: u64,
    /// Calls of libcurl on behalf of a socket or the deadline.
    pub actions: u64,
    /// Those of them to look at a silent socket.
    pub looks: u64,
    /// Those of them to look at all transfers, because one had no socket; see UVCURL_TICK_MS.
    pub ticks: u64,
    /// Transfers that libcurl had forgotten, and sockets that the loop had: each is a bug, and a line of the log.
    pub stalls: u64,
    /// Sockets that were ready time after time with nothing done about it: each is a bug, and a line of the log.
    pub spins: u64,
    /// Log lines that were dropped because there were too many in one turn.
    pub log_lost: u64,
}

/// Tells what a driver has done and what it has in hand.
///
/// It takes as long as there are sockets to count, some nanoseconds each, and may be called from every callback.
///
/// \param uc    the driver
/// \param out   where the numbers go; written only on success
/// \param size  sizeof(uvcurl_stats_t), as the program was compiled: no more than that is written, and members that the
///              library does not know become 0
/// \return 0; UV_EINVAL if a pointer is NULL or the size is 0 or no multiple of 8; UV_ECANCELED if the driver is closing;
///         UVCURL_E_WRONG_THREAD
#[no_mangle]
pub unsafe extern "C" fn uvcurl_stats(
    uc: *const uvcurl_t,
    out: *mut uvcurl_stats_t,
    size: size_t,
) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        let driver = match unsafe { enter_open(uc.cast_mut()) } {
            Ok(driver) => driver,
            Err(error) => return error,
        };
        if out.is_null() || size == 0 || size % size_of::<u64>() != 0 {
            return error::EINVAL;
        }
        let stats = gather(&driver);
        let known = size.min(size_of::<uvcurl_stats_t>());
        // SAFETY: the host's contract: `size` bytes at `out` are the host's. Bytes, for the host may know fewer members.
        unsafe {
            ptr::write_bytes(out.cast::<u8>(), 0, size);
            ptr::copy_nonoverlapping(ptr::from_ref(&stats).cast::<u8>(), out.cast::<u8>(), known);
        }
        error::OK
    })
}

fn gather(driver: &Driver) -> uvcurl_stats_t {
    let now = driver.snapshot();
    let counters = &driver.counters;
    uvcurl_stats_t {
        started: now.started,
        succeeded: counters.succeeded.get(),
        failed: counters.failed.get(),
        cancelled: counters.cancelled.get(),
        in_flight: now.in_flight,
        running: now.running,
        paused: now.paused,
        held_back: now.held_back,
        sockets_watched: now.sockets_watched,
        sockets_unwatched: now.sockets_unwatched,
        sockets_idle: now.sockets_idle,
        turns: counters.turns.get(),
        idle_turns: counters.idle_turns.get(),
        kicks: counters.kicks.get(),
        actions: counters.actions.get(),
        looks: counters.looks.get(),
        ticks: counters.ticks.get(),
        stalls: counters.stalls.get(),
        spins: counters.spins.get(),
        log_lost: counters.unsaid.get(),
    }
}

/// Describes a driver and each of its transfers for a person, line by line.
///
/// Two lines are about the driver, one about each transfer, oldest first: where it goes (scheme, host and port, never a
/// path, a query or credentials), how long ago it was started, what it is at, what has come and gone, and what it waits for,
/// with its sockets. The text is not for programs, and changes with the version. It may be called from every callback.
///
/// \param uc         the driver
/// \param cb         called for each line before this returns
/// \param user_data  handed to the callback
/// \return 0; UV_EINVAL if a pointer is NULL; UV_ECANCELED if the driver is closing; UV_ENOMEM; UVCURL_E_WRONG_THREAD
#[no_mangle]
pub unsafe extern "C" fn uvcurl_dump(
    uc: *const uvcurl_t,
    cb: uvcurl_log_cb,
    user_data: *mut c_void,
) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        match (unsafe { enter_open(uc.cast_mut()) }, cb) {
            (Err(error), _) => error,
            (Ok(_), None) => error::EINVAL,
            (Ok(driver), Some(function)) => {
                let log = LogFn {
                    function,
                    user_data,
                };
                act(&driver, |driver| driver.dump(&log))
            }
        }
    })
}

/// Has a driver tell of what must not be.
///
/// A line comes for each transfer that libcurl turns out to have forgotten, for each socket that is ready time after time
/// with nothing done about it, and for each one that something else in the program has taken off the loop. It says what
/// uvcurl has done about it, and which libcurl is known to have that bug. A program with a sound libcurl hears nothing.
///
/// \param uc         the driver
/// \param cb         called from the loop for each line; NULL: nobody any more, as at first
/// \param user_data  handed to the callback
/// \return 0; UV_EINVAL if the driver is NULL; UV_ECANCELED if it is closing; UVCURL_E_WRONG_THREAD
#[no_mangle]
pub unsafe extern "C" fn uvcurl_set_log(
    uc: *mut uvcurl_t,
    cb: uvcurl_log_cb,
    user_data: *mut c_void,
) -> c_int {
    guard(error::UVCURL_E_INTERNAL, || {
        // SAFETY: the host's contract: NULL or a live driver.
        match unsafe { enter_open(uc) } {
            Ok(driver) => {
                let log = cb.map(|function| LogFn {
                    function,
                    user_data,
                });
                act(&driver, |driver| driver.set_log(log))
            }
            Err(error) => error,
        }
    })
}
