//! Uploads and downloads: what is published, when, and what is left.

use super::*;
use std::process::Command;

/// A small file system of its own, as long as this lives.
struct Tmpfs(TempDir);

impl Tmpfs {
    /// `None`, with a word why, where it cannot be mounted, as without root.
    fn new(size: &str) -> Option<Tmpfs> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Tmpfs(dir)),
            why => {
                println!("skipped: a small tmpfs cannot be mounted here: {why:?}");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn an_upload_is_whole_under_its_name_or_not_there() {
    let mut driver = Driver::new();
    let (file, offset) = driver.create(put("f", 6)).unwrap();
    assert_eq!(offset, 0);
    driver.write(file, b"abc").unwrap();
    assert_eq!(driver.stat("f").unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(driver.list("", None, 10).0, Vec::<String>::new());
    driver.write(file, b"def").unwrap();
    assert_eq!(driver.finish(file).unwrap(), *blake3::hash(b"abcdef").as_bytes());
    assert_eq!(std::fs::read(driver.root.join("f")).unwrap(), b"abcdef");
    assert_eq!(driver.hidden(""), Vec::<String>::new());
    assert_eq!(driver.refused(DiskOp::Finish { file, blake3: None }), ErrorCode::NotFound);
}

#[test]
fn a_taken_name_is_refused_at_the_beginning_and_at_the_end() {
    let mut driver = Driver::new();
    let (late, _) = driver.create(put("f", 4)).unwrap();
    driver.put("f", b"first").unwrap();
    assert_eq!(driver.create(put("f", 4)).unwrap_err().code, ErrorCode::Exists);
    driver.write(late, b"late").unwrap();
    assert_eq!(driver.finish(late).unwrap_err().code, ErrorCode::Exists);
    assert_eq!(std::fs::read(driver.root.join("f")).unwrap(), b"first");
    assert_eq!(driver.hidden(""), Vec::<String>::new());
}

#[test]
fn two_uploads_of_one_name_leave_one_of_the_two_whole() {
    let mut driver = Driver::new();
    let (a, _) = driver.create(replace("f", 1 << 20)).unwrap();
    let other = driver.submit(TWO, DiskOp::Create(Box::new(replace("f", 1 << 20))));
    let Ok(DiskDone::Created { file: b, .. }) = driver.answer(TWO, other) else { panic!("not created") };
    for _ in 0..16 {
        driver.submit(ONE, DiskOp::Write { file: a, bytes: vec![b'a'; 1 << 16] });
        driver.submit(TWO, DiskOp::Write { file: b, bytes: vec![b'b'; 1 << 16] });
    }
    let one = driver.submit(ONE, DiskOp::Finish { file: a, blake3: None });
    let two = driver.submit(TWO, DiskOp::Finish { file: b, blake3: None });
    driver.answer(ONE, one).unwrap();
    driver.answer(TWO, two).unwrap();
    let content = std::fs::read(driver.root.join("f")).unwrap();
    assert!(content == vec![b'a'; 1 << 20] || content == vec![b'b'; 1 << 20]);
}

#[test]
fn a_reader_sees_the_old_file_or_the_new_one() {
    let mut driver = Driver::new();
    driver.put("f", b"old").unwrap();
    let (old, total) = driver.open("f");
    let (file, _) = driver.create(replace("f", 4)).unwrap();
    driver.write(file, b"newer").unwrap_or(());
    driver.ask(DiskOp::Release { file, keep: true }).unwrap();
    let (file, _) = driver.create(replace("f", 5)).unwrap();
    driver.write(file, b"newer").unwrap();
    driver.finish(file).unwrap();
    let mut content = [0; 8];
    let n = rustix::io::pread(driver.disk.file(old).unwrap(), &mut content[..], 0).unwrap();
    assert_eq!((&content[..n], total), (&b"old"[..], 3));
    // What was sent is the old file, whole.
    driver.ask(DiskOp::Check { file: old }).unwrap();
    driver.ask(DiskOp::Close { file: old }).unwrap();
    assert!(driver.disk.file(old).is_none());
    assert_eq!(std::fs::read(driver.root.join("f")).unwrap(), b"newer");
}

#[test]
fn a_download_of_a_file_that_is_no_more_what_it_was_has_changed() {
    let mut driver = Driver::new();
    type Change = fn(&Path);
    let changes: [Change; 4] = [
        |path| std::fs::write(path, b"shorter").unwrap(),
        |path| std::fs::write(path, b"longer than it was before").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        driver.put("f", b"as it was").unwrap();
        let (file, _) = driver.open("f");
        driver.ask(DiskOp::Check { file }).unwrap();
        change(&driver.root.join("f"));
        assert_eq!(driver.refused(DiskOp::Check { file }), ErrorCode::Changed, "change {n}");
        driver.ask(DiskOp::Close { file }).unwrap();
        drop(driver.ask(remove("f")));
    }
}

#[test]
fn the_checksum_decides() {
    let mut driver = Driver::new();
    let right = *blake3::hash(b"abc").as_bytes();
    for (promised, at_end) in [(Some([0; 32]), None), (None, Some([0; 32])), (Some(right), Some([0; 32]))] {
        let (file, _) = driver.create(Create { blake3: promised, key: Some("k".into()), ..put("f", 3) }).unwrap();
        driver.write(file, b"abc").unwrap();
        assert_eq!(driver.refused(DiskOp::Finish { file, blake3: at_end }), ErrorCode::ChecksumMismatch);
        assert_eq!(driver.hidden(""), Vec::<String>::new());
    }
    let (file, _) = driver.create(Create { blake3: Some(right), ..put("f", 3) }).unwrap();
    driver.write(file, b"abc").unwrap();
    driver.ask(DiskOp::Finish { file, blake3: Some(right) }).unwrap();
}

#[test]
fn a_file_that_is_there_already_is_recognised() {
    let mut driver = Driver::new();
    driver.put("f", b"abc").unwrap();
    let promised = |create: Create, content: &[u8]| {
        let blake3 = Some(*blake3::hash(content).as_bytes());
        DiskOp::Create(Box::new(Create { blake3, mode: Some(0o600), mtime_ms: Some(5_000), ..create }))
    };
    let before = std::fs::metadata(driver.root.join("f")).unwrap();
    assert!(matches!(driver.ask(promised(put("f", 3), b"abc")), Ok(DiskDone::Already)));
    let after = std::fs::metadata(driver.root.join("f")).unwrap();
    assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()));
    assert_eq!(driver.refused(promised(put("f", 3), b"abd")), ErrorCode::Exists);
    assert!(matches!(driver.ask(promised(replace("f", 3), b"abc")), Ok(DiskDone::Already)));
    let after = std::fs::metadata(driver.root.join("f")).unwrap();
    assert_eq!((after.mode() & 0o777, after.mtime()), (0o600, 5));
    assert!(matches!(driver.ask(promised(replace("f", 3), b"abd")), Ok(DiskDone::Created { .. })));
}

#[test]
fn modes_are_given_or_kept() {
    let mut driver = Driver::new();
    let mode = |driver: &Driver| std::fs::metadata(driver.root.join("f")).unwrap().permissions().mode() & 0o7777;
    let mut store = |create: Create| {
        let (file, _) = driver.create(create).unwrap();
        driver.finish(file).unwrap();
        mode(&driver)
    };
    assert_eq!(store(Create { mode: Some(0o751), ..put("f", 0) }), 0o751);
    assert_eq!(store(replace("f", 0)), 0o751);
    assert_eq!(store(Create { mode: Some(0o600), ..replace("f", 0) }), 0o600);
}

#[test]
fn an_upload_makes_the_directories_above_it() {
    let mut driver = Driver::new();
    let (file, _) = driver.create(Create { parents: true, ..put("a/b/c", 1) }).unwrap();
    driver.write(file, b"x").unwrap();
    driver.finish(file).unwrap();
    assert_eq!(driver.stat("a/b/c").unwrap().length, 1);
}

#[test]
fn an_upload_whose_directory_went_away_is_not_published_elsewhere() {
    let mut driver = Driver::new();
    driver.ask(mkdir("d", false)).unwrap();
    let (file, _) = driver.create(put("d/f", 1)).unwrap();
    driver.write(file, b"x").unwrap();
    driver.ask(rename("d", "e", IfExists::Fail)).unwrap();
    assert_eq!(driver.finish(file).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(driver.list("e", None, 9).0, Vec::<String>::new());
    assert_eq!(driver.hidden("e"), Vec::<String>::new());
}

#[test]
fn five_sparse_gibibytes_have_their_length() {
    let mut driver = Driver::new();
    let sparse = std::fs::File::create(driver.root.join("big")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (5 << 30) - 3).unwrap();
    let (file, total) = driver.open("big");
    assert_eq!(total, 5 << 30);
    let mut tail = [0; 3];
    rustix::io::pread(driver.disk.file(file).unwrap(), &mut tail[..], total - 3).unwrap();
    assert_eq!(&tail, b"end");
    assert_eq!(driver.stat("big").unwrap().length, 5 << 30);
}

#[test]
fn a_cold_stretch_is_warmed() {
    let mut driver = Driver::new();
    driver.put("f", &[7; 1 << 20]).unwrap();
    let (file, _) = driver.open("f");
    let fd = driver.disk.file(file).unwrap();
    rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    driver.disk.warm(ONE, file, 0, 1 << 18);
    driver.wait_until(|driver| driver.warmed == 1);
    assert!(driver.disk.is_resident(file, 0, 1 << 18));
    assert!(driver.disk.is_resident(file, 1 << 20, 1 << 18), "there is nothing to wait for behind the end");
}

#[test]
fn a_full_disk_refuses_at_once_and_gives_the_space_back() {
    let Some(tmpfs) = Tmpfs::new("16m") else { return };
    let mut driver = Driver::at(tmpfs.0.path(), Options::default());
    let free = |driver: &Driver| rustix::fs::statvfs(&driver.root).unwrap().f_bfree;
    let before = free(&driver);
    assert_eq!(driver.create(put("big", 40 << 20)).unwrap_err().code, ErrorCode::NoSpace);
    // What is reserved is not there for another, and comes back.
    let (file, _) = driver.create(put("half", 12 << 20)).unwrap();
    assert_eq!(driver.create(put("other", 12 << 20)).unwrap_err().code, ErrorCode::NoSpace);
    driver.ask(DiskOp::Release { file, keep: false }).unwrap();
    let left = before - free(&driver);
    assert!(left <= 8, "{left} blocks are gone");
    assert_eq!(driver.hidden(""), Vec::<String>::new());
    driver.put("small", &vec![1; 1 << 20]).unwrap();
}

#[test]
fn a_disk_that_fills_up_under_an_upload_loses_only_that_upload() {
    use std::os::unix::fs::FileExt;
    let Some(tmpfs) = Tmpfs::new("4m") else { return };
    let mut driver = Driver::at(tmpfs.0.path(), Options::default());
    let (file, _) = driver.create(put("f", 2 << 20)).unwrap();
    driver.write(file, &vec![1; 1 << 20]).unwrap();
    // Somebody takes the reservation away and fills the disk.
    let part = std::fs::File::options().write(true).open(driver.root.join(&driver.hidden("")[0])).unwrap();
    part.set_len(1 << 20).unwrap();
    drop(part);
    let filler = std::fs::File::create(driver.root.join("filler")).unwrap();
    let mut at = 0;
    while let Ok(n) = filler.write_at(&[2; 1 << 16], at) {
        at += n as u64;
    }
    assert_eq!(driver.write(file, &vec![1; 1 << 20]).unwrap_err().code, ErrorCode::NoSpace);
    assert_eq!(driver.hidden(""), Vec::<String>::new());
    assert_eq!(driver.write(file, b"more").unwrap_err().code, ErrorCode::NoSpace);
    assert_eq!(driver.finish(file).unwrap_err().code, ErrorCode::NoSpace);
    driver.put("small", &vec![1; 1 << 19]).unwrap();
}
