//! Transfers: hostile names, refusals under way, broken lines, signals.

use crate::fake::{Fake, Peer, Running};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn entry(name: &str, kind: &str) -> Value {
    json!({"name": name, "kind": kind, "length": 2, "mtime_ms": 1000, "mode": 0o755})
}

fn answer_list(peer: &mut Peer, entries: &[Value]) {
    let (list, _) = peer.expect("list");
    peer.answer(&list, json!({}), json!(entries).to_string().as_bytes());
}

fn stat_dir(peer: &mut Peer) {
    let (stat, _) = peer.expect("stat");
    peer.answer(&stat, json!({"kind": "dir", "length": 0, "mtime_ms": 1000, "mode": 0o755}), b"");
}

/// A directory with `inside` in it, where downloads go and nowhere else.
fn place() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    (dir, inside)
}

#[test]
fn a_server_cannot_name_a_file_outside() {
    let (dir, inside) = place();
    let fake = Fake::serve(|peer| {
        stat_dir(peer);
        let hostile = ["", "..", "../evil", "/evil", "a/b", "esc\u{1b}"].map(|name| entry(name, "file"));
        let mut entries = hostile.to_vec();
        entries.extend([entry("ok", "file"), entry("sub", "dir"), entry("zlink", "link")]);
        entries.sort_by_key(|entry| entry["name"].as_str().unwrap().to_owned());
        answer_list(peer, &entries);
        answer_list(peer, &[entry("deep", "file")]);
        for _ in 0..2 {
            let get = peer.give(b"hi");
            assert!(["top/ok", "top/sub/deep"].contains(&get["path"].as_str().unwrap()), "{get}");
        }
    });
    let mut command = fake.ctl(&["get", "-r", "top", inside.to_str().unwrap()]);
    command.current_dir(&dir);
    let ran = fake.finish(command);
    assert_eq!(ran.code(), Some(1));
    assert_eq!(names(dir.path()), ["inside"]);
    assert_eq!((names(&inside), names(&inside.join("top"))), (vec!["top".into()], vec!["ok".into(), "sub".into()]));
    assert_eq!(fs::read(inside.join("top/sub/deep")).unwrap(), b"hi");
    assert!(ran.stderr.contains("zlink is skipped") && !ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
}

#[test]
fn a_link_that_stands_in_the_way_here_is_not_followed() {
    let (dir, inside) = place();
    fs::create_dir(inside.join("top")).unwrap();
    std::os::unix::fs::symlink(dir.path(), inside.join("top/sub")).unwrap();
    let fake = Fake::serve(|peer| {
        stat_dir(peer);
        answer_list(peer, &[entry("sub", "dir")]);
        answer_list(peer, &[entry("evil", "file")]);
        peer.expect_end();
    });
    let ran = fake.run(&["get", "-r", "--replace", "top", inside.to_str().unwrap()]);
    assert_eq!(ran.code(), Some(1));
    assert_eq!(names(dir.path()), ["inside"]);
}

#[test]
fn a_download_is_whole_or_not_there() {
    let (_dir, inside) = place();
    let to = inside.to_str().unwrap();
    let fake = Fake::serve(|peer| {
        let (get, _) = peer.expect("get");
        peer.answer(&get, json!({"length": 4, "total": 4, "mtime_ms": 1000, "mode": 420, "name": "../evil"}), b"");
        peer.send(json!({"event": "data", "id": get["id"]}), b"ab");
        let end = json!({"event": "end", "id": get["id"], "ok": false, "error": "changed", "message": "it shrank", "length": 2});
        peer.send(end, b"");
    });
    let ran = fake.run(&["get", "d/a", to]);
    assert_eq!((ran.code(), names(&inside).len()), (Some(1), 0), "{}", ran.stderr);
    assert!(ran.stderr.contains("it shrank (changed)"), "{}", ran.stderr);

    let fake = Fake::serve(|peer| {
        peer.give(b"content");
    });
    let ran = fake.run(&["get", "d/a", to]);
    assert_eq!((ran.code(), names(&inside)), (Some(0), vec!["a".to_owned()]));
    assert!(ran.stderr.contains("1 file, 7 B"), "{}", ran.stderr);

    let ran = Fake::serve(|peer| peer.expect_end()).run(&["get", "d/a", to]);
    assert_eq!(ran.code(), Some(1));
    assert!(ran.stderr.contains("--replace"), "{}", ran.stderr);
    assert_eq!(fs::read(inside.join("a")).unwrap(), b"content");
}

#[test]
fn a_server_cannot_pass_a_piece_off_as_the_whole() {
    let (_dir, inside) = place();
    let fake = Fake::serve(|peer| {
        let (get, _) = peer.expect("get");
        peer.answer(&get, json!({"length": 2, "total": 4, "mtime_ms": 1000, "mode": 420}), b"");
        peer.send(json!({"event": "data", "id": get["id"]}), b"ab");
        let (cancel, _) = peer.expect("cancel");
        peer.send(json!({"event": "end", "id": get["id"], "ok": true, "length": 2}), b"");
        peer.refuse(&cancel, "not_found", "it has ended");
    });
    let ran = fake.run(&["get", "a", inside.to_str().unwrap()]);
    assert_eq!((ran.code(), names(&inside).len()), (Some(1), 0), "{}", ran.stderr);
}

#[test]
fn a_checksum_that_differs_leaves_nothing() {
    let (_dir, inside) = place();
    let fake = Fake::serve(|peer| {
        peer.give(b"content");
        let (hash, _) = peer.expect("hash");
        peer.answer(&hash, json!({"blake3": blake3::hash(b"other").to_hex().as_str(), "length": 7}), b"");
    });
    let ran = fake.run(&["get", "--verify", "a", inside.to_str().unwrap()]);
    assert_eq!((ran.code(), names(&inside).len()), (Some(1), 0), "{}", ran.stderr);
}

#[test]
fn a_download_may_go_to_standard_output() {
    let content: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    let sent = content.clone();
    let fake = Fake::serve(move |peer| {
        peer.give(&sent);
        peer.give(b"more");
    });
    let ran = fake.run(&["-q", "get", "a", "b", "-"]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout == [content.as_slice(), b"more"].concat());
    assert_eq!(Fake::raw(|_| {}).run(&["get", "--resume", "a", "-"]).code(), Some(2));
}

#[test]
fn a_download_goes_on_where_the_line_broke() {
    let (_dir, inside) = place();
    let fake = Fake::raw(|listener| {
        let stat = json!({"kind": "file", "length": 6, "mtime_ms": 1000, "mode": 0o644});
        let coming = |length: u64| json!({"length": length, "total": 6, "mtime_ms": 1000, "mode": 0o644});
        let mut peer = Peer::accept_greeted(listener);
        let (request, _) = peer.expect("stat");
        peer.answer(&request, stat.clone(), b"");
        let (get, _) = peer.expect("get");
        assert_eq!(get.get("offset"), None);
        peer.answer(&get, coming(6), b"");
        peer.send(json!({"event": "data", "id": get["id"]}), b"abc");
        drop(peer);
        let mut peer = Peer::accept_greeted(listener);
        let (request, _) = peer.expect("stat");
        peer.answer(&request, stat, b"");
        let (get, _) = peer.expect("get");
        assert_eq!(get["offset"], 3);
        peer.answer(&get, coming(3), b"");
        peer.send(json!({"event": "data", "id": get["id"]}), b"def");
        peer.send(json!({"event": "end", "id": get["id"], "ok": true, "length": 3}), b"");
        let (hash, _) = peer.expect("hash");
        peer.answer(&hash, json!({"blake3": blake3::hash(b"abcdef").to_hex().as_str(), "length": 6}), b"");
    });
    let ran = fake.run(&["get", "--resume", "--verify", "a", inside.to_str().unwrap()]);
    assert_eq!((ran.code(), names(&inside)), (Some(0), vec!["a".to_owned()]), "{}", ran.stderr);
    assert_eq!(fs::read(inside.join("a")).unwrap(), b"abcdef");
    assert!(ran.stderr.contains("trying again in"), "{}", ran.stderr);
}

#[test]
fn a_signal_takes_the_temporary_file_away() {
    let (_dir, inside) = place();
    let mut fake = Fake::serve(|peer| {
        let (get, _) = peer.expect("get");
        peer.answer(&get, json!({"length": 4, "total": 4, "mtime_ms": 1000, "mode": 420}), b"");
        peer.send(json!({"event": "data", "id": get["id"]}), b"ab");
        peer.expect_end();
    });
    let mut command = fake.ctl(&["get", "a", inside.to_str().unwrap()]);
    let child = Running::spawn(command.stderr(Stdio::piped()));
    // Its bytes show that the transfer is under way and signals are waited for.
    let begun = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().metadata().is_ok_and(|m| m.len() == 2);
    while !fs::read_dir(&inside).unwrap().any(begun) {
        std::thread::yield_now();
    }
    child.signal(Signal::TERM);
    let ran = child.output();
    assert_eq!((ran.status.signal(), names(&inside).len()), (Some(15), 0), "{}", ran.stderr);
    fake.join(&ran.stderr);
}

#[test]
fn a_refused_upload_stops_and_the_others_go_on() {
    const HUGE: u64 = 4 << 30;
    let dir = tempfile::tempdir().unwrap();
    let (big, small) = (dir.path().join("big"), dir.path().join("small"));
    fs::File::create(&big).unwrap().set_len(HUGE).unwrap();
    fs::write(&small, "tiny").unwrap();
    let fake = Fake::serve(|peer| {
        let (put, _) = peer.expect("put");
        assert_eq!((&put["path"], &put["length"], &put["exists"]), (&json!("to/big"), &json!(HUGE), &json!("fail")));
        peer.refuse(&put, "no_space", "the disk is full");
        let mut taken = 0;
        let end = loop {
            match peer.read().unwrap() {
                (header, body) if header["cmd"] == "data" => taken += body.len() as u64,
                (header, _) => break header,
            }
        };
        assert_eq!((&end["cmd"], &end["id"]), (&json!("end"), &put["id"]));
        assert!(taken < HUGE / 4, "{taken} bytes came after the refusal");
        peer.refuse(&end, "no_space", "the disk is full");
        let (put, _) = peer.expect("put");
        let (_, data) = peer.expect("data");
        assert_eq!((put["path"].as_str(), data.as_slice()), (Some("to/small"), &b"tiny"[..]));
        peer.answer(&put, json!({"offset": 0}), b"");
        let (end, _) = peer.expect("end");
        let hash = blake3::hash(b"tiny").to_hex();
        assert_eq!(end["blake3"], hash.as_str());
        peer.answer(&end, json!({"path": "to/small", "length": 4, "blake3": hash.as_str()}), b"");
    });
    let ran = fake.run(&["put", "--verify", big.to_str().unwrap(), small.to_str().unwrap(), "to"]);
    assert_eq!(ran.code(), Some(1));
    assert_eq!(ran.stderr.matches("the disk is full").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("1 file, 4 B") && ran.stderr.contains("1 failed"), "{}", ran.stderr);
}

#[test]
fn an_upload_goes_on_where_the_line_broke() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let content: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(&file, &content).unwrap();
    let fake = Fake::raw(move |listener| {
        let hash = blake3::hash(&content).to_hex();
        let mut peer = Peer::accept_greeted(listener);
        let (first, _) = peer.expect("put");
        peer.answer(&first, json!({"offset": 0}), b"");
        let (_, data) = peer.expect("data");
        drop(peer);
        let mut peer = Peer::accept_greeted(listener);
        let (second, _) = peer.expect("put");
        assert_eq!((&second["resume"], &second["blake3"]), (&first["resume"], &json!(hash.as_str())));
        peer.refuse(&second, "busy", "that part is in use");
        let mut peer = Peer::accept_greeted(listener);
        let (third, _) = peer.expect("put");
        peer.answer(&third, json!({"offset": data.len()}), b"");
        let mut arrived = data;
        let end = loop {
            match peer.read().unwrap() {
                (header, body) if header["cmd"] == "data" => arrived.extend(body),
                (header, _) => break header,
            }
        };
        assert!(arrived == content);
        peer.answer(&end, json!({"path": "a", "length": content.len(), "blake3": hash.as_str()}), b"");
    });
    let ran = fake.run(&["put", "--resume", file.to_str().unwrap()]);
    assert_eq!(ran.code(), Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("trying again in").count(), 2, "{}", ran.stderr);
}

#[test]
fn standard_input_is_sent_with_its_length() {
    let fake = Fake::serve(|peer| {
        let (put, _) = peer.expect("put");
        assert_eq!((&put["path"], &put["length"], put.get("mode")), (&json!("x"), &json!(5), None));
        let (_, data) = peer.expect("data");
        let (end, _) = peer.expect("end");
        peer.answer(&put, json!({"offset": 0}), b"");
        let hash = blake3::hash(&data).to_hex();
        peer.answer(&end, json!({"path": "x", "length": 5, "blake3": hash.as_str()}), b"");
    });
    let mut command = fake.ctl(&["--json", "put", "-", "x"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"hello").unwrap();
    drop(writer);
    command.stdin(reader);
    let ran = fake.finish(command);
    assert_eq!(ran.code(), Some(0), "{}", ran.stderr);
    let lines: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["remote"], &lines[1]["files"], &lines[1]["bytes"]), (&json!("x"), &json!(1), &json!(5)));
}

#[test]
fn directories_that_are_there_are_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("t/f"), "").unwrap();
    let fake = Fake::serve(|peer| {
        let (mkdir, _) = peer.expect("mkdir");
        assert_eq!(mkdir["path"], "there");
        peer.refuse(&mkdir, "exists", "it is there");
        let (put, _) = peer.expect("put");
        assert_eq!(put["path"], "there/f");
        let (end, _) = peer.expect("end");
        peer.answer(&put, json!({"offset": 0}), b"");
        peer.answer(&end, json!({"path": "there/f", "length": 0, "blake3": blake3::hash(b"").to_hex().as_str()}), b"");
    });
    let ran = fake.run(&["put", "-r", dir.path().join("t").to_str().unwrap(), "there"]);
    assert_eq!((ran.code(), ran.stderr.contains("failed")), (Some(0), false), "{}", ran.stderr);
}
