//! Holding one request until the test lets it go.

use tokio::sync::watch;

/// Where a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldAt {
    /// Before the server sees it.
    Request,
    /// After the server has answered, before the client hears of it.
    Response,
}

/// Holds one request; letting go of the gate releases it.
pub struct Gate {
    reached: watch::Receiver<bool>,
    released: watch::Sender<bool>,
}

/// The proxy's side of a [`Gate`].
pub(super) struct Barrier {
    pub(super) at: HoldAt,
    reached: watch::Sender<bool>,
    released: watch::Receiver<bool>,
}

pub(super) fn gate(at: HoldAt) -> (Gate, Barrier) {
    let (reach, reached) = watch::channel(false);
    let (released, release) = watch::channel(false);
    (Gate { reached, released }, Barrier { at, reached: reach, released: release })
}

impl Gate {
    /// Waits until the request has come to where it is held. False when the proxy ended before.
    pub async fn reached(&mut self) -> bool {
        self.reached.wait_for(|reached| *reached).await.is_ok()
    }

    /// Lets the request go on.
    pub fn release(self) {
        self.released.send_replace(true);
    }
}

impl Barrier {
    pub(super) async fn hold(mut self) {
        self.reached.send_replace(true);
        // An error means that the gate was dropped, which releases as well.
        let _ = self.released.wait_for(|released| *released).await;
    }
}
