//! The end-to-end suites once more, against `--mode blocking`: the same
//! promises, kept by the other driver. Calls that fail are injected into the
//! loop alone: here each thread has calls of its own.

#![allow(clippy::duplicate_mod, reason = "each suite brings what all of them share")]

#[path = "bench.rs"]
mod bench;
#[path = "chat.rs"]
mod chat;
mod common;
#[path = "exec/main.rs"]
mod exec;
#[allow(dead_code, reason = "its scripted servers are for the tests of reactorctl alone")]
#[path = "ctl/fake.rs"]
mod fake;
#[path = "frames.rs"]
mod frames;
#[path = "load.rs"]
mod load;
#[path = "plain.rs"]
mod plain;
#[path = "conversation/programs.rs"]
mod programs;
#[path = "ctl/real.rs"]
mod real;
#[path = "ctl/real_files.rs"]
mod real_files;
#[path = "server.rs"]
mod server;
#[path = "conversation/talks.rs"]
mod talks;

#[path = "faults/abuse.rs"]
mod abuse;
#[path = "faults/chaos.rs"]
mod chaos;
#[path = "faults/commands.rs"]
mod commands;
#[path = "faults/crashes.rs"]
mod crashes;
#[path = "faults/files.rs"]
mod files;
#[path = "faults/floods.rs"]
mod floods;
#[path = "faults/stopped.rs"]
mod stopped;
#[path = "faults/tracer.rs"]
mod tracer;
#[path = "faults/work.rs"]
mod work;

/// The faults in their small form; the full one is the loop's.
fn scale<T>(small: T, _: T) -> T {
    small
}

use common::{Client, Server, frame, wait_for};
use serde_json::json;
use std::io::Write;

fn threads(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count()
}

#[test]
fn an_idle_connection_costs_one_thread_and_gives_it_back() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..100).map(|i| server.client(&format!("idle-{i}"))).collect();
    clients.iter_mut().for_each(Client::ping);
    let all = threads(&server);
    clients.truncate(50);
    wait_for("the threads to end", || (threads(&server) == all - 50).then_some(()));
    clients.iter_mut().for_each(Client::ping);
    assert_eq!(threads(&server), all - 50);
}

#[test]
fn those_who_flood_each_other_never_wait_for_each_other() {
    const EACH: usize = 200;
    let server = Server::start();
    let mut clients: Vec<Client> = (0..4).map(|i| server.client(&format!("c{i}"))).collect();
    for client in &mut clients {
        client.send(json!({"cmd": "join", "room": "r", "history": 0}), b"");
        client.receive_until(|header| header["re"] == "join");
    }
    std::thread::scope(|scope| {
        for mut client in clients {
            let mut stream = client.stream.try_clone().unwrap();
            scope.spawn(move || {
                let say = frame(json!({"cmd": "say", "room": "r", "size": 20_000}), &[b'x'; 20_000]);
                (0..EACH).for_each(|_| stream.write_all(&say).unwrap());
            });
            scope.spawn(move || {
                let mut last = 0;
                for _ in 0..3 * EACH {
                    let (_, (header, _)) = client.receive_until(|header| header["event"] == "message");
                    let seq = header["seq"].as_u64().unwrap();
                    assert!(seq > last, "{seq} after {last}");
                    last = seq;
                }
            });
        }
    });
}
