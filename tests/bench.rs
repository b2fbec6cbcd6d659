//! `reactorctl bench` against the real server: every kind of load ends by
//! itself, gives its figures, and leaves nothing behind.

mod common;

use common::Server;
use serde_json::Value;
use std::process::{Command, Output};

fn bench(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactorctl"));
    command.env("REACTOR_HOST", server.address.to_string()).env("REACTOR_TOKEN", &server.token);
    command.env_remove("REACTOR_TOKEN_FILE").args(["--json", "bench"]).args(args).output().unwrap()
}

fn figures(server: &Server, args: &[&str]) -> Value {
    let output = bench(server, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["work"], args[0]);
    for pair in ["p50_us", "p99_us", "p999_us", "max_us"].windows(2) {
        assert!(figures[pair[0]].as_f64() <= figures[pair[1]].as_f64(), "{figures}");
    }
    assert!(figures["per_s"].as_f64().unwrap() > 0.0, "{figures}");
    figures
}

#[test]
fn each_load_ends_after_its_count_with_every_answer_right() {
    let server = Server::start();
    let runs: [(&[&str], u64); 9] = [
        (&["echo", "--connections", "7", "--pipeline", "3", "--requests", "1000"], 1_000),
        (&["echo", "--connections", "3", "--size", "0", "--requests", "100"], 100),
        (&["echo", "--connections", "2", "--pipeline", "2", "--size", "1048576", "--requests", "10"], 10),
        (&["echo", "--connections", "3", "--rate", "2000", "--requests", "200"], 200),
        (&["fanout", "--subscribers", "20", "--messages", "300", "--window", "32"], 6_000),
        (&["fanout", "--subscribers", "5", "--stalled", "2", "--size", "9000", "--messages", "50"], 250),
        (&["churn", "--connections", "5", "--requests", "50"], 50),
        (&["idle", "--connections", "30", "--hold", "0.05"], 30),
        (&["exec", "--connections", "2", "--requests", "6"], 6),
    ];
    for (args, count) in runs {
        assert_eq!(figures(&server, args)["count"], count, "{args:?}");
    }
    common::wait_for("the connections to be gone", || (server.stats()["connections"] == 1).then_some(()));
}

#[test]
fn files_are_moved_and_removed() {
    let server = Server::start();
    for work in ["get", "put"] {
        let run = [work, "--connections", "2", "--size", "1", "--requests", "4"];
        assert_eq!(figures(&server, &run)["count"], 4);
    }
    let left: Vec<_> = std::fs::read_dir(server.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with(".reactord-")), "{left:?}");
}

#[test]
fn a_load_can_be_ended_by_time_instead() {
    let server = Server::start();
    let seconds = figures(&server, &["echo", "--connections", "2", "--duration", "0.2"])["seconds"].as_f64().unwrap();
    assert!((0.1..5.0).contains(&seconds), "{seconds}");
}

#[test]
fn idle_memory_is_told_where_the_process_is() {
    let server = Server::start();
    let pid = server.pid().to_string();
    let idle = figures(&server, &["idle", "--connections", "200", "--hold", "0.05", "--pid", &pid]);
    assert!(idle["bytes_each"].as_f64().unwrap() < 64.0 * 1024.0, "{idle}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let server = Server::start();
    for args in [
        &["echo", "--connections", "0"][..],
        &["echo", "--requests", "1", "--duration", "1"],
        &["echo", "--rate", "0"],
        &["fanout", "--size", "0"],
        &["get", "--connections", "1000"],
        &["-H", "192.0.2.1:1", "echo"],
    ] {
        assert_eq!(bench(&server, args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(server.stats()["accepted"], 1);
}
