//! The program in README.md is examples/hello.c, which the C tests compile and run.

#[test]
fn readme_shows_a_tested_program() {
    let readme = include_str!("../README.md");
    let program = include_str!("../examples/hello.c");
    assert!(
        readme.contains(&format!("```c\n{program}```\n")),
        "README.md does not quote examples/hello.c as it is"
    );
}
