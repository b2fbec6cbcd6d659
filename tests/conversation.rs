//! Conversations with the real server: `reactorctl chat` on pipes and on a
//! terminal, a server restarted under it, and the operator's console.

mod common;

use common::{Options, PATIENCE, Server, wait_for};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

/// A program on pipes, whose lines come as they are written.
struct Piped {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Piped {
    fn spawn(mut command: Command) -> Piped {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Piped { stdin: child.stdin.take(), child, lines, seen: Vec::new() }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line that has `words`, and gives it.
    fn shows(&mut self, words: &str) -> String {
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
    fn shows_all(&mut self, words: &[&str]) {
        let mut left = words.to_vec();
        while !left.is_empty() {
            let line = self.shows("");
            left.retain(|words| !line.contains(words));
        }
    }

    /// Ends its input and waits for its end.
    fn ends(&mut self) -> ExitStatus {
        self.stdin = None;
        let status = wait_for("its end", || self.child.try_wait().unwrap());
        self.seen.extend(self.lines.iter());
        status
    }

    /// The texts of all messages, in order.
    fn messages(&self) -> Vec<String> {
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

fn ctl(address: SocketAddr, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
    command.args(args).env("REACTOR_HOST", address.to_string()).env("HOME", home);
    for name in ["XDG_STATE_HOME", "REACTOR_TOKEN", "REACTOR_TOKEN_FILE", "RUST_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

fn chat(address: SocketAddr, home: &Path, nick: &str) -> Piped {
    let mut chat = Piped::spawn(ctl(address, home, &["--json", "--nick", nick, "chat"]));
    chat.shows("members");
    chat
}

#[test]
fn a_script_says_what_it_is_given_and_leaves_when_all_is_answered() {
    let server = Server::start();
    let home = server.home.path();
    let mut listener = chat(server.address, home, "listener");
    let mut script = Piped::spawn(ctl(server.address, home, &["-q", "--nick", "build", "chat"]));
    (0..500).for_each(|n| script.types(&format!("line {n}")));
    script.types("//not a command");
    assert_eq!(script.ends().code(), Some(0));
    let said: Vec<_> = script.seen.iter().filter(|line| line.contains(" build: ")).collect();
    assert_eq!(said.len(), 501);
    assert!(said[0].starts_with("[lobby] ") && said[0].ends_with(" build: line 0"), "{}", said[0]);
    listener.shows("not a command");
    let heard = listener.messages();
    let expected: Vec<_> = (0..500).map(|n| format!("line {n}")).chain(["/not a command".to_owned()]).collect();
    assert_eq!(heard, expected);
}

#[test]
fn what_is_refused_shows_in_the_exit_status_and_stops_nothing() {
    let server = Server::start();
    let mut script = Piped::spawn(ctl(server.address, server.home.path(), &["--json", "chat"]));
    script.stdin.as_mut().unwrap().write_all(b"/fly\n\xff\n/msg nobody hi\nstill here\n").unwrap();
    assert_eq!(script.ends().code(), Some(1));
    assert_eq!(script.messages(), ["still here"]);
    let errors = script.seen.iter().filter(|line| line.contains("\"event\":\"error\"")).count();
    assert_eq!(errors, 3, "{:?}", script.seen);
}

#[test]
fn a_file_goes_to_the_server_and_its_name_to_the_room() {
    let server = Server::start();
    let home = server.home.path();
    let mut listener = chat(server.address, home, "listener");
    let content = common::noise(700_000, 1);
    let path = common::write_file(home, "a file.bin", &content);
    let mut script = Piped::spawn(ctl(server.address, home, &["-q", "chat"]));
    script.types(&format!("/send {}", path.display()));
    assert_eq!(script.ends().code(), Some(0));
    listener.shows("sent a file: a file.bin");
    assert!(std::fs::read(server.root().join("a file.bin")).unwrap() == content);
    let mut again = Piped::spawn(ctl(server.address, home, &["--json", "chat"]));
    again.types(&format!("/send {}", path.display()));
    assert_eq!(again.ends().code(), Some(1), "it is there already: {:?}", again.seen);
}

/// Leads connections to a server that may be another one later.
struct Forwarder {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Forwarder {
    fn start(target: SocketAddr) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(Some(target)));
        let current = target.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let target = *current.lock().unwrap();
                let Some(server) = target.and_then(|target| TcpStream::connect(target).ok()) else { continue };
                for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        // However the one side ended, the other one is told.
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Forwarder { address, target }
    }

    fn lead_to(&self, target: Option<SocketAddr>) {
        *self.target.lock().unwrap() = target;
    }
}

#[test]
fn a_restarted_server_costs_no_message_and_repeats_none() {
    let mut server = Server::start();
    let forwarder = Forwarder::start(server.address);
    let home = tempfile::tempdir().unwrap();
    let token = common::write_file(home.path(), "token", server.token.as_bytes());
    let talker = |nick: &str| {
        let mut command = ctl(forwarder.address, home.path(), &["--json", "--nick", nick, "chat"]);
        command.env("REACTOR_TOKEN_FILE", &token);
        let mut talker = Piped::spawn(command);
        talker.shows("members");
        talker
    };
    let (mut alice, mut bob) = (talker("alice"), talker("bob"));
    let mut count = 0;
    for round in ["stop", "kill"] {
        for _ in 0..20 {
            count += 1;
            alice.types(&format!("alice {count}"));
            bob.types(&format!("bob {count}"));
        }
        for talker in [&mut alice, &mut bob] {
            talker.shows_all(&[&format!("alice {count}"), &format!("bob {count}")]);
        }
        forwarder.lead_to(None);
        let server_home = if round == "stop" { server.stop() } else { server.kill() };
        alice.shows("trying again");
        bob.shows("trying again");
        for _ in 0..20 {
            count += 1;
            alice.types(&format!("alice {count}"));
        }
        server = Options::new().home(server_home).start();
        forwarder.lead_to(Some(server.address));
        bob.shows(&format!("alice {count}"));
    }
    assert_eq!((alice.ends().code(), bob.ends().code()), (Some(0), Some(0)));
    let from = |talker: &Piped, nick: &str| -> Vec<String> {
        talker.messages().into_iter().filter(|text| text.starts_with(nick)).collect()
    };
    let alices: Vec<_> = (1..=count).map(|n| format!("alice {n}")).collect();
    assert_eq!((from(&alice, "alice"), from(&bob, "alice")), (alices.clone(), alices));
    let bobs: Vec<_> = (1..=20).chain(41..=60).map(|n| format!("bob {n}")).collect();
    assert_eq!((from(&alice, "bob"), from(&bob, "bob")), (bobs.clone(), bobs));
}

/// A terminal with `reactorctl chat` or a console on it.
struct OnTerminal {
    master: File,
    slave: File,
    shown: Vec<u8>,
}

impl OnTerminal {
    fn new() -> OnTerminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: 30, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        OnTerminal { master: File::from(master), slave, shown: Vec::new() }
    }

    fn runs(&self, mut command: Command) -> Piped {
        command.env("TERM", "vt220").env("NO_COLOR", "1");
        for connect in [Command::stdin, Command::stdout, Command::stderr] {
            connect(&mut command, self.slave.try_clone().unwrap());
        }
        let child = command.spawn().unwrap();
        Piped { child, stdin: None, lines: channel().1, seen: Vec::new() }
    }

    fn types(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, after what was waited for before.
    fn shows(&mut self, text: &str) {
        let mut byte = [0];
        let patience = rustix::time::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        self.shown.clear();
        while !self.shown.ends_with(text.as_bytes()) {
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "waited in vain for {text:?} after {:?}", String::from_utf8_lossy(&self.shown));
            (&self.master).read_exact(&mut byte).unwrap();
            self.shown.extend(byte);
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }
}

#[test]
fn what_arrives_stands_above_the_line_that_is_being_typed() {
    let server = Server::start();
    let home = server.home.path();
    let mut terminal = OnTerminal::new();
    let mut typist = terminal.runs(ctl(server.address, home, &["--nick", "typist", "chat"]));
    terminal.shows("in lobby: typist");
    let mut other = chat(server.address, home, "other");
    terminal.shows("other joined");
    terminal.types("half a l");
    terminal.shows("half a l");
    other.types("in between\u{1b}[2J\n");
    terminal.shows("other: in between[2J\r\n");
    // The line is drawn again, and on it goes.
    terminal.shows("lobby> half a l");
    terminal.types("ine\r");
    other.shows("\"text\":\"half a line\"");
    // As a message it takes the place of the line that was typed.
    terminal.shows("\u{1b}[1A\u{1b}[J");
    terminal.shows("typist: half a line");
    assert!(terminal.is_raw());
    typist.child.kill().unwrap();
}

#[test]
fn a_signal_and_the_end_give_the_terminal_back() {
    let server = Server::start();
    let home = server.home.path();
    for signal in [Some(rustix::process::Signal::TERM), None] {
        let mut terminal = OnTerminal::new();
        let mut typist = terminal.runs(ctl(server.address, home, &["--nick", "typist", "chat"]));
        terminal.shows("in lobby: typist");
        terminal.shows("lobby> ");
        match signal {
            Some(signal) => {
                rustix::process::kill_process(rustix::process::Pid::from_child(&typist.child), signal).unwrap();
                assert_eq!(typist.ends().signal(), Some(signal.as_raw()));
            }
            None => {
                terminal.types("\u{4}");
                assert_eq!(typist.ends().code(), Some(0));
            }
        }
        assert!(!terminal.is_raw());
        wait_for("the nick to be free", || (server.stats()["nicks"] == 1).then_some(()));
    }
}

#[test]
fn what_was_typed_is_kept_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let home = server.home.path();
    let mut terminal = OnTerminal::new();
    let mut typist = terminal.runs(ctl(server.address, home, &["--nick", "typist", "chat"]));
    terminal.shows("lobby> ");
    terminal.types("remember me\r");
    terminal.shows("typist: remember me");
    terminal.types("\u{4}");
    assert!(typist.ends().success());
    let path = home.join(".local/state/reactord/chat_history");
    assert!(std::fs::read_to_string(&path).unwrap().contains("remember me"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A server with its console on pipes, or on what the test connects.
fn console(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactord"));
    command.args(["--port", "0", "--console"]).env("HOME", home);
    command.env_remove("XDG_STATE_HOME").env_remove("RUST_LOG").stderr(Stdio::null());
    command
}

fn address(line: &str) -> SocketAddr {
    line.trim_end().strip_prefix("reactord listening on ").unwrap().parse().unwrap()
}

#[test]
fn the_operator_talks_looks_kicks_and_stops_on_a_pipe() {
    let home = tempfile::tempdir().unwrap();
    let mut operator = Piped::spawn(console(home.path()));
    let address = address(&operator.shows("listening on 127.0.0.1"));
    operator.shows("in lobby: operator");
    let mut guest = chat(address, home.path(), "guest");
    operator.shows("guest joined");
    guest.types("is anybody here?");
    assert!(operator.shows("guest: is anybody here?").starts_with("[lobby] "));
    operator.types("I am");
    guest.shows("\"from\":\"operator\",\"text\":\"I am\"");
    operator.shows("operator: I am");
    operator.types("/who");
    operator.shows("in lobby: operator, guest");
    operator.types("/clients");
    let client = operator.shows("guest  127.0.0.1:");
    assert!(client.contains("rooms: lobby") && client.contains("since "), "{client}");
    operator.types("/stats");
    operator.shows("connections 1");
    operator.types("/kick GUEST");
    operator.shows("guest left (kicked)");
    guest.shows("the operator ended this connection");
    assert_eq!(guest.ends().code(), Some(255), "a kick is for good");
    operator.types("/quit");
    operator.shows("the server stops");
    assert!(operator.ends().success());
}

#[test]
fn the_end_of_the_operators_input_is_not_the_servers() {
    let home = tempfile::tempdir().unwrap();
    let mut operator = Piped::spawn(console(home.path()));
    let address = address(&operator.shows("listening on 127.0.0.1"));
    operator.shows("in lobby: operator");
    let mut guest = chat(address, home.path(), "guest");
    operator.shows("guest joined");
    operator.types("bye");
    operator.stdin = None;
    guest.shows("\"text\":\"bye\"");
    guest.shows("\"event\":\"left\",\"room\":\"lobby\",\"nick\":\"operator\",\"reason\":\"left\"");
    guest.types("alone");
    guest.shows("\"text\":\"alone\"");
    assert!(guest.ends().success());
    rustix::process::kill_process(rustix::process::Pid::from_child(&operator.child), rustix::process::Signal::TERM)
        .unwrap();
    assert!(operator.ends().success());
}

#[test]
fn the_log_stands_above_the_line_that_the_operator_types() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = OnTerminal::new();
    let mut command = console(home.path());
    command.env("RUST_LOG", "debug");
    let mut operator = terminal.runs(command);
    terminal.shows("listening on 127.0.0.1:");
    terminal.shows("\r\n");
    let port = String::from_utf8(terminal.shown.clone()).unwrap().trim().parse::<u16>().unwrap();
    terminal.shows("in lobby: operator");
    terminal.shows("lobby> ");
    terminal.types("half");
    terminal.shows("half");
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    terminal.shows(": connected");
    terminal.shows("\r\n");
    terminal.shows("lobby> half");
    // Clears the line.
    terminal.types("\u{15}/quit\r");
    assert!(operator.ends().success());
    assert!(!terminal.is_raw());
}
