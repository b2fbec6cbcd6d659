//! The thread that starts commands: until a program runs, whoever starts it
//! stands still, for a millisecond or, where commands keep every processor
//! busy, for much longer. The loop hands over orders and collects what came of
//! them; how many there are at a time is its limit to keep.

use super::key::ChildKey;
use crate::process::{self, Child, Environment, Warden, report};
use crate::proto::ConnId;
use crate::proto::exec::Spawn;
use crate::wire::error::{ErrorCode, Refusal};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A command to be started, and what must be remembered of who wants it.
#[derive(Debug)]
pub(super) struct Order {
    /// Its slot is also its number for the warden.
    pub(super) key: ChildKey,
    pub(super) conn: ConnId,
    pub(super) nick: String,
    pub(super) peer: String,
    pub(super) spec: Spawn,
}

/// An order, and what came of it.
type Outcome = (Order, Result<Child, Refusal>);

/// The starting thread, seen from the loop's. It ends when this is dropped,
/// after the command that it is at.
#[derive(Debug)]
pub(super) struct Starter {
    orders: Sender<Order>,
    outcomes: Receiver<Outcome>,
    stopped: Arc<AtomicBool>,
}

impl Starter {
    /// Starts the thread; it calls `notify` when [`Starter::poll`] has something.
    pub(super) fn new(
        environment: Environment,
        warden: Arc<Warden>,
        notify: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, taken) = channel::<Order>();
        let (done, outcomes) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::Builder::new().name("starter".to_owned()).spawn(move || {
            for order in taken {
                let result = if stop.load(Ordering::Relaxed) {
                    Err(Refusal::new(ErrorCode::ShuttingDown, "the server is stopping: no command is started any more"))
                } else {
                    start(&environment, &warden, &order)
                };
                if done.send((order, result)).is_err() {
                    // The loop has ended; what was started is the warden's now.
                    return;
                }
                notify();
            }
        })?;
        Ok(Starter { orders, outcomes, stopped })
    }

    /// Has a command started.
    pub(super) fn order(&self, order: Order) -> Result<(), Refusal> {
        self.orders.send(order).map_err(|_| {
            log::error!("the thread that starts commands has ended by a panic");
            report::cannot_watch(&io::ErrorKind::BrokenPipe.into())
        })
    }

    /// What came of an order, in their order.
    pub(super) fn poll(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Orders that were not begun are refused from now on.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// The warden learns of the command here, and not when the loop comes to it:
/// whoever kills the server meanwhile ends the command too.
fn start(environment: &Environment, warden: &Warden, order: &Order) -> Result<Child, Refusal> {
    warden.begin();
    let child = process::spawn(environment, &order.spec)?;
    warden.watch(order.key.slot as usize, child.process.pid(), child.process.is_on_terminal());
    Ok(child)
}
