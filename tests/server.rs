//! The server as a program: how it starts, whom it lets in, how it ends.

mod common;

use common::{Options, Server, frame, has_program, skip, wait_for};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs the server until it ends by itself.
fn run(home: &std::path::Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reactord"))
        .args(args)
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .env("RUST_LOG", "error")
        .output()
        .unwrap()
}

/// Asserts that the server refuses to start with one line that says `what`.
fn refuses(home: &std::path::Path, args: &[&str], status: i32, what: &str) {
    let output = run(home, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {error}");
    assert!(error.contains(what), "{args:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    if status == 1 {
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn it_says_where_it_listens_and_that_it_is_ready() {
    let server = Server::start();
    let port = server.address.port();
    assert_eq!(server.announced[0], format!("reactord listening on 127.0.0.1:{port}"));
    assert_eq!(server.announced.last().unwrap(), "reactord ready");
    if server.announced.len() == 3 {
        assert_eq!(server.announced[1], format!("reactord listening on [::1]:{port}"));
    }
}

#[test]
fn it_says_how_it_is_driven() {
    let server = Options::new().args(&["--memory-limit", "123456789"]).start();
    let stats = server.stats();
    assert_eq!(stats["memory_limit"], 123_456_789);
    assert_eq!((&stats["mode"], &stats["connections"]), (&json!(common::mode()), &json!(1)));
    assert!(stats["bytes_in"].as_u64() > Some(0) && stats["bytes_out"].as_u64() > Some(0), "{stats}");
}

#[test]
fn the_first_start_makes_what_it_needs_for_its_owner_alone() {
    let server = Server::start();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.token_file()), 0o600);
    assert_eq!(mode(server.token_file().parent().unwrap()), 0o700);
    assert!(server.root().is_dir());
    assert_eq!(server.token.len(), 64);
    let token = server.token.clone();
    assert!(!server.log().contains(&token));
    let server = Options::new().home(server.stop()).start();
    assert_eq!(server.token, token);
}

#[test]
fn bad_use_is_refused_with_a_line_that_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let file = common::write_file(home.path(), "file", b"");
    let file = file.to_str().unwrap();
    refuses(home.path(), &["--no-such-option"], 2, "--no-such-option");
    refuses(home.path(), &["--port", "70000"], 2, "70000");
    refuses(home.path(), &["--max-jobs", "0"], 2, "at least 1");
    refuses(home.path(), &["--bind", "0.0.0.0:0"], 2, "--insecure-remote");
    refuses(home.path(), &["--bind", "0.0.0.0:0", "--insecure-remote", "--auth", "none"], 2, "--auth token");
    refuses(home.path(), &["--bind", "127.0.0.1:x"], 2, "HOST:PORT");
    refuses(home.path(), &["--bind", "127.0.0.1:5", "--bind", "127.0.0.1:6"], 2, "same port");
    refuses(home.path(), &["--port", "0", "--root", file], 1, "is no directory");
    refuses(home.path(), &["--port", "0", "--state-dir", file], 1, "state directory");
    let server = Server::start();
    let port = server.address.port().to_string();
    refuses(home.path(), &["--port", &port], 1, "is in use");
    let token = server.token_file();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    let home = server.stop();
    refuses(home.path(), &["--port", "0"], 1, "chmod 600");
}

#[test]
fn a_wrong_token_or_none_is_fatal_and_a_right_one_lets_in() {
    let server = Server::start();
    for hello in [
        json!({"cmd": "hello", "version": 1, "nick": "a"}),
        json!({"cmd": "hello", "version": 1, "nick": "a", "token": "0".repeat(64)}),
        json!({"cmd": "hello", "version": 1, "nick": "a", "token": ""}),
        json!({"cmd": "echo", "id": 1}),
        json!({"cmd": "no such"}),
        json!({}),
    ] {
        let mut client = server.stranger();
        client.send(hello, b"");
        let message = client.expect_fatal("unauthorized");
        assert!(!message.contains(&server.token));
    }
    server.client("a").ping();
}

#[test]
fn hello_may_be_repeated_until_it_succeeds() {
    let server = Server::start();
    let _taken = server.client("anna");
    let mut client = server.stranger();
    let refused = client.call(json!({"cmd": "hello", "version": 2, "id": 1, "token": server.token}));
    assert_eq!((&refused["error"], &refused["versions"]), (&json!("bad_request"), &json!([1])));
    let refused = client.call(json!({"cmd": "hello", "version": 1, "id": 2, "nick": "ANNA"}));
    assert_eq!(refused["error"], "exists");
    let suggestion = refused["suggestion"].as_str().unwrap();
    let refused = client.call(json!({"cmd": "hello", "version": 1, "id": 3, "nick": " x"}));
    assert_eq!(refused["error"], "invalid_name");
    let welcome = client.call(json!({"cmd": "hello", "version": 1, "id": 4, "nick": suggestion}));
    assert_eq!(
        welcome,
        json!({"re": "hello", "id": 4, "ok": true, "version": 1, "server": format!("reactord/{}", env!("CARGO_PKG_VERSION")),
            "nick": suggestion, "services": ["chat", "exec", "file"], "max_header": 65536, "max_body": 1048576, "features": []})
    );
    let refused = client.call(json!({"cmd": "hello", "version": 1, "id": 5}));
    assert_eq!((&refused["ok"], &refused["error"]), (&json!(false), &json!("conflict")));
    client.ping();
}

#[test]
fn without_authentication_hello_is_optional_and_commands_are_off() {
    let server = Options::new().args(&["--auth", "none"]).start();
    assert!(!server.token_file().exists());
    let mut client = server.stranger();
    client.ping();
    let refused = client.call(json!({"cmd": "exec", "id": 1, "argv": ["true"]}));
    assert_eq!(refused["error"], "disabled");
    let welcome = client.call(json!({"cmd": "hello", "version": 1}));
    assert_eq!(welcome["services"], json!(["chat", "file"]));
    assert!(welcome["nick"].as_str().unwrap().starts_with("guest-"));
    drop(server);
    let server = Options::new().args(&["--auth", "none", "--allow-exec"]).start();
    let started = server.stranger().call(json!({"cmd": "exec", "id": 1, "argv": ["true"]}));
    assert_eq!(started["ok"], true);
}

#[test]
fn services_that_are_off_say_so() {
    let server = Options::new().args(&["--services", "chat"]).start();
    let mut client = server.client("a");
    for (request, error) in [
        (json!({"cmd": "exec", "id": 1, "argv": ["true"]}), "disabled"),
        (json!({"cmd": "jobs"}), "disabled"),
        (json!({"cmd": "list", "path": ""}), "disabled"),
        (json!({"cmd": "cancel", "id": 1}), "disabled"),
    ] {
        assert_eq!(client.call(request)["error"], error);
    }
    assert_eq!(client.call(json!({"cmd": "join", "room": "r"}))["ok"], true);
}

#[test]
fn what_a_stopped_server_leaves_behind_is_nothing() {
    let mut server = Server::start();
    let mut client = server.client("a");
    let mut other = server.client("b");
    let shell = json!({"cmd": "exec", "id": 1, "shell": "trap '' TERM; sleep 987 & echo $!; wait; sleep 987"});
    client.send(shell, b"");
    let pid = client.receive().0["pid"].as_u64().unwrap();
    let (_, (_, output)) = client.receive_until(|header| header["event"] == "stdout");
    let sleeper: u64 = String::from_utf8(output).unwrap().trim().parse().unwrap();
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(other.expect_fatal("shutting_down"), "the server is stopping: connect again later");
    assert_eq!(server.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for pid in [pid, sleeper] {
        wait_for("the command to be gone", || (!is_running(pid)).then_some(()));
    }
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn is_running(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (name, status) in [("TERM", 143), ("INT", 130)] {
        let mut server = Server::start();
        let mut client = server.client("a");
        client.send(json!({"cmd": "exec", "id": 1, "shell": "trap '' TERM; echo; while :; do sleep 1; done"}), b"");
        client.receive_until(|header| header["event"] == "stdout");
        server.signal(name);
        client.receive_until(|header| header["event"] == "error");
        server.signal(name);
        assert_eq!(server.wait().code(), Some(status));
    }
}

#[test]
fn a_thousand_idle_clients_cost_no_processor_time() {
    let server = Server::start();
    let clients: Vec<_> = (0..1_000).map(|i| server.client(&format!("idle-{i}"))).collect();
    // What the greetings left to do is done first.
    server.client("last").ping();
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(2));
    let used = server.cpu_time() - before;
    assert!(used <= Duration::from_millis(20), "{used:?} in two idle seconds");
    drop(clients);
    wait_for("every connection to be given back", || (server.stats()["connections"].as_u64() == Some(1)).then_some(()));
}

#[test]
fn those_who_wait_are_served_once_descriptors_are_free() {
    if !has_program("prlimit") {
        return skip("prlimit (util-linux) is not installed");
    }
    let server = Options::new().wrapper(&["prlimit", "--nofile=256:256"]).start();
    let mut clients: Vec<_> = (0..400).map(|_| server.stranger()).collect();
    for client in &mut clients {
        client.send(json!({"cmd": "hello", "version": 1, "token": server.token}), b"");
    }
    let mut waiting = clients.split_off(150);
    for client in &mut clients {
        assert_eq!(client.receive().0["ok"], true);
    }
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = server.cpu_time() - before;
    assert!(used <= Duration::from_millis(50), "{used:?} in a second of waiting");
    clients[0].ping();
    // No new connect follows: the server must find those who wait by itself.
    drop(clients);
    let mut served = Vec::new();
    for mut client in waiting.drain(..) {
        assert_eq!(client.receive().0["ok"], true);
        served.push(client);
        if served.len() > 100 {
            served.clear();
        }
    }
}

#[test]
fn connects_while_the_server_stands_still_are_all_served() {
    let server = Server::start();
    server.signal("STOP");
    let mut clients: Vec<_> = (0..2_000).map(|_| server.stranger()).collect();
    for client in &mut clients {
        client.send(json!({"cmd": "hello", "version": 1, "token": server.token}), b"");
    }
    server.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.receive().0["ok"], true);
    }
}

#[test]
fn a_silent_connection_is_ended_where_the_server_says_so() {
    let server = Options::new().args(&["--idle-timeout", "1"]).start();
    let mut idle = server.client("idle");
    let mut busy = server.client("busy");
    busy.send(json!({"cmd": "exec", "id": 1, "shell": "sleep 2; echo done"}), b"");
    idle.expect_fatal("timeout");
    let (_, (_, output)) = busy.receive_until(|header| header["event"] == "stdout");
    assert_eq!(output, b"done\n");
}

#[test]
fn a_newcomer_in_the_moment_of_the_stop_does_no_harm() {
    let mut server = Server::start();
    // Long turns, so that both come while the server is busy with one.
    let batch: Vec<u8> =
        (0..900).flat_map(|id| frame(json!({"cmd": "exec", "id": id, "argv": ["true"], "cwd": "/n"}), b"")).collect();
    let mut clients: Vec<_> = (0..40).map(|i| server.client(&format!("busy-{i}"))).collect();
    clients.iter_mut().for_each(|client| client.send_raw(&batch));
    server.signal("TERM");
    let _newcomer = std::net::TcpStream::connect(server.address);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}
