//! The operator's console, on pipes and on a terminal.

use crate::common::terminal::Terminal;
use crate::programs::{Piped, chat};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// A server with its console on pipes, or on what the test connects.
fn console(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactord"));
    command.args(["--port", "0", "--console"]).env("HOME", home);
    command.env_remove("XDG_STATE_HOME").env_remove("RUST_LOG").stderr(Stdio::null());
    command
}

fn address(line: &str) -> SocketAddr {
    line.trim_end().strip_prefix("reactord listening on ").unwrap().parse().unwrap()
}

/// Both on pipes, the guest in the lobby.
fn operator_and_guest(home: &Path) -> (Piped, Piped) {
    let mut operator = Piped::spawn(console(home));
    let address = address(&operator.shows("listening on 127.0.0.1"));
    operator.shows("in lobby: operator");
    let guest = chat(address, home, "guest");
    operator.shows("guest joined");
    (operator, guest)
}

#[test]
fn the_operator_talks_looks_kicks_and_stops_on_a_pipe() {
    let home = tempfile::tempdir().unwrap();
    let (mut operator, mut guest) = operator_and_guest(home.path());
    guest.types("is anybody here?");
    assert!(operator.shows("guest: is anybody here?").starts_with("[lobby] "));
    operator.types("I am");
    guest.shows("\"from\":\"operator\",\"text\":\"I am\"");
    operator.shows("operator: I am");
    operator.types("/who");
    operator.shows("in lobby: operator, guest");
    operator.types("/clients");
    let client = operator.shows("guest  127.0.0.1:");
    assert!(client.contains("rooms: lobby") && client.contains("since "), "{client}");
    operator.types("/stats");
    operator.shows("connections 1");
    operator.types("/kick GUEST");
    operator.shows("guest left (kicked)");
    guest.shows("the operator ended this connection");
    assert_eq!(guest.ends().code(), Some(255), "a kick is for good");
    operator.types("/quit");
    operator.shows("the server stops");
    assert!(operator.ends().success());
}

#[test]
fn the_end_of_the_operators_input_is_not_the_servers() {
    let home = tempfile::tempdir().unwrap();
    let (mut operator, mut guest) = operator_and_guest(home.path());
    operator.types("bye");
    operator.stdin = None;
    guest.shows("\"text\":\"bye\"");
    guest.shows("\"event\":\"left\",\"room\":\"lobby\",\"nick\":\"operator\",\"reason\":\"left\"");
    guest.types("alone");
    guest.shows("\"text\":\"alone\"");
    assert!(guest.ends().success());
    rustix::process::kill_process(rustix::process::Pid::from_child(&operator.child), rustix::process::Signal::TERM)
        .unwrap();
    assert!(operator.ends().success());
}

#[test]
fn the_log_stands_above_the_line_that_the_operator_types() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::new(30, 80);
    let mut command = console(home.path());
    command.env("RUST_LOG", "debug");
    let mut operator = Piped::on(&terminal, command);
    terminal.shows("listening on 127.0.0.1:");
    terminal.shows("\r\n");
    let port = String::from_utf8(terminal.shown.clone()).unwrap().trim().parse::<u16>().unwrap();
    terminal.shows("in lobby: operator");
    terminal.shows("lobby> ");
    terminal.types("half");
    terminal.shows("half");
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    terminal.shows(": connected");
    terminal.shows("\r\n");
    terminal.shows("lobby> half");
    // Clears the line.
    terminal.types("\u{15}/quit\r");
    assert!(operator.ends().success());
    assert!(!terminal.is_raw());
}
