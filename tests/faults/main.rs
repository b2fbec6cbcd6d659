//! Faults for real: system calls that fail, clients and servers that stand
//! still, connections that break, floods, full disks and kills, each against
//! the server as a program.
//!
//! Every test has a small form that runs with all others. `make faults` runs
//! the full one, with the figures that docs/SECURITY.md states.

mod abuse;
mod chaos;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod files;
mod floods;
mod injected;
mod stopped;
mod tracer;
mod work;

/// `small`, or `full` where the full form is asked for.
fn scale<T>(small: T, full: T) -> T {
    if std::env::var_os("REACTORD_FAULTS").is_some_and(|form| form == "full") { full } else { small }
}

/// Every function of the tests and sources below a directory, as text.
fn sources(directory: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, text);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(entry).unwrap();
        }
    }
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    ["src", "tests"].iter().for_each(|directory| sources(&here.join(directory), &mut all));
    let page = std::fs::read_to_string(here.join("docs/SECURITY.md")).unwrap();
    // What stands between backticks is every second piece.
    let quoted = page.split('`').skip(1).step_by(2);
    let named: Vec<_> = quoted.filter_map(|quoted| quoted.split_once("::")).collect();
    assert!(named.len() > 40, "{}", named.len());
    for (file, name) in named {
        assert!(all.contains(&format!("fn {name}(")), "{file}::{name} is no test");
    }
}
