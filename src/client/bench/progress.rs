//! The live line of a run, on a terminal's standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// How often the line is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// Shows how many answers came; draws nothing where nobody looks.
#[derive(Debug)]
pub struct Progress {
    line: Option<ProgressBar>,
    began: Instant,
    drawn: Instant,
    last: u64,
}

impl Progress {
    /// A line that is drawn where standard error is a terminal and `shown`.
    pub fn new(shown: bool) -> Progress {
        let now = Instant::now();
        let line = shown.then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("the template is a constant");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        Progress { line: line.filter(|line| !line.is_hidden()), began: now, drawn: now, last: 0 }
    }

    /// No line.
    pub fn hidden() -> Progress {
        Progress::new(false)
    }

    /// So many answers came until now; `what` says what they are.
    pub fn tick(&mut self, now: Instant, done: u64, what: &str) {
        let Some(line) = &self.line else { return };
        let since = now.saturating_duration_since(self.drawn);
        if since < INTERVAL {
            return;
        }
        let rate = done.saturating_sub(self.last) as f64 / since.as_secs_f64();
        let time = now.saturating_duration_since(self.began).as_secs_f64();
        line.set_message(format!("{time:6.1} s  {done} {what}  {rate:.0}/s"));
        line.tick();
        (self.drawn, self.last) = (now, done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
