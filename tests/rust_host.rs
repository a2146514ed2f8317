//! The library used from Rust, through the same C interface: a loop of libuv-sys2's, an easy handle of curl-sys'.
#![allow(
    unsafe_code,
    reason = "stands in for a host program, which calls C functions"
)]

use std::ffi::{c_int, c_void};
use std::ptr;

use curl_sys::CURL;
use libuv_sys2 as uv;
use uvcurl::{uvcurl_close, uvcurl_new, uvcurl_start, uvcurl_t};

unsafe extern "C-unwind" fn done(
    _: *mut uvcurl_t,
    _: *mut CURL,
    status: c_int,
    result: *mut c_void,
) {
    // SAFETY: the test passes a c_int that outlives the loop.
    unsafe { *result.cast::<c_int>() = status };
}

#[test]
fn a_file_is_fetched_from_rust() {
    let path = std::env::current_exe().expect("the path of this test");
    let url = format!("file://{}\0", path.display());
    let mut status: c_int = -1;
    // SAFETY: each call keeps the contract of uv.h, curl.h and uvcurl.h.
    unsafe {
        let mut event_loop: uv::uv_loop_t = std::mem::zeroed();
        assert_eq!(uv::uv_loop_init(&mut event_loop), 0);
        let mut driver = ptr::null_mut();
        assert_eq!(uvcurl_new(&mut event_loop, &mut driver), 0);
        let easy = curl_sys::curl_easy_init();
        curl_sys::curl_easy_setopt(easy, curl_sys::CURLOPT_URL, url.as_ptr());
        curl_sys::curl_easy_setopt(easy, curl_sys::CURLOPT_NOBODY, 1 as libc::c_long);
        let result: *mut c_int = &mut status;
        assert_eq!(uvcurl_start(driver, easy, Some(done), result.cast()), 0);
        uv::uv_run(&mut event_loop, uv::uv_run_mode_UV_RUN_DEFAULT);
        curl_sys::curl_easy_cleanup(easy);
        uvcurl_close(driver, None, ptr::null_mut());
        uv::uv_run(&mut event_loop, uv::uv_run_mode_UV_RUN_DEFAULT);
        assert_eq!(uv::uv_loop_close(&mut event_loop), 0);
    }
    assert_eq!(status, 0);
}
