//! Questions: texts from the server, exit statuses, JSON, closed pipes.

use crate::fake::{Fake, Peer, TOKEN};
use serde_json::{Value, json};
use std::process::Stdio;

fn entry(name: &str, kind: &str) -> Value {
    json!({"name": name, "kind": kind, "length": 5, "mtime_ms": 0, "mode": 0o644})
}

#[test]
fn a_refusals_text_cannot_reach_the_terminal_as_escapes() {
    let fake = Fake::serve(|peer| {
        let (stat, _) = peer.expect("stat");
        peer.refuse(&stat, "not_found", "no \u{1b}[2J\u{202e}such\r\nfile\u{9b}");
    });
    let ran = fake.run(&["stat", "a"]);
    assert_eq!(ran.code(), Some(1));
    assert_eq!(ran.stderr, "reactorctl: \"a\": no [2Jsuchfile (not_found)\n");
}

#[test]
fn names_are_stripped_as_text_and_escaped_as_json() {
    let list = |peer: &mut Peer| {
        let (list, _) = peer.expect("list");
        let body = json!([entry("d\u{1b}[31m", "dir"), entry("e\u{202e}txt", "file")]).to_string();
        peer.answer(&list, json!({"more": false}), body.as_bytes());
    };
    let ran = Fake::serve(list).run(&["ls"]);
    assert_eq!((ran.code(), ran.text()), (Some(0), "d[31m/\netxt\n"));
    let ran = Fake::serve(list).run(&["--json", "ls"]);
    let lines: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["name"], "e\u{202e}txt");
    assert!(!ran.text().contains('\u{202e}'));
}

#[test]
fn a_listing_is_read_page_by_page() {
    let fake = Fake::serve(|peer| {
        let (first, _) = peer.expect("list");
        assert_eq!(first.get("after"), None);
        peer.answer(&first, json!({"more": true}), json!([entry("a", "file")]).to_string().as_bytes());
        let (second, _) = peer.expect("list");
        assert_eq!(second["after"], "a");
        peer.answer(&second, json!({"skipped": 2}), json!([entry("b", "dir")]).to_string().as_bytes());
    });
    let ran = fake.run(&["ls", "-l", "x/"]);
    let lines = "-rw-r--r--             5 1970-01-01 00:00:00Z a\ndrw-r--r--             5 1970-01-01 00:00:00Z b/\n";
    assert_eq!((ran.code(), ran.text()), (Some(0), lines));
    assert!(ran.stderr.contains("2 names are not UTF-8"), "{}", ran.stderr);
}

#[test]
fn a_listing_that_repeats_itself_ends() {
    let fake = Fake::serve(|peer| {
        while let Some((list, _)) = peer.read() {
            peer.answer(&list, json!({"more": true}), json!([entry("a", "file")]).to_string().as_bytes());
        }
    });
    let ran = fake.run(&["ls"]);
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("not sorted"), "{}", ran.stderr);
}

#[test]
fn a_wrong_token_says_where_it_came_from_and_not_what_it_is() {
    let fake = Fake::raw(|listener| {
        let mut peer = Peer::accept(listener);
        peer.expect("hello");
        peer.send(json!({"event": "error", "error": "unauthorized", "message": "wrong token"}), b"");
    });
    let ran = fake.run(&["ping"]);
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("REACTOR_TOKEN") && !ran.stderr.contains(TOKEN), "{}", ran.stderr);
}

#[test]
fn what_is_no_reactord_is_told_apart() {
    let fake = Fake::raw(|listener| {
        let mut peer = Peer::accept(listener);
        peer.expect("hello");
        peer.http();
    });
    let ran = fake.run(&["ping"]);
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("does not understand"), "{}", ran.stderr);
}

#[test]
fn usage_is_two_and_names_what_was_expected() {
    let fake = Fake::raw(|_| {});
    let mut command = fake.ctl(&["-H", "a:b", "ping"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("HOST:PORT"));
    assert_eq!(fake.run(&["fly"]).code(), Some(2));
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let fake = Fake::serve(|peer| {
        let (list, _) = peer.expect("list");
        let entries: Vec<Value> = (0..1000).map(|i| entry(&format!("{i:0200}"), "file")).collect();
        peer.answer(&list, json!({}), json!(entries).to_string().as_bytes());
    });
    let mut command = fake.ctl(&["ls"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer).stderr(Stdio::piped());
    drop(reader);
    let ran = fake.finish(command);
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn several_paths_go_on_after_a_refused_one() {
    let fake = Fake::serve(|peer| {
        let (first, _) = peer.expect("remove");
        peer.refuse(&first, "not_empty", "it is not empty");
        let (second, _) = peer.expect("remove");
        assert_eq!(second["path"], "b");
        peer.answer(&second, json!({}), b"");
    });
    assert_eq!(fake.run(&["rm", "a", "b/"]).code(), Some(1));
}

#[test]
fn a_path_that_fits_no_header_is_told_here() {
    let fake = Fake::serve(|peer| peer.expect_end());
    let ran = fake.run(&["stat", &"x".repeat(70_000)]);
    assert_eq!(ran.code(), Some(1));
    assert!(ran.stderr.contains("at most 65536"), "{}", &ran.stderr[ran.stderr.len() - 200..]);
}
