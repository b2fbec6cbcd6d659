//! Full disks, uploads that race for a name, and links that are swapped while
//! paths are followed.

use crate::common::{Options, Server, has_program, noise, skip, unique, wait_for};
use crate::scale;
use crate::work::{self, Failure, Holdings, Neighbour};
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use serde_json::json;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// How a program gets a file system of its own here, if it may: with a user
/// namespace, or as root.
fn namespace() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["unshare", "--user", "--map-root-user", "--mount"], &["unshare", "--mount"]];
    let works = |way: &&&[&str]| {
        let probe = ["sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"];
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(probe).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !has_program("unshare") {
        return None;
    }
    WAYS.iter().find(works).copied()
}

#[test]
fn a_full_disk_is_refused_and_its_space_comes_back() {
    let Some(namespace) = namespace() else {
        return skip("this user may not mount a file system, not even in a namespace of its own");
    };
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("small");
    std::fs::create_dir(&root).unwrap();
    let mount = format!("mount -t tmpfs -o size=16m tmpfs {} && exec \"$@\"", root.display());
    let wrapper: Vec<&str> = namespace.iter().copied().chain(["sh", "-c", &mount, "sh"]).collect();
    let server = Options::new().home(home).wrapper(&wrapper).args(&["--root", root.to_str().unwrap()]).start();
    let seen = format!("/proc/{}/root{}", server.pid(), root.display());
    let free = || statvfs(seen.as_str()).map(|fs| fs.f_bavail * fs.f_frsize).unwrap();
    let neighbour = Neighbour::start(&server);
    let mut client = server.client("client");
    let before = free();
    let no_space = Err(Failure::Refused("no_space".into()));
    // A whole file that never fits.
    assert_eq!(work::put(&mut client, "f", &noise(40 << 20, 1)), no_space);
    work::echo(&mut client, 1_000).unwrap();
    wait_for("the space to come back", || (free() >= before).then_some(()));
    // One that does not fit beside the others.
    for name in ["a", "b", "c"] {
        work::put(&mut client, name, &noise(4 << 20, 2)).unwrap();
    }
    assert_eq!(work::put(&mut client, "d", &noise(8 << 20, 3)), no_space);
    work::put(&mut client, "d", &noise(1 << 20, 4)).unwrap();
    assert!(work::get(&mut client, "d").unwrap() == noise(1 << 20, 4));
    // Replacing needs room for both, and the old one stays where there is none.
    assert_eq!(work::put(&mut client, "a", &noise(5 << 20, 5)), no_space);
    assert!(work::get(&mut client, "a").unwrap() == noise(4 << 20, 2));
    let names = std::fs::read_dir(&seen).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != ".reactord-parts").collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c", "d"]);
    neighbour.slowest();
}

#[test]
fn of_two_uploads_of_one_name_one_is_there_whole() {
    let server = Server::start();
    let before = Holdings::of(&server);
    let contents = [noise(700_000, 1), noise(500_000, 2)];
    for round in 0..scale(20, 500) {
        for exists in ["fail", "replace"] {
            let path = format!("{exists}-{round}");
            let fields = json!({"path": path, "exists": exists});
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let upload = |content: &Vec<u8>| {
                    let mut client = server.client(&format!("upload-{}", unique()));
                    let (fields, content) = (fields.clone(), content.clone());
                    scope.spawn(move || work::put_with(&mut client, fields, &content))
                };
                contents.each_ref().map(upload).into_iter().map(|upload| upload.join().unwrap()).collect()
            });
            let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!(done, if exists == "fail" { 1 } else { 2 }, "{outcomes:?}");
            assert!(outcomes.iter().all(|o| o.is_ok() || *o == Err(Failure::Refused("exists".into()))));
            let found = std::fs::read(server.root().join(&path)).unwrap();
            let winners = contents.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            assert!(winners.map(|(content, _)| content).any(|content| *content == found));
            std::fs::remove_file(server.root().join(&path)).unwrap();
        }
    }
    before.come_back(&server);
}

#[test]
fn a_directory_swapped_with_a_link_never_leads_outside() {
    let swaps = scale(20_000, 100_000);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("f"), "outside").unwrap();
    std::fs::create_dir(outside.path().join("sub")).unwrap();
    let look = || {
        let names = std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        (names, std::fs::read(outside.path().join("f")).unwrap())
    };
    let before = look();
    let server = Server::start();
    let (d, l) = (server.root().join("d"), server.root().join("l"));
    std::fs::create_dir(&d).unwrap();
    std::fs::write(d.join("f"), "inside").unwrap();
    std::os::unix::fs::symlink(outside.path(), &l).unwrap();
    let over = AtomicBool::new(false);
    let (opened, refused) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|n| {
                let (server, over) = (&server, &over);
                scope.spawn(move || {
                    let mut client = server.client(&format!("racer-{n}"));
                    let (mut opened, mut refused) = (0, 0);
                    let mut count = |outcome: work::Result<()>| match outcome {
                        Ok(()) => opened += 1,
                        Err(Failure::Refused(_)) => refused += 1,
                        Err(Failure::Ended) => panic!("the connection ended"),
                    };
                    while !over.load(Ordering::Relaxed) {
                        count(work::get(&mut client, "d/f").map(|content| assert_eq!(content, b"inside")));
                        count(work::put(&mut client, &format!("d/new-{n}"), b"new"));
                        for request in [
                            json!({"cmd": "stat", "path": "d/f"}),
                            json!({"cmd": "hash", "path": "d/f"}),
                            json!({"cmd": "mkdir", "path": format!("d/sub/made-{n}"), "parents": true}),
                            json!({"cmd": "rename", "path": format!("d/new-{n}"), "to": format!("d/moved-{n}"), "exists": "replace"}),
                            json!({"cmd": "remove", "path": format!("d/moved-{n}")}),
                        ] {
                            count(work::ask(&mut client, request).map(drop));
                        }
                    }
                    (opened, refused)
                })
            })
            .collect();
        for _ in 0..swaps {
            renameat_with(CWD, &d, CWD, &l, RenameFlags::EXCHANGE).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    assert!(opened > 0 && refused > 0, "{opened} went through, {refused} were refused");
    assert_eq!(look(), before);
    assert_eq!(std::fs::read_dir(outside.path().join("sub")).unwrap().count(), 0);
    eprintln!("{opened} went through, {refused} were refused");
}
