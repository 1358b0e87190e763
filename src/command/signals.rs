//! The signals that the process obeys.

use std::io;

use futures::StreamExt;
use futures::stream::{self, BoxStream};

/// What is wanted of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End in order: SIGTERM, SIGINT or Ctrl-C.
    Stop,
    /// Read the configuration anew: SIGHUP.
    Reload,
}

/// Signals as they come, from the moment of `listen` on.
pub struct Signals {
    coming: BoxStream<'static, Signal>,
}

impl Signals {
    /// Starts to listen; until then the system's own way counts.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let of = |kind: SignalKind, meaning: Signal| -> io::Result<BoxStream<'static, Signal>> {
            let listener = signal(kind)?;
            Ok(stream::unfold(listener, move |mut listener| async move {
                listener.recv().await.map(|()| (meaning, listener))
            })
            .boxed())
        };
        let coming = stream::select_all([
            of(SignalKind::terminate(), Signal::Stop)?,
            of(SignalKind::interrupt(), Signal::Stop)?,
            of(SignalKind::hangup(), Signal::Reload)?,
        ]);
        Ok(Self { coming: coming.boxed() })
    }

    /// Starts to listen; until then the system's own way counts.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Self> {
        let coming = stream::unfold((), |()| async { tokio::signal::ctrl_c().await.ok().map(|()| (Signal::Stop, ())) });
        Ok(Self { coming: coming.boxed() })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        match self.coming.next().await {
            Some(signal) => signal,
            // Nothing can come any more: wait for ever, as without a signal.
            None => std::future::pending().await,
        }
    }
}
