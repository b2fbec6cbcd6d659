//! What the end-to-end tests share: a real server that ends with its test, and
//! a client that speaks frames and nothing more.

#![allow(dead_code, reason = "each test file uses its part of this")]

pub mod terminal;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The driver under test: `tests/blocking.rs` runs the suites of the other
/// files once more.
pub fn mode() -> &'static str {
    match env!("CARGO_CRATE_NAME") {
        "blocking" => "blocking",
        _ => "reactor",
    }
}

/// A server under test, with a home of its own.
pub struct Server {
    pub home: tempfile::TempDir,
    pub address: SocketAddr,
    pub token: String,
    /// Everything that the server printed before it was ready.
    pub announced: Vec<String>,
    child: Child,
}

/// How a server is started.
pub struct Options {
    port: u16,
    args: Vec<String>,
    home: Option<tempfile::TempDir>,
    wrapper: Vec<String>,
    env: Vec<(String, String)>,
}

impl Options {
    pub fn new() -> Self {
        Options { port: 0, args: Vec::new(), home: None, wrapper: Vec::new(), env: Vec::new() }
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    /// The port of an earlier server.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The home directory of an earlier server.
    pub fn home(mut self, home: tempfile::TempDir) -> Self {
        self.home = Some(home);
        self
    }

    /// A command that runs the server, such as `prlimit` or `strace` with its options.
    pub fn wrapper(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| word.to_string()).collect();
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|log| panic!("the server did not start: {log}"))
    }

    /// A server, or what it said where it did not start.
    pub fn try_start(self) -> Result<Server, String> {
        let home = self.home.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let mut words = self.wrapper;
        words.push(env!("CARGO_BIN_EXE_reactord").to_owned());
        if !self.args.iter().any(|arg| arg == "--mode") {
            words.extend(["--mode", mode()].map(str::to_owned));
        }
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["--port", &self.port.to_string()])
            .args(&self.args)
            .env("HOME", home.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("RUST_LOG")
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let mut announced = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            announced.push(line.unwrap());
            if announced.last().unwrap() == "reactord ready" {
                break;
            }
        }
        let Some(first) = announced.first() else {
            child.wait().unwrap();
            return Err(std::fs::read_to_string(home.path().join("log")).unwrap_or_default());
        };
        let address = first.strip_prefix("reactord listening on ").unwrap().parse().unwrap();
        let token_file = home.path().join(".local/state/reactord/token");
        let token = std::fs::read_to_string(token_file).unwrap_or_default().trim().to_owned();
        Ok(Server { home, address, token, announced, child })
    }
}

impl Server {
    /// A server with default options.
    pub fn start() -> Server {
        Options::new().start()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The served directory.
    pub fn root(&self) -> PathBuf {
        self.home.path().join(".local/state/reactord/files")
    }

    pub fn token_file(&self) -> PathBuf {
        self.home.path().join(".local/state/reactord/token")
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    /// A greeted client.
    pub fn client(&self, nick: &str) -> Client {
        let mut client = Client::connect(self.address);
        let hello = client.call(json!({"cmd": "hello", "version": 1, "token": self.token, "nick": nick}));
        assert_eq!(hello["ok"], true, "{hello}");
        client
    }

    /// A client that has not greeted.
    pub fn stranger(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the server has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server to end", || self.child.try_wait().unwrap())
    }

    /// Asks the server to stop and gives its home back.
    pub fn stop(mut self) -> tempfile::TempDir {
        self.signal("TERM");
        assert!(self.wait().success());
        std::mem::replace(&mut self.home, tempfile::tempdir().unwrap())
    }

    /// Kills the server and gives its home back.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.home, tempfile::tempdir().unwrap())
    }

    /// The processes that its threads have started and that are not reaped.
    pub fn children(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // A thread may end while this looks.
        let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
        let lists: Vec<String> = tasks.filter_map(|task| children(task.unwrap())).collect();
        lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Processor time used so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // utime and stime, in ticks of a hundredth of a second (proc(5)); the
        // state letter before them is no number.
        Duration::from_millis((fields[10] + fields[11]) * 10)
    }

    /// Waits until the server has done nothing for a while.
    pub fn rest(&self) {
        wait_for("the server to rest", || {
            let before = self.cpu_time();
            std::thread::sleep(Duration::from_millis(200));
            (self.cpu_time() == before).then_some(())
        });
    }

    /// How many descriptors the server has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn stats(&self) -> Value {
        let mut client = self.client(&format!("stats-{}", unique()));
        client.send(json!({"cmd": "stats"}), b"");
        serde_json::from_slice(&client.receive().1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that no other test of this process has.
pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Tries until `attempt` gives something.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A frame as bytes.
pub fn frame(header: Value, body: &[u8]) -> Vec<u8> {
    raw_frame(header.to_string().as_bytes(), body)
}

/// A frame whose header need not be JSON.
pub fn raw_frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    [&(header.len() as i32).to_le_bytes()[..], header, body].concat()
}

/// A header and its body.
pub type Frame = (Value, Vec<u8>);

/// A client that speaks frames.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::with_capacity(256 << 10, stream.try_clone().unwrap());
        Client { stream, reader }
    }

    pub fn send(&mut self, mut header: Value, body: &[u8]) {
        if !body.is_empty() {
            header["size"] = body.len().into();
        }
        self.send_raw(&frame(header, body));
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame, or `None` at a clean end.
    pub fn try_receive(&mut self) -> Option<Frame> {
        self.next_frame().unwrap()
    }

    /// As [`Client::try_receive`], for a connection that may break.
    pub fn next_frame(&mut self) -> std::io::Result<Option<Frame>> {
        let mut length = [0; 4];
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.reader.read_exact(&mut length)?;
        let mut header = vec![0; i32::from_le_bytes(length) as usize];
        self.reader.read_exact(&mut header)?;
        let header: Value = serde_json::from_slice(&header)?;
        let mut body = vec![0; header["size"].as_u64().unwrap_or(0) as usize];
        self.reader.read_exact(&mut body)?;
        Ok(Some((header, body)))
    }

    pub fn receive(&mut self) -> Frame {
        self.try_receive().expect("the server ended the connection")
    }

    /// The next frame that is an answer with this id, and what came before it.
    pub fn receive_until(&mut self, done: impl Fn(&Value) -> bool) -> (Vec<Frame>, Frame) {
        let mut before = Vec::new();
        loop {
            let (header, body) = self.receive();
            if done(&header) {
                return (before, (header, body));
            }
            before.push((header, body));
        }
    }

    /// Sends a request without a body and returns the header of the next frame.
    pub fn call(&mut self, header: Value) -> Value {
        self.send(header, b"");
        self.receive().0
    }

    /// Shows that the connection still serves.
    pub fn ping(&mut self) {
        let id = unique();
        self.send(json!({"cmd": "echo", "id": id}), b"ping");
        let (_, (header, body)) = self.receive_until(|header| header["re"] == "echo");
        assert_eq!((header["id"].as_u64(), &body[..]), (Some(id), &b"ping"[..]), "{header}");
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Asserts that this error is the last frame and a clean end follows.
    pub fn expect_fatal(&mut self, code: &str) -> String {
        let (header, _) = self.receive();
        assert_eq!((&header["event"], &header["error"]), (&json!("error"), &json!(code)), "{header}");
        assert!(self.try_receive().is_none());
        header["message"].as_str().unwrap().to_owned()
    }
}

/// Bytes that no compression or accident makes equal.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

/// Says why a test did nothing, where its tool is absent.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Whether a program is installed.
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// A directory of the test that ends with it, and a path in it.
pub fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}
