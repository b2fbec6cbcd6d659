//! Commands: streams, signals, statuses, and a server that vanishes.

use crate::fake::{Fake, Peer, Ran, Running};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

fn exits(peer: &mut Peer, id: &Value, end: Value) {
    let mut exit = end;
    exit["event"] = json!("exit");
    exit["id"] = id.clone();
    peer.send(exit, b"");
}

fn ended(end: Value, args: &[&str]) -> Ran {
    let fake = Fake::serve(move |peer| {
        let (id, _) = peer.start();
        exits(peer, &id, end);
    });
    fake.run(args)
}

#[test]
fn the_commands_status_becomes_ours() {
    assert_eq!(ended(json!({"code": 3}), &["exec", "--", "x"]).code(), Some(3));
    assert_eq!(ended(json!({"signal": "SIGKILL"}), &["exec", "--", "x"]).code(), Some(137));
    let ran = ended(json!({"signal": "SIGTERM", "reason": "timeout"}), &["exec", "--timeout", "0.5", "--", "x"]);
    assert_eq!(ran.code(), Some(143));
    assert!(ran.stderr.contains("time limit of 0.5 s"), "{}", ran.stderr);
    let ran = ended(json!({"code": 0}), &["--json", "exec", "--", "x"]);
    let end: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(end, json!({"job": 7, "pid": 42, "code": 0}));
}

#[test]
fn the_request_says_what_was_asked() {
    let fake = Fake::serve(|peer| {
        let (id, exec) = peer.start();
        assert_eq!(exec["argv"], json!(["ls", "-l", "--json"]));
        assert_eq!(
            (&exec["cwd"], &exec["env"], &exec["timeout_ms"]),
            (&json!("/tmp"), &json!({"A": "b=c"}), &json!(1500))
        );
        assert_eq!((exec["stdin"].clone(), exec.get("pty")), (json!(false), None));
        exits(peer, &id, json!({"code": 0}));
    });
    let ran = fake.run(&["exec", "-n", "--cwd", "/tmp", "--env", "A=b=c", "--timeout", "1.5", "ls", "-l", "--json"]);
    assert_eq!(ran.code(), Some(0), "{}", ran.stderr);
}

#[test]
fn a_refused_command_is_one() {
    let fake = Fake::serve(|peer| {
        let (exec, _) = peer.expect("exec");
        peer.refuse(&exec, "not_found", "no program nope");
    });
    let ran = fake.run(&["exec", "--", "nope"]);
    assert_eq!(ran.code(), Some(1));
    assert!(ran.stderr.contains("no program nope (not_found)"), "{}", ran.stderr);
}

#[test]
fn both_outputs_pass_byte_for_byte_and_input_goes_out_with_its_end() {
    let odd: Vec<u8> = (0..=255).collect();
    let sent = odd.clone();
    let fake = Fake::serve(move |peer| {
        let (id, _) = peer.start();
        peer.send(json!({"event": "stdout", "id": id}), &sent);
        peer.send(json!({"event": "stderr", "id": id}), b"\x1b[31m\xff");
        let mut input = Vec::new();
        loop {
            let (header, body) = peer.expect("input");
            input.extend(body);
            if header["eof"] == json!(true) {
                break;
            }
        }
        assert_eq!(input, b"one\xfftwo");
        // What crosses the end on the way is no error.
        peer.send(json!({"re": "input", "id": id, "ok": false, "error": "not_found", "message": "gone"}), b"");
        exits(peer, &id, json!({"code": 0}));
    });
    let mut command = fake.ctl(&["exec", "--sh", "x"]);
    let mut child = Running::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    child.0.stdin.take().unwrap().write_all(b"one\xfftwo").unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    child.0.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.0.stderr.take().unwrap().read_to_end(&mut err).unwrap();
    assert_eq!((out, err.as_slice()), (odd, &b"\x1b[31m\xff"[..]));
    assert_eq!(child.output().code(), Some(0));
}

#[test]
fn both_directions_may_be_full_at_once() {
    const EACH: usize = 16 * 1024 * 1024;
    let fake = Fake::serve(|peer| {
        let (id, _) = peer.start();
        // All output before any input is read, as a server under back-pressure does.
        for _ in 0..EACH / 65_536 {
            peer.send(json!({"event": "stdout", "id": id}), &[b'o'; 65_536]);
        }
        let mut taken = 0;
        loop {
            let (header, body) = peer.expect("input");
            taken += body.len();
            if header["eof"] == json!(true) {
                break;
            }
        }
        assert_eq!(taken, EACH);
        exits(peer, &id, json!({"code": 0}));
    });
    let mut command = fake.ctl(&["exec", "--", "cat"]);
    let mut child = Running::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut stdin = child.0.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'i'; EACH]));
    let ran = child.output();
    assert_eq!((ran.code(), ran.stdout.len()), (Some(0), EACH));
    writer.join().unwrap().unwrap();
}

#[test]
fn signals_are_the_commands_and_a_second_one_is_ours() {
    let mut fake = Fake::serve(|peer| {
        let (id, _) = peer.start();
        peer.expect("input");
        peer.send(json!({"event": "stdout", "id": id}), b"up\n");
        let (signal, _) = peer.expect("signal");
        assert_eq!((&signal["signal"], &signal["id"]), (&json!("INT"), &id));
        peer.answer(&signal, json!({}), b"");
        peer.send(json!({"event": "stdout", "id": id}), b"ignored\n");
        peer.expect_end();
    });
    let mut command = fake.ctl(&["exec", "--", "x"]);
    let mut child = Running::spawn(command.stdout(Stdio::piped()));
    let mut stdout = child.0.stdout.take().unwrap();
    let mut line = |expected: &str| {
        let mut read = vec![0; expected.len()];
        stdout.read_exact(&mut read).unwrap();
        assert_eq!(read, expected.as_bytes());
    };
    line("up\n");
    child.signal(Signal::INT);
    line("ignored\n");
    child.signal(Signal::INT);
    assert_eq!(child.output().status.signal(), Some(2));
    fake.join("");
}

#[test]
fn a_server_that_vanishes_is_255_after_what_it_said() {
    let fake = Fake::serve(|peer| {
        let (id, _) = peer.start();
        peer.send(json!({"event": "stdout", "id": id}), b"half");
        peer.expect("input");
    });
    let ran = fake.run(&["exec", "--", "x"]);
    assert_eq!((ran.code(), ran.stdout.as_slice()), (Some(255), &b"half"[..]));
    assert!(ran.stderr.contains("was lost: the server closed it"), "{}", ran.stderr);
}

#[test]
fn a_servers_last_words_are_passed_on() {
    let fake = Fake::serve(|peer| {
        peer.start();
        peer.send(json!({"event": "error", "error": "shutting_down", "message": "the server stops"}), b"");
    });
    let ran = fake.run(&["exec", "--", "x"]);
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("the server stops (shutting_down)"), "{}", ran.stderr);
}

#[test]
fn a_closed_output_ends_the_client_quietly() {
    let fake = Fake::serve(|peer| {
        let (id, _) = peer.start();
        peer.expect("input");
        peer.send(json!({"event": "stdout", "id": id}), b"y\n");
        peer.expect_end();
    });
    let mut command = fake.ctl(&["exec", "--", "yes"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer).stderr(Stdio::piped());
    drop(reader);
    let ran = fake.finish(command);
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(141), ""));
}
