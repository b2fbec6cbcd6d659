//! Transfers between `reactorctl` and `reactord`: what arrives is what was
//! sent, also when the server is killed under way.

use crate::common::noise;
use crate::fake::Running;
use crate::real::Site;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

/// Whether a file in `dir` whose name begins with `prefix` has bytes.
fn has_begun(dir: &Path, prefix: &str) -> bool {
    // A directory that is not there yet has none.
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let begun = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
        begun && entry.file_name().to_string_lossy().starts_with(prefix)
    })
}

#[test]
fn a_file_comes_back_as_it_went() {
    let site = Site::start();
    let content = noise(20_000_000, 1);
    fs::write(site.local("a"), &content).unwrap();
    site.does(&["put", "--verify", "a"]);
    let hash = blake3::hash(&content).to_hex();
    assert_eq!(site.does(&["hash", "a"]), format!("{hash}  a\n"));

    let refused = site.run(&["put", "a"]);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    site.does(&["put", "--replace", "a"]);
    let again: Value =
        serde_json::from_str(site.does(&["--json", "put", "--resume", "a"]).lines().next().unwrap()).unwrap();
    assert_eq!(again["already"], true);

    site.does(&["mkdir", "-p", "d/e"]);
    let taken = site.run(&["mv", "a", "d"]);
    assert_eq!(taken.code(), Some(1));
    assert!(taken.stderr.contains("--replace"), "{}", taken.stderr);
    site.does(&["mv", "a", "d/e/"]);
    assert_eq!((site.does(&["ls"]), site.does(&["ls", "d/e"])), ("d/\n".to_owned(), "a\n".to_owned()));
    site.does(&["get", "--verify", "d/e/a", "b"]);
    assert!(fs::read(site.local("b")).unwrap() == content);
    site.does(&["get", "--resume", "--verify", "d/e/a", "c"]);
    assert!(fs::read(site.local("c")).unwrap() == content);
    assert!(site.run(&["get", "d/e/a", "-"]).stdout == content);
    site.does(&["rm", "d/e/a", "d/e", "d"]);
    assert_eq!(site.does(&["ls"]), "");
}

#[test]
fn a_tree_comes_back_with_its_modes_and_times() {
    let site = Site::start();
    let top = site.local("top");
    fs::create_dir_all(top.join("sub/empty")).unwrap();
    for i in 0..50 {
        fs::write(top.join(format!("sub/{i}")), format!("content {i}")).unwrap();
    }
    let script = top.join("漢字 script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    fs::File::options().write(true).open(&script).unwrap().set_modified(then).unwrap();
    symlink("sub", top.join("link")).unwrap();

    let sent = site.run(&["put", "-r", "top"]);
    assert_eq!(sent.code(), Some(0), "{}", sent.stderr);
    assert!(sent.stderr.contains("link is skipped") && sent.stderr.contains("51 files"), "{}", sent.stderr);
    site.does(&["get", "-r", "--verify", "top", "copy"]);
    let copy = site.local("copy");
    for i in 0..50 {
        assert_eq!(fs::read_to_string(copy.join(format!("sub/{i}"))).unwrap(), format!("content {i}"));
    }
    let metadata = fs::metadata(copy.join("漢字 script")).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o700, metadata.modified().unwrap()), (0o700, then));
    assert!(copy.join("sub/empty").is_dir() && !copy.join("link").exists());
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 2);
}

#[test]
fn standard_input_becomes_a_file() {
    let site = Site::start();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"from a pipe").unwrap();
    drop(writer);
    let output = site.ctl(&["put", "-p", "-", "new/place"]).stdin(reader).output().unwrap();
    assert!(output.status.success());
    assert_eq!(site.run(&["get", "new/place", "-"]).text(), "from a pipe");
}

#[test]
fn an_upload_survives_a_killed_server() {
    let mut site = Site::start();
    let content = noise(64 << 20, 1);
    fs::write(site.local("a"), &content).unwrap();
    let child = Running::spawn(site.ctl(&["put", "--resume", "a"]).stderr(Stdio::piped()));
    let root = site.server().root();
    while !has_begun(&root, ".reactord-") {
        std::thread::yield_now();
    }
    site.crash_and_restart();
    let ran = child.output();
    assert_eq!(ran.code(), Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("trying again in"), "{}", ran.stderr);
    assert!(fs::read(root.join("a")).unwrap() == content);
}

#[test]
fn a_download_survives_a_killed_server() {
    let mut site = Site::start();
    let content = noise(64 << 20, 1);
    fs::write(site.server().root().join("a"), &content).unwrap();
    fs::create_dir(site.local("here")).unwrap();
    let child = Running::spawn(site.ctl(&["get", "--resume", "--verify", "a", "here"]).stderr(Stdio::piped()));
    while !has_begun(&site.local("here"), ".reactorctl-") {
        std::thread::yield_now();
    }
    site.crash_and_restart();
    let ran = child.output();
    assert_eq!(ran.code(), Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("trying again in"), "{}", ran.stderr);
    assert!(fs::read(site.local("here/a")).unwrap() == content);
    assert_eq!(fs::read_dir(site.local("here")).unwrap().count(), 1);
}
