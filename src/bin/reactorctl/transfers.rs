//! Files on their way: put and get.

use crate::args::{Get, How, Put};
use crate::output::Output;
use reactord::client::error::EXIT_REFUSED;
use reactord::client::files::Options;
use reactord::client::files::get::Downloader;
use reactord::client::files::link::Link;
use reactord::client::files::plan::{self, STDIO};
use reactord::client::files::put::Uploader;
use reactord::client::interrupt::Interrupt;
use reactord::client::progress::{Report, Style};
use reactord::client::{ClientError, Config, Result};
use std::path::PathBuf;

impl How {
    fn options(&self, parents: bool) -> Options {
        Options { replace: self.replace, verify: self.verify, resume: self.resume, recursive: self.recursive, parents }
    }
}

fn remote(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| {
        ClientError::Usage(format!("{} is not UTF-8, which paths on the server are", path.to_string_lossy()))
    })
}

/// `put LOCAL... [REMOTE]`.
pub(crate) fn put(config: Config, out: &Output, put: Put) -> Result<u8> {
    let mut locals = put.paths;
    let target = if locals.len() > 1 { locals.pop().map(remote).transpose()? } else { None };
    let mut report = Report::new(Style { json: out.json, quiet: out.quiet, stdout_taken: false });
    // An upload leaves nothing behind here, so a signal may end it as it likes.
    let interrupt = Interrupt::default();
    let steps = plan::put(&locals, target.as_deref(), put.how.recursive, &mut report)?;
    let mut link = Link::open(config, interrupt.clone())?;
    let sent = Uploader::new(&mut link, put.how.options(put.parents), &mut report).run(steps);
    conclude(sent, &interrupt, report)
}

/// `get REMOTE... [LOCAL]`.
pub(crate) fn get(config: Config, out: &Output, get: Get) -> Result<u8> {
    let mut paths = get.paths;
    let local = if paths.len() > 1 { paths.pop() } else { None };
    let remotes = paths.into_iter().map(remote).collect::<Result<Vec<_>>>()?;
    let to_stdout = local.as_ref().is_some_and(|path| path.as_os_str() == STDIO);
    if to_stdout && (get.how.recursive || get.how.resume) {
        return Err(ClientError::Usage("standard output takes neither directories (-r) nor --resume".to_owned()));
    }
    let mut report = Report::new(Style { json: out.json, quiet: out.quiet, stdout_taken: to_stdout });
    let interrupt = if to_stdout { Interrupt::default() } else { Interrupt::install()? };
    let mut link = Link::open(config, interrupt.clone())?;
    let fetched = Downloader::new(&mut link, get.how.options(false), &mut report).run(&remotes, local.as_deref());
    conclude(fetched, &interrupt, report)
}

fn conclude(outcome: Result<()>, interrupt: &Interrupt, report: Report) -> Result<u8> {
    outcome.map_err(|error| interrupt.explain(error))?;
    Ok(if report.finish()? { 0 } else { EXIT_REFUSED })
}
