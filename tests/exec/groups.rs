//! What becomes of process groups when their connection or the server goes.

use super::common::{Client, Server, wait_for};
use super::{first_line, start};
use serde_json::json;
use std::time::{Duration, Instant};

/// What protocol and server give a command that is being ended.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Whether a process of that group is left; zombies are their parent's business.
fn group_lives(group: u32) -> bool {
    let in_group = |stat: String| {
        // proc_pid_stat(5): behind the name, which may hold anything, stand
        // state, parent and group.
        let fields: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        fields[0] != "Z" && fields[2] == group.to_string()
    };
    // A process may be gone before it is looked at.
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    stats.flat_map(|entry| std::fs::read_to_string(entry.path().join("stat"))).any(in_group)
}

fn time_to_end(group: u32, began: Instant) -> Duration {
    wait_for("the group to end", || (!group_lives(group)).then(|| began.elapsed()))
}

/// A command that ends when asked to, with its children, and one that does not.
fn polite_and_stubborn(client: &mut Client) -> [u32; 2] {
    let polite = start(client, json!({"cmd": "exec", "id": 1, "shell": "sleep 99 & echo x; wait"})).0;
    first_line(client);
    let text = "trap '' TERM; echo x; while :; do sleep 1; done";
    let stubborn = start(client, json!({"cmd": "exec", "id": 2, "shell": text})).0;
    first_line(client);
    [polite, stubborn]
}

fn assert_ended([polite, stubborn]: [u32; 2], began: Instant) {
    assert!(time_to_end(polite, began) < Duration::from_secs(1));
    let took = time_to_end(stubborn, began);
    assert!(took >= KILL_GRACE - Duration::from_millis(100) && took < KILL_GRACE + Duration::from_secs(1), "{took:?}");
}

#[test]
fn groups_end_with_their_connection() {
    let server = Server::start();
    let mut client = server.client("a");
    let groups = polite_and_stubborn(&mut client);
    let began = Instant::now();
    client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    drop(client);
    assert_ended(groups, began);
}

#[test]
fn a_connection_that_fails_unread_ends_its_command() {
    let server = Server::start();
    for pause in ["half-closed", "command does not read"] {
        let mut client = server.client("a");
        let (pid, _) = start(&mut client, json!({"cmd": "exec", "id": 1, "argv": ["sleep", "99"], "hangup": "finish"}));
        if pause == "half-closed" {
            client.finish();
        } else {
            (0..2).for_each(|_| client.send(json!({"cmd": "input", "id": 1}), &[7; 1 << 20]));
        }
        server.rest();
        let began = Instant::now();
        // With this closing resets the connection.
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert!(time_to_end(pid, began) < Duration::from_secs(5), "{pause}");
    }
}

#[test]
fn groups_end_when_the_server_stops() {
    let server = Server::start();
    let mut client = server.client("a");
    let groups = polite_and_stubborn(&mut client);
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(!groups.into_iter().any(group_lives));
}

/// Whether a process handles SIGINT; proc_pid_status(5).
fn catches_interrupts(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigCgt:").or(line.strip_prefix("SigIgn:")));
    masks.map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap()).any(|mask| mask & 0b10 != 0)
}

#[test]
fn groups_end_when_the_server_is_killed() {
    let server = Server::start();
    let mut client = server.client("a");
    let groups = polite_and_stubborn(&mut client);
    let warden = server.children().into_iter().find(|pid| !groups.contains(pid)).unwrap();
    // What is meant for the server, a terminal's Ctrl-C say, does not end it
    // once it has begun; until then it is a process like any other.
    wait_for("the warden to have begun", || catches_interrupts(warden).then_some(()));
    assert_eq!(std::fs::read_dir(format!("/proc/{warden}/fd")).unwrap().count(), 3);
    let signalled = std::process::Command::new("kill").args(["-INT", &warden.to_string()]).status().unwrap();
    assert!(signalled.success());
    let began = Instant::now();
    server.kill();
    assert_ended(groups, began);
    time_to_end(warden, began);
}
