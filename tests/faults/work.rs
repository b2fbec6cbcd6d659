//! Real work over a connection that may fail under it, every answer checked,
//! and what must be as it was when the work is over.

use crate::common::{Client, Frame, Server, noise, unique, wait_for};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a piece of work ended, where it was not done.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server refused it, with that code.
    Refused(String),
    /// The connection ended.
    Ended,
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Sends frames; a connection that is gone has ended.
pub fn send(client: &mut Client, mut header: Value, body: &[u8]) -> Result<()> {
    if !body.is_empty() {
        header["size"] = body.len().into();
    }
    client.stream.write_all(&crate::common::frame(header, body)).map_err(|_| Failure::Ended)
}

/// The next frame. A fatal error is the end.
pub fn receive(client: &mut Client) -> Result<Frame> {
    match client.next_frame() {
        Ok(Some((header, _))) if header["event"] == "error" => Err(Failure::Ended),
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(Failure::Ended),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("neither an answer nor an end came"),
        Err(_) => Err(Failure::Ended),
    }
}

/// Ok for a positive answer, with a code and a message for any other.
fn answered(header: Value) -> Result<Value> {
    if header["ok"] == true {
        return Ok(header);
    }
    assert!(!header["message"].as_str().unwrap().is_empty(), "{header}");
    Err(Failure::Refused(header["error"].as_str().unwrap().to_owned()))
}

/// An echo of `length` bytes.
pub fn echo(client: &mut Client, length: usize) -> Result<()> {
    let (id, body) = (unique(), noise(length, unique()));
    send(client, json!({"cmd": "echo", "id": id}), &body)?;
    let (header, got) = receive(client)?;
    assert_eq!((&header["re"], &header["id"]), (&json!("echo"), &json!(id)), "{header}");
    assert!(got == body, "an echo differs");
    Ok(())
}

/// Uploads a file, whatever was there before.
pub fn put(client: &mut Client, path: &str, content: &[u8]) -> Result<()> {
    put_with(client, json!({"path": path, "exists": "replace"}), content)
}

/// An upload with other fields than the usual ones.
pub fn put_with(client: &mut Client, fields: Value, content: &[u8]) -> Result<()> {
    let id = unique();
    let mut request = json!({"cmd": "put", "id": id, "length": content.len()});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    send(client, request, b"")?;
    for piece in content.chunks(256 << 10) {
        send(client, json!({"cmd": "data", "id": id}), piece)?;
    }
    send(client, json!({"cmd": "end", "id": id}), b"")?;
    let mut outcome = Ok(());
    loop {
        let (header, _) = receive(client)?;
        assert_eq!(header["id"], id, "{header}");
        let last = header["re"] == "end";
        if last && header["ok"] == true {
            assert_eq!(header["blake3"], blake3::hash(content).to_hex().as_str(), "{header}");
        }
        outcome = outcome.and(answered(header).map(drop));
        if last {
            return outcome;
        }
    }
}

/// Downloads a file.
pub fn get(client: &mut Client, path: &str) -> Result<Vec<u8>> {
    let id = unique();
    send(client, json!({"cmd": "get", "id": id, "path": path}), b"")?;
    let answer = answered(receive(client)?.0)?;
    let mut content = Vec::new();
    loop {
        let (header, body) = receive(client)?;
        assert_eq!(header["id"], id, "{header}");
        if header["event"] == "end" {
            answered(header)?;
            assert_eq!(answer["length"].as_u64(), Some(content.len() as u64));
            return Ok(content);
        }
        content.extend(body);
    }
}

/// A request whose answer is one frame.
pub fn ask(client: &mut Client, mut request: Value) -> Result<Value> {
    let id = unique();
    request["id"] = id.into();
    send(client, request, b"")?;
    let (header, _) = receive(client)?;
    assert_eq!(header["id"], id, "{header}");
    answered(header)
}

/// Runs a text and returns what it wrote to its output.
pub fn run(client: &mut Client, text: &str, fields: Value) -> Result<Vec<u8>> {
    let id = unique();
    let mut request = json!({"cmd": "exec", "id": id, "shell": text});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    send(client, request, b"")?;
    answered(receive(client)?.0)?;
    let mut output = Vec::new();
    loop {
        let (header, body) = receive(client)?;
        assert_eq!(header["id"], id, "{header}");
        if header["event"] == "exit" {
            assert_eq!(header["code"], 0, "{header}");
            return Ok(output);
        }
        output.extend(body);
    }
}

/// Everything once, on a server that has no fault any more.
pub fn everything(server: &Server) {
    let mut client = server.client(&format!("check-{}", unique()));
    let path = format!("check-{}", unique());
    let content = noise(300_000, unique());
    echo(&mut client, 100_000).unwrap();
    put(&mut client, &path, &content).unwrap();
    assert!(get(&mut client, &path).unwrap() == content);
    assert_eq!(run(&mut client, "echo fine", json!({})).unwrap(), b"fine\n");
    ask(&mut client, json!({"cmd": "remove", "path": path})).unwrap();
}

/// A client that asks again and again, and what its slowest answer took.
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Neighbour {
    pub fn start(server: &Server) -> Neighbour {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut client) = (Arc::clone(&stop), server.client(&format!("neighbour-{}", unique())));
        let thread = std::thread::spawn(move || {
            let (mut pings, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                client.ping();
                slowest = slowest.max(asked.elapsed());
                pings += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (pings, slowest)
        });
        Neighbour { stop, thread }
    }

    /// What the slowest of its round trips took.
    pub fn slowest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let (pings, slowest) = self.thread.join().unwrap();
        assert!(pings > 0);
        slowest
    }
}

/// What a server holds.
#[derive(Debug)]
pub struct Holdings {
    descriptors: usize,
}

impl Holdings {
    /// What it holds after a first run of everything, which starts what is
    /// started only once.
    pub fn of(server: &Server) -> Holdings {
        everything(server);
        settled(server);
        Holdings { descriptors: server.descriptors() }
    }

    /// Waits until the server holds what it held, and nothing else.
    pub fn come_back(&self, server: &Server) {
        settled(server);
        wait_for("every descriptor to be closed", || (server.descriptors() <= self.descriptors).then_some(()));
        wait_for("unfinished uploads to be removed", || temporaries(server).is_empty().then_some(()));
        let log = server.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Waits until nobody but whoever asks is connected and no command is left.
fn settled(server: &Server) {
    wait_for("every connection and command to be given back", || {
        let stats = server.stats();
        (stats["connections"] == 1 && stats["jobs"] == 0 && stats["open_files"] == 0).then_some(())
    });
    let pid = server.pid();
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    // The warden is one.
    wait_for("every child to be reaped", || (children().split_whitespace().count() <= 1).then_some(()));
    // The connection that asked for the counters is the last to go.
    let mut same = 0;
    let mut before = server.descriptors();
    wait_for("the last connection to be closed", || {
        std::thread::sleep(Duration::from_millis(10));
        let now = server.descriptors();
        same = if now == before { same + 1 } else { 0 };
        before = now;
        (same == 5).then_some(())
    });
}

/// The hidden files of uploads that nobody will go on with, anywhere below the root.
pub fn temporaries(server: &Server) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![server.root()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(".reactord-tmp-") {
                found.push(entry.path());
            }
        }
    }
    found
}
