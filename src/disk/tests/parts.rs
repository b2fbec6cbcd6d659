//! Interrupted uploads: what is kept, gone on with, and swept.

use super::*;
use std::time::SystemTime;

fn keyed(path: &str, length: usize, key: &str) -> Create {
    Create { key: Some(key.into()), ..put(path, length) }
}

/// What a server that was killed leaves behind: its files without their locks.
/// (The lock ends with the process; here it ends with a copy of the root.)
fn crashed(driver: &Driver) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut cp = std::process::Command::new("cp");
    cp.args(["-a", "--preserve=all"]).arg(driver.root.join(".")).arg(copy.path());
    assert!(cp.status().unwrap().success());
    copy
}

#[test]
fn an_interrupted_upload_goes_on_where_it_was() {
    let mut driver = Driver::new();
    let (file, _) = driver.create(keyed("f", 6, "k")).unwrap();
    driver.write(file, b"abc").unwrap();
    driver.ask(DiskOp::Release { file, keep: true }).unwrap();
    // Another length or key is another upload.
    for other in [keyed("f", 7, "k"), keyed("f", 6, "l")] {
        let (file, offset) = driver.create(other).unwrap();
        assert_eq!(offset, 0);
        driver.ask(DiskOp::Release { file, keep: false }).unwrap();
    }
    let (file, offset) = driver.create(keyed("f", 6, "k")).unwrap();
    assert_eq!(offset, 3);
    driver.write(file, b"def").unwrap();
    assert_eq!(driver.finish(file).unwrap(), *blake3::hash(b"abcdef").as_bytes());
    assert_eq!(driver.hidden(""), Vec::<String>::new());
    let published = std::fs::File::open(driver.root.join("f")).unwrap();
    let marks = rustix::fs::flistxattr(&published, &mut [0u8; 256][..]).unwrap();
    assert_eq!(marks, 0, "a published file carries no mark");
}

#[test]
fn a_key_in_use_is_busy_and_free_again_when_its_connection_is_gone() {
    let mut driver = Driver::new();
    let create = |driver: &mut Driver, conn| {
        let ticket = driver.submit(conn, DiskOp::Create(Box::new(keyed("f", 6, "k"))));
        driver.answer(conn, ticket)
    };
    let Ok(DiskDone::Created { file, .. }) = create(&mut driver, TWO) else { panic!("not created") };
    let write = driver.submit(TWO, DiskOp::Write { file, bytes: b"ab".to_vec() });
    driver.answer(TWO, write).unwrap();
    assert_eq!(create(&mut driver, ONE).unwrap_err().code, ErrorCode::Busy);
    driver.disk.gone(TWO);
    // The release is at a worker: until it is done the key is still in use.
    loop {
        match create(&mut driver, ONE) {
            Ok(DiskDone::Created { offset, .. }) => break assert_eq!(offset, 2),
            Err(refusal) => assert_eq!(refusal.code, ErrorCode::Busy),
            Ok(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_crash_leaves_a_part_that_is_resumed_and_a_temporary_file_that_is_swept() {
    let mut driver = Driver::new();
    driver.ask(mkdir("d", false)).unwrap();
    let (keep, _) = driver.create(keyed("d/f", 6, "k")).unwrap();
    let (drop_it, _) = driver.create(put("d/g", 6)).unwrap();
    driver.write(keep, b"abcd").unwrap();
    driver.write(drop_it, b"abcd").unwrap();
    let copy = crashed(&driver);
    assert_eq!(std::fs::read_dir(copy.path().join("d")).unwrap().count(), 2);

    let mut next = Driver::at(copy.path(), Options::default());
    let (file, offset) = next.create(keyed("d/f", 6, "k")).unwrap();
    assert_eq!(offset, 4);
    next.write(file, b"ef").unwrap();
    assert_eq!(next.finish(file).unwrap(), *blake3::hash(b"abcdef").as_bytes());
    wait_for(|| next.hidden("d").is_empty());
    assert_eq!(next.list("d", None, 9).0, ["f"]);
    // The server that still runs keeps its own.
    assert_eq!(driver.hidden("d").len(), 2);
}

/// Sweeps are nobody's request, so nothing tells when one is over.
fn wait_for(done: impl Fn() -> bool) {
    let deadline = SystemTime::now() + Duration::from_secs(20);
    while !done() {
        assert!(SystemTime::now() < deadline, "waited too long");
        std::thread::yield_now();
    }
}

#[test]
fn a_part_of_another_boot_counts_only_as_far_as_it_was_durable() {
    let mut driver = Driver::new();
    for (mark, expected) in [("another-boot 2", 2), ("another-boot 9", 4), ("nonsense", 0), ("another-boot -1", 0)] {
        let (file, _) = driver.create(keyed("f", 6, mark)).unwrap();
        driver.write(file, b"abcd").unwrap();
        driver.ask(DiskOp::Release { file, keep: true }).unwrap();
        let part = driver.root.join(&driver.hidden("")[0]);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&part, "user.reactord.part", mark.as_bytes(), flags).unwrap();
        let (file, offset) = driver.create(keyed("f", 6, mark)).unwrap();
        assert_eq!(offset, expected, "{mark}");
        driver.ask(DiskOp::Release { file, keep: false }).unwrap();
        assert_eq!(driver.hidden(""), Vec::<String>::new());
    }
}

#[test]
fn parts_expire_when_nobody_used_them() {
    let mut driver = Driver::new();
    for name in ["old", "new"] {
        let (file, _) = driver.create(keyed(name, 6, "k")).unwrap();
        driver.write(file, b"abcd").unwrap();
        driver.ask(DiskOp::Release { file, keep: true }).unwrap();
        if name == "old" {
            let part = std::fs::File::open(driver.root.join(&driver.hidden("")[0])).unwrap();
            part.set_modified(SystemTime::now() - Duration::from_secs(25 * 3_600)).unwrap();
        }
    }
    assert_eq!(driver.hidden("").len(), 2);
    let copy = crashed(&driver);
    let next = Driver::at(copy.path(), Options::default());
    wait_for(|| next.hidden("").len() == 1);
    let mut next = next;
    assert_eq!(next.create(keyed("new", 6, "k")).unwrap().1, 4);
}

#[test]
fn notes_go_when_nothing_is_left_to_find() {
    let mut driver = Driver::new();
    driver.ask(mkdir("d", false)).unwrap();
    driver.put("d/f", b"x").unwrap();
    driver.put("g", b"x").unwrap();
    let notes = driver.root.join(".reactord-parts");
    assert_eq!(std::fs::read_dir(&notes).unwrap().count(), 2);
    assert!(driver.disk.shutdown(Duration::from_secs(10)));
    let _next = Driver::at(&driver.root, Options::default());
    wait_for(|| std::fs::read_dir(&notes).unwrap().count() == 0);
}

#[test]
fn a_directory_with_nothing_but_parts_can_be_removed() {
    let mut driver = Driver::new();
    driver.ask(mkdir("d", false)).unwrap();
    let (file, _) = driver.create(keyed("d/f", 6, "k")).unwrap();
    driver.write(file, b"abcd").unwrap();
    assert_eq!(driver.refused(remove("d")), ErrorCode::NotEmpty);
    driver.ask(DiskOp::Release { file, keep: true }).unwrap();
    driver.put("d/g", b"x").unwrap();
    assert_eq!(driver.refused(remove("d")), ErrorCode::NotEmpty);
    assert_eq!(driver.hidden("d").len(), 1, "a refused removal takes no part away");
    driver.ask(remove("d/g")).unwrap();
    driver.ask(remove("d")).unwrap();
}

#[test]
fn a_part_in_a_renamed_directory_is_still_found() {
    let mut driver = Driver::new();
    driver.ask(mkdir("a/b", true)).unwrap();
    let (file, _) = driver.create(put("a/b/f", 6)).unwrap();
    driver.write(file, b"abcd").unwrap();
    driver.ask(rename("a", "moved", IfExists::Fail)).unwrap();
    let copy = crashed(&driver);
    let next = Driver::at(copy.path(), Options::default());
    wait_for(|| next.hidden("moved/b").is_empty());
}

#[test]
fn stopping_keeps_parts_with_a_key_and_nothing_else() {
    let mut driver = Driver::new();
    let (file, _) = driver.create(keyed("f", 6, "k")).unwrap();
    driver.submit(ONE, DiskOp::Write { file, bytes: b"abcd".to_vec() });
    driver.create(put("g", 6)).unwrap();
    assert!(driver.disk.shutdown(Duration::from_secs(10)));
    assert_eq!(driver.hidden("").len(), 1);
    let mut next = Driver::at(&driver.root, Options::default());
    assert_eq!(next.create(keyed("f", 6, "k")).unwrap().1, 4);
}
