//! Door BACK: every function that libcurl or libuv calls.
//!
//! Each finds its driver, keeps the driver's memory for as long as it runs, lets no panic out, and hands on. What they hand
//! on to is the state machine in `driver`, except for the close-socket function, which belongs to no driver.
#![allow(
    unsafe_code,
    reason = "door BACK: raw pointers that libuv and libcurl hand back to us"
)]

use std::ops::Deref;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError};

use curl_sys::{CURL, CURLM};
use libc::{c_int, c_long, c_void};
use libuv_sys2 as uv;

use crate::driver::{Driver, Phase};
use crate::error;
use crate::sys::{self, Easy, Events, Socket};

/// A driver whose memory stays while this lives. The last one to go after the close callback frees it.
pub(crate) struct Frame(*const Driver);

impl Frame {
    /// # Safety
    /// `driver` is alive, and this is the thread that runs its loop.
    pub(crate) unsafe fn new(driver: *const Driver) -> Frame {
        // SAFETY: the caller's promise.
        let frames = unsafe { (*driver).frames() };
        frames.set(frames.get() + 1);
        Frame(driver)
    }

    /// A frame for a call that libuv makes: by making it, libuv tells which thread runs the loop.
    ///
    /// # Safety
    /// `driver` is alive, and libuv is calling.
    unsafe fn of_loop(driver: *const Driver) -> Frame {
        // SAFETY: the caller's promise.
        let frame = unsafe { Frame::new(driver) };
        move_to_this_thread(&frame, true);
        frame
    }
}

/// Notes that this thread has the driver. `settled`: because it runs the loop.
#[inline]
pub(crate) fn move_to_this_thread(driver: &Driver, settled: bool) {
    let here = current_thread();
    if driver.is_on(here) && (driver.is_settled() || !settled) {
        return;
    }
    if driver.settle_on(here, settled) {
        for entry in live().iter_mut() {
            if entry.driver == std::ptr::from_ref(driver) as usize {
                entry.thread = here;
            }
        }
    }
}

impl Deref for Frame {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        // SAFETY: the frame keeps the driver alive.
        unsafe { &*self.0 }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let left = self.frames().get() - 1;
        self.frames().set(left);
        if left == 0 && self.phase() == Phase::Closed {
            // SAFETY: after the close callback nothing outside points here, and no frame is left inside.
            unsafe { discard(self.0) };
        }
    }
}

/// Frees a driver.
///
/// # Safety
/// It was made by `uvcurl_new`, nothing points to it any more, and this happens once.
pub(crate) unsafe fn discard(driver: *const Driver) {
    live().retain(|entry| entry.driver != driver as usize);
    // SAFETY: `uvcurl_new` got the memory from the global allocator with the layout of a Driver, as Box does.
    drop(unsafe { Box::from_raw(driver.cast_mut()) });
}

/// An address that no two living threads share.
pub(crate) fn current_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}

struct Live {
    driver: usize,
    thread: usize,
}

/// Every driver there is, for the close-socket function.
static LIVE: Mutex<Vec<Live>> = Mutex::new(Vec::new());

fn live() -> MutexGuard<'static, Vec<Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a driver known to the close-socket function.
pub(crate) fn register(driver: *const Driver) -> Result<(), c_int> {
    let mut live = live();
    live.try_reserve(1).map_err(|_| error::ENOMEM)?;
    live.push(Live {
        driver: driver as usize,
        thread: current_thread(),
    });
    Ok(())
}

/// Makes the other drivers of this thread give up a socket that idles in their pools: a pool they share has given it to
/// `driver`.
pub(crate) fn release_elsewhere(driver: *const Driver, socket: Socket) {
    let here = current_thread();
    let live = live();
    let others = live
        .iter()
        .filter(|entry| entry.thread == here && entry.driver != driver as usize);
    for entry in others {
        // SAFETY: an entry goes before its driver does, and drivers of this thread go on this thread.
        unsafe { (*(entry.driver as *const Driver)).release_idle(socket) };
    }
}

/// Runs `body`; a panic, which would be a bug of ours, ends here.
pub(crate) fn guard<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Runs `body` with a driver. After a panic the driver's records may be behind what has happened: it fails its transfers
/// and takes no more.
pub(crate) fn guard_driver<R>(driver: &Driver, otherwise: R, body: impl FnOnce(&Driver) -> R) -> R {
    catch_unwind(AssertUnwindSafe(|| body(driver))).unwrap_or_else(|_| {
        guard((), || driver.panicked());
        otherwise
    })
}

// ---- libuv ----

pub(crate) unsafe extern "C" fn socket_ready(
    handle: *mut uv::uv_poll_t,
    status: c_int,
    events: c_int,
) {
    guard((), || {
        // SAFETY: libuv hands back a handle that `sys::Loop` made and has not freed.
        let (driver, socket) = unsafe { sys::owner(handle.cast()) };
        // SAFETY: the driver lives until its last handle is freed.
        let frame = unsafe { Frame::of_loop(driver) };
        guard_driver(&frame, (), |driver| {
            driver.socket_ready(socket, handle as usize, status, Events(events as u8));
        });
    });
}

pub(crate) unsafe extern "C" fn timer_due(handle: *mut uv::uv_timer_t) {
    guard((), || {
        // SAFETY: as in `socket_ready`.
        let frame = unsafe { Frame::of_loop(sys::owner(handle.cast()).0) };
        guard_driver(&frame, (), |driver| driver.timer_due(handle as usize));
    });
}

pub(crate) unsafe extern "C" fn kicked(handle: *mut uv::uv_idle_t) {
    guard((), || {
        // SAFETY: as in `socket_ready`.
        let frame = unsafe { Frame::of_loop(sys::owner(handle.cast()).0) };
        guard_driver(&frame, (), Driver::turned);
    });
}

pub(crate) unsafe extern "C" fn polled(handle: *mut uv::uv_check_t) {
    guard((), || {
        // SAFETY: as in `socket_ready`.
        let frame = unsafe { Frame::of_loop(sys::owner(handle.cast()).0) };
        guard_driver(&frame, (), Driver::polled);
    });
}

pub(crate) unsafe extern "C" fn handle_closed(handle: *mut uv::uv_handle_t) {
    guard((), || {
        // SAFETY: the close callback of a handle that `sys::Loop` made; libuv calls it once.
        let driver = unsafe { sys::closed(handle) };
        // SAFETY: the driver lives until its last handle has been through here.
        let frame = unsafe { Frame::of_loop(driver) };
        guard_driver(&frame, (), Driver::handle_closed);
    });
}

// ---- libcurl ----

/// CURLMOPT_SOCKETFUNCTION. Always 0: -1 kills the multi handle and all its transfers (R5).
pub(crate) unsafe extern "C" fn socket_wanted(
    easy: *mut CURL,
    socket: Socket,
    what: c_int,
    driver: *mut c_void,
    _socketp: *mut c_void,
) -> c_int {
    // SAFETY: set with the driver's address by `Multi::attach`, and cleared before the driver goes; nothing that runs in here
    // can end it, so it needs no frame.
    let driver = unsafe { &*driver.cast::<Driver>() };
    guard_driver(driver, (), |driver| {
        let events = match what {
            1 => Events::IN,
            2 => Events::OUT,
            3 => Events::IN.union(Events::OUT),
            // CURL_POLL_REMOVE (4), and CURL_POLL_NONE (0), which libcurl defines and does not use.
            _ => Events::NONE,
        };
        driver.socket_wanted(Easy(easy), socket, events);
    });
    0
}

/// CURLMOPT_TIMERFUNCTION. No libcurl call from here (R6, S1).
pub(crate) unsafe extern "C" fn timer_wanted(
    _multi: *mut CURLM,
    ms: c_long,
    driver: *mut c_void,
) -> c_int {
    #[allow(clippy::unnecessary_cast, reason = "a long has 32 bits elsewhere")]
    let ms = ms as i64;
    // SAFETY: as in `socket_wanted`.
    let driver = unsafe { &*driver.cast::<Driver>() };
    guard_driver(driver, (), |driver| driver.timer_wanted(ms));
    0
}

/// CURLOPT_CLOSESOCKETFUNCTION, with no argument: it tells every driver of this thread that the descriptor is going, and
/// closes it. libcurl copies the function into the connection, so it may run long after the transfer, for another
/// driver's multi handle, in the host's own curl_easy_perform, or with no driver left; it is right in all of them.
pub(crate) unsafe extern "C" fn socket_closing(_: *mut c_void, socket: Socket) -> c_int {
    guard((), || {
        let here = current_thread();
        let live = live();
        for entry in live.iter().filter(|entry| entry.thread == here) {
            // SAFETY: an entry goes before its driver does, and drivers of this thread go on this thread.
            unsafe { (*(entry.driver as *const Driver)).socket_closing(socket) };
        }
    });
    #[cfg(unix)]
    // SAFETY: libcurl gives the descriptor to this function to close.
    unsafe {
        c_int::from(libc::close(socket) != 0)
    }
    #[cfg(windows)]
    // SAFETY: as on Unix; winsock's own call, which the standard library links.
    unsafe {
        extern "system" {
            fn closesocket(socket: Socket) -> c_int;
        }
        c_int::from(closesocket(socket) != 0)
    }
}
