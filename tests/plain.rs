//! The plain listeners: what a client that knows no frames may rely on, and
//! that the simplest clients imaginable work.

mod common;

use common::{Client, Options, PATIENCE, Server, has_program, noise, skip, wait_for, write_file};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const ALL: [&str; 6] = ["--plain-chat", "127.0.0.1:0", "--plain-exec", "127.0.0.1:0", "--plain-file", "127.0.0.1:0"];

/// A server with every plain listener.
fn plain() -> Server {
    Options::new().args(&ALL).start()
}

/// Where the server says that this listener is.
fn address(server: &Server, name: &str) -> SocketAddr {
    let prefix = format!("reactord {name} listening on ");
    server.announced.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap().parse().unwrap()
}

fn connect(server: &Server, name: &str) -> TcpStream {
    let stream = TcpStream::connect(address(server, name)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads exactly as many bytes.
fn read(mut stream: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_text(stream: &TcpStream, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&read(stream, expected.len())), expected);
}

/// Reads a length and as many bytes.
fn answer(stream: &TcpStream) -> Vec<u8> {
    let length = i32::from_le_bytes(read(stream, 4).try_into().unwrap());
    read(stream, length.try_into().expect("a length is not negative"))
}

fn run(mut stream: &TcpStream, command: &str) -> String {
    stream.write_all(command.as_bytes()).unwrap();
    String::from_utf8(answer(stream)).unwrap()
}

/// Asserts that the server ends the connection, and cleanly.
fn expect_end(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

/// A client with frames that is in the lobby, once `others` are too.
fn in_the_lobby(server: &Server, others: usize) -> Client {
    let mut client = server.client("anna");
    client.call(json!({"cmd": "join", "room": "lobby", "history": 0}));
    wait_for("the others to be there", || {
        client.send(json!({"cmd": "who", "room": "lobby"}), b"");
        let (_, (_, members)) = client.receive_until(|header| header["re"] == "who");
        (serde_json::from_slice::<Vec<String>>(&members).unwrap().len() == others + 1).then_some(())
    });
    client
}

/// The next thing said.
fn heard(client: &mut Client) -> String {
    let (_, (_, body)) = client.receive_until(|header| header["event"] == "message");
    String::from_utf8(body).unwrap()
}

#[test]
fn they_are_off_unless_asked_for_and_announced_with_a_warning() {
    let server = Server::start();
    assert!(server.announced.iter().all(|line| !line.contains("plain")));
    let server = plain();
    let kinds = ["chat", "exec", "file"].map(|kind| format!("plain-{kind}"));
    for kind in &kinds {
        assert!(address(&server, kind).ip().is_loopback());
        assert!(server.log().contains(&format!("{kind}: whoever is on this machine")), "{}", server.log());
    }
    assert_eq!(server.announced.last().unwrap(), "reactord ready");
    server.client("a").ping();
}

#[test]
fn bad_use_is_a_usage_error() {
    for (args, what) in [
        (&["--plain-chat", "0.0.0.0:0"][..], "expected a loopback address"),
        (&["--plain-exec", "[::]:0"], "expected a loopback address"),
        (&["--plain-file", "192.0.2.1:0", "--insecure-remote"], "expected a loopback address"),
        (&["--plain-file", "nonsense:x"], "expected HOST:PORT"),
        (&["--plain-chat", "127.0.0.1:0", "--services", "exec"], "needs the chat service"),
        (&["--plain-file", "127.0.0.1:0", "--services", "chat"], "needs the file service"),
        (&["--plain-exec", "127.0.0.1:0", "--auth", "none"], "--allow-exec"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_reactord"));
        let output = command.args(["--port", "0"]).args(args).env("HOME", home.path()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(what) && error.lines().count() == 1, "{args:?}: {error}");
    }
}

#[test]
fn what_plain_clients_say_is_said_in_the_lobby_and_what_is_said_there_comes_as_lines() {
    let server = plain();
    // One after the other: guests are numbered as they come in.
    let mut one = connect(&server, "plain-chat");
    let mut anna = in_the_lobby(&server, 1);
    let two = connect(&server, "plain-chat");
    anna.receive_until(|header| header["event"] == "joined");
    one.write_all(b"first\r\n\nsec").unwrap();
    assert_eq!(heard(&mut anna), "first");
    one.write_all(b"ond\n").unwrap();
    assert_eq!(heard(&mut anna), "second");
    one.write_all(b"no newline \x1b[1m\xff\xfb\x01").unwrap();
    assert_eq!(heard(&mut anna), "no newline [1m");
    anna.send(json!({"cmd": "say", "room": "lobby"}), b"to\nall");
    read_text(&one, "anna: to all\n");
    read_text(&two, "guest-1: first\nguest-1: second\n");
}

#[test]
fn a_plain_chat_ends_with_its_input_and_what_it_sent_last_is_said() {
    let server = plain();
    let mut one = connect(&server, "plain-chat");
    let mut anna = in_the_lobby(&server, 1);
    one.write_all(b"bye").unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    assert_eq!(heard(&mut anna), "bye");
    let (_, (left, _)) = anna.receive_until(|header| header["event"] == "left");
    assert_eq!(left["reason"], "disconnected");
    expect_end(&one);
}

#[test]
fn commands_are_answered_in_turn_with_both_outputs() {
    let server = plain();
    let mut stream = connect(&server, "plain-exec");
    assert_eq!(run(&stream, "echo hello; echo problem >&2; echo bye"), "hello\nproblem\nbye\n");
    assert_eq!(run(&stream, "true"), "");
    assert!(run(&stream, "no-such-program-here\n").contains("not found"));
    assert!(!run(&stream, "if\n").is_empty(), "the shell's own complaints are part of it");
    assert_eq!(run(&stream, "cat\n"), "", "there is nothing to read");
    stream.write_all(b"sleep 0.2; echo 1\necho 2\necho 3").unwrap();
    assert_eq!([answer(&stream), answer(&stream), answer(&stream)], [b"1\n", b"2\n", b"3\n"]);
    stream.write_all(b"printf '\xff\xfe' | od -An -tx1").unwrap();
    assert_eq!(answer(&stream), b" ff fe\n");
    for byte in "echo slowly\n".bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(answer(&stream), b"slowly\n");
}

#[test]
fn long_output_comes_whole_and_endless_output_up_to_the_limit() {
    let server = plain();
    let stream = connect(&server, "plain-exec");
    let numbers = run(&stream, "seq 1 300000");
    assert!(numbers.lines().map(|line| line.parse::<u32>().unwrap()).eq(1..=300_000));
    let endless = run(&stream, "yes");
    assert!(endless == "y\n".repeat(8 << 20));
    assert_eq!(run(&stream, "echo on"), "on\n");
    let long = "x".repeat(65_537);
    assert!(run(&stream, &format!(": {long}\n")).contains("longer than 65,536 bytes"));
    assert_eq!(run(&stream, "echo on"), "on\n");
}

#[test]
fn at_the_end_of_input_the_running_command_is_still_answered() {
    let server = plain();
    let mut stream = connect(&server, "plain-exec");
    stream.write_all(b"sleep 0.2; echo done").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&stream), b"done\n");
    expect_end(&stream);
}

#[test]
fn who_is_left_behind_holds_no_answer_up_for_long() {
    let server = plain();
    let stream = connect(&server, "plain-exec");
    assert_eq!(run(&stream, "sleep 5 & echo x"), "x\n");
}

#[test]
fn a_command_ends_with_the_connection_that_breaks() {
    let server = plain();
    let mut stream = connect(&server, "plain-exec");
    stream.write_all(b"sleep 987").unwrap();
    wait_for("the command to run", || (server.stats()["jobs"] == 1).then_some(()));
    // A close without lingering resets the connection (socket(7)).
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    wait_for("the command to be gone", || (server.stats()["jobs"] == 0).then_some(()));
}

fn put(mut stream: &TcpStream, name: &str, content: &[u8]) {
    let header = json!({"cmd": "put", "filename": name, "filesize": content.len()});
    stream.write_all(&common::frame(header, content)).unwrap();
}

fn get(mut stream: &TcpStream, name: &str) -> Option<Vec<u8>> {
    stream.write_all(&common::frame(json!({"cmd": "get", "filename": name}), b"")).unwrap();
    let header: Value = serde_json::from_slice(&answer(stream)).unwrap();
    if header == json!({"isfile": false}) {
        return None;
    }
    let length = header["filesize"].as_u64().unwrap();
    assert_eq!(header, json!({"filesize": length, "isfile": true}));
    Some(read(stream, length as usize))
}

#[test]
fn files_go_up_without_an_answer_and_come_down() {
    let server = plain();
    let stream = connect(&server, "plain-file");
    let (old, new) = (noise(1_000, 1), noise(5_000_000, 2));
    put(&stream, "a", &old);
    assert!(get(&stream, "a").unwrap() == old);
    put(&stream, "a", &new);
    put(&stream, "empty", b"");
    assert!(get(&stream, "a").unwrap() == new);
    assert_eq!(get(&stream, "empty").unwrap(), b"");
    assert_eq!(get(&stream, "none"), None);
    assert!(std::fs::read(server.root().join("a")).unwrap() == new);
    wait_for("the files to be closed", || (server.stats()["open_files"] == 0).then_some(()));
}

#[test]
fn a_refused_put_is_skipped_and_an_incomplete_one_never_published() {
    let server = plain();
    std::fs::create_dir(server.root().join("dir")).unwrap();
    let stream = connect(&server, "plain-file");
    for name in ["../a", "/tmp/a", "", ".", "dir", "no/dir/a", "a\0b", ".reactord-x"] {
        put(&stream, name, &noise(100_000, 3));
        assert_eq!(get(&stream, name), None, "{name}");
    }
    put(&stream, "dir/ok", b"kept");
    let whole = common::frame(json!({"cmd": "put", "filename": "dir/ok", "filesize": 100}), &[1; 99]);
    (&stream).write_all(&whole).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect_end(&stream);
    let names = |dir: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(get(&connect(&server, "plain-file"), "dir/ok").unwrap(), b"kept");
    assert_eq!(names(&server.root().join("dir")), ["ok"]);
    // The server's own list of what can be resumed is there, if anything.
    assert!(names(&server.root()).iter().all(|name| name == "dir" || name == ".reactord-parts"));
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let server = plain();
    for bad in [
        (-1i32).to_le_bytes().to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        common::raw_frame(b"{", b""),
        common::frame(json!({"cmd": "list", "filename": "a"}), b""),
        common::frame(json!({"cmd": "put", "filename": "a", "filesize": -1}), b""),
    ] {
        let mut stream = connect(&server, "plain-file");
        stream.write_all(&bad).unwrap();
        expect_end(&stream);
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_the_connection_short() {
    let server = plain();
    let path = write_file(&server.root(), "big", &vec![7; 64 << 20]);
    let mut stream = connect(&server, "plain-file");
    stream.write_all(&common::frame(json!({"cmd": "get", "filename": "big"}), b"")).unwrap();
    answer(&stream);
    // Not all of it fits into the sockets' buffers.
    std::fs::File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.len() < 64 << 20 && !got.contains(&0));
}

#[test]
fn a_server_that_stops_ends_its_plain_clients() {
    let mut server = plain();
    let streams = ["plain-chat", "plain-exec", "plain-file"].map(|name| connect(&server, name));
    wait_for("them to be connected", || (server.stats()["connections"] == 4).then_some(()));
    (&streams[1]).write_all(b"sleep 987\n").unwrap();
    wait_for("the command to run", || (server.stats()["jobs"] == 1).then_some(()));
    server.signal("TERM");
    read_text(&streams[0], "* the server is stopping\n");
    streams.iter().for_each(expect_end);
    assert_eq!(server.wait().code(), Some(0));
}

/// A Python program of this repository; `None`, said aloud, without Python.
fn python(program: &str) -> Option<Command> {
    if !has_program("python3") {
        skip("python3 is not installed");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(program)).stdin(Stdio::null());
    Some(command)
}

/// What a program that ends well prints.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_simple_chat_client_in_python_is_answered_by_others() {
    let Some(mut client) = python("tests/python/chat.py") else { return };
    let server = plain();
    let port = address(&server, "plain-chat").port().to_string();
    let mut child = client.args([&port, "hello", "how are you?"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut anna = in_the_lobby(&server, 0);
    for (line, reply) in [("hello", "hi"), ("how are you?", "fine")] {
        assert_eq!(heard(&mut anna), line);
        anna.send(json!({"cmd": "say", "room": "lobby"}), reply.as_bytes());
    }
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(printed, "anna: hi\nanna: fine\n");
}

#[test]
fn a_simple_command_client_in_python_gets_each_output_with_one_recv() {
    let Some(mut client) = python("tests/python/command.py") else { return };
    let server = plain();
    let port = address(&server, "plain-exec").port().to_string();
    let printed = output(client.args([&port, "echo one; echo two >&2", "true", "seq 1 2000", "echo end"]));
    let numbers: String = (1..=2_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(printed, format!("8 one\ntwo\n0 {} {numbers}4 end\n", numbers.len()));
}

#[test]
fn a_simple_file_client_in_python_sends_and_at_once_asks_again() {
    let Some(mut client) = python("tests/python/files.py") else { return };
    let server = plain();
    let port = address(&server, "plain-file").port().to_string();
    let content = noise(300_001, 5);
    let path = write_file(server.home.path(), "report.bin", &content);
    let copy = server.home.path().join("copy.bin");
    assert_eq!(output(client.arg(port).arg(path).arg(&copy)), "{\"isfile\": false}\n");
    assert!(std::fs::read(copy).unwrap() == content);
    assert!(std::fs::read(server.root().join("report.bin")).unwrap() == content);
}

#[test]
fn the_python_example_speaks_the_framed_protocol() {
    let Some(_) = python("") else { return };
    let server = Server::start();
    let call = |args: &[&str]| {
        let mut command = python("examples/reactord_client.py").unwrap();
        let port = server.address.port().to_string();
        command.args(["127.0.0.1", &port]).arg(server.token_file()).args(args).output().unwrap()
    };
    let ran = call(&["exec", "echo out; echo err >&2; exit 3"]);
    assert_eq!((&ran.stdout[..], &ran.stderr[..], ran.status.code()), (&b"out\n"[..], &b"err\n"[..], Some(3)));
    let content = noise(600_000, 6);
    let path = write_file(server.home.path(), "up", &content);
    let copy = server.home.path().join("down");
    let stored = call(&["put", path.to_str().unwrap(), "a"]);
    assert_eq!(String::from_utf8(stored.stdout).unwrap().trim(), blake3::hash(&content).to_hex().as_str());
    assert!(call(&["get", "a", copy.to_str().unwrap()]).status.success());
    assert!(std::fs::read(copy).unwrap() == content);
    let mut anna = in_the_lobby(&server, 0);
    assert!(call(&["chat", "lobby", "hello"]).status.success());
    assert_eq!(heard(&mut anna), "hello");
    let refused = call(&["get", "none", "/dev/null"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.starts_with(b"not_found: "), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[path = "../examples/sticky.rs"]
mod sticky;

#[test]
fn the_page_about_framing_shows_what_its_example_prints() {
    let mut printed = Vec::new();
    sticky::show(&mut printed).unwrap();
    let page = include_str!("../docs/FRAMING.md");
    let printed = String::from_utf8(printed).unwrap();
    assert!(page.contains(&format!("```text\n{printed}```\n")), "{printed}");
}
