//! System calls that fail or take long, the Nth of their kind: whoever asked
//! gets a clear error or a clean end, the others notice nothing, and the
//! server is what it was.

use crate::common::{Client, Server, noise, unique, wait_for};
use crate::scale;
use crate::tracer::Tracer;
use crate::work::{self, Failure, Holdings, Neighbour};
use serde_json::json;
use std::collections::VecDeque;
use std::time::Duration;

/// What a fault may do to whoever is hit.
#[derive(Clone, Copy, Debug)]
enum Hurts {
    /// Nothing: the server tries again.
    Nobody,
    /// The request is refused, with one of these codes.
    Request(&'static [&'static str]),
    /// The connection ends.
    Connection,
}
use Hurts::{Connection, Nobody, Request};

/// Calls, the error that they fail with, and what that may do.
type Fault = (&'static str, &'static str, Hurts);

/// Frames go out by one of these.
const SENDING: &str = "sendmsg,sendto";

/// Injects each fault into the first, second, ... of its calls while `attempt`
/// runs again and again, until one was hit and all is well again; then the
/// server must hold what it held before, and end as always. `alone` is for
/// calls that a neighbour makes too.
fn each(faults: &[Fault], alone: bool, mut attempt: impl FnMut(&Server, &mut Client) -> work::Result<()>) {
    let mut server = Server::start();
    let before = Holdings::of(&server);
    for (calls, errno, hurts) in faults {
        for nth in 1..=scale(3, 8) {
            let case = format!("{errno} in {calls} {nth}");
            let mut client = server.client("client");
            let neighbour = (!alone).then(|| Neighbour::start(&server));
            let what = format!("error={errno}:when={nth}");
            let Some(tracer) = Tracer::attach(&server, calls, &what) else { return };
            let mut failures = 0;
            // One injection for each thread that makes such calls, at most.
            for _ in 0..40 {
                match (attempt(&server, &mut client), hurts) {
                    (Ok(()), _) if tracer.injected() > 0 => break,
                    (Ok(()), _) => {}
                    (Err(Failure::Refused(code)), Request(codes)) if codes.contains(&&*code) => failures += 1,
                    (Err(Failure::Ended), Connection) => {
                        failures += 1;
                        client = wait_for("another connection", || reconnect(&server));
                    }
                    (Err(failure), _) => panic!("{case}: {failure:?}\n{}", server.log()),
                }
            }
            drop(client);
            assert!(tracer.injected() > 0, "{case}: there was no such call:\n{}", tracer.seen());
            let injected = tracer.detach();
            assert!(failures <= injected, "{case}: {failures} failures");
            if let Some(neighbour) = neighbour {
                neighbour.slowest();
            }
            work::everything(&server);
        }
        before.come_back(&server);
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

fn reconnect(server: &Server) -> Option<Client> {
    let mut client = server.stranger();
    let hello = json!({"cmd": "hello", "version": 1, "token": server.token});
    (work::ask(&mut client, hello).ok()?["ok"] == true).then_some(client)
}

#[test]
fn accepting() {
    let faults = [
        ("accept4", "EINTR", Nobody),
        ("accept4", "ECONNABORTED", Nobody),
        ("accept4", "EPROTO", Nobody),
        ("accept4", "EMFILE", Nobody),
        ("accept4", "ENOMEM", Nobody),
    ];
    each(&faults, false, |server, _| {
        let mut other = server.client(&format!("other-{}", unique()));
        work::echo(&mut other, 100)
    });
    // Nobody waits there, says the kernel: the next event says otherwise.
    each(&[("accept4", "EAGAIN", Nobody)], false, |server, _| {
        let (mut one, mut two) = (server.stranger(), server.stranger());
        let hello = |n: u64| json!({"cmd": "hello", "version": 1, "token": server.token, "nick": format!("g{n}")});
        let n = unique();
        std::thread::sleep(Duration::from_millis(10));
        let _three = server.stranger();
        work::ask(&mut one, hello(2 * n))?;
        work::ask(&mut two, hello(2 * n + 1))?;
        Ok(())
    });
}

#[test]
fn registering() {
    each(&[("epoll_ctl", "ENOMEM", Connection), ("epoll_ctl", "ENOSPC", Connection)], true, |server, _| {
        let mut other = server.stranger();
        let nick = format!("other-{}", unique());
        let hello = json!({"cmd": "hello", "version": 1, "token": server.token, "nick": nick});
        work::ask(&mut other, hello).map(drop)
    });
}

#[test]
fn reading() {
    let faults =
        [("recvfrom,read", "EINTR", Nobody), ("recvfrom", "EIO", Connection), ("recvfrom", "ENOMEM", Connection)];
    each(&faults, true, |_, client| work::echo(client, 200_000));
}

#[test]
fn reading_that_would_block_goes_on_with_the_next_event() {
    each(&[("recvfrom", "EAGAIN", Nobody)], true, |_, client| {
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut unanswered = VecDeque::new();
        loop {
            // What the kernel denied to have comes with the next event, which
            // would not come by itself: a real kernel does not say so.
            unanswered.push_back(unique());
            work::send(client, json!({"cmd": "echo", "id": unanswered.back()}), b"again")?;
            while let Ok(frame) = client.next_frame() {
                let (header, body) = frame.ok_or(Failure::Ended)?;
                assert_eq!((header["id"].as_u64(), &body[..]), (unanswered.pop_front(), &b"again"[..]));
                if unanswered.is_empty() {
                    return Ok(());
                }
            }
            assert!(unanswered.len() < 50);
        }
    });
}

#[test]
fn writing() {
    let faults = [
        (SENDING, "EINTR", Nobody),
        (SENDING, "EIO", Connection),
        (SENDING, "ENOMEM", Connection),
        (SENDING, "EPIPE", Connection),
    ];
    each(&faults, true, |_, client| work::echo(client, 500_000));
}

#[test]
fn sending_a_file() {
    let content = noise(3_000_000, 5);
    let get = |server: &Server, client: &mut Client| {
        if !server.root().join("f").exists() {
            std::fs::write(server.root().join("f"), &content).unwrap();
        }
        assert!(work::get(client, "f")? == content);
        Ok(())
    };
    let faults = [("sendfile", "EINTR", Nobody), ("sendfile", "EIO", Connection), ("sendfile", "ENOMEM", Connection)];
    each(&faults, false, get);
}

#[test]
fn opening() {
    let faults = [
        ("openat2", "EINTR", Nobody),
        ("openat2", "EAGAIN", Nobody),
        ("openat2", "EIO", Request(&["io"])),
        ("openat2", "ENOMEM", Request(&["io", "busy"])),
        ("openat2", "EMFILE", Request(&["limit"])),
    ];
    each(&faults, false, |server, client| {
        std::fs::write(server.root().join("f"), "content").unwrap();
        assert_eq!(work::get(client, "f")?, b"content");
        work::ask(client, json!({"cmd": "stat", "path": "f"})).map(drop)
    });
}

#[test]
fn uploading() {
    let io: &[&str] = &["io"];
    let faults = [
        ("openat", "ENOSPC", Request(&["no_space"])),
        ("openat", "EIO", Request(io)),
        ("openat", "EINTR", Nobody),
        ("fallocate", "ENOSPC", Request(&["no_space"])),
        ("fallocate", "EINTR", Nobody),
        ("pwrite64", "EINTR", Nobody),
        ("pwrite64", "ENOSPC", Request(&["no_space"])),
        ("pwrite64", "EIO", Request(io)),
        ("fsync,fdatasync", "EINTR", Nobody),
        ("fsync,fdatasync", "EIO", Request(io)),
        ("fsync,fdatasync", "ENOSPC", Request(&["no_space"])),
        ("rename,renameat,renameat2", "EIO", Request(io)),
        ("rename,renameat,renameat2", "ENOSPC", Request(&["no_space"])),
        ("rename,renameat,renameat2", "ENOMEM", Request(&["io", "busy"])),
    ];
    let contents = [noise(600_000, 1), noise(700_000, 2)];
    let mut round = 0;
    each(&faults, false, |server, client| {
        let path = server.root().join("f");
        let done = work::put(client, "f", &contents[round % 2]);
        // The old content or the new one, whole; the new one where it was promised.
        let found = std::fs::read(path).ok();
        let whole = found.as_ref().is_none_or(|found| contents.contains(found));
        assert!(whole && (done.is_err() || found.as_ref() == Some(&contents[round % 2])));
        round += 1;
        done
    });
}

#[test]
fn starting_commands() {
    let limit: &[&str] = &["limit", "busy"];
    let faults = [
        ("clone,clone3,vfork,fork", "EAGAIN", Request(limit)),
        ("clone,clone3,vfork,fork", "ENOMEM", Request(limit)),
        ("pipe2", "EMFILE", Request(limit)),
        ("pidfd_open", "EMFILE", Request(limit)),
        ("pidfd_open", "ENOMEM", Request(limit)),
    ];
    each(&faults, false, |_, client| {
        let pty = json!({"pty": {"rows": 24, "cols": 80, "term": "vt100"}});
        assert_eq!(work::run(client, "echo x", json!({"stdin": true}))?, b"x\n");
        assert_eq!(work::run(client, "echo x", pty)?, b"x\r\n");
        Ok(())
    });
}

#[test]
fn a_disk_that_takes_its_time_holds_up_nobody_else() {
    let server = Server::start();
    let mut client = server.client("client");
    let content = noise(100_000, 3);
    work::put(&mut client, "f", &content).unwrap();
    let neighbour = Neighbour::start(&server);
    let slow = "fsync,fdatasync,openat2,openat,renameat2,rename,renameat,getdents64";
    let Some(tracer) = Tracer::attach(&server, slow, "delay_enter=500000") else { return };
    work::put(&mut client, "f", &content).unwrap();
    assert!(work::get(&mut client, "f").unwrap() == content);
    work::ask(&mut client, json!({"cmd": "hash", "path": "f"})).unwrap();
    work::ask(&mut client, json!({"cmd": "list", "path": ""})).unwrap();
    let slowest = neighbour.slowest();
    assert!(slowest < Duration::from_millis(400), "{slowest:?}");
    assert!(tracer.detach() > 5);
}

#[test]
fn a_turn_that_takes_long_shows_in_the_counters_and_in_the_log() {
    let server = Server::start();
    let mut client = server.client("client");
    let Some(tracer) = Tracer::attach(&server, SENDING, "delay_enter=300000:when=1") else { return };
    client.ping();
    wait_for("the delay", || (tracer.injected() > 0).then_some(()));
    tracer.detach();
    let stats = server.stats();
    assert!(stats["longest_turn_us"].as_u64().unwrap() >= 300_000, "{stats}");
    assert_eq!(stats["longest_turn_phase"], "flush");
    wait_for("the warning", || server.log().contains("most of it flush").then_some(()));
}
