//! Uploads between their steps: one worker at a time has an upload, and what is
//! asked for meanwhile waits in its slot, in order.

use super::{Pool, Shared, State};
use crate::disk::Client;
use crate::disk::create::Created;
use crate::disk::task::{CreateTask, Step, Task, upload_step};
use crate::disk::upload::Upload;
use crate::proto::files::{DiskDone, FileHandle, Ticket};
use crate::wire::error::Refusal;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An upload between its steps.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) client: Arc<Client>,
    /// `None` while a worker has it, and when it failed.
    upload: Option<Box<Upload>>,
    /// Why it failed.
    failure: Option<Refusal>,
    /// Whether a task for it is queued or runs.
    busy: bool,
    /// Unanswered steps have no ticket.
    steps: VecDeque<(Option<Ticket>, Step)>,
}

impl Slot {
    fn new(client: Arc<Client>, upload: Option<Box<Upload>>) -> Slot {
        Slot { client, upload, failure: None, busy: false, steps: VecDeque::new() }
    }
}

impl State {
    /// Has the chosen uploads released, behind the steps that wait already.
    pub(super) fn release(&mut self, chosen: impl Fn(&Slot) -> bool) {
        for (file, slot) in &mut self.uploads {
            if chosen(slot) {
                slot.steps.push_back((None, Step::Release { keep: true }));
                if !std::mem::replace(&mut slot.busy, true) {
                    self.tasks.push_back(Task::Upload(*file));
                }
            }
        }
    }
}

impl Pool {
    /// Queues a step of an upload.
    pub(in crate::disk) fn upload(&self, client: Arc<Client>, file: FileHandle, ticket: Ticket, step: Step) {
        let mut state = self.shared.state();
        // An unknown upload has ended; the answer says so.
        let slot = state.uploads.entry(file).or_insert_with(|| Slot::new(client, None));
        slot.steps.push_back((Some(ticket), step));
        if !std::mem::replace(&mut slot.busy, true) {
            state.tasks.push_back(Task::Upload(file));
            drop(state);
            self.shared.work.notify_one();
        }
    }
}

impl Shared {
    pub(super) fn created(&self, task: CreateTask, result: Result<Created, Refusal>, notify: &impl Fn()) {
        let CreateTask { client, ticket, .. } = task;
        let result = match result {
            Ok(Created::Upload(upload)) => {
                let file = self.next_handle();
                let offset = upload.offset();
                let mut state = self.state();
                // Under the lock, so that `gone` comes either before or behind.
                if client.is_gone() || state.stopping {
                    drop(state);
                    return upload.release(&self.ground.parts, true);
                }
                state.uploads.insert(file, Slot::new(client.clone(), Some(upload)));
                Ok(DiskDone::Created { file, offset })
            }
            Ok(Created::Already) => Ok(DiskDone::Already),
            Err(refusal) => Err(refusal),
        };
        self.reply(client, ticket, result, notify);
    }

    /// Takes the upload out of its slot, does the steps that wait and puts it back.
    pub(super) fn run_upload(&self, file: FileHandle, notify: &impl Fn()) {
        let (client, mut upload, mut failure, steps) = {
            let mut state = self.state();
            let Some(slot) = state.uploads.get_mut(&file) else { return };
            (slot.client.clone(), slot.upload.take(), slot.failure.take(), std::mem::take(&mut slot.steps))
        };
        let mut ended = upload.is_none() && failure.is_none();
        for (ticket, step) in steps {
            ended |= !matches!(step, Step::Write(_));
            let published = matches!(step, Step::Finish(_));
            let result;
            (upload, result) = upload_step(&self.ground, upload, &mut failure, step);
            match &result {
                Ok(DiskDone::Written { buffer }) => {
                    self.tally.written.fetch_add(buffer.len() as u64, Ordering::Relaxed);
                }
                Ok(_) if published => {
                    self.tally.published.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            if let Some(ticket) = ticket {
                self.reply(client.clone(), ticket, result, notify);
            }
        }
        let mut state = self.state();
        let Some(slot) = state.uploads.get_mut(&file) else { return };
        (slot.upload, slot.failure, slot.busy) = (upload, failure, !slot.steps.is_empty());
        if slot.busy {
            state.tasks.push_back(Task::Upload(file));
            drop(state);
            self.work.notify_one();
        } else if ended {
            state.uploads.remove(&file);
        }
    }
}
