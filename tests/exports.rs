//! What the library exports is what its header declares, no more and no less.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

fn declared() -> BTreeSet<String> {
    let header = include_str!("../include/uvcurl.h");
    let code: String = header
        .split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, code)| code))
        .collect();
    code.lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("typedef"))
        .filter_map(|line| {
            let (head, _) = line.split_once('(')?;
            head.rsplit(|c: char| !(c.is_alphanumeric() || c == '_'))
                .find(|word| word.starts_with("uvcurl_"))
                .map(str::to_owned)
        })
        .collect()
}

/// The library file that cargo built beside this test.
fn built(name: &str) -> PathBuf {
    let mut directory = std::env::current_exe().expect("the path of this test");
    directory.pop();
    directory.join(name)
}

/// The names of a file's global symbols that are defined, without those that pass `ignored`.
fn defined(options: &[&str], file: PathBuf, ignored: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let output = Command::new("nm")
        .args(options)
        .arg(&file)
        .output()
        .expect("nm, of binutils, runs");
    assert!(output.status.success(), "nm {} failed", file.display());
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|name| !ignored(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn header_declares_the_functions_it_should() {
    let declared = declared();
    for name in ["uvcurl_new", "uvcurl_new_checked", "uvcurl_version_string"] {
        assert!(declared.contains(name), "{name}");
    }
    assert_eq!(declared.len(), 21, "{declared:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn shared_library_exports_the_header() {
    let found = defined(&["-D", "--defined-only"], built("libuvcurl.so"), |_| false);
    assert_eq!(found, declared());
}

#[cfg(target_os = "linux")]
#[test]
fn static_library_defines_the_header() {
    // An archive cannot hide its other symbols; what counts is that ours are all there, under these names only.
    let found = defined(&["-g", "--defined-only"], built("libuvcurl.a"), |name| {
        !name.starts_with("uvcurl_")
    });
    assert_eq!(found, declared());
}
