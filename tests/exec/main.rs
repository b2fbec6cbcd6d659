//! Commands on a real server: streams, ends, limits, and, in `groups`, what is
//! left behind when a connection or the server goes.

#[path = "../common/mod.rs"]
mod common;
mod groups;

use common::{Client, Options, Server, noise, wait_for};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What came of one command.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Value,
}

/// Starts a command and returns its process and its job.
fn start(client: &mut Client, request: Value) -> (u32, u64) {
    let answer = client.call(request);
    assert_eq!((&answer["re"], &answer["ok"]), (&json!("exec"), &json!(true)), "{answer}");
    (answer["pid"].as_u64().unwrap() as u32, answer["job"].as_u64().unwrap())
}

/// Receives until `count` commands have ended.
fn outcomes(client: &mut Client, count: usize) -> HashMap<u64, Outcome> {
    let mut outcomes: HashMap<u64, Outcome> = HashMap::new();
    let mut ended = 0;
    while ended < count {
        let (header, body) = client.receive();
        let outcome = outcomes.entry(header["id"].as_u64().unwrap()).or_default();
        match header["event"].as_str() {
            Some("stdout") => outcome.stdout.extend(body),
            Some("stderr") => outcome.stderr.extend(body),
            Some("exit") => {
                assert_eq!(outcome.exit, Value::Null, "a second exit");
                outcome.exit = header;
                ended += 1;
            }
            _ => assert_eq!((&header["re"], &header["ok"]), (&json!("exec"), &json!(true)), "{header}"),
        }
    }
    outcomes
}

fn outcome(client: &mut Client, id: u64) -> Outcome {
    outcomes(client, 1).remove(&id).unwrap()
}

/// Runs a text to its end under id 1.
fn run(client: &mut Client, text: &str) -> Outcome {
    client.send(json!({"cmd": "exec", "id": 1, "shell": text}), b"");
    outcome(client, 1)
}

/// Receives the first line of a command's output.
fn first_line(client: &mut Client) {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend(client.receive_until(|header| header["event"] == "stdout").1.1);
    }
}

#[test]
fn each_stream_each_status_and_the_input_are_right() {
    let server = Server::start();
    let mut client = server.client("a");
    let seen = run(&mut client, "echo out; echo err >&2; exit 3");
    assert_eq!((&seen.stdout[..], &seen.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(seen.exit, json!({"event": "exit", "id": 1, "code": 3}));
    assert_eq!(run(&mut client, "kill -USR1 $$").exit, json!({"event": "exit", "id": 1, "signal": "SIGUSR1"}));

    start(&mut client, json!({"cmd": "exec", "id": 1, "argv": ["cat"]}));
    let input = noise(5 << 20, 1);
    let (sent, mut stream) = (input.clone(), client.stream.try_clone().unwrap());
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        for piece in sent.chunks(1 << 20) {
            let header = json!({"cmd": "input", "id": 1, "size": piece.len()});
            stream.write_all(&common::frame(header, piece)).unwrap();
        }
        stream.write_all(&common::frame(json!({"cmd": "input", "id": 1, "eof": true}), b"")).unwrap();
    });
    let seen = outcome(&mut client, 1);
    writer.join().unwrap();
    assert!(seen.stdout == input && seen.exit["code"] == 0);
}

#[test]
fn a_terminal_gives_every_byte_and_follows_its_size() {
    let server = Server::start();
    let mut client = server.client("a");
    let pty = json!({"rows": 30, "cols": 90, "term": "vt100"});
    client.send(json!({"cmd": "exec", "id": 1, "argv": ["seq", "1", "1000000"], "pty": pty}), b"");
    let expected: String = (1..=1_000_000).map(|n| format!("{n}\r\n")).collect();
    assert!(outcome(&mut client, 1).stdout == expected.as_bytes());

    let text = "trap 'stty size; exit 0' WINCH; stty size; echo $TERM; read x; read y";
    start(&mut client, json!({"cmd": "exec", "id": 1, "shell": text, "pty": pty}));
    let mut seen = Vec::new();
    while seen != b"30 90\r\nvt100\r\n" {
        seen.extend(client.receive().1);
    }
    client.send(json!({"cmd": "resize", "id": 1, "rows": 40, "cols": 132}), b"");
    let seen = outcome(&mut client, 1);
    assert_eq!((&seen.stdout[..], &seen.exit["code"]), (&b"40 132\r\n"[..], &json!(0)));
}

#[test]
fn two_hundred_at_once_again_and_again_leave_nothing() {
    let server = Server::start();
    let mut client = server.client("a");
    run(&mut client, "true");
    let before = server.descriptors();
    for _ in 0..5 {
        for id in 0..200 {
            client.send(json!({"cmd": "exec", "id": id, "shell": format!("echo {id}; echo {id} >&2; exit {id}")}), b"");
        }
        for (id, outcome) in outcomes(&mut client, 200) {
            let line = format!("{id}\n").into_bytes();
            let exit = json!({"event": "exit", "id": id, "code": id});
            assert_eq!(outcome, Outcome { stdout: line.clone(), stderr: line, exit });
        }
    }
    wait_for("the descriptors to be given back", || (server.descriptors() <= before).then_some(()));
    let children = server.children();
    assert_eq!(children.len(), 1, "the warden is the only child: {children:?}");
    let jobs: Value = serde_json::from_slice(&{
        client.send(json!({"cmd": "jobs"}), b"");
        client.receive().1
    })
    .unwrap();
    assert_eq!(jobs, json!([]));
}

#[test]
fn a_grandchild_delays_the_end_by_half_a_second_whatever_else_runs() {
    let server = Server::start();
    let mut client = server.client("a");
    start(&mut client, json!({"cmd": "exec", "id": 9, "argv": ["yes"]}));
    client.send(json!({"cmd": "exec", "id": 1, "shell": "sleep 99 & echo $!"}), b"");
    let (_, (_, line)) = client.receive_until(|header| header["event"] == "stdout" && header["id"] == 1);
    let began = Instant::now();
    let (_, (exit, _)) = client.receive_until(|header| header["event"] == "exit");
    assert_eq!(exit, json!({"event": "exit", "id": 1, "code": 0}));
    assert!((400..1_500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let left_alone: u32 = String::from_utf8(line).unwrap().trim().parse().unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{left_alone}/comm")).unwrap().starts_with("sleep"));
    run(&mut server.client("b"), &format!("kill {left_alone}"));
}

#[test]
fn a_time_out_says_so() {
    let server = Server::start();
    let mut client = server.client("a");
    client.send(json!({"cmd": "exec", "id": 1, "argv": ["sleep", "99"], "timeout_ms": 50}), b"");
    assert_eq!(
        outcome(&mut client, 1).exit,
        json!({"event": "exit", "id": 1, "signal": "SIGTERM", "reason": "timeout"})
    );
}

#[test]
fn the_end_of_input_ends_commands_unless_they_are_to_finish() {
    let server = Server::start();
    let mut client = server.client("a");
    client.send(json!({"cmd": "exec", "id": 1, "shell": "cat; echo done", "hangup": "finish"}), b"");
    client.send(json!({"cmd": "exec", "id": 2, "argv": ["sleep", "99"]}), b"");
    client.send(json!({"cmd": "input", "id": 1}), b"some\n");
    client.finish();
    let seen = outcomes(&mut client, 2);
    assert_eq!((&seen[&1].stdout[..], &seen[&1].exit["code"]), (&b"some\ndone\n"[..], &json!(0)));
    assert_eq!(seen[&2].exit, json!({"event": "exit", "id": 2, "signal": "SIGTERM", "reason": "killed"}));
    assert!(client.try_receive().is_none());
}

#[test]
fn a_reader_that_stands_still_costs_neither_memory_nor_time() {
    let server = Server::start();
    let mut idle = server.client("a");
    let mut other = server.client("b");
    run(&mut other, "true");
    let before = server.memory();
    for id in 0..8 {
        idle.send(json!({"cmd": "exec", "id": id, "argv": ["yes"]}), b"");
    }
    // Whatever fits in between is filled when the server rests.
    server.rest();
    let (cpu, began) = (server.cpu_time(), Instant::now());
    while began.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        other.ping();
        assert!(asked.elapsed() < Duration::from_millis(500));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(server.cpu_time() - cpu < Duration::from_millis(50));
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    // It wakes: more comes than was ever queued.
    let mut seen = 0;
    while seen < 32 << 20 {
        seen += idle.receive().1.len();
    }
}

#[test]
fn a_command_that_does_not_read_stops_its_own_connection_alone() {
    let server = Server::start();
    let mut client = server.client("a");
    let (_, job) = start(&mut client, json!({"cmd": "exec", "id": 1, "argv": ["sleep", "99"]}));
    let before = server.memory();
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        for _ in 0..64 {
            let header = json!({"cmd": "input", "id": 1, "size": 1 << 20});
            // The command is gone before all of it was taken.
            if stream.write_all(&common::frame(header, &[7; 1 << 20])).is_err() {
                break;
            }
        }
    });
    let mut other = server.client("b");
    server.rest();
    assert!(!writer.is_finished());
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    assert_eq!(other.call(json!({"cmd": "kill", "job": job, "signal": "KILL"}))["ok"], true);
    let (_, (exit, _)) = client.receive_until(|header| header["event"] == "exit");
    assert_eq!(exit, json!({"event": "exit", "id": 1, "signal": "SIGKILL"}));
    writer.join().unwrap();
    let (_, (late, _)) = client.receive_until(|header| header["re"] == "input");
    assert_eq!(late["error"], "not_found");
}

#[test]
fn a_thousand_refused_commands_at_once_hold_up_nobody_else() {
    let server = Server::start();
    let (mut busy, mut other) = (server.client("busy"), server.client("other"));
    let count = 900;
    let batch: Vec<u8> = (0..count)
        .flat_map(|id| common::frame(json!({"cmd": "exec", "id": id, "argv": ["true"], "cwd": "/no/such"}), b""))
        .collect();
    let answered = std::thread::spawn(move || {
        busy.send_raw(&batch);
        for id in 0..count {
            let (header, _) = busy.receive();
            assert_eq!((&header["id"], &header["error"]), (&json!(id), &json!("not_directory")));
        }
    });
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while !answered.is_finished() {
        let asked = Instant::now();
        other.ping();
        longest = longest.max(asked.elapsed());
    }
    answered.join().unwrap();
    assert!(longest * 4 < began.elapsed(), "a ping took {longest:?} of {:?}", began.elapsed());
}

#[test]
fn commands_get_nothing_of_what_the_server_was_started_with() {
    let wrapper = ["sh", "-c", "trap '' HUP INT QUIT CHLD; ulimit -Sn 321; exec 9</dev/null; exec \"$@\"", "sh"];
    let server = Options::new().wrapper(&wrapper).env("SECRET", "x").start();
    let mut client = server.client("a");
    let seen = run(&mut client, "grep SigIgn /proc/self/status; ulimit -Sn; ls /proc/self/fd; env | grep -c SECRET");
    let said = String::from_utf8(seen.stdout).unwrap();
    let mut lines = said.lines();
    let ignored = u64::from_str_radix(lines.next().unwrap().strip_prefix("SigIgn:\t").unwrap(), 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0, "{said}");
    // ls itself has the directory open.
    assert_eq!(lines.collect::<Vec<_>>(), ["321", "0", "1", "2", "3", "0"]);
}

#[test]
fn there_is_a_limit_and_a_place_that_becomes_free() {
    let server = Options::new().args(&["--max-jobs", "2"]).start();
    let mut client = server.client("a");
    let (_, job) = start(&mut client, json!({"cmd": "exec", "id": 1, "argv": ["sleep", "99"]}));
    start(&mut client, json!({"cmd": "exec", "id": 2, "argv": ["sleep", "99"]}));
    let mut other = server.client("b");
    let refused = other.call(json!({"cmd": "exec", "id": 1, "argv": ["true"]}));
    assert_eq!(refused["error"], "limit");
    assert_eq!(other.call(json!({"cmd": "kill", "job": job}))["ok"], true);
    client.receive_until(|header| header["event"] == "exit");
    assert_eq!(run(&mut other, "true").exit["code"], 0);
}

#[test]
fn starts_ends_and_refusals_are_logged_and_input_never() {
    let server = Server::start();
    let mut client = server.client("ann");
    start(&mut client, json!({"cmd": "exec", "id": 1, "argv": ["sh", "-c", "read x; exit 4", "\u{1b}[31m\n"]}));
    client.send(json!({"cmd": "input", "id": 1}), b"hunter2\n");
    assert_eq!(outcome(&mut client, 1).exit["code"], 4);
    assert_eq!(client.call(json!({"cmd": "exec", "id": 2, "argv": ["/nonexistent"]}))["error"], "not_found");
    let log = wait_for("the log", || Some(server.log()).filter(|log| log.contains("refused")));
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
    let peer = client.stream.local_addr().unwrap().to_string();
    for expected in [&peer, "ann", r#""sh" "-c" "read x; exit 4" "\u{1b}[31m\n""#] {
        assert!(line("is process").contains(expected), "{log}");
    }
    for expected in [&peer, "code 4", "8 bytes in", "0 bytes out"] {
        assert!(line(" after ").contains(expected), "{log}");
    }
    for expected in [&peer, "ann", r#""/nonexistent""#, "not_found"] {
        assert!(line("refused").contains(expected), "{log}");
    }
    assert!(!log.contains("hunter2") && !log.contains('\u{1b}'));
}
