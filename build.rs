//! Proves which libuv and libcurl the library is being built on, and names the shared library.
//!
//! The choice itself is made before this script runs: by the cargo features (embedded mode, and the libcurl of node
//! mode) or by what pkg-config and CMake find (host mode, and the libuv of node mode). Two copies of either library in
//! one process are undefined behaviour, so a wrong choice must end the build, not the program that links it.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=UVCURL_EXPECT_UV");

    // libuv-sys2 reports an absolute path when pkg-config chose the libuv, and a path relative to its own sources
    // when it compiled its own: the one sign it gives of what it did.
    let uv_include = env::var("DEP_UV_INCLUDE").unwrap_or_default();
    let host_uv = Path::new(&uv_include).is_absolute();
    let host_curl = env::var_os("DEP_CURL_STATIC").is_none();
    let embedded = env::var_os("CARGO_FEATURE_BUNDLED").is_some();
    let node = env::var_os("CARGO_FEATURE_NODE").is_some()
        || env::var_os("CARGO_FEATURE_NODE_RUSTLS").is_some();

    if node {
        if embedded {
            fail(
                "the features `node` and `embedded` exclude each other: a second libuv inside an addon cannot run on \
                 Node's loop; add --no-default-features",
            );
        }
        if !host_uv {
            fail(
                "the feature `node` takes Node's libuv, but libuv-sys2 compiled one of its own; build with CMake and \
                 -DUVCURL_NODE=ON, which overrides its build script",
            );
        }
        if host_curl {
            fail(
                "the feature `node` has a libcurl inside, but curl-sys linked one of the system, whose OpenSSL would \
                 be half replaced by Node's; remove the [target.*.curl] override from the cargo configuration",
            );
        }
    } else if embedded {
        if host_uv {
            fail(&format!(
                "embedded mode was asked for, but libuv-sys2 uses the libuv in {uv_include}; remove the [target.*.uv] \
                 override from the cargo configuration, or build with --no-default-features"
            ));
        }
        if host_curl {
            fail("embedded mode was asked for, but curl-sys linked a libcurl of the system; remove the [target.*.curl] override from the cargo configuration");
        }
    } else {
        if !host_uv {
            fail(
                "without the feature `embedded` the host's libuv is to be used, but libuv-sys2 compiled one of its own; \
                 build with CMake, which makes a libuv.pc that libuv-sys2 accepts and puts it first in PKG_CONFIG_PATH",
            );
        }
        if !host_curl {
            fail(
                "without the feature `embedded` the host's libcurl is to be used, but curl-sys compiled one of its own; \
                 install libcurl's development files and pkg-config, or build with CMake",
            );
        }
    }
    if env::var("UVCURL_EXPECT_UV").as_deref() == Ok("host") && embedded {
        fail("UVCURL_EXPECT_UV=host, but the feature `embedded` is on; build with --no-default-features");
    }
    if embedded
        && env::var_os("CARGO_FEATURE_EMBEDDED").is_none()
        && env::var_os("CARGO_FEATURE_RUSTLS").is_none()
    {
        fail("the feature `bundled` has no TLS; choose `embedded`, `rustls` or `vendored-openssl`");
    }

    // A libcurl inside the library cannot be searched at run time for functions that the oldest one lacks.
    println!("cargo:rustc-check-cfg=cfg(has_multi_get_offt)");
    if (embedded || node) && embedded_libcurl() >= 0x081000 {
        println!("cargo:rustc-cfg=has_multi_get_offt");
    }

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libuvcurl.so.{major}");
        // Threads of libcurl's resolver and Rust's thread-local destructors can outlive a dlclose().
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

/// LIBCURL_VERSION_NUM of the headers that curl-sys has compiled with; 0 if they do not say.
fn embedded_libcurl() -> u32 {
    let include = env::var("DEP_CURL_INCLUDE").unwrap_or_default();
    let header = Path::new(&include).join("curl/curlver.h");
    let text = std::fs::read_to_string(header).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("#define LIBCURL_VERSION_NUM 0x"))
        .and_then(|number| u32::from_str_radix(number.trim(), 16).ok())
        .unwrap_or(0)
}

fn fail(why: &str) -> ! {
    println!("cargo:warning={why}");
    eprintln!("uvcurl: {why}");
    std::process::exit(1);
}
