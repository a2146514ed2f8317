//! Memory that runs out: the allocator of the test program, which refuses what the driver asks for when it is told to.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its nature; it hands every call on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;

struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

thread_local! {
    /// The driver is running, and not the model below or above it.
    static DRIVER: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
    static FROM: Cell<u64> = const { Cell::new(u64::MAX) };
    static TO: Cell<u64> = const { Cell::new(u64::MAX) };
}

fn refuses() -> bool {
    if !DRIVER.try_with(Cell::get).unwrap_or(false) {
        return false;
    }
    let count = COUNT.get();
    COUNT.set(count + 1);
    let refused = FROM.get() <= count && count < TO.get();
    REFUSED.set(REFUSED.get() + u64::from(refused));
    refused
}

// SAFETY: every block is the system allocator's; refusing one is allowed.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refuses() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Which of the driver's allocations fail, by their number.
pub(super) fn refuse(which: Range<u64>) {
    COUNT.set(0);
    REFUSED.set(0);
    FROM.set(which.start);
    TO.set(which.end);
}

/// Does `what` without memory.
pub(crate) fn without_memory<R>(what: impl FnOnce() -> R) -> R {
    refuse(0..u64::MAX);
    let runs = Runs::driver(true);
    let result = what();
    drop(runs);
    refuse(u64::MAX..u64::MAX);
    result
}

/// How many allocations the driver has asked for, and how many it was refused.
pub(super) fn counts() -> (u64, u64) {
    (COUNT.get(), REFUSED.get())
}

/// Says for as long as it lives whether it is the driver that runs.
pub(crate) struct Runs(bool);

impl Runs {
    pub(crate) fn driver(driver: bool) -> Runs {
        Runs(DRIVER.replace(driver))
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        DRIVER.set(self.0);
    }
}
