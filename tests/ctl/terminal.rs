//! Interactive sessions on a terminal: raw mode and its end, escapes, sizes.

use crate::common::terminal::Terminal;
use crate::fake::{Fake, Running};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// Starts `reactorctl shell` on a terminal, with its messages in a pipe.
fn shell(fake: &Fake) -> (Terminal, Running) {
    let terminal = Terminal::new(30, 90);
    let mut command = fake.ctl(&["shell"]);
    command.env("TERM", "vt220").stdin(terminal.stdio()).stdout(terminal.stdio());
    let child = Running::spawn(command.stderr(Stdio::piped()));
    (terminal, child)
}

#[test]
fn the_terminal_is_raw_for_the_session_and_an_escape_ends_it() {
    let mut fake = Fake::serve(|peer| {
        let (id, exec) = peer.start();
        assert_eq!(exec["pty"], json!({"rows": 30, "cols": 90, "term": "vt220"}));
        peer.send(json!({"event": "stdout", "id": id}), b"ready");
        let (resize, _) = peer.expect("resize");
        assert_eq!((&resize["rows"], &resize["cols"]), (&json!(40), &json!(100)));
        peer.send(json!({"event": "stdout", "id": id}), b"resized");
        let (_, typed) = peer.expect("input");
        assert_eq!(typed, b"a~.\x03\r~x\r");
        peer.send(json!({"event": "stdout", "id": id}), b"typed");
        peer.expect_end();
    });
    let (mut terminal, child) = shell(&fake);
    terminal.shows("ready");
    assert!(terminal.is_raw());
    terminal.resize(40, 100);
    child.signal(Signal::WINCH);
    terminal.shows("resized");
    terminal.types(b"a~.\x03\r~x\r");
    terminal.shows("typed");
    terminal.types(b"~.");
    let ran = child.output();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("connection to") && ran.stderr.contains("closed"), "{}", ran.stderr);
    assert!(!terminal.is_raw());
    fake.join(&ran.stderr);
}

#[test]
fn a_lost_server_gives_the_terminal_back() {
    let (vanish, wait) = mpsc::channel::<()>();
    let mut fake = Fake::serve(move |peer| {
        let (id, _) = peer.start();
        peer.send(json!({"event": "stdout", "id": id}), b"ready");
        wait.recv_timeout(Duration::from_secs(20)).unwrap();
    });
    let (mut terminal, child) = shell(&fake);
    terminal.shows("ready");
    assert!(terminal.is_raw());
    vanish.send(()).unwrap();
    let ran = child.output();
    assert_eq!(ran.code(), Some(255));
    assert!(!terminal.is_raw());
    fake.join(&ran.stderr);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1)] {
        let mut fake = Fake::serve(move |peer| {
            let (id, _) = peer.start();
            peer.send(json!({"event": "stdout", "id": id}), b"ready");
            peer.expect_end();
        });
        let (mut terminal, child) = shell(&fake);
        terminal.shows("ready");
        child.signal(signal);
        let ran = child.output();
        assert_eq!(ran.status.signal(), Some(number));
        assert!(!terminal.is_raw());
        fake.join(&ran.stderr);
    }
}

#[test]
fn a_stopped_client_gives_the_terminal_back_until_it_goes_on() {
    let mut fake = Fake::serve(|peer| {
        let (id, _) = peer.start();
        peer.send(json!({"event": "stdout", "id": id}), b"ready");
        peer.expect("resize");
        peer.send(json!({"event": "exit", "id": id, "code": 0}), b"");
    });
    let (mut terminal, child) = shell(&fake);
    terminal.shows("ready");
    child.signal(Signal::TSTP);
    let pid = Pid::from_child(&child.0);
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped() && !terminal.is_raw());
    child.signal(Signal::CONT);
    let ran = child.output();
    assert_eq!((ran.code(), terminal.is_raw()), (Some(0), false), "{}", ran.stderr);
    fake.join(&ran.stderr);
}

#[test]
fn a_client_that_goes_on_just_as_it_ends_leaves_no_raw_terminal() {
    let mut fake = Fake::serve(|peer| {
        let (id, _) = peer.start();
        peer.send(json!({"event": "stdout", "id": id}), b"ready");
        peer.expect("resize");
        peer.send(json!({"event": "exit", "id": id, "code": 0}), b"");
        while peer.read().is_some() {}
    });
    let (mut terminal, mut child) = shell(&fake);
    terminal.shows("ready");
    while child.0.try_wait().unwrap().is_none() {
        child.signal(Signal::CONT);
    }
    assert!(!terminal.is_raw());
    fake.join(&child.output().stderr);
}
