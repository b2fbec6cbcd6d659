//! Programs that stand still: clients, and the server itself.

use crate::common::{Options, Server, has_program, noise, skip, wait_for};
use crate::scale;
use crate::work::{self, Holdings, Neighbour};
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn ctl(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
    command
        .args(["-q", "-H", &server.address.to_string()])
        .arg("--token-file")
        .arg(server.token_file())
        .args(args)
        .env("HOME", server.home.path())
        .stdin(Stdio::null());
    command
}

/// Ends a client that a failing test would leave standing still.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_that_stand_still_cost_nothing_and_go_on() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let content = noise(scale(64, 512) << 20, 1);
    std::fs::write(server.root().join("big"), &content).unwrap();
    let here = tempfile::tempdir().unwrap();
    let out = here.path().join("out");
    let mut getting = Running(ctl(&server, &["get", "big", out.to_str().unwrap()]).spawn().unwrap());
    let command = "seq 1 3000000";
    let spoken = std::fs::File::create(here.path().join("spoken")).unwrap();
    let mut running = Running(ctl(&server, &["exec", "--sh", command]).stdout(spoken).spawn().unwrap());
    wait_for("both to be under way", || {
        let stats = server.stats();
        (stats["open_files"] == 1 && stats["jobs"] == 1).then_some(())
    });
    let memory = server.memory();
    for child in [&getting, &running] {
        signal(child.0.id(), "STOP");
    }
    let neighbour = Neighbour::start(&server);
    std::thread::sleep(Duration::from_millis(scale(300, 5_000)));
    assert!(neighbour.slowest() < Duration::from_millis(500));
    server.rest();
    assert!(server.memory() < memory + (4 << 20), "{memory} -> {}", server.memory());
    for child in [&getting, &running] {
        signal(child.0.id(), "CONT");
    }
    assert!(getting.0.wait().unwrap().success());
    assert!(running.0.wait().unwrap().success());
    assert!(std::fs::read(&out).unwrap() == content);
    let expected: String = (1..=3_000_000).map(|n| format!("{n}\n")).collect();
    assert!(std::fs::read(here.path().join("spoken")).unwrap() == expected.as_bytes());
    before.come_back(&server);
}

#[test]
fn a_server_that_stood_still_blames_nobody_for_it() {
    if !has_program("kill") {
        return skip("there is no kill program");
    }
    let mut server = Options::new().args(&["--idle-timeout", "1"]).start();
    let mut asking = server.client("asking");
    let mut uploading = server.client("uploading");
    let content = noise(60_000, 4);
    let put = json!({"cmd": "put", "id": 1, "path": "f", "length": content.len(), "exists": "replace"});
    assert_eq!(uploading.call(put)["ok"], true);
    let mut running = server.client("running");
    let exec = json!({"cmd": "exec", "id": 1, "shell": "sleep 1; echo done"});
    assert_eq!(running.call(exec)["ok"], true);
    let mut idle = server.client("idle");
    server.signal("STOP");
    // What comes while it stands still came in time.
    asking.send(json!({"cmd": "echo", "id": 7}), b"during");
    uploading.send(json!({"cmd": "data", "id": 1}), &content);
    uploading.send(json!({"cmd": "end", "id": 1}), b"");
    std::thread::sleep(Duration::from_millis(1_500));
    server.signal("CONT");
    assert_eq!(asking.receive().1, b"during");
    let (_, (end, _)) = uploading.receive_until(|header| header["re"] == "end");
    assert_eq!(end["ok"], true, "{end}");
    assert!(std::fs::read(server.root().join("f")).unwrap() == content);
    let (_, (_, said)) = running.receive_until(|header| header["event"] == "stdout");
    assert_eq!(said, b"done\n");
    // Whoever said nothing was idle all the same.
    idle.expect_fatal("timeout");
    drop((asking, uploading, running, idle));
    work::everything(&server);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
