//! The two programs on pipes and on a terminal, and what they show there.

use crate::common::terminal::Terminal;
use crate::common::{PATIENCE, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A program on pipes, whose lines come as they are written.
pub struct Piped {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Piped {
    pub fn spawn(mut command: Command) -> Piped {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Piped { stdin: child.stdin.take(), child, lines, seen: Vec::new() }
    }

    /// A program on a terminal: what it shows is there.
    pub fn on(terminal: &Terminal, mut command: Command) -> Piped {
        command.env("TERM", "vt220").env("NO_COLOR", "1");
        command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
        Piped { child: command.spawn().unwrap(), stdin: None, lines: channel().1, seen: Vec::new() }
    }

    pub fn types(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line that has `words`, and gives it.
    pub fn shows(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("waited in vain for {words:?} after {:?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits for lines that have these words, in whatever order.
    pub fn shows_all(&mut self, words: &[&str]) {
        let mut left = words.to_vec();
        while !left.is_empty() {
            let line = self.shows("");
            left.retain(|words| !line.contains(words));
        }
    }

    /// Ends its input and waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        self.stdin = None;
        let status = wait_for("its end", || self.child.try_wait().unwrap());
        self.seen.extend(self.lines.iter());
        status
    }

    /// The texts of all messages, in order.
    pub fn messages(&self) -> Vec<String> {
        let values = self.seen.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        values.filter(|v| v["event"] == "message").map(|v| v["text"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn ctl(address: SocketAddr, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
    command.args(args).env("REACTOR_HOST", address.to_string()).env("HOME", home);
    for name in ["XDG_STATE_HOME", "REACTOR_TOKEN", "REACTOR_TOKEN_FILE", "RUST_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

pub fn chat(address: SocketAddr, home: &Path, nick: &str) -> Piped {
    let mut chat = Piped::spawn(ctl(address, home, &["--json", "--nick", nick, "chat"]));
    chat.shows("members");
    chat
}
