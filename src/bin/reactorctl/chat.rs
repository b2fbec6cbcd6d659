//! Chat: at a terminal with a line editor, on a pipe with plain lines.

use crate::output::{Output, complain};
use reactord::client::chat::engine::Engine;
use reactord::client::chat::model::Settings;
use reactord::client::{ClientError, Config, Result, signals, stdio};
use reactord::system;
use reactord::talk::command::{self, Role};
use reactord::talk::editor::{self, Editor, Printer};
use reactord::talk::reader;
use reactord::talk::screen::{Pipe, Screen};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

/// Messages that a terminal shows on entering a room.
const TERMINAL_HISTORY: u64 = 50;

/// `chat [ROOM]`.
pub(crate) fn chat(config: Config, out: &Output, room: String, history: Option<u64>) -> Result<u8> {
    let interactive = editor::is_possible() && !out.json;
    let history = history.unwrap_or(if interactive { TERMINAL_HISTORY } else { 0 });
    let engine = Engine::start(config, Settings { room, history, interactive })?;
    if interactive { at_terminal(engine) } else { on_pipe(engine, out) }
}

fn at_terminal(engine: Engine) -> Result<u8> {
    let (inbox, view, words) = (engine.inbox(), engine.view(), engine.words());
    let commands = command::names(Role::Guest).map(str::to_owned).collect();
    words.lock().unwrap_or_else(PoisonError::into_inner).commands = commands;
    let failed = |e| ClientError::local("cannot use the terminal", e);
    let (editor, printer) = Editor::new(words, history_file()).map_err(failed)?;
    give_back_on_signals(printer.clone()).map_err(failed)?;
    std::thread::spawn(move || reader::read_terminal(editor, Role::Guest, &inbox, &view));
    let ended = engine.run(&mut Screen::terminal(printer.clone()), true);
    printer.finish();
    ended
}

/// The file that keeps what was typed, beside the server's default state. A
/// directory that cannot be made is not worth a conversation.
fn history_file() -> Option<PathBuf> {
    let dir = system::default_state_dir()?;
    match system::create_private_dir(&dir) {
        Ok(()) => Some(dir.join("chat_history")),
        Err(e) => {
            complain(format_args!("what you type is not kept: {}: {e}", dir.display()));
            None
        }
    }
}

/// Ends as by the signal, with the terminal as it was before.
fn give_back_on_signals(printer: Printer) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            printer.restore();
            signals::by_default(signal);
        }
    });
    Ok(())
}

fn on_pipe(engine: Engine, out: &Output) -> Result<u8> {
    let inbox = engine.inbox();
    std::thread::spawn(move || reader::read_pipe(stdio::stdin(), &inbox));
    let pipe = Pipe { json: out.json, quiet: out.quiet, program: Some("reactorctl") };
    engine.run(&mut Screen::pipe(pipe), false)
}
