//! libuv, as far as the driver uses it: four kinds of handle on the host's loop.
//!
//! Every handle lives in a block of its own, sized by `uv_handle_size()` so that a newer libuv than the one compiled
//! against may be loaded (R24), and is freed in its close callback and nowhere else. All handles but [`Hold`] are
//! unreferenced: what keeps the host's loop alive is decided in one place.
//!
//! `as _` on a size_t: the bindgen of libuv-sys2 before 1.45 makes it a u64, later ones a usize.
#![allow(
    unsafe_code,
    reason = "door OUT: calls into libuv; each call names who keeps its conditions"
)]

use std::alloc::{self, Layout};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::mem::size_of;
use std::ptr::{self, NonNull};

use curl_sys::CURL;
use libc::{c_char, c_int, c_void};
use libuv_sys2 as c;
use once_cell::sync::OnceCell;

use super::{Easy, Events, Socket};
use crate::callbacks;
use crate::capi::uvcurl_t;
use crate::driver::Driver;
use crate::error;

/// Monotonic time in nanoseconds, from the clock behind `uv_now()`.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: no conditions.
    unsafe { c::uv_hrtime() }
}

/// The host's loop, and the handles of uvcurl on it that are not yet closed.
pub(crate) struct Loop {
    raw: *mut c::uv_loop_t,
    driver: Cell<*const Driver>,
    open: Cell<usize>,
    /// Handles that the host has closed, whose close callbacks are therefore not ours.
    orphans: RefCell<Vec<Handle>>,
}

/// In front of each handle's memory: what its callbacks need to find the way back.
#[repr(C, align(16))]
struct Tag {
    driver: *const Driver,
    socket: Socket,
    size: usize,
}

/// From the start of a block to the handle in it.
const TAG_OFFSET: usize = size_of::<Tag>();

impl Loop {
    /// # Safety
    /// `raw` is an initialised loop that outlives every handle made here.
    pub(crate) unsafe fn new(raw: *mut c::uv_loop_t) -> Loop {
        Loop {
            raw,
            driver: Cell::new(ptr::null()),
            open: Cell::new(0),
            orphans: RefCell::default(),
        }
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.borrow().is_empty()
    }

    /// Once libuv is certain to be done with every orphan.
    pub(crate) fn free_orphans(&self) {
        for handle in self.orphans.take() {
            handle.free();
        }
    }

    /// Tells the loop's handles to whom their callbacks go. Before the first handle is started.
    pub(crate) fn attach(&self, driver: *const Driver) {
        self.driver.set(driver);
    }

    pub(crate) fn raw(&self) -> *mut c::uv_loop_t {
        self.raw
    }

    /// The loop's cached time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        // SAFETY: the loop is live (`new`).
        unsafe { c::uv_now(self.raw) }
    }

    /// Handles made and not yet freed.
    pub(crate) fn open_handles(&self) -> usize {
        self.open.get()
    }

    fn allocate(&self, kind: c::uv_handle_type, socket: Socket) -> Result<Handle, c_int> {
        // SAFETY: a handle type this libuv knows.
        let size: usize = unsafe { c::uv_handle_size(kind) as _ };
        let size = TAG_OFFSET + size;
        // SAFETY: the size is not 0.
        let block = unsafe { alloc::alloc_zeroed(layout(size)) };
        let Some(block) = NonNull::new(block) else {
            return Err(error::ENOMEM);
        };
        let tag = Tag {
            driver: self.driver.get(),
            socket,
            size,
        };
        // SAFETY: the block is fresh, large enough and aligned for a Tag; the handle follows it.
        let raw = unsafe {
            block.cast::<Tag>().write(tag);
            block.add(TAG_OFFSET).cast::<c::uv_handle_t>()
        };
        Ok(Handle { raw })
    }

    /// The handle has been initialised and is now libuv's until its close callback.
    fn adopted(&self, handle: &Handle, referenced: bool) {
        self.open.set(self.open.get() + 1);
        if !referenced {
            // SAFETY: an initialised handle.
            unsafe { c::uv_unref(handle.raw.as_ptr()) };
        }
    }

    /// A poll handle on `socket`, not started. libuv tries the descriptor out here, so this can fail.
    pub(crate) fn poll(&self, socket: Socket) -> Result<Poll, c_int> {
        let handle = self.allocate(c::uv_handle_type_UV_POLL, socket)?;
        let raw = handle.raw.as_ptr().cast();
        // SAFETY: a live loop, a block of the right size, a descriptor that is open now.
        let init = || unsafe { c::uv_poll_init_socket(self.raw, raw, socket as c::uv_os_sock_t) };
        let mut code = init();
        if code == error::EEXIST {
            callbacks::release_elsewhere(self.driver.get(), socket);
            code = init();
        }
        if code < 0 {
            handle.free();
            return Err(code);
        }
        self.adopted(&handle, false);
        Ok(Poll { handle })
    }

    pub(crate) fn timer(&self) -> Result<Timer, c_int> {
        let handle = self.allocate(c::uv_handle_type_UV_TIMER, 0)?;
        // SAFETY: a live loop and a block of the right size. Cannot fail.
        unsafe { c::uv_timer_init(self.raw, handle.raw.as_ptr().cast()) };
        self.adopted(&handle, false);
        Ok(Timer { handle })
    }

    pub(crate) fn idle(&self) -> Result<Idle, c_int> {
        let handle = self.allocate(c::uv_handle_type_UV_IDLE, 0)?;
        // SAFETY: as for a timer. Cannot fail.
        unsafe { c::uv_idle_init(self.raw, handle.raw.as_ptr().cast()) };
        self.adopted(&handle, false);
        Ok(Idle { handle })
    }

    pub(crate) fn check(&self) -> Result<Check, c_int> {
        let handle = self.allocate(c::uv_handle_type_UV_CHECK, 0)?;
        // SAFETY: as for a timer. Cannot fail.
        unsafe { c::uv_check_init(self.raw, handle.raw.as_ptr().cast()) };
        self.adopted(&handle, false);
        Ok(Check { handle })
    }

    pub(crate) fn hold(&self) -> Result<Hold, c_int> {
        let handle = self.allocate(c::uv_handle_type_UV_ASYNC, 0)?;
        // SAFETY: a live loop and a block of the right size; nobody sends, so there is no callback.
        let code = unsafe { c::uv_async_init(self.raw, handle.raw.as_ptr().cast(), None) };
        if code < 0 {
            handle.free();
            return Err(code);
        }
        self.adopted(&handle, false);
        Ok(Hold { handle })
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, std::mem::align_of::<Tag>()).expect("a handle's size is small")
}

/// A handle in its block. No Drop: the one way out is [`Handle::close`], after which libuv owns the block.
struct Handle {
    raw: NonNull<c::uv_handle_t>,
}

impl Handle {
    fn tag(&self) -> *mut Tag {
        // SAFETY: every handle was placed TAG_OFFSET into its block by `allocate`.
        unsafe { self.raw.as_ptr().cast::<u8>().sub(TAG_OFFSET).cast() }
    }

    /// Whether somebody has closed the handle; if so it is not us, and nothing may be done with it (S43).
    fn is_closing(&self) -> bool {
        // SAFETY: an initialised handle whose memory is still ours.
        unsafe { c::uv_is_closing(self.raw.as_ptr()) != 0 }
    }

    fn close(self) {
        if self.is_closing() {
            // SAFETY: the tag is in our block and the driver is alive while handles are open.
            let driver = unsafe { (*self.tag()).driver.as_ref() };
            if let Some(driver) = driver {
                let uv = driver.uv();
                uv.open.set(uv.open.get() - 1);
                let mut orphans = uv.orphans.borrow_mut();
                if orphans.try_reserve(1).is_ok() {
                    orphans.push(self);
                }
            }
            return;
        }
        // SAFETY: an initialised handle that is not closing.
        unsafe { c::uv_close(self.raw.as_ptr(), Some(callbacks::handle_closed)) };
    }

    /// Gives the block back. Only for a handle libuv does not know (any more).
    fn free(self) {
        let tag = self.tag();
        // SAFETY: `allocate` made the block with this layout, and nobody else has it.
        unsafe { alloc::dealloc(tag.cast(), layout((*tag).size)) };
    }
}

/// Frees a closed handle and returns the driver it belonged to.
///
/// # Safety
/// Only from the close callback of a handle made by [`Loop`], once.
pub(crate) unsafe fn closed(raw: *mut c::uv_handle_t) -> *const Driver {
    let Some(raw) = NonNull::new(raw) else {
        return ptr::null();
    };
    let handle = Handle { raw };
    // SAFETY: our block, still allocated.
    let driver = unsafe { (*handle.tag()).driver };
    handle.free();
    // SAFETY: the driver lives until the last of its handles has been through here.
    if let Some(driver) = unsafe { driver.as_ref() } {
        driver.uv().open.set(driver.uv().open.get() - 1);
    }
    driver
}

/// The driver and the socket of a handle made by [`Loop`].
///
/// # Safety
/// `raw` is such a handle, not yet freed.
pub(crate) unsafe fn owner(raw: *mut c::uv_handle_t) -> (*const Driver, Socket) {
    // SAFETY: the caller's promise.
    let tag = unsafe { &*raw.cast::<u8>().sub(TAG_OFFSET).cast::<Tag>() };
    (tag.driver, tag.socket)
}

/// Watches one socket.
pub(crate) struct Poll {
    handle: Handle,
}

impl Poll {
    /// Tells apart two handles that were on the same descriptor one after the other.
    pub(crate) fn id(&self) -> usize {
        self.handle.raw.as_ptr() as usize
    }

    pub(crate) fn start(&self, events: Events) -> Result<(), c_int> {
        if self.handle.is_closing() {
            return Err(error::EINVAL);
        }
        let raw = self.handle.raw.as_ptr().cast();
        // SAFETY: an initialised poll handle on a descriptor that libcurl has just named as open.
        let code =
            unsafe { c::uv_poll_start(raw, c_int::from(events.0), Some(callbacks::socket_ready)) };
        if code < 0 {
            Err(code)
        } else {
            Ok(())
        }
    }

    /// Ends the watching at once; the handle can be started again. `false`: somebody else has closed it.
    pub(crate) fn stop(&self) -> bool {
        if self.handle.is_closing() {
            return false;
        }
        // SAFETY: an initialised poll handle that is not closing. Cannot fail.
        unsafe { c::uv_poll_stop(self.handle.raw.as_ptr().cast()) };
        true
    }

    /// Ends the watching at once, while the descriptor is still open; the memory follows later.
    pub(crate) fn close(self) {
        self.handle.close();
    }
}

/// One deadline.
pub(crate) struct Timer {
    handle: Handle,
}

impl Timer {
    pub(crate) fn start(&self, ms: u64) {
        if !self.handle.is_closing() {
            let raw = self.handle.raw.as_ptr().cast();
            // SAFETY: an initialised timer that is not closing, and a callback: the two ways for it to fail.
            unsafe { c::uv_timer_start(raw, Some(callbacks::timer_due), ms, 0) };
        }
    }

    pub(crate) fn stop(&self) {
        // SAFETY: an initialised timer. Cannot fail.
        unsafe { c::uv_timer_stop(self.handle.raw.as_ptr().cast()) };
    }

    pub(crate) fn id(&self) -> usize {
        self.handle.raw.as_ptr() as usize
    }

    pub(crate) fn close(self) {
        self.handle.close();
    }
}

/// Runs once in the next turn of the loop, before the loop polls for I/O, and keeps that poll from waiting.
pub(crate) struct Idle {
    handle: Handle,
}

impl Idle {
    pub(crate) fn start(&self) {
        if !self.handle.is_closing() {
            let raw = self.handle.raw.as_ptr().cast();
            // SAFETY: an initialised idle handle that is not closing, and a callback. Starting it twice is allowed.
            unsafe { c::uv_idle_start(raw, Some(callbacks::kicked)) };
        }
    }

    pub(crate) fn stop(&self) {
        // SAFETY: an initialised idle handle. Cannot fail.
        unsafe { c::uv_idle_stop(self.handle.raw.as_ptr().cast()) };
    }

    pub(crate) fn close(self) {
        self.handle.close();
    }
}

/// Runs once the loop has handed out all that its poll has found.
pub(crate) struct Check {
    handle: Handle,
}

impl Check {
    /// `false`: a host that walks the loop has closed it.
    pub(crate) fn start(&self) -> bool {
        if self.handle.is_closing() {
            return false;
        }
        let raw = self.handle.raw.as_ptr().cast();
        // SAFETY: an initialised check handle that is not closing, and a callback. Starting it twice is allowed.
        unsafe { c::uv_check_start(raw, Some(callbacks::polled)) };
        true
    }

    pub(crate) fn stop(&self) {
        // SAFETY: an initialised check handle. Cannot fail.
        unsafe { c::uv_check_stop(self.handle.raw.as_ptr().cast()) };
    }

    pub(crate) fn close(self) {
        self.handle.close();
    }
}

/// Keeps the loop alive while it is referenced. An async handle is always active and costs no turn of the loop.
pub(crate) struct Hold {
    handle: Handle,
}

impl Hold {
    pub(crate) fn set(&self, held: bool) {
        let raw = self.handle.raw.as_ptr();
        // SAFETY: an initialised handle; both are idempotent.
        unsafe {
            if held {
                c::uv_ref(raw)
            } else {
                c::uv_unref(raw)
            }
        }
    }

    pub(crate) fn close(self) {
        self.handle.close();
    }
}

/// Whether `raw` was initialised by another copy of libuv than the one uvcurl calls.
///
/// `uv_loop_init` stores the address of a function private to its copy of libuv in `wq_async.async_cb`; a scratch loop of
/// our copy, made once per process, gives the address to compare with. Comparing version strings is useless (two
/// copies may be of one version), and comparing their addresses fails where a linker merged the literals.
///
/// # Safety
/// `raw` is an initialised loop.
pub(crate) unsafe fn foreign_loop(raw: *mut c::uv_loop_t) -> Result<bool, c_int> {
    static MARK: OnceCell<usize> = OnceCell::new();
    let ours = *MARK.get_or_try_init(|| {
        // SAFETY: a block of the size libuv asks for, initialised, read, closed and freed in this one place.
        unsafe {
            let size: usize = c::uv_loop_size() as _;
            let block = alloc::alloc_zeroed(layout(size));
            if block.is_null() {
                return Err(error::ENOMEM);
            }
            let scratch = block.cast::<c::uv_loop_t>();
            let code = c::uv_loop_init(scratch);
            let mark = if code == 0 {
                Ok(mark(scratch))
            } else {
                Err(code)
            };
            if code == 0 {
                c::uv_loop_close(scratch);
            }
            alloc::dealloc(block, layout(size));
            mark
        }
    })?;
    // SAFETY: the caller's promise.
    Ok(unsafe { mark(raw) } != ours)
}

/// # Safety
/// `raw` is an initialised loop.
unsafe fn mark(raw: *mut c::uv_loop_t) -> usize {
    // SAFETY: the field is at this place in every libuv 1.x (1.44 to 1.53 looked at).
    unsafe { (*raw).wq_async.async_cb.map_or(0, |f| f as usize) }
}

/// The host's done callback with its argument. "C-unwind", so that a C++ exception that leaves it is certain to meet
/// `guard`, which ends the process; in a plain "C" call it may slip through frames that the compiler took to need none.
#[derive(Clone, Copy)]
pub(crate) struct DoneFn {
    pub(crate) function: unsafe extern "C-unwind" fn(*mut uvcurl_t, *mut CURL, c_int, *mut c_void),
    pub(crate) user_data: *mut c_void,
}

impl DoneFn {
    pub(crate) fn call(&self, driver: &Driver, easy: Easy, status: c_int) {
        let uc = driver.me().cast_mut().cast();
        // SAFETY: the host promised with uvcurl_start that it may be called so, once.
        unsafe { (self.function)(uc, easy.0, status, self.user_data) }
    }
}

/// The host's close callback with its argument.
#[derive(Clone, Copy)]
pub(crate) struct CloseFn {
    pub(crate) function: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    pub(crate) user_data: *mut c_void,
}

impl CloseFn {
    pub(crate) fn none() -> CloseFn {
        CloseFn {
            function: None,
            user_data: ptr::null_mut(),
        }
    }

    pub(crate) fn call(self) {
        if let Some(function) = self.function {
            // SAFETY: the host promised with uvcurl_close that it may be called so, once.
            unsafe { function(self.user_data) }
        }
    }
}

/// The host's log callback with its argument.
#[derive(Clone)]
pub(crate) struct LogFn {
    pub(crate) function: unsafe extern "C-unwind" fn(*mut uvcurl_t, *const c_char, *mut c_void),
    pub(crate) user_data: *mut c_void,
}

impl LogFn {
    /// Hands one line over; what follows a NUL in it is lost.
    pub(crate) fn call(&self, driver: &Driver, line: String) {
        let uc = driver.me().cast_mut().cast();
        let mut bytes = line.into_bytes();
        // There is room for it: see `Text`.
        bytes.push(0);
        // SAFETY: the host promised with uvcurl_set_log or uvcurl_dump that it may be called so; the text ends with 0.
        unsafe { (self.function)(uc, bytes.as_ptr().cast(), self.user_data) }
    }
}

/// The version of the libuv that is running, 0x012c00 for 1.44.0.
pub(crate) fn libuv() -> u32 {
    // SAFETY: no conditions.
    unsafe { c::uv_version() }
}

/// libuv's name, without its `UV_`, and text of a number it knows.
pub(crate) fn uv_texts(status: c_int) -> Option<(&'static CStr, &'static CStr)> {
    let mut buffer = [0 as c_char; 64];
    // SAFETY: a buffer with its size; libuv ends what it writes with 0. uv_err_name() alone will not do: for a number it
    // does not know it leaks memory.
    let name = unsafe {
        c::uv_err_name_r(status, buffer.as_mut_ptr(), buffer.len() as _);
        CStr::from_ptr(buffer.as_ptr())
    };
    if name.to_bytes().starts_with(b"Unknown") {
        return None;
    }
    // SAFETY: a number libuv knows, so both are static texts.
    unsafe {
        Some((
            CStr::from_ptr(c::uv_err_name(status)),
            CStr::from_ptr(c::uv_strerror(status)),
        ))
    }
}
