//! A second Rust library for the program that uses uvcurl: formatting, a thread-local, and a panic that is caught.

use std::cell::Cell;
use std::panic;

thread_local!(static CALLS: Cell<u32> = const { Cell::new(0) });

/// Twice the value and one more; -1 for a negative value, by way of a panic.
#[no_mangle]
pub extern "C" fn other_rust(value: i32) -> i32 {
    panic::set_hook(Box::new(|_| {}));
    panic::catch_unwind(|| {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        assert!(value >= 0, "negative: {value}");
        format!("{}", 2 * value + 1).parse().unwrap()
    })
    .unwrap_or(-1)
}
