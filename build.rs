//! Proves which libuv and libcurl the library is being built on, and names the shared library.
//!
//! The choice itself is made before this script runs: by the cargo features (embedded mode) or by what pkg-config
//! finds (host mode). Two copies of either library in one process are undefined behaviour, so a wrong choice must end
//! the build, not the program that links it.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=UVCURL_EXPECT_UV");

    // libuv-sys2 reports an absolute path when pkg-config chose the libuv, and a path relative to its own sources
    // when it compiled its own: the one sign it gives of what it did.
    let uv_include = env::var("DEP_UV_INCLUDE").unwrap_or_default();
    let host_uv = Path::new(&uv_include).is_absolute();
    let embedded = env::var_os("CARGO_FEATURE_BUNDLED").is_some();
    let expected = env::var("UVCURL_EXPECT_UV").unwrap_or_default();

    if embedded && host_uv {
        fail(&format!(
            "embedded mode was asked for, but libuv-sys2 uses the libuv in {uv_include}; remove the [target.*.uv] \
             override from the cargo configuration, or build with --no-default-features"
        ));
    }
    if expected == "host" && !host_uv {
        fail(
            "UVCURL_EXPECT_UV=host, but libuv-sys2 compiled a libuv of its own; put a libuv.pc of the host's libuv \
             with a version that libuv-sys2 accepts first in PKG_CONFIG_PATH, as CMakeLists.txt does",
        );
    }
    if embedded && env::var_os("DEP_CURL_STATIC").is_none() {
        fail("embedded mode was asked for, but curl-sys linked a libcurl of the system");
    }
    if env::var_os("CARGO_FEATURE_BUNDLED").is_some()
        && env::var_os("CARGO_FEATURE_EMBEDDED").is_none()
        && env::var_os("CARGO_FEATURE_RUSTLS").is_none()
    {
        fail("the feature `bundled` has no TLS; choose `embedded`, `rustls` or `vendored-openssl`");
    }

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libuvcurl.so.{major}");
        // Threads of libcurl's resolver and Rust's thread-local destructors can outlive a dlclose().
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

fn fail(why: &str) -> ! {
    println!("cargo:warning={why}");
    eprintln!("uvcurl: {why}");
    std::process::exit(1);
}
