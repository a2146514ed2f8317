//! The ready bindings (cmake/bindings) are what uvcurl uses of libuv, and what the uv.h in use says.
//! `UVCURL_BLESS=1 cargo test --test bindings` measures and writes them, where there is a compiler for the target.
//!
//! A C compiler is asked, not bindgen: it can be asked for a target other than its own, and the file it is asked with
//! (check.c) can be asked again wherever uvcurl is built.

#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Rust's names of the targets, and a compiler that might be there. `CC_<target>` names another, with its arguments.
const TARGETS: &[(&str, &str)] = &[
    ("x86_64-unknown-linux-gnu", "x86_64-linux-gnu-gcc"),
    ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"),
    ("x86_64-unknown-linux-musl", "x86_64-linux-musl-gcc"),
    ("aarch64-unknown-linux-musl", "aarch64-linux-musl-gcc"),
];

/// The target this test was compiled for, which must not go unchecked.
fn own_target() -> String {
    let env = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    format!("{}-unknown-linux-{env}", env::consts::ARCH)
}

fn bless() -> bool {
    env::var_os("UVCURL_BLESS").is_some()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder(target: &str) -> PathBuf {
    root().join("cmake/bindings").join(target)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The template, cut at its marks: text, C expression, text, ..., text.
fn template(target: &str) -> Vec<String> {
    read(&root().join("cmake/bindings/bindings.rs.in"))
        .replace("@TARGET@", target)
        .split('@')
        .map(str::to_owned)
        .collect()
}

type Numbers = BTreeMap<String, i64>;

/// What a file made from the template has in the places of the marks.
fn numbers_in(target: &str, file: &str) -> Numbers {
    let stale = "is not made from cmake/bindings/bindings.rs.in; `make bindings` makes it";
    let parts = template(target);
    let mut numbers = Numbers::new();
    let mut rest = file
        .strip_prefix(parts[0].as_str())
        .unwrap_or_else(|| panic!("the head of {target}/bindings.rs {stale}"));
    for pair in parts[1..].chunks(2) {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '-'))
            .unwrap_or(rest.len());
        let number = rest[..end]
            .parse()
            .unwrap_or_else(|_| panic!("{target}/bindings.rs at {} {stale}", pair[0]));
        let before = numbers.insert(pair[0].clone(), number);
        assert!(
            before.is_none_or(|before| before == number),
            "{target}/bindings.rs has two numbers for {}",
            pair[0]
        );
        rest = rest[end..]
            .strip_prefix(pair[1].as_str())
            .unwrap_or_else(|| panic!("{target}/bindings.rs after {} {stale}", pair[0]));
    }
    assert!(rest.is_empty(), "the end of {target}/bindings.rs {stale}");
    numbers
}

// ---- the check in C ----

/// A Rust type of the bindings, as C has it.
fn c_type(rust: &str) -> String {
    if let Some(to) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_type(to));
    }
    if let Some(to) = rust.strip_prefix("*const ") {
        return format!("const {} *", c_type(to));
    }
    match rust.strip_prefix("::core::ffi::c_").unwrap_or(rust) {
        "uint" => "unsigned",
        "u64" => "uint64_t",
        "usize" => "size_t",
        other => other,
    }
    .to_owned()
}

/// `(a: A, b: B) -> R`, as C's result type and parameters.
fn c_signature(rust: &str) -> (String, String) {
    let (parameters, result) = rust[1..].split_once(')').expect("a parameter list");
    let types: Vec<String> = parameters
        .split(',')
        .filter_map(|parameter| parameter.split_once(": "))
        .map(|(_, rust)| c_type(rust.trim()))
        .collect();
    let result = result
        .trim()
        .strip_prefix("-> ")
        .map_or("void".to_owned(), c_type);
    let types = if types.is_empty() {
        "void".to_owned()
    } else {
        types.join(", ")
    };
    (result, types)
}

/// C that compiles only where the bindings are right: every number, every type, every signature.
fn check(target: &str, numbers: &Numbers) -> String {
    let mut c = format!(
        "/* Compiles if bindings.rs, beside it, is right for the uv.h that is found, on {target}.\n \
         * Written by `make bindings`. */\n\
         #include <stddef.h>\n#include <uv.h>\n\n\
         #define IS(what, number) _Static_assert((what) == (number), \"uvcurl's ready bindings: \" #what \" is not \" #number)\n\n\
         typedef enum uv_poll_event uv_poll_event;\n"
    );
    for (what, number) in numbers {
        c += &format!("IS({what}, {number});\n");
    }
    c += "\n/* Each of these is an error if uv.h declares it otherwise. */\n";
    let text = template(target).join("0");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for item in text.split("pub ").skip(1) {
        let item = item.split(';').next().unwrap_or(item).trim();
        if let Some(function) = item.strip_prefix("fn ") {
            let at = function.find('(').expect("a parameter list");
            let (result, parameters) = c_signature(&function[at..]);
            c += &format!("{result} {}({parameters});\n", &function[..at]);
        } else if let Some(alias) = item.strip_prefix("type ") {
            let (name, rust) = alias.split_once(" = ").expect("a type's meaning");
            if let Some((_, function)) = rust.split_once("extern \"C\" fn") {
                let (result, parameters) = c_signature(function);
                c += &format!("typedef {result} (*{name})({parameters});\n");
            } else if rust.starts_with("::core::ffi::") {
                let like = c_type(rust);
                c += &format!("IS(sizeof({name}), sizeof({like}));\n");
                c += &format!("IS(({name})-1 < ({name})1, ({like})-1 < ({like})1);\n");
            } else {
                c += &format!("typedef struct {rust} {name};\n");
            }
        }
    }
    c
}

// ---- compilers and headers ----

/// The compiler for a target, if there is one.
fn compiler(target: &str) -> Option<Vec<String>> {
    let usual = TARGETS.iter().find(|(name, _)| *name == target)?.1;
    let named = env::var(format!("CC_{}", target.replace('-', "_")))
        .or_else(|why| {
            if target == own_target() {
                env::var("CC")
            } else {
                Err(why)
            }
        })
        .ok();
    let is_named = named.is_some();
    let own = if target == own_target() { "cc" } else { usual };
    let words: Vec<String> = named
        .unwrap_or_else(|| own.to_owned())
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let found = Command::new(&words[0]).arg("--version").output().is_ok();
    assert!(found || !is_named, "no compiler {} for {target}", words[0]);
    assert!(found || own != "cc", "no C compiler");
    found.then_some(words)
}

/// Every uv.h at hand: that of libuv-sys2's own libuv, and the one that pkg-config (or UVCURL_UV_INCLUDE) names. Each in a
/// folder of its own, because the system's folder has another target's headers too.
fn headers() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        // Else it wants the packages of every platform there.
        .args(["--filter-platform", &own_target()])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata = String::from_utf8_lossy(&metadata.stdout);
    let own = metadata
        .split('"')
        .find(|word| word.contains("libuv-sys2") && word.ends_with("Cargo.toml"))
        .expect("cargo metadata knows libuv-sys2");
    found.push(Path::new(own).with_file_name("libuv").join("include"));

    let asked = Command::new("pkg-config")
        .args(["--cflags-only-I", "libuv"])
        .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
        .output();
    if let Some(include) = env::var_os("UVCURL_UV_INCLUDE") {
        found.push(include.into());
    } else if let Ok(asked) = asked {
        let flags = String::from_utf8_lossy(&asked.stdout).into_owned();
        found.extend(
            flags
                .split_whitespace()
                .filter_map(|flag| flag.strip_prefix("-I"))
                .map(PathBuf::from),
        );
    }
    found.retain(|folder| folder.join("uv.h").exists());
    assert!(!found.is_empty(), "no uv.h");

    let here = Path::new(env!("CARGO_TARGET_TMPDIR"));
    found
        .iter()
        .enumerate()
        .map(|(n, include)| {
            let apart = here.join(format!("uv-{n}"));
            let _ = fs::remove_dir_all(&apart);
            fs::create_dir_all(apart.join("uv")).expect("a folder for uv.h");
            fs::copy(include.join("uv.h"), apart.join("uv.h")).expect("a copy of uv.h");
            for file in fs::read_dir(include.join("uv")).expect("uv/").flatten() {
                fs::copy(file.path(), apart.join("uv").join(file.file_name())).expect("a copy");
            }
            apart
        })
        .collect()
}

/// Runs the compiler on a text; gives what it wrote to stdout, or what it complained of.
fn compile(cc: &[String], include: &Path, text: &str, options: &[&str]) -> Result<String, String> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bindings.c");
    fs::write(&file, text).expect("a file for the compiler");
    let output = Command::new(&cc[0])
        .args(&cc[1..])
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror"])
        .args(options)
        .arg("-I")
        .arg(include)
        .arg(&file)
        .output()
        .expect("the compiler runs");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Asks the compiler for every number of the template, by an assembler comment: nothing has to be run.
fn measure(target: &str, cc: &[String], include: &Path) -> Numbers {
    let parts = template(target);
    let wanted: BTreeSet<&String> = parts.iter().skip(1).step_by(2).collect();
    let mut c = "#include <stddef.h>\n#include <uv.h>\nvoid measured(void) {\n".to_owned();
    for (n, what) in wanted.iter().enumerate() {
        c += &format!("__asm__ volatile(\"#uvcurl {n} %c0 \" : : \"i\"({what}));\n");
    }
    c += "}\n";
    let assembler =
        compile(cc, include, &c, &["-S", "-o", "-"]).unwrap_or_else(|why| panic!("{why}"));
    let answers: BTreeMap<usize, i64> = assembler
        .lines()
        .filter_map(|line| line.trim().strip_prefix("#uvcurl "))
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(n, number)| Some((n.parse().ok()?, number.trim().parse().ok()?)))
        .collect();
    wanted
        .iter()
        .enumerate()
        .map(|(n, what)| {
            (
                (*what).clone(),
                *answers.get(&n).expect("the compiler's answer"),
            )
        })
        .collect()
}

/// Measures in the last uv.h and writes; the check then holds it against all of them.
fn write(target: &str, cc: &[String], include: &Path) {
    let numbers = measure(target, cc, include);
    let mut text = String::new();
    for (n, part) in template(target).iter().enumerate() {
        text += &if n % 2 == 0 {
            part.clone()
        } else {
            numbers[part].to_string()
        };
    }
    fs::create_dir_all(folder(target)).expect("a folder for the bindings");
    fs::write(folder(target).join("bindings.rs"), &text).expect("bindings.rs can be written");
    fs::write(folder(target).join("check.c"), check(target, &numbers))
        .expect("check.c can be written");
}

#[test]
fn ready_bindings_are_what_uv_h_says() {
    let headers = headers();
    for (target, _) in TARGETS {
        let cc = compiler(target);
        if let (true, Some(cc)) = (bless(), &cc) {
            write(target, cc, &headers[headers.len() - 1]);
        }
        let numbers = numbers_in(target, &read(&folder(target).join("bindings.rs")));
        let check = check(target, &numbers);
        assert!(
            read(&folder(target).join("check.c")) == check,
            "{target}/check.c is stale; write it with: make bindings"
        );
        let Some(cc) = cc else {
            println!("{target}: no compiler, so not held against uv.h");
            continue;
        };
        for include in &headers {
            if let Err(why) = compile(&cc, include, &check, &["-fsyntax-only"]) {
                panic!(
                    "{target}/bindings.rs is not what {} says:\n{why}",
                    include.join("uv.h").display()
                );
            }
        }
        println!("{target}: held against {} uv.h by {}", headers.len(), cc[0]);
    }
}

/// Names after `libuv_sys2::`, or after what a file calls it.
fn used(text: &str, found: &mut BTreeSet<String>) {
    let alias = text
        .split("use libuv_sys2 as ")
        .nth(1)
        .and_then(|rest| rest.split(';').next())
        .map(|alias| format!("{alias}::"));
    let mut marks = vec!["libuv_sys2::".to_owned()];
    marks.extend(alias);
    for mark in marks {
        for rest in text.split(mark.as_str()).skip(1) {
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            if rest.starts_with("uv_") {
                found.insert(rest[..end].to_owned());
            }
        }
    }
}

#[test]
fn ready_bindings_have_all_that_uvcurl_uses() {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the sources").flatten() {
            if entry.path().ends_with("src/model") {
                // Of the tests alone, which are not built with the ready bindings.
            } else if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                used(&read(&entry.path()), &mut found);
            }
        }
    }
    assert!(found.len() > 30, "found only {found:?}");
    let template = template("").concat();
    for name in found {
        let declared = ["type", "const", "fn"].iter().any(|kind| {
            [":", " ", "("]
                .iter()
                .any(|end| template.contains(&format!("pub {kind} {name}{end}")))
        });
        assert!(declared, "cmake/bindings/bindings.rs.in has no {name}");
    }
}
