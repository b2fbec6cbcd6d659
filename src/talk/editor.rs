//! A line editor beside which others may print: rustyline, a [`Gate`] and the
//! terminal's way back.
//!
//! One thread reads lines with an [`Editor`]; any other prints whole lines
//! through a [`Printer`], and they appear above the one that is being typed.

use super::gate::{Gate, Pass};
use crate::text::{fit, is_hidden, visible};
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::config::{BellStyle, CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, Context, ExternalPrinter, Helper};
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Lines of history that are kept.
const HISTORY: usize = 1_000;

/// The widest name in a prompt, in columns.
const PROMPT_COLUMNS: usize = 24;

/// The most rows of a typed line that are taken back.
const MAX_ERASED_ROWS: usize = 8;

/// How long the end waits for the editor to show what was printed last.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long the editor may take to write out what it is drawing.
const SETTLE: Duration = Duration::from_millis(20);

/// Leaves bracketed paste, which the editor had turned on (xterm's control
/// sequences, "Bracketed Paste Mode"), and clears the line that was typed.
const LEAVE: &[u8] = b"\x1b[?2004l\r\x1b[J";

/// Whether a line editor can be used: both sides are one terminal that
/// understands more than lines.
pub fn is_possible() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb" || term == "cons25");
    !dumb && isatty(stdio::stdin()) && isatty(stdio::stdout())
}

/// What can be completed.
#[derive(Debug, Default)]
pub struct Words {
    /// Commands, at a line's beginning.
    pub commands: Vec<String>,
    /// Nicks, anywhere.
    pub nicks: Vec<String>,
}

/// What came of reading a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line, or the terminal is gone.
    End,
}

/// Reads lines from the terminal.
pub struct Editor {
    inner: rustyline::Editor<Assistant, FileHistory>,
    gate: Arc<Gate>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor on standard input and output, and what prints beside it.
    /// `history` is the file that keeps what was typed, readable by its owner
    /// alone; without one it lasts as long as the editor.
    pub fn new(words: Arc<Mutex<Words>>, history: Option<PathBuf>) -> io::Result<(Editor, Printer)> {
        let failed = |e: ReadlineError| match e {
            ReadlineError::Io(e) => e,
            e => io::Error::other(e.to_string()),
        };
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(failed)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            // Drawing is how the gate learns that the editor has the terminal.
            .color_mode(ColorMode::Forced)
            .build();
        let before = tcgetattr(stdio::stdin())?;
        let gate = Arc::new(Gate::default());
        let kept = FileHistory::with_config(&config);
        let mut inner = rustyline::Editor::with_history(config, kept).map_err(failed)?;
        inner.set_helper(Some(Assistant { words, gate: gate.clone(), files: FilenameCompleter::new() }));
        let external: Box<dyn ExternalPrinter + Send> = Box::new(inner.create_external_printer().map_err(failed)?);
        if let Some(path) = &history {
            match inner.load_history(path) {
                Ok(()) => {}
                Err(ReadlineError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => log::warn!("cannot read {}: {e}", path.display()),
            }
        }
        let shared = Shared { gate: gate.clone(), before, last: Mutex::new(Last { external, draws: 0 }) };
        Ok((Editor { inner, gate, history }, Printer(Arc::new(shared))))
    }

    /// Reads one line after `name` and `> `.
    pub fn read(&mut self, name: &str) -> Typed {
        self.gate.arm();
        let read = self.inner.readline(&prompt(name));
        self.gate.close();
        match read {
            Ok(line) => {
                self.remember(&line);
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Interrupt,
            Err(ReadlineError::Eof) => Typed::End,
            Err(e) => {
                log::debug!("the terminal is gone: {e}");
                Typed::End
            }
        }
    }

    fn remember(&mut self, line: &str) {
        let added = self.inner.add_history_entry(line);
        if let (Ok(true), Some(path)) = (&added, &self.history)
            && let Err(e) = self.inner.append_history(path)
        {
            log::warn!("cannot write {}: {e}", path.display());
        }
    }

    /// Takes the line that [`Editor::read`] gave last off the screen, so that
    /// it can come back as a message. False where it stays, because how many
    /// rows it took cannot be told for sure.
    pub fn erase(&mut self, name: &str, line: &str) -> bool {
        let Ok(size) = tcgetwinsize(stdio::stdout()) else { return false };
        let Some(rows) = rows(&(prompt(name) + line), usize::from(size.ws_col)) else { return false };
        if rows > MAX_ERASED_ROWS || rows >= usize::from(size.ws_row) {
            return false;
        }
        // Up to its first row, and clear from there: ECMA-48, CUU and ED.
        write!(io::stdout().lock(), "\x1b[{rows}A\x1b[J").and_then(|()| io::stdout().flush()).is_ok()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.gate.end();
    }
}

fn prompt(name: &str) -> String {
    let name = visible(name);
    if name.width() > PROMPT_COLUMNS { fit(&name, PROMPT_COLUMNS) + "> " } else { format!("{name}> ") }
}

/// How many rows of so many columns `text` and its end take; `None` where
/// terminals differ about it.
fn rows(text: &str, columns: usize) -> Option<usize> {
    let (mut row, mut column) = (1, 0);
    for c in text.chars() {
        let width = c.width().filter(|width| *width > 0 && *width <= columns)?;
        if is_hidden(c) {
            return None;
        }
        column += width;
        if column > columns {
            (row, column) = (row + 1, width);
        }
    }
    // A full row ends with a line break of the editor's own.
    Some(if column == columns { row + 1 } else { row })
}

struct Last {
    external: Box<dyn ExternalPrinter + Send>,
    /// How often the line had been drawn before the last text was printed.
    draws: u64,
}

struct Shared {
    gate: Arc<Gate>,
    /// What the terminal was like before the editor.
    before: Termios,
    last: Mutex<Last>,
}

/// Prints lines above the one that is being typed; cheap to clone.
#[derive(Clone)]
pub struct Printer(Arc<Shared>);

impl Printer {
    /// Prints whole lines, the last one's end not included; waits while the
    /// editor is between two lines.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.0.gate.wait() {
            Pass::Editor => {
                last.draws = self.0.gate.draws();
                match last.external.print(format!("{text}\n")) {
                    // The editor ended just now, and did not take it.
                    Err(_) if self.0.gate.wait() == Pass::Terminal => write_line(text),
                    printed => printed.map_err(|e| io::Error::other(e.to_string())),
                }
            }
            Pass::Terminal => write_line(text),
        }
    }

    /// Ends the editor wherever it is: what was printed is shown, the line
    /// that was being typed is cleared, the terminal is as it was before.
    pub fn finish(&self) {
        let draws = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).draws;
        self.0.gate.wait_drawn(draws, LAST_WORDS);
        // Drawing is told just before it is done.
        std::thread::sleep(SETTLE);
        self.0.gate.end();
        self.restore();
    }

    /// Gives the terminal back as it was, from any thread and at any time.
    pub fn restore(&self) {
        // A terminal that is gone needs no restoring, and there is nobody to tell.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &self.0.before);
        let _ = rustix::io::write(stdio::stdout(), LEAVE);
    }
}

fn write_line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// What rustyline asks while it edits: completions, and nothing else; but its
/// asking tells the gate what it does.
struct Assistant {
    words: Arc<Mutex<Words>>,
    gate: Arc<Gate>,
    files: FilenameCompleter,
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {
    /// Asked when Enter was pressed, with the terminal still in raw mode.
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.gate.close();
        Ok(ValidationResult::Valid(None))
    }
}

impl Highlighter for Assistant {
    /// Asked whenever the line is drawn, in raw mode.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        self.gate.drawn();
        Cow::Borrowed(prompt)
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if let Some(path) = line.strip_prefix("/send ") {
            let skipped = line.len() - path.len();
            if let Some(within) = pos.checked_sub(skipped) {
                let (start, found) = self.files.complete_path(path, within)?;
                return Ok((start + skipped, found));
            }
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(complete(&words, line, pos))
    }
}

fn complete(words: &Words, line: &str, pos: usize) -> (usize, Vec<Pair>) {
    let before = &line[..pos];
    let start =
        before.rfind(char::is_whitespace).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let typed = before[start..].trim_start_matches('"').to_lowercase();
    if start == 0 && typed.starts_with('/') {
        let matching = words.commands.iter().filter(|command| command.starts_with(&typed));
        return (0, matching.map(|c| Pair { display: c.clone(), replacement: format!("{c} ") }).collect());
    }
    let matching =
        words.nicks.iter().filter(|nick| !nick.contains(is_hidden) && nick.to_lowercase().starts_with(&typed));
    let replacement = |nick: &str| match (start, line.starts_with('/')) {
        (0, _) => format!("{nick}: "),
        (_, true) if nick.contains(char::is_whitespace) => format!("\"{nick}\" "),
        _ => format!("{nick} "),
    };
    (start, matching.map(|nick| Pair { display: nick.clone(), replacement: replacement(nick) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completions(line: &str) -> (usize, Vec<String>) {
        let texts = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let words = Words {
            commands: texts(&["/join", "/leave"]),
            nicks: texts(&["Alice", "alan", "Mr Bob", "evil\u{1b}[2J"]),
        };
        let (start, pairs) = complete(&words, line, line.len());
        (start, pairs.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn commands_and_nicks_are_completed_where_they_belong() {
        assert_eq!(completions("/j"), (0, vec!["/join ".into()]));
        assert_eq!(completions("al"), (0, vec!["Alice: ".into(), "alan: ".into()]));
        assert_eq!(completions("hello ALI"), (6, vec!["Alice ".into()]));
        assert_eq!(completions("/msg m"), (5, vec!["\"Mr Bob\" ".into()]));
        assert_eq!(completions("漢\u{3000}e"), (6, vec![]), "a name that acts on terminals is none");
    }

    #[test]
    fn rows_are_those_of_the_terminal() {
        assert_eq!(rows("", 10), Some(1));
        assert_eq!(rows("123456789", 10), Some(1));
        assert_eq!(rows("1234567890", 10), Some(2));
        assert_eq!(rows("12345678901", 10), Some(2));
        assert_eq!(rows("123456789漢", 10), Some(2), "a wide character is not cut in two");
        assert_eq!(rows("12345678漢", 10), Some(2));
        for unsure in ["a\tb", "a\nb", "e\u{301}", "a\u{200d}b"] {
            assert_eq!(rows(unsure, 10), None, "{unsure:?}");
        }
    }

    #[test]
    fn a_long_name_leaves_room_for_the_line() {
        assert_eq!(prompt("lobby"), "lobby> ");
        assert_eq!(prompt(&"x".repeat(64)).width(), PROMPT_COLUMNS + 2);
        assert_eq!(prompt("a\u{1b}[2J"), "a[2J> ");
    }
}
