//! include/uvcurl.h is what the sources say. `UVCURL_BLESS=1 cargo test --test header` writes it.

use std::collections::BTreeMap;
use std::{env, fs};

/// A declaration of cbindgen's with its comment, by the name it declares.
fn declarations() -> BTreeMap<String, String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let config =
        cbindgen::Config::from_file(format!("{root}/cbindgen.toml")).expect("cbindgen.toml");
    let mut text = Vec::new();
    cbindgen::Builder::new()
        .with_crate(root)
        .with_config(config)
        .generate()
        .expect("cbindgen reads the sources")
        .write(&mut text);
    let text = String::from_utf8(text).expect("a header is text");
    let mut found = BTreeMap::new();
    for block in text.split("\n\n") {
        let block = block.trim_matches('\n');
        let code: String = block
            .lines()
            .filter(|line| !line.starts_with("/**") && !line.starts_with(" *"))
            .collect::<Vec<_>>()
            .join(" ");
        let Some(name) = declared(&code) else {
            assert!(code.trim().is_empty(), "what does this declare? {block}");
            continue;
        };
        let twice = found.insert(name.clone(), block.to_owned());
        assert!(twice.is_none(), "{name} is declared twice");
    }
    found
}

/// The first name of ours that is followed by what ends a declarator.
fn declared(code: &str) -> Option<String> {
    if let Some(define) = code.trim().strip_prefix("#define ") {
        return define.split_whitespace().next().map(str::to_owned);
    }
    let words: Vec<&str> = code
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    if words.first() == Some(&"typedef") && !code.contains("(*") {
        return words.last().map(|&word| word.to_owned());
    }
    if let Some((_, rest)) = code.split_once("(*") {
        return rest.split(')').next().map(str::to_owned);
    }
    let (head, _) = code.split_once('(')?;
    head.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .rfind(|word| !word.is_empty())
        .map(str::to_owned)
}

/// A C reader's form of cbindgen's: negative numbers in brackets, no empty comment lines at the start.
fn polish(block: &str) -> String {
    let mut lines = Vec::new();
    for line in block.lines() {
        let mut line = line.trim_end().to_owned();
        if let Some((head, number)) = line.rsplit_once(" -") {
            if head.starts_with("#define") {
                line = format!("{head} (-{number})");
            }
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn generate() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut header =
        fs::read_to_string(format!("{root}/src/capi/uvcurl.h.in")).expect("the header's template");
    for (mark, value) in [
        ("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR")),
        ("@MINOR@", env!("CARGO_PKG_VERSION_MINOR")),
        ("@PATCH@", env!("CARGO_PKG_VERSION_PATCH")),
        ("@VERSION@", env!("CARGO_PKG_VERSION")),
    ] {
        header = header.replace(mark, value);
    }
    for (name, block) in declarations() {
        let mark = format!("@{name}@");
        assert!(
            header.contains(&mark),
            "src/capi/uvcurl.h.in has no place for {name}"
        );
        header = header.replace(&mark, &polish(&block));
    }
    if let Some(line) = header.lines().find(|line| line.starts_with('@')) {
        panic!("nothing in the sources declares {line}");
    }
    header
}

#[test]
fn header_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/include/uvcurl.h");
    let wanted = generate();
    if env::var_os("UVCURL_BLESS").is_some() {
        fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/include")).expect("include/");
        fs::write(path, &wanted).expect("include/uvcurl.h can be written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "include/uvcurl.h is stale; write it with: UVCURL_BLESS=1 cargo test --test header"
    );
}

#[test]
fn header_names_no_rust() {
    let header = generate();
    for word in ["cbindgen", "Rust", "Option<", "::", "usize", "c_int"] {
        assert!(!header.contains(word), "the header says {word}");
    }
}
