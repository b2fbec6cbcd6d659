//! Thirty clients that send what comes to their minds: random bytes, valid
//! frames with a few bytes changed, valid commands in any order, and sudden
//! ends. The server must neither fall over nor keep anything of it.

use crate::common::{Server, frame, noise};
use crate::scale;
use crate::work::{Holdings, Neighbour};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 30;

/// Texts that want to become something else on their way into a log or a path.
const TEXTS: [&str; 12] = [
    "",
    "a",
    "room",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "\u{1b}[2J\r\nroot: all is well",
    "a\0b",
    "\u{202e}evil",
    "d/f",
    "ＡＮＮＡ",
];

fn text(random: &mut fastrand::Rng) -> Value {
    match random.u8(..12) {
        0 => "x".repeat(random.usize(..5_000)).into(),
        1 => Value::Null,
        2 => random.u64(..).into(),
        _ => TEXTS[random.usize(..TEXTS.len())].into(),
    }
}

fn number(random: &mut fastrand::Rng) -> Value {
    match random.u8(..10) {
        0 => json!(-1),
        1 => json!(u64::MAX),
        2 => json!(1.5),
        3 => json!(1_u64 << 53),
        _ => random.u64(..200_000).into(),
    }
}

/// A frame as the protocol has it, with values from everywhere.
fn command(random: &mut fastrand::Rng) -> Vec<u8> {
    const COMMANDS: [&str; 27] = [
        "hello", "echo", "stats", "join", "say", "tell", "leave", "nick", "rooms", "who", "history", "exec", "input",
        "signal", "resize", "jobs", "kill", "get", "put", "data", "end", "cancel", "list", "stat", "hash", "mkdir",
        "rename",
    ];
    let cmd = COMMANDS[random.usize(..COMMANDS.len())];
    let mut header = json!({"cmd": cmd, "id": random.u64(..12)});
    for field in ["path", "to", "room", "nick", "resume", "after", "cwd", "signal", "exists"] {
        if random.u8(..3) == 0 {
            header[field] = text(random);
        }
    }
    for field in ["length", "offset", "limit", "history", "rows", "cols", "timeout_ms", "job", "mode"] {
        if random.u8(..3) == 0 {
            header[field] = number(random);
        }
    }
    for (field, value) in
        [("eof", json!(true)), ("parents", json!(true)), ("stdin", json!(true)), ("hangup", json!("finish"))]
    {
        if random.u8(..4) == 0 {
            header[field] = value;
        }
    }
    if cmd == "exec" {
        let shells =
            ["echo x", "cat", "seq 1 200000", "sleep 3", "exit 3", "trap '' TERM; sleep 1", "head -c 100000 /dev/zero"];
        header["shell"] = shells[random.usize(..shells.len())].into();
        header.as_object_mut().unwrap().remove("cwd");
        if random.bool() {
            header["pty"] = json!({"rows": 24, "cols": 80, "term": "vt100"});
        }
    }
    if matches!(cmd, "put" | "get" | "stat" | "list" | "hash" | "mkdir" | "rename") && random.bool() {
        header["path"] = format!("f{}", random.u8(..4)).into();
    }
    let body = match random.u8(..4) {
        0 => noise(random.usize(..20_000), random.u64(..)),
        1 => b"hello".to_vec(),
        _ => Vec::new(),
    };
    if !body.is_empty() || random.bool() {
        header["size"] = body.len().into();
    }
    frame(header, &body)
}

/// One connection's worth of abuse.
fn abuse(server: &Server, random: &mut fastrand::Rng) {
    let Ok(mut stream) = TcpStream::connect(server.address) else { return };
    let mut reader = stream.try_clone().unwrap();
    let reads = random.u8(..4) > 0;
    let drain = std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while reads && reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut bytes = Vec::new();
    if random.u8(..5) > 0 {
        bytes = frame(json!({"cmd": "hello", "version": 1, "token": server.token}), b"");
    }
    for _ in 0..random.usize(1..40) {
        match random.u8(..20) {
            0 => bytes.extend(noise(random.usize(..300), random.u64(..))),
            1 | 2 => {
                let mut frame = command(random);
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..frame.len());
                    frame[at] = random.u8(..);
                }
                bytes.extend(frame);
            }
            3 => bytes.truncate(random.usize(..=bytes.len())),
            _ => bytes.extend(command(random)),
        }
        // A server that has ended the connection takes no more.
        if random.u8(..3) == 0 && stream.write_all(&std::mem::take(&mut bytes)).is_err() {
            break;
        }
    }
    match random.u8(..3) {
        0 => drop(stream.shutdown(Shutdown::Write)),
        1 => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        _ => {}
    }
    if random.u8(..4) == 0 {
        std::thread::sleep(Duration::from_millis(random.u64(..50)));
    }
    // It may be gone.
    let _ = stream.shutdown(Shutdown::Both);
    drain.join().unwrap();
}

#[test]
fn thirty_who_abuse_it_leave_no_trace() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let memory = server.memory();
    let neighbour = Neighbour::start(&server);
    let stop = Instant::now() + Duration::from_secs(scale(3, 60));
    let rounds: usize = std::thread::scope(|scope| {
        let abusers: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut rounds = 0;
                    while Instant::now() < stop {
                        abuse(server, &mut random);
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        abusers.into_iter().map(|abuser| abuser.join().unwrap()).sum()
    });
    assert!(rounds > 100, "{rounds}");
    let slowest = neighbour.slowest();
    eprintln!("{rounds} connections of abuse, the slowest echo took {slowest:?}; {}", server.stats());
    before.come_back(&server);
    assert!(server.memory() < memory + (64 << 20), "{memory} -> {}", server.memory());
    let stats = server.stats();
    assert_eq!((&stats["queued_bytes"], &stats["strangers"]), (&json!(0), &json!(0)), "{stats}");
    // A log is made of lines that the server wrote, and of nothing else.
    for line in server.log().lines() {
        assert!(line.starts_with("[20") && !line.chars().any(char::is_control), "{line:?}");
    }
}
