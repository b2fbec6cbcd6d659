//! A server that is killed with SIGKILL while a file is uploaded over another.

use crate::common::{Options, Server, noise, wait_for};
use crate::scale;
use crate::work;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_kill_at_any_moment_leaves_the_old_file_or_the_new_one_whole() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut server = Server::start();
    let mut old = noise(100_000, 0);
    std::fs::write(server.root().join("f"), &old).unwrap();
    let (mut olds, mut news) = (0, 0);
    for round in 1..=scale(20, 200) {
        let new = noise(random.usize(100_000..3_000_000), round);
        let sent = new.clone();
        let mut client = server.client("client");
        let upload = std::thread::spawn(move || work::put(&mut client, "f", &sent));
        // Most kills come while it runs; some before, some after.
        std::thread::sleep(Duration::from_micros(random.u64(..scale(60_000, 60_000))));
        let home = server.kill();
        let done = upload.join().unwrap();
        server = Options::new().home(home).start();
        let found = std::fs::read(server.root().join("f")).unwrap();
        assert!(found == old || found == new, "round {round}: neither the old content nor the new");
        assert!(done.is_err() || found == new, "round {round}: what was confirmed is not there");
        if found == new {
            news += 1
        } else {
            olds += 1
        }
        old = found;
        // What the killed one left behind is swept by the next.
        wait_for("the sweep", || work::temporaries(&server).is_empty().then_some(()));
        let got = work::get(&mut server.client("reader"), "f").unwrap();
        assert!(got == old);
    }
    eprintln!("{olds} times the old content, {news} times the new");
}

#[test]
fn a_resumed_upload_is_right_after_any_number_of_kills() {
    let mut random = fastrand::Rng::with_seed(13);
    let content = noise(scale(12 << 20, 64 << 20), 99);
    let sum = blake3::hash(&content).to_hex();
    let mut server = Server::start();
    let mut resumed = 0;
    for attempt in 0.. {
        let mut client = server.client("client");
        let put =
            json!({"cmd": "put", "id": 1, "path": "f", "length": content.len(), "resume": "key", "exists": "replace"});
        let answer = client.call(put);
        assert_eq!(answer["ok"], true, "{answer}");
        let offset = answer["offset"].as_u64().unwrap() as usize;
        resumed += usize::from(offset > 0);
        let patient = attempt >= scale(5, 40);
        let rest = content[offset..].to_vec();
        let upload = std::thread::spawn(move || {
            for piece in rest.chunks(256 << 10) {
                work::send(&mut client, json!({"cmd": "data", "id": 1}), piece)?;
            }
            work::send(&mut client, json!({"cmd": "end", "id": 1}), b"")?;
            work::receive(&mut client)
        });
        if !patient {
            std::thread::sleep(Duration::from_micros(random.u64(5_000..40_000)));
            let home = server.kill();
            let ended = upload.join().unwrap();
            server = Options::new().home(home).start();
            // It may have been done before the kill; then it begins anew.
            drop(ended);
            continue;
        }
        let (end, _) = upload.join().unwrap().unwrap();
        assert_eq!((&end["ok"], &end["blake3"]), (&json!(true), &json!(sum.as_str())), "{end}");
        break;
    }
    assert!(std::fs::read(server.root().join("f")).unwrap() == content);
    eprintln!("{resumed} times it went on where it was");
}
