//! Commands by the thousand, and what is left of them when their connections
//! break or their server is killed.

use crate::common::{Client, Options, Server, wait_for};
use crate::scale;
use crate::tracer::Tracer;
use crate::work::{self, Holdings, Neighbour};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// At once, over all connections together.
const AT_ONCE: usize = 200;
const CONNECTIONS: usize = 4;

/// Runs a share of commands on a connection, so many at once: every third on
/// a terminal, every third with input, and checks every byte.
fn run_many(client: &mut Client, count: usize) {
    let mut outputs: HashMap<u64, Vec<u8>> = HashMap::new();
    let (mut started, mut ended) = (0, 0);
    while ended < count {
        while started < count && started - ended < AT_ONCE / CONNECTIONS {
            let id = started as u64;
            let mut request = json!({"cmd": "exec", "id": id, "shell": format!("cat; echo {id}; exit {}", id % 200)});
            match id % 3 {
                0 => request["pty"] = json!({"rows": 24, "cols": 80, "term": "vt100"}),
                1 => request["stdin"] = json!(false),
                _ => {}
            }
            if id.is_multiple_of(3) {
                request["shell"] = format!("echo {id}; exit {}", id % 200).into();
            }
            client.send(request, b"");
            if id % 3 == 2 {
                client.send(json!({"cmd": "input", "id": id, "eof": true}), b"in ");
            }
            started += 1;
        }
        let (header, body) = client.receive();
        let id = header["id"].as_u64().unwrap();
        match header["event"].as_str() {
            Some("stdout") => outputs.entry(id).or_default().extend(body),
            Some("exit") => {
                assert_eq!(header, json!({"event": "exit", "id": id, "code": id % 200}));
                let output = String::from_utf8(outputs.remove(&id).unwrap_or_default()).unwrap();
                let expected = [format!("{id}\r\n"), format!("{id}\n"), format!("in {id}\n")];
                assert_eq!(output, expected[id as usize % 3]);
                ended += 1;
            }
            _ => assert_eq!((&header["re"], &header["ok"]), (&json!("exec"), &json!(true)), "{header}"),
        }
    }
}

#[test]
fn commands_by_the_thousand_leave_nothing_and_lose_nothing() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let neighbour = Neighbour::start(&server);
    std::thread::scope(|scope| {
        for n in 0..CONNECTIONS {
            let mut client = server.client(&format!("many-{n}"));
            scope.spawn(move || run_many(&mut client, scale(500, 10_000) / CONNECTIONS));
        }
    });
    neighbour.slowest();
    before.come_back(&server);
}

/// Processes are started by one of these.
const STARTING: &str = "clone,clone3,vfork,fork";

/// Whether any process has these words in its environment.
fn anybody_has(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    // A process may be gone before it is looked at; one that is being reaped has no environment.
    let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
    let mark = mark.as_bytes();
    environments.into_iter().any(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark))
}

#[test]
fn what_twenty_broken_connections_ran_is_gone_in_time() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let mark = format!("REACTORD_TEST={}-{}", server.pid(), server.address.port());
    let (name, value) = mark.split_once('=').unwrap();
    let texts = ["sleep 95", "sleep 95 | sleep 95", "yes >/dev/null", "(sleep 95 & sleep 95 & wait)", "cat"];
    let clients: Vec<Client> = (0..20)
        .map(|n| {
            let mut client = server.client(&format!("broken-{n}"));
            for (id, text) in texts.iter().enumerate() {
                let pty = json!({"rows": 24, "cols": 80, "term": "vt100"});
                let pty = if n % 2 == 0 { pty } else { Value::Null };
                let mut request = json!({"cmd": "exec", "id": id, "shell": text, "env": {name: value}});
                if !pty.is_null() {
                    request["pty"] = pty;
                }
                assert_eq!(client.call(request)["ok"], true);
            }
            client
        })
        .collect();
    assert!(anybody_has(&mark));
    for client in &clients {
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let began = Instant::now();
    drop(clients);
    wait_for("their commands to be gone", || (!anybody_has(&mark)).then_some(()));
    // None of them ignores what it is asked for.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    before.come_back(&server);
}

#[test]
fn a_warden_that_could_not_be_started_once_is_started_with_the_next_command() {
    let server = Server::start();
    let mut client = server.client("client");
    let mark = format!("REACTORD_TEST={}-{}", server.pid(), server.address.port());
    let (name, value) = mark.split_once('=').unwrap();
    // The first call is for the warden, the second for the command.
    let Some(tracer) = Tracer::attach(&server, STARTING, "error=EAGAIN:when=1") else { return };
    assert_eq!(work::run(&mut client, "echo x", json!({})).unwrap(), b"x\n");
    assert_eq!(tracer.detach(), 1);
    let request = json!({"cmd": "exec", "id": 1, "argv": ["sleep", "94"], "env": {name: value}});
    assert_eq!(client.call(request)["ok"], true);
    assert!(anybody_has(&mark));
    server.kill();
    wait_for("the command to be ended", || (!anybody_has(&mark)).then_some(()));
}

/// A server with a command whose start takes two seconds and has begun, the
/// client whose it is and another, and the mark that its processes bear; not
/// where nothing can be traced.
fn starting() -> Option<(Server, Client, Client, Tracer, String)> {
    let server = Server::start();
    let (mut client, other) = (server.client("client"), server.client("other"));
    // The warden comes with the first.
    work::run(&mut client, "true", json!({})).unwrap();
    let mark = format!("REACTORD_TEST={}-{}", server.pid(), server.address.port());
    let (name, value) = mark.split_once('=').unwrap();
    let tracer = Tracer::attach(&server, STARTING, "delay_enter=2000000")?;
    let env = json!({name: value});
    client.send(json!({"cmd": "exec", "id": 1, "argv": ["sleep", "93"], "hangup": "finish", "env": env}), b"");
    wait_for("the start to begin", || (!tracer.seen().is_empty()).then_some(()));
    Some((server, client, other, tracer, mark))
}

fn stats(client: &mut Client) -> Value {
    client.send(json!({"cmd": "stats"}), b"");
    serde_json::from_slice(&client.receive().1).unwrap()
}

#[test]
fn a_command_that_takes_its_time_to_start_holds_up_nobody_else() {
    let Some((_server, _client, mut other, tracer, _)) = starting() else { return };
    (0..20).for_each(|_| other.ping());
    let stats = stats(&mut other);
    assert_eq!((&stats["jobs"], &stats["jobs_started"]), (&json!(1), &json!(1)), "all that was before it started");
    tracer.detach();
}

#[test]
fn a_connection_that_breaks_while_its_command_starts_leaves_nothing() {
    let Some((_server, client, mut other, tracer, mark)) = starting() else { return };
    assert!(!anybody_has(&mark));
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    wait_for("the command to have come and gone", || {
        let stats = stats(&mut other);
        (stats["jobs_started"] == 2 && stats["jobs"] == 0).then_some(())
    });
    assert!(!anybody_has(&mark));
    tracer.detach();
}

#[test]
fn a_stop_waits_for_a_command_that_is_being_started_and_ends_it() {
    let Some((mut server, _client, _other, tracer, mark)) = starting() else { return };
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!anybody_has(&mark));
    drop(tracer);
}

#[test]
fn a_process_that_is_no_program_yet_keeps_neither_connections_nor_the_port_open() {
    const DELAY: Duration = Duration::from_secs(3);
    let mut server = Server::start();
    let (mut client, mut other) = (server.client("client"), server.client("other"));
    // The warden comes with the first.
    work::run(&mut client, "true", json!({})).unwrap();
    let what = format!("delay_enter={}", DELAY.as_micros());
    let Some(tracer) = Tracer::follow(&server, "execve", &what) else { return };
    let began = Instant::now();
    client.send(json!({"cmd": "exec", "id": 1, "argv": ["true"], "hangup": "finish"}), b"");
    wait_for("the start to begin", || (server.children().len() == 2).then_some(()));
    other.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(other.stream.read(&mut [0]).unwrap(), 0);
    server.signal("TERM");
    wait_for("the port to be closed", || TcpStream::connect(server.address).is_err().then_some(()));
    assert!(began.elapsed() < DELAY, "{:?}", began.elapsed());
    assert_eq!(server.wait().code(), Some(0));
    drop(tracer);
}

#[test]
fn eight_that_shout_at_one_who_stands_still_starve_nobody() {
    let server = Options::new().start();
    let mut still = server.client("still");
    for id in 0..8 {
        still.send(json!({"cmd": "exec", "id": id, "argv": ["yes"]}), b"");
    }
    let memory = server.memory();
    let neighbour = Neighbour::start(&server);
    let mut reading = server.client("reading");
    // One who reads gets on beside them.
    reading.send(json!({"cmd": "exec", "id": 1, "argv": ["yes"]}), b"");
    let mut seen = 0;
    while seen < scale(16 << 20, 1 << 30) {
        seen += reading.receive().1.len();
    }
    drop(reading);
    let slowest = neighbour.slowest();
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(server.memory() < memory + (16 << 20), "{memory} -> {}", server.memory());
}
