//! A network between client and server that splits, stalls, resets and half
//! closes, while real work goes on over it.

use crate::common::{Client, PATIENCE, Server, frame, noise, unique, wait_for};
use crate::scale;
use crate::work::{self, Failure, Holdings, Neighbour};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the network does to one direction of a connection.
#[derive(Clone, Copy, Debug)]
enum Chaos {
    /// Passes that many bytes one by one, and everything in pieces of random
    /// length with random pauses.
    Drip(usize),
    /// Resets both sides after so many bytes.
    Reset(usize),
    /// Ends the direction, cleanly, after so many bytes.
    HalfClose(usize),
    /// Passes everything at once.
    Pass,
}

/// A network that treats its connections alike.
struct Proxy {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Proxy {
    /// Takes `connections` connections to `server`.
    fn start(server: SocketAddr, connections: usize, up: Chaos, down: Chaos, seed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let mut pumps = Vec::new();
            for n in 0..connections as u64 {
                let client = listener.accept().unwrap().0;
                let server = TcpStream::connect(server).unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let reset = Arc::new(AtomicBool::new(false));
                let other = Arc::clone(&reset);
                pumps.push(thread::spawn(move || pump(ends.0, ends.1, up, seed + 2 * n, &reset)));
                pumps.push(thread::spawn(move || pump(server, client, down, seed + 2 * n + 1, &other)));
            }
            pumps.into_iter().for_each(|pump| pump.join().unwrap());
        });
        Proxy { address, thread }
    }

    fn client(&self, server: &Server) -> Client {
        let mut client = Client::connect(self.address);
        let nick = format!("far-{}", unique());
        work::ask(&mut client, json!({"cmd": "hello", "version": 1, "token": server.token, "nick": nick})).unwrap();
        client
    }

    fn end(self) {
        self.thread.join().unwrap();
    }
}

/// Moves bytes until one side has no more, or is gone, or the connection is
/// reset from the one pump or the other.
fn pump(mut from: TcpStream, mut to: TcpStream, chaos: Chaos, seed: u64, reset: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(seed);
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut passed = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let most = match chaos {
            Chaos::Drip(one_by_one) if passed < one_by_one => 1,
            Chaos::Drip(_) => random.usize(1..buffer.len()),
            Chaos::Reset(limit) | Chaos::HalfClose(limit) => (limit - passed).min(buffer.len()),
            Chaos::Pass => buffer.len(),
        };
        if most == 0 {
            if let Chaos::Reset(_) = chaos {
                reset.store(true, Ordering::Relaxed);
                for side in [&from, &to] {
                    // The last close of a socket with no time to linger is a reset (socket(7)).
                    socket2::SockRef::from(side).set_linger(Some(Duration::ZERO)).unwrap();
                }
                // Tells the peer nothing, and the other pump to let go. It may have.
                let _ = to.shutdown(Shutdown::Read);
                return;
            }
            break;
        }
        match from.read(&mut buffer[..most]) {
            Ok(n) if n > 0 && to.write_all(&buffer[..n]).is_ok() => passed += n,
            _ => break,
        }
        if matches!(chaos, Chaos::Drip(_)) && random.u8(..) < 4 {
            thread::sleep(Duration::from_millis(random.u64(..20)));
        }
    }
    if reset.load(Ordering::Relaxed) {
        return;
    }
    // It may be gone.
    let _ = to.shutdown(Shutdown::Write);
    // What is never read would reset the connection in the other direction too.
    while matches!(chaos, Chaos::HalfClose(_)) && from.read(&mut buffer).is_ok_and(|n| n > 0) {}
}

/// What a person does, through whatever lies in between.
fn real_work(client: &mut Client, n: usize) {
    let path = format!("file-{n}");
    let content = noise(400_000, n as u64);
    work::echo(client, 10).unwrap();
    work::echo(client, 100_000).unwrap();
    work::put(client, &path, &content).unwrap();
    assert!(work::get(client, &path).unwrap() == content);
    let said = work::run(client, "seq 1 20000", json!({})).unwrap();
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(said == expected.as_bytes());
}

#[test]
fn work_gets_done_however_the_network_splits_and_stalls() {
    const CLIENTS: usize = 6;
    let server = Server::start();
    let before = Holdings::of(&server);
    let neighbour = Neighbour::start(&server);
    let proxy = Proxy::start(server.address, CLIENTS, Chaos::Drip(5_000), Chaos::Drip(5_000), 1);
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (proxy, server) = (&proxy, &server);
            scope.spawn(move || {
                let mut client = proxy.client(server);
                (0..scale(1, 10)).for_each(|_| real_work(&mut client, n));
            });
        }
    });
    proxy.end();
    neighbour.slowest();
    before.come_back(&server);
}

#[test]
fn a_reset_at_any_moment_leaves_nothing_and_tears_nothing() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let neighbour = Neighbour::start(&server);
    let mut random = fastrand::Rng::with_seed(7);
    let contents = [noise(300_000, 1), noise(300_000, 2)];
    std::fs::write(server.root().join("f"), &contents[0]).unwrap();
    for n in 0..scale(40, 1_000) {
        let limit = random.usize(200..700_000);
        let (up, down) =
            if n % 2 == 0 { (Chaos::Reset(limit), Chaos::Pass) } else { (Chaos::Pass, Chaos::Reset(limit)) };
        let proxy = Proxy::start(server.address, 1, up, down, n);
        let attempt = || -> work::Result<()> {
            let mut client = proxy.client(&server);
            work::put(&mut client, "f", &contents[n as usize % 2])?;
            assert!(work::get(&mut client, "f")? == contents[n as usize % 2]);
            work::run(&mut client, "sleep 97 & cat /dev/zero | head -c 3000000; kill $!", json!({})).map(drop)
        };
        let ended = attempt();
        assert!(matches!(ended, Ok(()) | Err(Failure::Ended)), "{limit}: {ended:?}");
        proxy.end();
        let found = std::fs::read(server.root().join("f")).unwrap();
        assert!(contents.contains(&found), "a torn file after a reset at byte {limit}");
    }
    neighbour.slowest();
    before.come_back(&server);
}

#[test]
fn what_was_asked_before_a_half_close_is_answered_whole() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let mut random = fastrand::Rng::with_seed(9);
    let hello = json!({"cmd": "hello", "version": 1, "token": server.token, "nick": "half"});
    let bodies: Vec<_> = (0..40).map(|n| noise(n * 1_000, n as u64)).collect();
    let requests = bodies.iter().enumerate();
    let requests = requests.map(|(id, body)| frame(json!({"cmd": "echo", "id": id, "size": body.len()}), body));
    let pieces: Vec<_> = std::iter::once(frame(hello, b"")).chain(requests).collect();
    let all = pieces.concat();
    for n in 0..scale(20, 500) {
        let limit = random.usize(1..all.len());
        let proxy = Proxy::start(server.address, 1, Chaos::HalfClose(limit), Chaos::Drip(50), n);
        let mut client = Client::connect(proxy.address);
        let (mut stream, sent) = (client.stream.try_clone().unwrap(), all.clone());
        let writer = thread::spawn(move || {
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let whole = |limit: usize| {
            let ends = pieces.iter().scan(0, |end, piece| {
                *end += piece.len();
                Some(*end)
            });
            ends.take_while(|end| *end <= limit).count()
        };
        for answer in 0..whole(limit) {
            let (header, body) = client.receive();
            assert_eq!(header["ok"], true, "{header}");
            assert!(answer == 0 || body == bodies[answer - 1]);
        }
        assert_eq!(client.next_frame().unwrap(), None);
        writer.join().unwrap();
        drop(client);
        proxy.end();
        wait_for("the nick to be free", || (server.stats()["nicks"] == 1).then_some(()));
    }
    before.come_back(&server);
}
