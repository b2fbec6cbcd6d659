//! What a transfer shows: bars, notes, failures and the summary.
//!
//! All of it goes to standard error, except the JSON lines. One place owns
//! that stream, so that a note never tears a bar.

use crate::client::error::{ClientError, Result, ServerError};
use crate::client::stdio;
use crate::client::text;
use crate::wire::ErrorCode;
use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Transfers shorter than this, in bytes, are over before a bar is seen.
const MIN_BAR: u64 = 256 * 1024;

/// Columns for a file's name beside its bar.
const NAME_COLUMNS: usize = 28;

/// Bars need no colour, so NO_COLOR asks nothing more of them.
const TEMPLATE: &str =
    "{msg} {binary_bytes:>11}/{binary_total_bytes:11} {binary_bytes_per_sec:>13} [{wide_bar}] {eta:>4}";

/// How transfers are reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// One JSON object a line.
    pub json: bool,
    /// Nothing but errors.
    pub quiet: bool,
    /// Standard output carries a file, so JSON goes to standard error.
    pub stdout_taken: bool,
}

/// One file that arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// "put" or "get".
    pub direction: &'static str,
    /// The name here.
    pub local: String,
    /// The path there.
    pub remote: String,
    /// The file's length in bytes.
    pub length: u64,
    /// How many of them were moved; less where a transfer was resumed.
    #[serde(skip)]
    pub moved: u64,
    /// The checksum, where it was computed on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// It was there already, with the same content.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Tally {
    files: u64,
    bytes: u64,
    already: u64,
    skipped: u64,
    failed: u64,
}

/// Shows how a set of transfers goes, and counts.
#[derive(Debug)]
pub struct Report {
    style: Style,
    bars: MultiProgress,
    /// One bar for several files.
    whole: Option<ProgressBar>,
    started: Instant,
    tally: Tally,
}

impl Report {
    /// A report that draws bars where standard error is a terminal and the
    /// style allows.
    pub fn new(style: Style) -> Report {
        let target = match style.quiet || style.json {
            true => ProgressDrawTarget::hidden(),
            // Hidden by itself where it is no terminal.
            false => ProgressDrawTarget::stderr(),
        };
        Report {
            style,
            bars: MultiProgress::with_draw_target(target),
            whole: None,
            started: Instant::now(),
            tally: Tally::default(),
        }
    }

    /// Says how much the whole will be; a bar for it where it is several files.
    /// What is said later comes on top.
    pub fn expect(&mut self, files: usize, bytes: u64) {
        match &self.whole {
            Some(whole) => whole.inc_length(bytes),
            None if files > 1 => self.whole = Some(self.bars.add(bar("all files", bytes))),
            None => {}
        }
    }

    /// A bar for one transfer of `length` bytes of which `offset` are there.
    pub fn bar(&self, name: &str, length: u64, offset: u64) -> Bar {
        let own = match (length >= MIN_BAR, &self.whole) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(whole)) => self.bars.insert_before(whole, bar(name, length)),
            (true, None) => self.bars.add(bar(name, length)),
        };
        own.set_position(offset);
        own.reset_eta();
        if let Some(whole) = &self.whole {
            whole.inc(offset);
        }
        Bar { own, whole: self.whole.clone() }
    }

    /// A line on standard error, unless quiet.
    pub fn note(&self, text: impl fmt::Display) {
        if !self.style.quiet {
            self.line(text);
        }
    }

    fn line(&self, text: impl fmt::Display) {
        // Standard error is the last resort: where it fails, nothing is left to say so on.
        let line = format!("reactorctl: {text}\n");
        let _ = self.bars.suspend(|| stdio::stderr().write_all(line.as_bytes()));
    }

    /// Something was left out, and why.
    pub fn skipped(&mut self, name: &str, why: &str) {
        self.tally.skipped += 1;
        self.note(format_args!("{} is skipped: {why}", text::visible(name)));
    }

    /// One transfer failed; the others go on.
    pub fn failed(&mut self, error: &ClientError) {
        self.tally.failed += 1;
        match error {
            ClientError::Refused { error: server, .. } => self.line(format_args!("{error}{}", advice(server))),
            _ => self.line(error),
        }
    }

    /// One transfer succeeded.
    ///
    /// # Errors
    /// `BrokenPipe` where nobody reads the JSON lines.
    pub fn done(&mut self, done: &Done) -> Result<()> {
        self.tally.files += 1;
        self.tally.bytes += done.moved;
        self.tally.already += u64::from(done.already);
        if self.style.json { self.json(done) } else { Ok(()) }
    }

    fn json(&self, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string(value).map_err(|e| ClientError::Local(e.to_string()))?;
        let line = format!("{}\n", text::escape_json(&json));
        let mut out = if self.style.stdout_taken { stdio::stderr() } else { stdio::stdout() };
        out.write_all(line.as_bytes()).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => ClientError::BrokenPipe,
            _ => ClientError::local("cannot write to standard output", e),
        })
    }

    /// Clears the bars and gives the summary line. True where nothing failed.
    ///
    /// # Errors
    /// `BrokenPipe` where nobody reads the JSON lines.
    pub fn finish(self) -> Result<bool> {
        if let Some(whole) = &self.whole {
            whole.finish_and_clear();
        }
        let took = self.started.elapsed();
        if self.style.json {
            #[derive(Serialize)]
            struct Summary {
                #[serde(flatten)]
                tally: Tally,
                seconds: f64,
            }
            self.json(&Summary { tally: self.tally, seconds: took.as_secs_f64() })?;
        } else {
            self.note(summary(&self.tally, took));
        }
        Ok(self.tally.failed == 0)
    }
}

fn bar(name: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant and tested");
    let bar = ProgressBar::new(length).with_style(style.progress_chars("=> "));
    bar.with_message(text::fit(name, NAME_COLUMNS))
}

/// What to do about a refusal, where that is known.
fn advice(error: &ServerError) -> &'static str {
    if error.is(ErrorCode::Exists) {
        "; --replace replaces it"
    } else if error.is(ErrorCode::IsDirectory) {
        "; -r takes directories, and a / at a remote path's end means \"into it\""
    } else {
        ""
    }
}

fn summary(tally: &Tally, took: Duration) -> String {
    let files = if tally.files == 1 { "file" } else { "files" };
    let seconds = took.as_secs_f64();
    let mut line = format!("{} {files}, {} in {seconds:.1} s", tally.files, BinaryBytes(tally.bytes));
    if tally.bytes > 0 && seconds > 0.0 {
        line.push_str(&format!(" ({}/s)", BinaryBytes((tally.bytes as f64 / seconds) as u64)));
    }
    for (count, what) in [(tally.already, "already there"), (tally.skipped, "skipped"), (tally.failed, "failed")] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

/// One transfer's bar; it vanishes when dropped.
#[derive(Debug)]
pub struct Bar {
    own: ProgressBar,
    whole: Option<ProgressBar>,
}

impl Bar {
    /// So many more bytes were moved.
    pub fn inc(&self, bytes: usize) {
        self.own.inc(bytes as u64);
        if let Some(whole) = &self.whole {
            whole.inc(bytes as u64);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.own.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_understood() {
        bar("name", 5).inc(1);
    }

    #[test]
    fn the_summary_names_what_happened_and_nothing_else() {
        let tally = Tally { files: 1, bytes: 2048, ..Tally::default() };
        assert_eq!(summary(&tally, Duration::from_secs(2)), "1 file, 2.00 KiB in 2.0 s (1.00 KiB/s)");
        let tally = Tally { files: 2, failed: 1, skipped: 3, ..Tally::default() };
        assert_eq!(summary(&tally, Duration::ZERO), "2 files, 0 B in 0.0 s, 3 skipped, 1 failed");
    }
}
