//! Requests as they come in: whether one may begin, where its body goes, and
//! when it is complete. What it then leads to is left to the dispatcher.

use super::Dispatcher;
use crate::proto::Outbox;
use crate::wire::MAX_MESSAGE;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::reply::LeaveReason;
use crate::wire::request::{Malformed, Request, RequestHeader};

/// A request whose body is still coming.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: Option<u64>,
    pub(super) request: Result<Request, Malformed>,
    /// Bytes of the whole body.
    pub(super) size: usize,
    /// Bytes of it that are still to come.
    pub(super) left: usize,
    pub(super) body: Body,
}

/// What becomes of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// It belongs to a command without one, or to a refused request.
    Skip,
    /// It is needed whole.
    Gather(Vec<u8>),
    /// It goes to that command as it comes.
    Input(u64),
    /// It goes to that upload as it comes.
    Data(u64),
}

impl Dispatcher {
    /// A header is complete; decides what becomes of its body.
    pub(in crate::proto) fn header(&mut self, header: RequestHeader, out: &mut Outbox) {
        let incoming = self.admit(header, out);
        self.incoming = incoming;
    }

    /// Decides whether a request may begin. `None` where the connection ends.
    fn admit(&mut self, header: RequestHeader, out: &mut Outbox) -> Option<Incoming> {
        let RequestHeader { size, id, mut request } = header;
        if !self.is_authenticated() {
            let is_hello = match &request {
                Ok(request) => matches!(request, Request::Hello(_)),
                Err(malformed) => malformed.re.as_deref() == Some("hello"),
            };
            if !is_hello {
                let message = "the first request must be hello with the server's token";
                self.fail(ErrorCode::Unauthorized, message, LeaveReason::Disconnected, out);
                return None;
            }
        }
        if let (Ok(request), Some(id)) = (&request, id)
            && !names_a_running_one(request)
            && self.is_live(id)
        {
            let message = format!("id {id} belongs to a request that still runs: choose another");
            self.fail(ErrorCode::Conflict, &message, LeaveReason::Disconnected, out);
            return None;
        }
        if let Ok(admitted) = &request
            && let Err(refusal) = self.check(admitted, size)
        {
            request = Err(Malformed { re: Some(admitted.command().to_owned()), refusal });
        }
        let body = match (&request, id) {
            (Ok(Request::Echo | Request::Say(_) | Request::Tell(_)), _) => Body::Gather(Vec::new()),
            (Ok(Request::Input(_)), Some(id)) => Body::Input(id),
            (Ok(Request::Data), Some(id)) => Body::Data(id),
            _ => Body::Skip,
        };
        Some(Incoming { id, request, size, left: size, body })
    }

    /// What forbids a well-formed request.
    fn check(&mut self, request: &Request, size: usize) -> Result<(), Refusal> {
        let services = self.config.services;
        let (enabled, service) = match request {
            Request::Hello(_) | Request::Echo | Request::Stats => (true, ""),
            Request::Join(_) | Request::Say(_) | Request::Tell(_) | Request::Leave(_) | Request::Nick(_) => {
                (services.chat, "chat")
            }
            Request::Rooms | Request::Who(_) | Request::History(_) => (services.chat, "chat"),
            Request::Exec(_) | Request::Input(_) | Request::Signal(_) | Request::Resize(_) => (services.exec, "exec"),
            Request::Jobs | Request::Kill(_) => (services.exec, "exec"),
            // It ends a transfer or a hash, all of which are the file service's.
            Request::Get(_) | Request::Put(_) | Request::Data | Request::End(_) | Request::Cancel => {
                (services.file, "file")
            }
            Request::List(_) | Request::Stat(_) | Request::Hash(_) | Request::Mkdir(_) => (services.file, "file"),
            Request::Remove(_) | Request::Rename(_) => (services.file, "file"),
        };
        if !enabled {
            let message = format!("the {service} service is off on this server: it was started without it");
            return Err(Refusal::new(ErrorCode::Disabled, message));
        }
        if matches!(request, Request::Say(_) | Request::Tell(_)) && size > MAX_MESSAGE {
            let message = format!("a message of {size} bytes: at most {MAX_MESSAGE} are allowed, send a file instead");
            return Err(Refusal::new(ErrorCode::TooLarge, message));
        }
        if matches!(request, Request::Say(_) | Request::Tell(_))
            && !self.flood.allows(self.now, self.config.message_rate)
        {
            let message = format!(
                "more messages than this server takes from one connection: at most {} a second in the long run",
                self.config.message_rate
            );
            return Err(Refusal::new(ErrorCode::Limit, message));
        }
        Ok(())
    }

    fn is_live(&self, id: u64) -> bool {
        self.exec.as_ref().is_some_and(|exec| exec.is_live(id))
            || self.files.as_ref().is_some_and(|files| files.is_live(id))
    }

    /// The next bytes of the body.
    pub(in crate::proto) fn body(&mut self, bytes: &[u8], out: &mut Outbox) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.left -= bytes.len();
        match &mut incoming.body {
            Body::Skip => {}
            Body::Input(id) => {
                let id = *id;
                self.exec().input(id, bytes, out);
            }
            Body::Data(id) => {
                let id = *id;
                self.files().data(id, bytes, out);
            }
            Body::Gather(gathered) => {
                if incoming.left > 0 {
                    gathered.extend_from_slice(bytes);
                } else if gathered.is_empty() {
                    // The whole body lies in the driver's buffer: no copy.
                    if let Some(incoming) = self.incoming.take() {
                        self.dispatch(incoming, bytes, out);
                    }
                } else {
                    gathered.extend_from_slice(bytes);
                    let body = std::mem::take(gathered);
                    if let Some(incoming) = self.incoming.take() {
                        self.dispatch(incoming, &body, out);
                    }
                }
            }
        }
    }

    /// The frame is complete.
    pub(in crate::proto) fn end_of_frame(&mut self, out: &mut Outbox) {
        if let Some(incoming) = self.incoming.take() {
            self.dispatch(incoming, b"", out);
        }
    }

    pub(in crate::proto) fn body_size(&self) -> usize {
        self.incoming.as_ref().map_or(0, |incoming: &Incoming| incoming.size)
    }

    /// Memory of bodies that are not complete, or not at the disk, in bytes.
    pub(in crate::proto) fn gathered(&self) -> usize {
        let body = match &self.incoming {
            Some(Incoming { body: Body::Gather(gathered), .. }) => gathered.capacity(),
            _ => 0,
        };
        body + self.files.as_ref().map_or(0, |files| files.waiting())
    }
}

/// Whether the request's `id` is that of a running one, not its own.
fn names_a_running_one(request: &Request) -> bool {
    use Request::{Cancel, Data, End, Input, Resize, Signal};
    matches!(request, Input(_) | Signal(_) | Resize(_) | Data | End(_) | Cancel)
}
