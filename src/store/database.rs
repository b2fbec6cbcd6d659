//! The history's file: opened, read whole at the start, changed in
//! transactions, and marked when it is left in good order.

use super::StoreError;
use crate::proto::rooms::{SavedMessage, SavedRoom, Unsaved};
use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Facts about the file itself.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// In [`META`]: the layout of the tables.
const LAYOUT: &str = "layout";
/// The layout that this program reads and writes.
const LAYOUT_VERSION: u64 = 1;
/// In [`META`]: 1 where the last server wrote all it had given numbers to.
const INTACT: &str = "intact";
/// Rooms by name: epoch, last number used.
const ROOMS: TableDefinition<&str, (&str, u64)> = TableDefinition::new("rooms");
/// Messages by room and number: time, author, text.
const MESSAGES: TableDefinition<(&str, u64), (u64, &str, &[u8])> = TableDefinition::new("messages");

/// What redb may keep of the file in memory, in bytes. Everything is in the
/// rooms already, so this serves only the writing.
const CACHE: usize = 4 << 20;

/// The open file.
#[derive(Debug)]
pub(super) struct HistoryFile {
    path: PathBuf,
    /// `None` after an error, when it must be opened again.
    database: Option<Database>,
}

/// What the file held.
pub(super) struct Contents {
    pub(super) rooms: Vec<SavedRoom>,
    /// Whether every number that was given out is in it.
    pub(super) intact: bool,
}

impl HistoryFile {
    /// Opens `path`, or creates it, and marks it as in use.
    pub(super) fn open(path: &Path) -> Result<(Self, Contents), StoreError> {
        let mut file = HistoryFile { path: path.to_owned(), database: None };
        let rooms = file.with(read_rooms)?;
        let intact = file.with(|database| mark(database, false))?;
        Ok((file, Contents { rooms, intact }))
    }

    /// Saves in one step: all or nothing, on the disk when it returns.
    pub(super) fn save(&mut self, unsaved: &Unsaved) -> Result<(), StoreError> {
        self.with(|database| write(database, unsaved))
    }

    /// Marks that every number given out is in the file, and closes it.
    pub(super) fn mark_intact(&mut self) -> Result<(), StoreError> {
        self.with(|database| mark(database, true))?;
        self.database = None;
        Ok(())
    }

    fn with<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path).map_err(|e| StoreError::from_redb(&self.path, e))?,
        };
        match work(&database) {
            Ok(done) => {
                self.database = Some(database);
                Ok(done)
            }
            // redb refuses everything after an error of the disk; only opening
            // the file again helps.
            Err(e) => Err(StoreError::from_redb(&self.path, e)),
        }
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    // What people said is for nobody else on the machine.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let backend = FileBackend::new(file.map_err(redb::Error::Io)?)?;
    let mut builder = Database::builder();
    // The file is read whole in any case; unchecked damage could make redb panic.
    Ok(builder.set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(backend)?)
}

fn read_rooms(database: &Database) -> Result<Vec<SavedRoom>, redb::Error> {
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(meta) => match meta.get(LAYOUT)?.map(|layout| layout.value()) {
            Some(LAYOUT_VERSION) => {}
            other => {
                let why = format!("its layout is {other:?}, this program knows {LAYOUT_VERSION}");
                return Err(redb::Error::Corrupted(why));
            }
        },
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    }
    let (rooms, messages) = (read.open_table(ROOMS)?, read.open_table(MESSAGES)?);
    let mut saved = Vec::new();
    for room in rooms.iter()? {
        let (name, value) = room?;
        let (name, (epoch, seq)) = (name.value(), value.value());
        let mut kept = Vec::new();
        for message in messages.range((name, 0)..=(name, u64::MAX))? {
            let (key, value) = message?;
            let ((_, seq), (at, from, body)) = (key.value(), value.value());
            kept.push(SavedMessage { seq, at, from: from.to_owned(), body: body.to_vec() });
        }
        saved.push(SavedRoom { name: name.to_owned(), epoch: epoch.to_owned(), seq, messages: kept });
    }
    Ok(saved)
}

/// Sets the mark; gives what it was. A new file lacks nothing.
fn mark(database: &Database, intact: bool) -> Result<bool, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    let was = {
        let mut meta = write.open_table(META)?;
        meta.insert(LAYOUT, LAYOUT_VERSION)?;
        let was = meta.insert(INTACT, u64::from(intact))?.is_none_or(|was| was.value() == 1);
        write.open_table(ROOMS)?;
        write.open_table(MESSAGES)?;
        was
    };
    write.commit()?;
    Ok(was)
}

fn write(database: &Database, unsaved: &Unsaved) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    if unsaved.anew {
        write.delete_table(ROOMS)?;
        write.delete_table(MESSAGES)?;
    }
    {
        let (mut rooms, mut messages) = (write.open_table(ROOMS)?, write.open_table(MESSAGES)?);
        for name in &unsaved.ended {
            rooms.remove(&**name)?;
            messages.retain_in((&**name, 0)..=(&**name, u64::MAX), |_, _| false)?;
        }
        for room in &unsaved.rooms {
            rooms.insert(&*room.name, (&*room.epoch, room.seq))?;
            messages.retain_in((&*room.name, 0)..(&*room.name, room.first), |_, _| false)?;
            for message in &room.messages {
                messages.insert((&*room.name, message.seq), (message.at, &*message.from, &message.body[..]))?;
            }
        }
    }
    Ok(write.commit()?)
}
