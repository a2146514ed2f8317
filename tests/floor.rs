//! The library asks for no function that the oldest supported libuv and libcurl do not export: what is newer is looked up
//! when it runs. tests/floor/ lists what those export; tools/floor.pl says how the lists were made.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::process::Command;

/// The functions of libuv and libcurl that the library's own objects leave undefined.
fn imported() -> BTreeSet<String> {
    let mut file = std::env::current_exe().expect("the path of this test");
    file.pop();
    file.push("libuvcurl.rlib");
    let output = Command::new("nm")
        .args(["--undefined-only", "--format=posix"])
        .arg(&file)
        .output()
        .expect("nm, of binutils, runs");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("uv_") || name.starts_with("curl_"))
        .map(str::to_owned)
        .collect()
}

fn exported() -> BTreeSet<&'static str> {
    include_str!("floor/libuv-1.44.0.txt")
        .lines()
        .chain(include_str!("floor/libcurl-7.83.1.txt").lines())
        .filter(|line| !line.starts_with('#'))
        .collect()
}

#[test]
fn nothing_newer_than_the_floor_is_imported() {
    let imported = imported();
    for name in ["uv_poll_start", "curl_multi_socket_action"] {
        assert!(imported.contains(name), "{name} is not among {imported:?}");
    }
    let exported = exported();
    let newer: Vec<&String> = imported
        .iter()
        .filter(|name| !exported.contains(name.as_str()))
        // An embedded libcurl is no other one when the program runs; build.rs has seen that it has this.
        .filter(|name| !(cfg!(feature = "bundled") && *name == "curl_multi_get_offt"))
        .collect();
    assert!(newer.is_empty(), "newer than the floor: {newer:?}");
}
