//! libcurl transfers on a libuv loop that the host program already has.
//!
//! The interface is C's, described in `include/uvcurl.h`. Inside:
//!
//! | module | what | promises (docs/design.md) |
//! |---|---|---|
//! | `capi` | door IN: the host calls us | 9, 10 |
//! | `callbacks` | door BACK: libcurl and libuv call us | 9 |
//! | `sys` | door OUT: we call them | |
//! | `driver` | the state machine; the only caller of `curl_multi_socket_action` | 3, 4, 5, 6 |
//! | `socket` | libcurl's sockets, on poll handles | 7 |
//! | `timer` | libcurl's deadline, on one timer | 6 |
//! | `quirks` | what is known against which libcurl | 6 |
//! | `pending` | timeouts of transfers behind a connection limit | 6 |
//! | `watch` | transfers that show no life: ticks, stalls, the log | 6 |
//! | `stats` | numbers and lines about what is in hand | |
//! | `pool` | how many connections libcurl keeps | |
//! | `transfer` | one easy handle from start to report | 1, 8 |
//! | `completion` | libcurl's messages, and telling the host | 1, 2 |
//! | `error` | the one table of status numbers | |
//!
//! `unsafe` stands in the three doors and nowhere else.

#![cfg_attr(
    test,
    allow(
        dead_code,
        reason = "the tests of the core leave out the doors that use the rest"
    )
)]

#[cfg(not(test))]
mod callbacks;
#[cfg(not(test))]
mod capi;
mod completion;
mod driver;
mod error;
#[cfg(test)]
mod model;
mod pending;
mod pool;
mod quirks;
mod socket;
mod stats;
mod sys;
#[cfg(test)]
mod tests;
mod text;
mod timer;
mod transfer;
mod watch;
#[cfg(test)]
mod watch_tests;

#[cfg(not(test))]
pub use crate::capi::*;
pub use crate::error::{
    UVCURL_E_INTERNAL, UVCURL_E_LIBCURL_MISMATCH, UVCURL_E_LIBCURL_TOO_OLD,
    UVCURL_E_LIBUV_MISMATCH, UVCURL_E_LIBUV_TOO_OLD, UVCURL_E_MULTI, UVCURL_E_WRONG_THREAD,
};
