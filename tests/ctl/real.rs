//! `reactorctl` and `reactord` together: what a person does with the two.

use crate::fake::{Ran, Running};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A server with an empty state directory; it ends with the test.
pub(crate) struct Server {
    pub(crate) running: Running,
    host: String,
    dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let (running, host) = Server::spawn(&dir, "0");
        Server { running, host, dir }
    }

    /// Kills the server outright and starts it again on the same port.
    pub(crate) fn crash_and_restart(&mut self) {
        self.running.0.kill().unwrap();
        self.running.0.wait().unwrap();
        let port = self.host.rsplit(':').next().unwrap();
        (self.running, self.host) = Server::spawn(&self.dir, port);
    }

    fn spawn(dir: &TempDir, port: &str) -> (Running, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reactord"));
        command.args(["--port", port]).env("XDG_STATE_HOME", dir.path().join("state")).env("RUST_LOG", "warn");
        let mut running = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let mut host = None;
        for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "reactord ready" {
                break;
            }
            host = host.or(line.strip_prefix("reactord listening on ").map(str::to_owned));
        }
        (running, host.expect("the server said where it listens"))
    }

    /// `reactorctl`, which has to find the token by itself.
    pub(crate) fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
        command.args(args).env("REACTOR_HOST", &self.host).env("XDG_STATE_HOME", self.dir.path().join("state"));
        command.env_remove("REACTOR_TOKEN").env_remove("REACTOR_TOKEN_FILE").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.ctl(args).output().unwrap())
    }

    /// Runs what has to succeed; gives its standard output.
    pub(crate) fn does(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code(), Some(0), "{args:?}: {}", ran.stderr);
        ran.text().to_owned()
    }

    pub(crate) fn local(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Bytes without a pattern that a shift would keep.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut out);
    out
}

#[test]
fn the_token_is_found_and_a_wrong_one_is_refused() {
    let server = Server::start();
    assert!(server.does(&["ping", "-c", "2", "-i", "0"]).contains("2 round trips"));
    let stats: Value = serde_json::from_str(&server.does(&["--json", "stats"])).unwrap();
    assert!(stats["accepted"].as_u64() >= Some(2), "{stats}");
    fs::write(server.local("other"), "0".repeat(64)).unwrap();
    let ran = server.run(&["--token-file", "other", "ping"]);
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("the token came from --token-file other"), "{}", ran.stderr);
}

#[test]
fn a_command_is_as_if_it_ran_here() {
    let server = Server::start();
    let ran = server.run(&["exec", "--sh", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ran.code(), ran.text(), ran.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(server.run(&["exec", "--sh", "kill -KILL $$"]).code(), Some(137));
    assert_eq!(server.run(&["exec", "--", "/no/such/program"]).code(), Some(1));
    assert_eq!(server.does(&["exec", "--cwd", "/", "--env", "A=b", "--sh", "pwd; echo $A"]), "/\nb\n");
}

#[test]
fn five_mebibytes_go_through_cat_unchanged() {
    let server = Server::start();
    let content = noise(5 << 20);
    let mut child = Running::spawn(server.ctl(&["exec", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut stdin = child.0.stdin.take().unwrap();
    let sent = content.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let ran = child.output();
    writer.join().unwrap().unwrap();
    assert_eq!(ran.code(), Some(0));
    assert!(ran.stdout == content);
}

#[test]
fn another_clients_command_can_be_ended() {
    let server = Server::start();
    let mut child = Running::spawn(server.ctl(&["exec", "--sh", "echo up; sleep 60"]).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let job: Value = serde_json::from_str(&server.does(&["--json", "jobs"])).unwrap();
    assert_eq!(job["shell"], "echo up; sleep 60");
    server.does(&["kill", &job["job"].to_string()]);
    assert_eq!(child.output().code(), Some(143));
}

#[test]
fn a_server_that_stops_ends_its_commands_and_says_so() {
    let server = Server::start();
    let mut command = server.ctl(&["exec", "--sh", "echo up; sleep 60"]);
    let mut child = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    server.running.signal(rustix::process::Signal::TERM);
    let ran = child.output();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("shutting_down"), "{}", ran.stderr);
}
