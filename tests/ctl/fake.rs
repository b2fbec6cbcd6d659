//! A server that follows a script, and the client under test.

use byteorder::{LittleEndian, ReadBytesExt, WriteBytesExt};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// No step of a script takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// The token of every test.
pub(crate) const TOKEN: &str = "5ecret5ecret";

/// A server in a thread; a failed script fails the test.
pub(crate) struct Fake {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Serves one connection, which is greeted before the script begins.
    pub(crate) fn serve(script: impl FnOnce(&mut Peer) + Send + 'static) -> Fake {
        Fake::raw(move |listener| script(&mut Peer::accept_greeted(listener)))
    }

    /// Hands out the listener.
    pub(crate) fn raw(script: impl FnOnce(&TcpListener) + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Fake { address, thread: Some(std::thread::spawn(move || script(&listener))) }
    }

    /// `reactorctl` with `args`, pointed at this server and at nothing of the
    /// user's.
    pub(crate) fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
        command.args(args).env("REACTOR_HOST", self.address.to_string()).env("REACTOR_TOKEN", TOKEN);
        command.env_remove("REACTOR_TOKEN_FILE").env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs the client to its end.
    pub(crate) fn run(self, args: &[&str]) -> Ran {
        let command = self.ctl(args);
        self.finish(command)
    }

    /// Runs a prepared client, and then the script, to their ends.
    pub(crate) fn finish(mut self, mut command: Command) -> Ran {
        let ran = Ran::from(command.output().unwrap());
        self.join(&ran.stderr);
        ran
    }

    /// Waits for the script's end; `context` is shown where it failed.
    pub(crate) fn join(&mut self, context: &str) {
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok(), "the script failed; the client said: {context}");
    }
}

/// What a client left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: std::process::ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Ran {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { status: output.status, stdout: output.stdout, stderr }
    }
}

impl Ran {
    /// The exit status.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// The script's side of a connection.
pub(crate) struct Peer {
    stream: TcpStream,
}

impl Peer {
    pub(crate) fn accept(listener: &TcpListener) -> Peer {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer { stream }
    }

    pub(crate) fn accept_greeted(listener: &TcpListener) -> Peer {
        let mut peer = Peer::accept(listener);
        let (hello, _) = peer.expect("hello");
        assert_eq!((&hello["token"], &hello["version"]), (&json!(TOKEN), &json!(1)));
        let welcome = json!({"version": 1, "server": "fake/1", "nick": "guest-1", "services": ["exec", "file"],
            "max_header": 65536, "max_body": 1048576, "features": []});
        peer.answer(&hello, welcome, b"");
        peer
    }

    /// The next frame; `None` at the end of input.
    pub(crate) fn read(&mut self) -> Option<(Value, Vec<u8>)> {
        let length = match self.stream.read_i32::<LittleEndian>() {
            Ok(length) => length,
            // A client that died with unread frames resets the connection.
            Err(e) if matches!(e.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        let mut header = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut header).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        let mut body = vec![0; header["size"].as_u64().unwrap_or(0) as usize];
        self.stream.read_exact(&mut body).unwrap();
        Some((header, body))
    }

    /// The next frame, which is a `cmd`.
    pub(crate) fn expect(&mut self, cmd: &str) -> (Value, Vec<u8>) {
        let frame = self.read().unwrap_or_else(|| panic!("the client left before its {cmd}"));
        assert_eq!(frame.0["cmd"], cmd, "{}", frame.0);
        frame
    }

    /// Nothing more comes.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.read().map(|(header, _)| header), None);
    }

    pub(crate) fn send(&mut self, mut header: Value, body: &[u8]) {
        if !body.is_empty() {
            header["size"] = json!(body.len());
        }
        let header = header.to_string();
        let mut frame = Vec::new();
        frame.write_i32::<LittleEndian>(header.len() as i32).unwrap();
        frame.extend_from_slice(header.as_bytes());
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).unwrap();
    }

    /// What a web server would say.
    pub(crate) fn http(&mut self) {
        self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    }

    /// A positive answer with `fields`.
    pub(crate) fn answer(&mut self, request: &Value, mut fields: Value, body: &[u8]) {
        fields["re"] = request["cmd"].clone();
        fields["id"] = request["id"].clone();
        fields["ok"] = json!(true);
        self.send(fields, body);
    }

    /// A refusal.
    pub(crate) fn refuse(&mut self, request: &Value, code: &str, message: &str) {
        let (cmd, id) = (&request["cmd"], &request["id"]);
        self.send(json!({"re": cmd, "id": id, "ok": false, "error": code, "message": message}), b"");
    }

    /// Takes an `exec` and starts nothing; gives its id.
    pub(crate) fn start(&mut self) -> (Value, Value) {
        let (exec, _) = self.expect("exec");
        self.answer(&exec, json!({"pid": 42, "job": 7}), b"");
        (exec["id"].clone(), exec)
    }

    /// Takes a `get` and sends the whole of `content`.
    pub(crate) fn give(&mut self, content: &[u8]) -> Value {
        let (get, _) = self.expect("get");
        self.give_to(&get, content);
        get
    }

    /// Answers `get` with the whole of `content`.
    pub(crate) fn give_to(&mut self, get: &Value, content: &[u8]) {
        let length = content.len();
        self.answer(get, json!({"length": length, "total": length, "mtime_ms": 1000, "mode": 0o644}), b"");
        for chunk in content.chunks(262_144) {
            self.send(json!({"event": "data", "id": get["id"]}), chunk);
        }
        self.send(json!({"event": "end", "id": get["id"], "ok": true, "length": length}), b"");
    }
}

/// A child that is killed when the test ends before it.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> Running {
        Running(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn output(mut self) -> Ran {
        let mut stdout = Vec::new();
        let mut stderr = String::new();
        if let Some(mut pipe) = self.0.stdout.take() {
            pipe.read_to_end(&mut stdout).unwrap();
        }
        if let Some(mut pipe) = self.0.stderr.take() {
            pipe.read_to_string(&mut stderr).unwrap();
        }
        Ran { status: self.0.wait().unwrap(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
