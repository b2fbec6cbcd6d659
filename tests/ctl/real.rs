//! `reactorctl` and `reactord` together: what a person does with the two.

use crate::common::{Options, Server, noise};
use crate::fake::{Ran, Running};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A server, and a client that has to find the token by itself.
pub(crate) struct Site {
    /// None only between two servers.
    pub(crate) server: Option<Server>,
}

impl Site {
    pub(crate) fn start() -> Site {
        Site { server: Some(Server::start()) }
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Kills the server outright and starts it again on the same port.
    pub(crate) fn crash_and_restart(&mut self) {
        let port = self.server().address.port();
        let home = self.server.take().unwrap().kill();
        self.server = Some(Options::new().home(home).port(port).start());
    }

    /// `reactorctl` in its own directory.
    pub(crate) fn ctl(&self, args: &[&str]) -> Command {
        let home = self.server().home.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
        command.args(args).env("REACTOR_HOST", self.server().address.to_string()).env("HOME", home);
        for name in ["REACTOR_TOKEN", "REACTOR_TOKEN_FILE", "XDG_STATE_HOME", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).current_dir(home);
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

    /// A path in the client's directory.
    pub(crate) fn local(&self, name: &str) -> PathBuf {
        self.server().home.path().join(name)
    }
}

#[test]
fn the_token_is_found_and_a_wrong_one_is_refused() {
    let site = Site::start();
    assert!(site.does(&["ping", "-c", "2", "-i", "0"]).contains("2 round trips"));
    let stats: Value = serde_json::from_str(&site.does(&["--json", "stats"])).unwrap();
    assert!(stats["accepted"].as_u64() >= Some(2), "{stats}");
    fs::write(site.local("other"), "0".repeat(64)).unwrap();
    let ran = site.run(&["--token-file", "other", "ping"]);
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("the token came from --token-file other"), "{}", ran.stderr);
}

#[test]
fn a_command_is_as_if_it_ran_here() {
    let site = Site::start();
    let ran = site.run(&["exec", "--sh", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ran.code(), ran.text(), ran.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(site.run(&["exec", "--sh", "kill -KILL $$"]).code(), Some(137));
    assert_eq!(site.run(&["exec", "--", "/no/such/program"]).code(), Some(1));
    assert_eq!(site.does(&["exec", "--cwd", "/", "--env", "A=b", "--sh", "pwd; echo $A"]), "/\nb\n");
}

#[test]
fn five_mebibytes_go_through_cat_unchanged() {
    let site = Site::start();
    let content = noise(5 << 20, 1);
    let mut child = Running::spawn(site.ctl(&["exec", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()));
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
    let site = Site::start();
    let mut child = Running::spawn(site.ctl(&["exec", "--sh", "echo up; sleep 60"]).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let job: Value = serde_json::from_str(&site.does(&["--json", "jobs"])).unwrap();
    assert_eq!(job["shell"], "echo up; sleep 60");
    site.does(&["kill", &job["job"].to_string()]);
    assert_eq!(child.output().code(), Some(143));
}

#[test]
fn a_server_that_stops_ends_its_commands_and_says_so() {
    let site = Site::start();
    let mut command = site.ctl(&["exec", "--sh", "echo up; sleep 60"]);
    let mut child = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    site.server().signal("TERM");
    let ran = child.output();
    assert_eq!(ran.code(), Some(255));
    assert!(ran.stderr.contains("shutting_down"), "{}", ran.stderr);
}
