//! The thread that reads what is typed, at a terminal or on a pipe, and hands
//! it to a conversation's inbox.

use super::command::{Command, Role};
use super::editor::{self, Editor};
use super::inbox::{Inbox, Typed};
use super::lines::{Line, Lines};
use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

/// What the one who types sees of the conversation.
#[derive(Debug, Default)]
pub struct View {
    /// The room in which words are said.
    pub current: String,
    /// All rooms.
    pub rooms: Vec<String>,
}

/// Reads lines with `editor` until there are no more. It never waits for the
/// conversation, which waits for it to show anything.
pub fn read_terminal<E>(mut editor: Editor, role: Role, inbox: &Inbox<E>, view: &Mutex<View>) {
    loop {
        let room = view.lock().unwrap_or_else(PoisonError::into_inner).current.clone();
        let typed = match editor.read(&room) {
            editor::Typed::Line(text) => {
                let command = Command::parse(&text, role).ok().flatten();
                // What is said comes back as a message, with its time; a
                // command stays where it was typed.
                let echo = matches!(command, Some(Command::Say(_))) && editor.erase(&room, &text);
                foresee(command.as_ref(), &room, view);
                Typed::Line { room: Some(room).filter(|room| !room.is_empty()), text, echo }
            }
            editor::Typed::Interrupt => Typed::Interrupt,
            editor::Typed::End => Typed::End,
        };
        if typed == Typed::End {
            // Before the last of it can be taken, the terminal is free.
            drop(editor);
            return inbox.type_in(typed);
        }
        if let Err(Typed::Line { text, .. }) = inbox.try_type(typed) {
            // The terminal is the editor's own, and nothing is printed while it does not read.
            let _ = writeln!(std::io::stdout(), "-- too many lines wait; not sent: {}", crate::text::visible(&text));
        }
    }
}

/// The next line belongs to the room that this command leads to, though the
/// conversation has not taken it yet.
fn foresee(command: Option<&Command>, room: &str, view: &Mutex<View>) {
    let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
    match command {
        Some(Command::Join(name)) => view.current.clone_from(name),
        Some(Command::Leave(left)) if left.as_deref().is_none_or(|left| left == room) => {
            view.rooms.retain(|name| name != room);
            view.current = view.rooms.last().cloned().unwrap_or_default();
        }
        _ => {}
    }
}

/// Reads lines of `input` until there are no more, no faster than they are
/// taken.
pub fn read_pipe<E>(input: impl Read, inbox: &Inbox<E>) {
    let mut lines = Lines::new(input);
    loop {
        let typed = match lines.read() {
            Line::Text(text) => Typed::Line { room: None, text, echo: true },
            Line::Bad(why) => Typed::Bad(why),
            Line::End => Typed::End,
        };
        let ended = typed == Typed::End;
        inbox.type_in(typed);
        if ended {
            return;
        }
    }
}
