//! Too many, too slow, too idle: what floods cost the server, and what those
//! notice who behave.

use crate::common::{Client, Options, Server, frame, has_program, mode, skip, unique, wait_for};
use crate::scale;
use crate::work::{self, Holdings, Neighbour};
use reactord::system::raise_descriptor_limit;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The server may use this much of a processor where it has nothing to do.
const IDLE_SHARE: f64 = 0.05;

/// Asserts that the server does next to nothing for a while.
fn assert_idle(server: &Server, time: Duration) {
    let before = server.cpu_time();
    std::thread::sleep(time);
    let used = server.cpu_time() - before;
    assert!(used.as_secs_f64() <= IDLE_SHARE * time.as_secs_f64(), "{used:?} of {time:?}");
}

#[test]
fn two_hundred_that_drip_their_greeting_are_cut_and_nobody_notices() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server);
    let hello = frame(json!({"cmd": "hello", "version": 1, "token": server.token}), b"");
    let began = Instant::now();
    let mut dripping: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for byte in hello.iter().take(14) {
        // Whoever was cut may not take it any more.
        dripping.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
        if server.stats()["strangers"] == 0 {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    for stream in &mut dripping {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => assert!(String::from_utf8_lossy(&said).contains("\"timeout\"")),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(server.stats()["auth_failures"], 200, "silence is no right token");
    let slowest = neighbour.slowest();
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

#[test]
fn a_client_at_its_work_is_served_before_any_number_of_strangers() {
    const STRANGERS: u64 = 500;
    if mode() == "blocking" {
        return skip("there each has a thread, and the scheduler chooses");
    }
    for args in [&[][..], &["--auth", "none"]] {
        let server = Options::new().args(args).start();
        let mut client = server.client("client");
        let mut strangers: Vec<_> = (0..STRANGERS).map(|_| server.stranger()).collect();
        let ask = |client: &mut Client| client.send(json!({"cmd": "stats"}), b"");
        let stat = |client: &mut Client, name: &str| -> u64 {
            let stats: serde_json::Value = serde_json::from_slice(&client.receive().1).unwrap();
            stats[name].as_u64().unwrap()
        };
        wait_for("all to be let in", || {
            ask(&mut client);
            (stat(&mut client, "connections") == STRANGERS + 1).then_some(())
        });
        ask(&mut client);
        let before = stat(&mut client, "reads");
        server.signal("STOP");
        wait_for("the server to stand still", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
            stat.rsplit(')').next().unwrap().starts_with(" T").then_some(())
        });
        // All of it comes to the server at once, the client's last.
        strangers.iter_mut().for_each(|stranger| stranger.send_raw(b"\x20"));
        ask(&mut client);
        server.signal("CONT");
        let reads = stat(&mut client, "reads") - before;
        assert!(reads < STRANGERS / 10, "{reads} reads were made before the client's turn");
        wait_for("the strangers' turn", || {
            ask(&mut client);
            (stat(&mut client, "reads") - before > STRANGERS).then_some(())
        });
    }
}

#[test]
fn a_thousand_that_wait_for_descriptors_cost_no_processor_time() {
    if !has_program("prlimit") {
        return skip("prlimit (util-linux) is not installed");
    }
    raise_descriptor_limit();
    let server = Options::new().wrapper(&["prlimit", "--nofile=256:256"]).start();
    let mut clients: Vec<_> = (0..1_000).map(|_| server.stranger()).collect();
    let hello = json!({"cmd": "hello", "version": 1, "token": server.token});
    clients.iter_mut().for_each(|client| client.send(hello.clone(), b""));
    let mut waiting = clients.split_off(180);
    for client in &mut clients {
        assert_eq!(client.receive().0["ok"], true);
    }
    assert_idle(&server, Duration::from_secs(scale(1, 10)));
    clients.iter_mut().for_each(Client::ping);
    drop(clients);
    // No new connect follows, and each group makes room for the next.
    for group in waiting.chunks_mut(180) {
        for client in group {
            assert_eq!(client.receive().0["ok"], true);
            client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }
}

#[test]
fn commands_that_use_up_the_descriptors_stop_newcomers_only_as_long_as_they_run() {
    if !has_program("prlimit") {
        return skip("prlimit (util-linux) is not installed");
    }
    let server = Options::new().wrapper(&["prlimit", "--nofile=128:128"]).start();
    let mut client = server.client("client");
    let mut jobs = Vec::new();
    let refusal = loop {
        let answer = client.call(json!({"cmd": "exec", "id": jobs.len(), "argv": ["sleep", "98"]}));
        if answer["ok"] == false {
            break answer;
        }
        jobs.push(answer["job"].clone());
    };
    assert_eq!(refusal["error"], "limit", "{refusal}");
    assert!(jobs.len() > 10);
    let hello = json!({"cmd": "hello", "version": 1, "token": server.token});
    let mut waiting: Vec<_> = (0..40).map(|_| server.stranger()).collect();
    waiting.iter_mut().for_each(|client| client.send(hello.clone(), b""));
    assert_idle(&server, Duration::from_secs(scale(1, 10)));
    client.ping();
    for job in jobs {
        client.send(json!({"cmd": "kill", "job": job, "signal": "KILL"}), b"");
    }
    for client in &mut waiting {
        assert_eq!(client.receive().0["ok"], true);
    }
    client.receive_until(|header| header["event"] == "exit");
    work::everything(&server);
}

#[test]
fn a_hundred_members_that_stand_still_are_cut_and_the_publisher_goes_on() {
    const STALLED: usize = 100;
    const TOTAL: usize = 48 << 20;
    const LIMIT: usize = 8 << 20;
    let server = Options::new().args(&["--output-limit", &LIMIT.to_string(), "--history", "10"]).start();
    let mut publisher = server.client("publisher");
    let join = json!({"cmd": "join", "room": "r", "history": 0});
    assert_eq!(publisher.call(join.clone())["ok"], true);
    let stalled: Vec<Client> = (0..STALLED)
        .map(|n| {
            let mut client = server.client(&format!("stalled-{n}"));
            // What the kernel takes for them is not the server's.
            socket2::SockRef::from(&client.stream).set_recv_buffer_size(64 << 10).unwrap();
            assert_eq!(client.call(join.clone())["ok"], true);
            client
        })
        .collect();
    let before = server.memory();
    let text = vec![b'x'; 64 << 10];
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for n in 0..TOTAL / text.len() {
        let asked = Instant::now();
        publisher.send(json!({"cmd": "say", "room": "r", "id": n}), &text);
        publisher.receive_until(|header| header["re"] == "say");
        slowest = slowest.max(asked.elapsed());
        most = most.max(server.memory());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // Shared, what is queued for all counts once; the rest is the kernel's and the allocator's.
    assert!(most < before + LIMIT + (24 << 20), "{before} -> {most}");
    wait_for("the stalled members to be cut", || {
        (server.stats()["slow_consumers"].as_u64().unwrap() >= 95).then_some(())
    });
    drop(stalled);
    publisher.ping();
    wait_for("their memory to be given back", || (server.stats()["queued_bytes"] == 0).then_some(()));
}

#[test]
fn bodies_that_never_end_are_within_the_servers_memory() {
    const LIMIT: usize = 16 << 20;
    let server = Options::new().args(&["--memory-limit", &LIMIT.to_string()]).start();
    let neighbour = Neighbour::start(&server);
    let before = server.memory();
    let mut greedy: Vec<_> = (0..scale(60, 1_000)).map(|n| server.client(&format!("greedy-{n}"))).collect();
    let announced = frame(json!({"cmd": "echo", "size": 1 << 20}), &vec![b'x'; 1_000_000]);
    let mut most = 0;
    for client in &mut greedy {
        // Those that hold most are ended first, which may be this one.
        drop(client.stream.write_all(&announced));
        most = most.max(server.memory());
    }
    wait_for("some to be ended", || (server.stats()["slow_consumers"].as_u64().unwrap() > 0).then_some(()));
    wait_for("the rest to be within the limit", || {
        (server.stats()["queued_bytes"].as_u64().unwrap() <= LIMIT as u64).then_some(())
    });
    assert!(most < before + LIMIT + (24 << 20), "{before} -> {most}");
    assert!(neighbour.slowest() < Duration::from_secs(1));
}

#[test]
fn idle_connections_cost_little_and_give_it_back() {
    if mode() == "blocking" {
        return skip("a thread for each connection costs more, and says so");
    }
    let wanted = scale(500, 10_000);
    let count = wanted.min(raise_descriptor_limit().saturating_sub(200));
    if count < wanted {
        skip(&format!("{count} instead of {wanted} idle connections: the descriptor limit is too low"));
    }
    let server = Server::start();
    let holdings = Holdings::of(&server);
    let connect = |count: usize| -> Vec<TcpStream> {
        (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address).unwrap();
                let nick = format!("idle-{}", unique());
                let hello = json!({"cmd": "hello", "version": 1, "token": server.token, "nick": nick});
                stream.write_all(&frame(hello, b"")).unwrap();
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                stream.read_exact(&mut vec![0; i32::from_le_bytes(length) as usize]).unwrap();
                stream
            })
            .collect()
    };
    // The first ones pay for what all share.
    let first = connect(50);
    let before = server.memory();
    let idle = connect(count - 50);
    let grown = server.memory().saturating_sub(before);
    // A page here and there belongs to nobody in particular.
    assert!(grown <= (count << 10) + (512 << 10), "{grown} bytes for {count} connections");
    let quiet = Duration::from_secs(scale(1, 10));
    let used = server.cpu_time();
    std::thread::sleep(quiet);
    assert!(server.cpu_time() - used <= Duration::from_millis(20));
    drop((first, idle));
    holdings.come_back(&server);
}
