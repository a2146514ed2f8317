//! What a status means, and which version this is.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::ptr;

use libc::{c_char, c_int, c_uint};
use once_cell::sync::Lazy;

use crate::callbacks::guard;
use crate::error;
use crate::quirks;
use crate::sys;

/// The text of a status: of uvcurl's own, of libcurl's CURLcode, or of libuv's.
///
/// \param status  what a function or a done callback gave
/// \return a text that is not the caller's to free; never NULL. It stays valid, but for that of a number nobody knows:
///         until the next call on this thread
#[no_mangle]
pub extern "C" fn uvcurl_strerror(status: c_int) -> *const c_char {
    guard(UNKNOWN.as_ptr(), || {
        if status == 0 {
            c"success".as_ptr()
        } else if let Some((_, text)) = error::own(status) {
            text.as_ptr()
        } else if status > 0 {
            sys::curl_text(status).as_ptr()
        } else if let Some((_, text)) = sys::uv_texts(status) {
            text.as_ptr()
        } else {
            unknown(status)
        }
    })
}

/// The name of a status as it stands in a header, such as `UV_ECANCELED`, `CURLE_COULDNT_CONNECT` or
/// `UVCURL_E_WRONG_THREAD`.
///
/// \param status  what a function or a done callback gave
/// \return the name, `OK` for 0; not the caller's to free; never NULL. It stays valid until the next call on this thread
#[no_mangle]
pub extern "C" fn uvcurl_err_name(status: c_int) -> *const c_char {
    guard(UNKNOWN.as_ptr(), || {
        if status == 0 {
            c"OK".as_ptr()
        } else if let Some((name, _)) = error::own(status) {
            name.as_ptr()
        } else if let Some(name) = error::curl_name(status) {
            name.as_ptr()
        } else if let Some((name, _)) = sys::uv_texts(status) {
            // libuv leaves its prefix out; here three kinds of name share one function.
            named(name)
        } else {
            unknown(status)
        }
    })
}

/// The version of this library as text, such as `0.1.0`.
///
/// \return a text that stays valid
#[no_mangle]
pub extern "C" fn uvcurl_version_string() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// The version of this library as a number: major << 16 | minor << 8 | patch, as UVCURL_VERSION_NUMBER in the header.
///
/// \return the number
#[no_mangle]
pub extern "C" fn uvcurl_version() -> c_uint {
    (number(env!("CARGO_PKG_VERSION_MAJOR")) << 16)
        | (number(env!("CARGO_PKG_VERSION_MINOR")) << 8)
        | number(env!("CARGO_PKG_VERSION_PATCH"))
}

/// What is known against the libcurl that is running, for a program to log when it starts.
///
/// It names the version, each bug that a program may meet, where libcurl's developers or others describe it, and what
/// uvcurl does about it or the program can do. A system's libcurl may have the fix and keep the old number.
///
/// \return a text that stays valid; NULL if nothing is known
#[no_mangle]
pub extern "C" fn uvcurl_libcurl_warning() -> *const c_char {
    static TEXT: Lazy<Option<CString>> =
        Lazy::new(|| quirks::warning(sys::libcurl()).and_then(|text| CString::new(text).ok()));
    guard(ptr::null(), || {
        TEXT.as_ref().map_or(ptr::null(), |text| text.as_ptr())
    })
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
const UNKNOWN: &CStr = c"unknown status";

fn number(text: &str) -> c_uint {
    text.parse().unwrap_or(0)
}

thread_local!(static TEXT: RefCell<String> = const { RefCell::new(String::new()) });

fn unknown(status: c_int) -> *const c_char {
    keep(|text| write!(text, "unknown status {status}\0"))
}

fn named(name: &CStr) -> *const c_char {
    keep(|text| write!(text, "UV_{}\0", name.to_string_lossy()))
}

/// Text of this thread's, until the next.
fn keep(fill: impl FnOnce(&mut String) -> std::fmt::Result) -> *const c_char {
    TEXT.with(|text| {
        let mut text = text.borrow_mut();
        text.clear();
        if text.try_reserve(64).is_err() || fill(&mut text).is_err() {
            return UNKNOWN.as_ptr();
        }
        text.as_ptr().cast()
    })
}
