//! The layer rule of the crate's documentation: what each layer may name.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file at or below `path`.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|e| e == "rs") {
            found.extend(sources(&path));
        }
    }
    found
}

/// The lines of a file that are code: comments may name what they like, and
/// tests may use what they need.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text);
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The files of `layers` that name one of `words`, with the word.
fn offenders(layers: &[&str], words: &[&str]) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut offenders = Vec::new();
    for layer in layers {
        let directory = src.join(layer);
        let file = src.join(format!("{layer}.rs"));
        let roots: Vec<_> = [directory, file].into_iter().filter(|path| path.exists()).collect();
        assert!(!roots.is_empty(), "there is no {layer} in src: the rule guards nothing");
        for source in roots.iter().flat_map(|root| sources(root)) {
            // A file or a directory of that name.
            let relative = source.strip_prefix(&src).unwrap();
            if relative.with_extension("").iter().any(|part| part == "tests") {
                continue;
            }
            let text = code(&source);
            for word in words {
                if text.contains(word) {
                    offenders.push(format!("{} names {word}", relative.display()));
                }
            }
        }
    }
    offenders
}

#[test]
fn wire_and_proto_know_no_world() {
    let world = [
        "std::net",
        "std::fs",
        "std::process",
        "std::thread",
        "mio::",
        "rustix::fs",
        "rustix::net",
        "Instant::now",
        "SystemTime",
        "crate::reactor",
        "crate::blocking",
        "crate::disk",
        "crate::process",
        "crate::store",
        "crate::client",
    ];
    assert_eq!(offenders(&["wire", "proto"], &world), [""; 0]);
}

#[test]
fn wire_knows_nothing_of_what_is_above_it() {
    assert_eq!(offenders(&["wire"], &["crate::proto", "super::super::proto"]), [""; 0]);
}

#[test]
fn services_know_neither_each_other_nor_the_rooms_insides() {
    assert_eq!(offenders(&["proto/chat"], &["super::exec", "super::files", "proto::exec", "proto::files"]), [""; 0]);
    assert_eq!(offenders(&["proto/exec"], &["super::chat", "super::files", "super::rooms", "proto::rooms"]), [""; 0]);
    assert_eq!(offenders(&["proto/files"], &["super::chat", "super::exec", "super::rooms", "proto::rooms"]), [""; 0]);
}

#[test]
fn drivers_and_what_they_share_do_not_depend_on_each_other() {
    assert_eq!(offenders(&["reactor"], &["crate::blocking", "crate::client"]), [""; 0]);
    assert_eq!(offenders(&["blocking"], &["crate::reactor", "crate::client", "mio"]), [""; 0]);
    let shared = ["admission", "ending", "flush", "limits", "listen", "timers", "store", "system"];
    assert_eq!(offenders(&shared, &["crate::reactor", "crate::blocking", "mio"]), [""; 0]);
    assert_eq!(offenders(&["disk", "process"], &["crate::reactor", "crate::blocking", "mio::"]), [""; 0]);
}

#[test]
fn conversations_know_no_connection_and_neither_side_knows_the_other() {
    let below = ["crate::reactor", "crate::blocking", "crate::client", "crate::console", "crate::proto", "std::net"];
    assert_eq!(offenders(&["talk", "text"], &below), [""; 0]);
    assert_eq!(offenders(&["client"], &["crate::console", "crate::reactor", "crate::proto"]), [""; 0]);
    assert_eq!(offenders(&["console"], &["crate::client", "crate::reactor", "crate::blocking", "mio"]), [""; 0]);
}

#[test]
fn unsafe_code_stands_in_one_small_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let with: Vec<_> = sources(&src)
        .into_iter()
        .filter(|path| code(path).contains("unsafe"))
        .map(|path| path.strip_prefix(&src).unwrap().display().to_string())
        .collect();
    assert!(with.iter().all(|path| path.starts_with("sys")), "{with:?}");
}
