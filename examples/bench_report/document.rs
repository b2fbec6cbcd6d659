//! docs/BENCHMARKS.md: what stands between two markers is generated, the rest
//! is written by hand and survives.

use crate::Result;
use std::path::{Path, PathBuf};

/// What a new document begins with.
const TEMPLATE: &str = include_str!("template.md");

pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// The document in `docs` as it stands, or a new one.
    pub fn open(docs: &Path) -> Result<Document> {
        let path = docs.join("BENCHMARKS.md");
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => TEMPLATE.to_owned(),
            text => text.map_err(|e| format!("{}: {e}", path.display()))?,
        };
        Ok(Document { path, text })
    }

    /// Puts `content` between the markers of `name`, at the end where there
    /// are none.
    pub fn set(&mut self, name: &str, content: String) {
        let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->\n"));
        let content = content.trim_end();
        let found = self.text.find(&begin).zip(self.text.find(&end)).filter(|(from, to)| from < to);
        match found {
            Some((from, to)) => self.text.replace_range(from + begin.len()..to, &format!("{content}\n")),
            None => self.text += &format!("\n{begin}{content}\n{end}"),
        }
    }

    pub fn save(&self) -> Result<()> {
        Ok(std::fs::write(&self.path, &self.text).map_err(|e| format!("{}: {e}", self.path.display()))?)
    }
}
