//! docs/scenarios.md has a row for each of S1 to S58, and the tests that it names exist.

use std::path::{Path, PathBuf};
use std::{env, fs};

const LINES: usize = 58;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

fn word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Comments out of the way, so that a test which is merely mentioned does not count.
fn code(source: &str) -> String {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `suite/case`: written and on the list of cases, in C, C++ or sh.
fn in_c(suite: &str, case: &str) -> bool {
    let program = ["c", "cpp"].iter().any(|kind| {
        read(format!("c-tests/{suite}.{kind}")).is_some_and(|source| {
            source
                .lines()
                .any(|line| line.starts_with(&format!("TEST({case})")))
                && source
                    .split_once("TEST_MAIN(")
                    .is_some_and(|(_, list)| list.contains(&format!("T({case})")))
        })
    });
    let script = ["c-tests", "c-tests/consumer", "c-tests/perform"]
        .iter()
        .filter_map(|folder| read(format!("{folder}/{suite}.sh")))
        .any(|source| {
            source
                .lines()
                .any(|line| line.starts_with(&format!("{case}()")))
        });
    program || script
}

/// `module::name`: a function with `#[test]`, in src/ or tests/.
fn in_rust(path: &str) -> bool {
    let Some((module, name)) = path.rsplit_once("::") else {
        return false;
    };
    let module = module.replace("::", "/");
    ["src", "tests"]
        .iter()
        .flat_map(|folder| {
            [
                format!("{folder}/{module}.rs"),
                format!("{folder}/{module}/mod.rs"),
            ]
        })
        .filter_map(read)
        .any(|source| {
            let source = code(&source);
            let mut lines = source.lines();
            let head = format!("fn {name}(");
            while let Some(line) = lines.next() {
                if line.trim() != "#[test]" {
                    continue;
                }
                let function = lines.find(|line| !line.trim_start().starts_with("#["));
                if function.is_some_and(|line| line.trim_start().starts_with(&head)) {
                    return true;
                }
            }
            false
        })
}

/// `node: file: title`: the first argument of a call in c-tests/node/test.
fn in_node(name: &str) -> bool {
    name.split_once(": ").is_some_and(|(file, title)| {
        let title = title.replace('\'', "\\'");
        read(format!("c-tests/node/test/{file}.test.js"))
            .is_some_and(|source| code(&source).contains(&format!("('{title}',")))
    })
}

/// What is wrong with a name, if anything.
fn complaint(name: &str) -> Option<&'static str> {
    let found = if let Some(name) = name.strip_prefix("node: ") {
        in_node(name)
    } else if name.contains("::") {
        in_rust(name)
    } else if let Some((suite, case)) = name.split_once('/').filter(|&(a, b)| word(a) && word(b)) {
        in_c(suite, case)
    } else {
        return Some("is no name of a test");
    };
    (!found).then_some("does not exist")
}

fn check(page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut next = 1;
    for row in page.lines().filter(|line| line.starts_with("| S")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, failure, cover] = cells[..] else {
            wrong.push(format!("not three cells: {row}"));
            continue;
        };
        if number != format!("S{next}") {
            wrong.push(format!("{number} stands where S{next} should"));
        }
        next = number[1..].parse().unwrap_or(next) + 1;
        if failure.is_empty() || cover.is_empty() {
            wrong.push(format!("{number} has an empty cell"));
        }
        let spans: Vec<&str> = cover.split('`').collect();
        if spans.len() % 2 == 0 {
            wrong.push(format!("{number} has a backtick too many"));
        }
        let names: Vec<&str> = spans.into_iter().skip(1).step_by(2).collect();
        if names.is_empty() && !cover.contains("No test: ") {
            wrong.push(format!("{number} names no test and gives no reason"));
        }
        for name in names {
            if let Some(what) = complaint(name) {
                wrong.push(format!("{number}: {name} {what}"));
            }
        }
    }
    if next != LINES + 1 {
        wrong.push(format!("the table ends before S{next}, not after S{LINES}"));
    }
    wrong
}

fn page() -> String {
    let path: PathBuf = root().join("docs/scenarios.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_line_names_tests_that_exist() {
    let wrong = check(&page());
    assert!(wrong.is_empty(), "docs/scenarios.md:\n{}", wrong.join("\n"));
}

/// What the check is for, on pages that are wrong.
#[test]
fn a_wrong_page_is_noticed() {
    let rows: Vec<String> = (1..=LINES)
        .map(|n| format!("| S{n} | it failed | No test: because |"))
        .collect();
    assert_eq!(check(&rows.join("\n")), [""; 0]);
    let with = |n: usize, row: &str| {
        let mut rows = rows.clone();
        row.clone_into(&mut rows[n - 1]);
        check(&rows.join("\n")).join("; ")
    };
    assert_eq!(with(7, ""), "S8 stands where S7 should");
    assert_eq!(with(58, ""), "the table ends before S58, not after S58");
    assert_eq!(
        with(7, "| S6 | x | No test: y |"),
        "S6 stands where S7 should; S8 stands where S7 should"
    );
    assert_eq!(
        with(7, "| S7 | x | |"),
        "S7 has an empty cell; S7 names no test and gives no reason"
    );
    for good in [
        "sockets/mask_changes",
        "cpp/exception_ends_the_process",
        "build/header_c11",
        "tests::a_timer_never_fires_early",
        "floor::nothing_newer_than_the_floor_is_imported",
        "node: life: a transfer in flight keeps the process alive",
    ] {
        assert_eq!(with(7, &format!("| S7 | x | `{good}` |")), "", "{good}");
    }
    for (bad, what) in [
        ("sockets/mask_change", "does not exist"),
        ("timers/mask_changes", "does not exist"),
        ("build/flag", "does not exist"),
        ("tests::turn", "does not exist"),
        ("timer::a_timer_never_fires_early", "does not exist"),
        ("node: life: a transfer in flight", "does not exist"),
        ("make test", "is no name of a test"),
    ] {
        assert_eq!(
            with(7, &format!("| S7 | x | `{bad}` |")),
            format!("S7: {bad} {what}")
        );
    }
}
