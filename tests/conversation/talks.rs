//! `reactorctl chat` on pipes and on a terminal, and a server restarted under it.

use crate::common::terminal::Terminal;
use crate::common::{self, Options, Server, wait_for};
use crate::programs::{Piped, chat, ctl};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};

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

#[test]
fn what_arrives_stands_above_the_line_that_is_being_typed() {
    let server = Server::start();
    let home = server.home.path();
    let mut terminal = Terminal::new(30, 80);
    let mut typist = Piped::on(&terminal, ctl(server.address, home, &["--nick", "typist", "chat"]));
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
        let mut terminal = Terminal::new(30, 80);
        let mut typist = Piped::on(&terminal, ctl(server.address, home, &["--nick", "typist", "chat"]));
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
    let mut terminal = Terminal::new(30, 80);
    let mut typist = Piped::on(&terminal, ctl(server.address, home, &["--nick", "typist", "chat"]));
    terminal.shows("lobby> ");
    terminal.types("remember me\r");
    terminal.shows("typist: remember me");
    terminal.types("\u{4}");
    assert!(typist.ends().success());
    let path = home.join(".local/state/reactord/chat_history");
    assert!(std::fs::read_to_string(&path).unwrap().contains("remember me"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
