//! Names: made, renamed, removed, described and listed.

use super::*;

#[test]
fn names_are_made_renamed_and_removed() {
    let mut driver = Driver::new();
    driver.ask(mkdir("a/b/c", true)).unwrap();
    assert_eq!(driver.refused(mkdir("a/b/c", true)), ErrorCode::Exists);
    assert_eq!(driver.refused(mkdir("x/y", false)), ErrorCode::NotFound);
    driver.put("a/f", b"one").unwrap();
    driver.put("a/g", b"three").unwrap();
    assert_eq!(driver.refused(rename("a/f", "a/g", IfExists::Fail)), ErrorCode::Exists);
    assert_eq!(driver.refused(rename("a/none", "a/h", IfExists::Fail)), ErrorCode::NotFound);
    assert_eq!(driver.refused(rename("a/f", "none/h", IfExists::Fail)), ErrorCode::NotFound);
    assert_eq!(driver.refused(rename("a", "a/b/d", IfExists::Fail)), ErrorCode::InvalidPath);
    assert_eq!(driver.refused(rename("a/f", "a/b", IfExists::Replace)), ErrorCode::IsDirectory);
    driver.ask(rename("a/f", "a/g", IfExists::Replace)).unwrap();
    assert_eq!(driver.stat("a/g").unwrap().length, 3);
    driver.ask(rename("a/g", "moved", IfExists::Fail)).unwrap();
    assert_eq!(driver.refused(remove("a")), ErrorCode::NotEmpty);
    assert_eq!(driver.refused(remove("a/g")), ErrorCode::NotFound);
    for path in ["a/b/c", "a/b", "a", "moved"] {
        driver.ask(remove(path)).unwrap();
    }
    assert_eq!(driver.list("", None, 10).0, Vec::<String>::new());
}

#[test]
fn a_name_that_is_renamed_to_itself_is_taken_by_itself() {
    let mut driver = Driver::new();
    driver.put("f", b"one").unwrap();
    driver.ask(mkdir("d", false)).unwrap();
    for path in ["f", "d"] {
        assert_eq!(driver.refused(rename(path, path, IfExists::Fail)), ErrorCode::Exists);
        driver.ask(rename(path, path, IfExists::Replace)).unwrap();
    }
    assert_eq!(driver.list("", None, 10).0, ["d", "f"]);
}

#[test]
fn a_link_to_a_directory_is_followed_on_the_way_and_not_listed_itself() {
    let mut driver = Driver::new();
    driver.put("f", b"one").unwrap();
    driver.ask(mkdir("d/e", true)).unwrap();
    symlink("d", driver.root.join("link")).unwrap();
    assert_eq!(driver.list("link/e", None, 10).0, Vec::<String>::new());
    for (path, code) in [("link", ErrorCode::NotDirectory), ("f", ErrorCode::NotDirectory), ("x", ErrorCode::NotFound)]
    {
        assert_eq!(driver.refused(DiskOp::List { path: path.into(), after: None, limit: 10 }), code, "{path}");
    }
}

#[test]
fn a_page_of_nothing_says_whether_there_is_anything() {
    let mut driver = Driver::new();
    assert_eq!(driver.list("", None, 0), (vec![], false, 0));
    driver.put("f", b"one").unwrap();
    assert_eq!(driver.list("", None, 0), (vec![], true, 0));
    assert_eq!(driver.list("", Some("f"), 0), (vec![], false, 0));
}

#[test]
fn stat_follows_links_and_describes_what_it_finds() {
    let mut driver = Driver::new();
    let (file, _) = driver.create(Create { mode: Some(0o640), mtime_ms: Some(-1_500), ..put("f", 3) }).unwrap();
    driver.write(file, b"abc").unwrap();
    driver.finish(file).unwrap();
    symlink("f", driver.root.join("link")).unwrap();
    symlink("nowhere", driver.root.join("dangling")).unwrap();
    let expected = Status { kind: Kind::File, length: 3, mtime_ms: -1_500, mode: 0o640 };
    assert_eq!(driver.stat("link").unwrap(), expected);
    assert_eq!(driver.stat("").unwrap().kind, Kind::Dir);
    assert_eq!(driver.stat("dangling").unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn odd_names_are_ordinary() {
    let mut driver = Driver::new();
    let long = "长".repeat(85);
    for name in ["数据.bin", &long, " ", "-rf", "a\"b\\c", "🦀"] {
        driver.put(name, name.as_bytes()).unwrap();
        assert_eq!(driver.stat(name).unwrap().length, name.len() as u64);
    }
    let mut names = driver.list("", None, 10).0;
    assert!(names.is_sorted());
    names.retain(|name| driver.ask(remove(name)).is_err());
    assert_eq!(names, Vec::<String>::new());
}

#[test]
fn names_that_are_not_utf8_are_counted_and_own_ones_are_hidden() {
    use std::os::unix::ffi::OsStrExt;
    let mut driver = Driver::new();
    std::fs::write(driver.root.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "").unwrap();
    std::fs::write(driver.root.join(".reactord-x"), "").unwrap();
    std::fs::write(driver.root.join("plain"), "").unwrap();
    symlink("plain", driver.root.join("link")).unwrap();
    assert_eq!(driver.list("", None, 10), (vec!["link".into(), "plain".into()], false, 1));
    assert_eq!(driver.refused(DiskOp::List { path: "link".into(), after: None, limit: 9 }), ErrorCode::NotDirectory);
}

#[test]
fn a_hundred_thousand_entries_come_in_pages_each_once_and_in_order() {
    const ENTRIES: usize = 100_000;
    let mut driver = Driver::new();
    let original = driver.root.join("original");
    std::fs::write(&original, "").unwrap();
    let directory = driver.root.join("d");
    std::fs::create_dir(&directory).unwrap();
    for n in 0..ENTRIES {
        // Links would be quicker, but file systems bound their number.
        std::fs::File::create(directory.join(format!("{n}"))).unwrap();
    }
    let (mut names, mut after) = (Vec::new(), None::<String>);
    loop {
        let (page, more, _) = driver.list("d", after.as_deref(), 1_000);
        after = page.last().cloned();
        names.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(names.len(), ENTRIES);
    assert!(names.is_sorted());
}

#[test]
fn a_change_between_two_pages_is_seen() {
    let mut driver = Driver::new();
    for n in 0..20 {
        driver.put(&format!("{n:02}"), b"").unwrap();
    }
    for round in 0..20 {
        driver.list("", None, 5);
        driver.ask(remove("07")).unwrap();
        assert_eq!(driver.list("", Some("05"), 2).0, ["06", "08"], "round {round}");
        driver.put("07", b"").unwrap();
        assert_eq!(driver.list("", Some("05"), 2).0, ["06", "07"], "round {round}");
    }
    assert_eq!(driver.list("", Some("18"), 0), (vec![], true, 0));
    assert_eq!(driver.list("", Some("19"), 0), (vec![], false, 0));
}
