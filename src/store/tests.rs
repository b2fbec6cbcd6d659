//! The history across restarts, crashes, damage and slow disks.

use super::*;
use crate::proto::rooms::{Config, Deliver, Delivery, Message, Op, Reply, SavedMessage, SavedRoom};
use crate::proto::{ConnId, Now};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

struct Nobody;

impl Deliver for Nobody {
    fn deliver(&mut self, _: ConnId, _: &Delivery) {}
}

fn op(rooms: &mut Rooms, op: Op) -> Reply {
    let now = Now { instant: Instant::now(), unix_ms: 7 };
    rooms.apply(now, ConnId(1), op, &mut Nobody)
}

fn say(rooms: &mut Rooms, room: &str, text: &str) -> u64 {
    match op(rooms, Op::Say { room: room.into(), body: text.to_owned().into() }) {
        Reply::Said { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

/// Joins: the last number, the epoch, and what is kept.
fn join(rooms: &mut Rooms, room: &str) -> (u64, String, Vec<Arc<Message>>) {
    match op(rooms, Op::Join { room: room.into(), history: Some(u64::MAX), after: None }) {
        Reply::Joined { seq, epoch, kept, .. } => (seq, epoch.to_string(), kept),
        other => panic!("{other:?}"),
    }
}

fn leave(rooms: &mut Rooms, room: &str) {
    assert!(matches!(op(rooms, Op::Leave { room: room.into() }), Reply::Done));
}

fn rooms(history: usize, seed: &str) -> Rooms {
    Rooms::new(Config { history, epoch_seed: seed.into(), ..Config::default() })
}

fn open(dir: &Path, rooms: &mut Rooms) -> Result<Store, StoreError> {
    Store::open(dir, Instant::now(), rooms)
}

/// Calls `save` until everything said is on the disk.
fn settle(store: &mut Store, rooms: &mut Rooms) {
    while let Some(due) = store.save(Instant::now(), rooms) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
    }
}

fn seqs(messages: &[Arc<Message>]) -> Vec<u64> {
    messages.iter().map(|m| m.seq).collect()
}

/// What the file holds: rooms, last number, kept numbers.
fn on_disk(dir: &Path) -> Vec<(String, u64, Vec<u64>)> {
    let (_, contents) = HistoryFile::open(&dir.join(FILE_NAME)).unwrap();
    let seqs = |room: &SavedRoom| room.messages.iter().map(|m| m.seq).collect();
    contents.rooms.iter().map(|room| (room.name.clone(), room.seq, seqs(room))).collect()
}

#[test]
fn a_restart_keeps_messages_numbers_and_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = rooms(3, "first");
    let mut store = open(dir.path(), &mut before).unwrap();
    let (_, epoch, _) = join(&mut before, "caf\u{e9}");
    for n in 1..=5 {
        assert_eq!(say(&mut before, "caf\u{e9}", &format!("text {n}")), n);
        if n == 2 {
            settle(&mut store, &mut before);
        }
    }
    let (_, _, kept) = join(&mut before, "caf\u{e9}");
    store.close(Instant::now(), &mut before).unwrap();

    let mut after = rooms(3, "second");
    let store = open(dir.path(), &mut after).unwrap();
    let restored = join(&mut after, "caf\u{e9}");
    assert_eq!(restored, (5, epoch.clone(), kept));
    assert_eq!(seqs(&restored.2), [3, 4, 5]);
    assert_eq!(say(&mut after, "caf\u{e9}", "on"), 6);
    store.close(Instant::now(), &mut after).unwrap();

    let mut fewer = rooms(1, "third");
    let store = open(dir.path(), &mut fewer).unwrap();
    let (seq, same, kept) = join(&mut fewer, "caf\u{e9}");
    assert_eq!((seq, same, seqs(&kept)), (6, epoch, vec![6]));
    store.close(Instant::now(), &mut fewer).unwrap();
    assert_eq!(on_disk(dir.path()), [("caf\u{e9}".to_owned(), 6, vec![6])]);
}

#[test]
fn what_is_forgotten_leaves_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut rooms = Rooms::new(Config { history: 4, history_bytes: 3_000, ..Config::default() });
    let mut store = open(dir.path(), &mut rooms).unwrap();
    for room in ["ended", "pruned"] {
        join(&mut rooms, room);
        say(&mut rooms, room, "x");
        settle(&mut store, &mut rooms);
    }
    leave(&mut rooms, "ended");
    for _ in 0..3 {
        say(&mut rooms, "pruned", &"x".repeat(900));
    }
    settle(&mut store, &mut rooms);
    say(&mut rooms, "pruned", "y");
    store.close(Instant::now(), &mut rooms).unwrap();
    assert_eq!(on_disk(dir.path()), [("pruned".to_owned(), 5, vec![3, 4, 5])]);
}

#[test]
fn a_room_that_ends_and_begins_again_starts_from_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut rooms = rooms(0, "s");
    let mut store = open(dir.path(), &mut rooms).unwrap();
    join(&mut rooms, "r");
    say(&mut rooms, "r", "x");
    say(&mut rooms, "r", "x");
    settle(&mut store, &mut rooms);
    leave(&mut rooms, "r");
    join(&mut rooms, "r");
    say(&mut rooms, "r", "x");
    store.close(Instant::now(), &mut rooms).unwrap();
    assert_eq!(on_disk(dir.path()), [("r".to_owned(), 1, vec![])]);
}

#[test]
fn a_file_in_use_or_not_ours_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut rooms = rooms(9, "s");
    let store = open(dir.path(), &mut rooms).unwrap();
    let path = dir.path().join(FILE_NAME);
    let error = open(dir.path(), &mut rooms).unwrap_err();
    assert_eq!(error, StoreError::InUse { path: path.clone() });
    assert!(error.to_string().contains("--state-dir"));
    store.close(Instant::now(), &mut rooms).unwrap();

    for text in ["no database", &"x".repeat(100_000)] {
        std::fs::write(&path, text).unwrap();
        let error = open(dir.path(), &mut rooms).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { path: named, .. } if *named == path), "{error:?}");
        assert!(error.to_string().contains("move it away"));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(open(dir.path(), &mut rooms), Err(StoreError::Io { .. })));
}

#[test]
fn damage_is_found_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut before = rooms(100, "s");
    let store = open(dir.path(), &mut before).unwrap();
    join(&mut before, "r");
    for n in 0..100 {
        say(&mut before, "r", &n.to_string().repeat(50));
    }
    store.close(Instant::now(), &mut before).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut found = 0;
    for at in (0..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        bad[at..(at + 16).min(good.len())].fill(0xa5);
        std::fs::write(&path, &bad).unwrap();
        let mut after = rooms(100, "s");
        match open(dir.path(), &mut after) {
            Err(StoreError::Damaged { .. }) => found += 1,
            Err(other) => panic!("{at}: {other:?}"),
            Ok(store) => store.close(Instant::now(), &mut after).unwrap(),
        }
    }
    assert!(found > 0);
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(matches!(open(dir.path(), &mut before), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_was_saved_is_not_trusted_blindly() {
    let saved = |seq, from: &str, body: &str| SavedMessage { seq, at: 1, from: from.into(), body: body.into() };
    let room = |name: &str, seq, messages| SavedRoom { name: name.into(), epoch: "e".into(), seq, messages };
    let mut rooms = rooms(9, "s");
    let gap = vec![saved(1, "n", "x"), saved(3, "n", "x"), saved(4, "n", "x")];
    let unsound = vec![saved(1, "\u{202e}", "x"), saved(2, "n", ""), saved(3, "n", "x")];
    rooms.restore(
        vec![
            room("gap", 4, gap),
            room("unsound", 3, unsound),
            room("ahead", 1, vec![saved(7, "n", "x")]),
            room(" bad", 1, vec![saved(1, "n", "x")]),
        ],
        true,
    );
    assert_eq!(seqs(&join(&mut rooms, "gap").2), [3, 4]);
    assert_eq!(seqs(&join(&mut rooms, "unsound").2), [3]);
    let unsaved = rooms.take_unsaved().unwrap();
    assert_eq!(unsaved.ended, [Arc::from("ahead"), Arc::from(" bad")]);
    let mut firsts: Vec<_> = unsaved.rooms.iter().map(|room| (&*room.name, room.first)).collect();
    firsts.sort();
    assert_eq!(firsts, [("gap", 3), ("unsound", 3)]);
}

/// A store whose worker is the test.
fn worked_by_hand() -> (Store, Receiver<Job>, Sender<Result<(), StoreError>>) {
    let (jobs, todo) = channel();
    let (finished, done) = channel();
    let worker = std::thread::spawn(|| ());
    (Store { jobs, done, worker, busy: false, next: Instant::now(), failing: false }, todo, finished)
}

fn unsaved(todo: &Receiver<Job>) -> Unsaved {
    match todo.try_recv() {
        Ok(Job::Save(unsaved)) => unsaved,
        other => panic!("{other:?}"),
    }
}

#[test]
fn changes_are_gathered_while_the_disk_is_busy_and_between_writes() {
    let (mut store, todo, finished) = worked_by_hand();
    let mut rooms = rooms(2, "s");
    let now = store.next;
    assert_eq!(store.save(now, &mut rooms), None);
    join(&mut rooms, "r");
    assert_eq!(store.save(now, &mut rooms), None);
    say(&mut rooms, "r", "x");
    assert_eq!(store.save(now, &mut rooms), Some(now + INTERVAL));
    assert_eq!(seqs(&unsaved(&todo).rooms[0].messages), [1]);
    for _ in 0..4 {
        say(&mut rooms, "r", "x");
    }
    let late = now + INTERVAL * 100;
    assert_eq!(store.save(late, &mut rooms), Some(late + INTERVAL));
    assert!(todo.try_recv().is_err());
    finished.send(Ok(())).unwrap();
    assert_eq!(store.save(late, &mut rooms), Some(late + INTERVAL));
    let unsaved = unsaved(&todo);
    assert_eq!((seqs(&unsaved.rooms[0].messages), unsaved.rooms[0].first), (vec![4, 5], 4));
    finished.send(Ok(())).unwrap();
    say(&mut rooms, "r", "x");
    assert_eq!(store.save(late, &mut rooms), Some(late + INTERVAL));
    assert!(todo.try_recv().is_err());
}

#[test]
fn after_a_failure_everything_kept_is_saved_anew() {
    let (mut store, todo, finished) = worked_by_hand();
    let mut rooms = rooms(9, "s");
    let now = store.next;
    for room in ["a", "b"] {
        join(&mut rooms, room);
        say(&mut rooms, room, "x");
    }
    store.save(now, &mut rooms);
    assert_eq!(unsaved(&todo).rooms.len(), 2);
    finished.send(Ok(())).unwrap();
    say(&mut rooms, "a", "y");
    let now = now + INTERVAL;
    store.save(now, &mut rooms);
    assert_eq!(unsaved(&todo).rooms.len(), 1);
    finished.send(Err(StoreError::Stalled)).unwrap();
    assert_eq!(store.save(now, &mut rooms), Some(now + RETRY));
    assert!(todo.try_recv().is_err());
    store.save(now + RETRY, &mut rooms);
    let all = unsaved(&todo);
    assert!(all.anew);
    let mut kept: Vec<_> = all.rooms.iter().map(|room| (&*room.name, seqs(&room.messages))).collect();
    kept.sort();
    assert_eq!(kept, [("a", vec![1, 2]), ("b", vec![1])]);
    drop(finished);
    store.save(now + RETRY, &mut rooms);
    assert!(store.failing);
}

#[test]
fn saving_anew_replaces_what_the_file_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = rooms(9, "s");
    let mut store = open(dir.path(), &mut first).unwrap();
    for room in ["a", "b"] {
        join(&mut first, room);
        say(&mut first, room, "x");
    }
    settle(&mut store, &mut first);
    let mut second = rooms(9, "s");
    join(&mut second, "b");
    for _ in 0..2 {
        say(&mut second, "b", "x");
    }
    second.save_anew();
    settle(&mut store, &mut second);
    store.close(Instant::now(), &mut second).unwrap();
    assert_eq!(on_disk(dir.path()), [("b".to_owned(), 2, vec![1, 2])]);
}

/// Says and saves until it is killed; prints a number once that is on the disk.
fn talk_for_ever(dir: &Path) -> ! {
    let mut rooms = rooms(1_000, &std::process::id().to_string());
    let mut store = open(dir, &mut rooms).unwrap();
    println!("epoch {}", join(&mut rooms, "r").1);
    for n in 1.. {
        let seq = say(&mut rooms, "r", &format!("text {n}"));
        if n % 50 == 0 {
            settle(&mut store, &mut rooms);
            println!("durable {seq}");
            std::io::stdout().flush().unwrap();
        }
        store.save(Instant::now(), &mut rooms);
    }
    unreachable!("it says without end")
}

#[test]
fn kill_9_loses_nothing_durable_and_reuses_no_number_of_an_epoch() {
    const CHILD: &str = "REACTORD_TEST_TALKER";
    if let Some(dir) = std::env::var_os(CHILD) {
        talk_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut last, mut epochs) = (0, Vec::new());
    for kills in 0..4 {
        let name = "store::tests::kill_9_loses_nothing_durable_and_reuses_no_number_of_an_epoch";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut durable = 0;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        for line in lines {
            if let Some((_, epoch)) = line.split_once("epoch ") {
                epochs.push(epoch.to_owned());
            }
            if let Some(seq) = line.strip_prefix("durable ") {
                durable = seq.parse().unwrap();
                if durable >= last + 100 + 30 * kills {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = on_disk(dir.path());
        let [(room, seq, kept)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(room, "r");
        assert!(*seq >= durable && durable > last, "{seq} {durable} {last}");
        assert_eq!(*kept, (seq.saturating_sub(999).max(1)..=*seq).collect::<Vec<_>>());
        last = *seq;
    }
    let mut survivor = rooms(1_000, "survivor");
    let store = open(dir.path(), &mut survivor).unwrap();
    let (seq, epoch, kept) = join(&mut survivor, "r");
    assert_eq!((seq, kept.last().unwrap().seq), (last, last));
    assert_eq!(say(&mut survivor, "r", "on"), last + 1);
    store.close(Instant::now(), &mut survivor).unwrap();
    epochs.push(epoch);
    assert!(epochs.is_sorted_by(|a, b| a != b) && epochs.len() == 5, "{epochs:?}");
}
