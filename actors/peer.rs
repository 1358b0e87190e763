//! How one part speaks to another: an address together with the health of who lives there.

use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message};
use futures::future::{Either, select};
use tokio::sync::watch;

use crate::limits::ASK_DEADLINE;
use crate::supervisor::{Health, Stop};

/// An actor that can be asked.
pub struct Peer<A: Actor> {
    name: &'static str,
    address: Addr<A>,
    health: watch::Receiver<Health>,
}

impl<A: Actor> Clone for Peer<A> {
    fn clone(&self) -> Self {
        Self { name: self.name, address: self.address.clone(), health: self.health.clone() }
    }
}

/// Why a part gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// It failed while it had the request; it is coming back.
    #[error("the {part} part failed during the request and is restarting; try again")]
    Restarting {
        /// The part's name.
        part: &'static str,
    },
    /// It failed too often; the rest works.
    #[error("the {part} part is degraded: {cause}")]
    Degraded {
        /// The part's name.
        part: &'static str,
        /// The last failure.
        cause: String,
    },
    /// The runtime has stopped.
    #[error("stopped: {cause}")]
    Stopped {
        /// Why.
        cause: String,
    },
    /// No answer within the deadline.
    #[error("the {part} part did not answer within {} s", .after.as_secs())]
    Late {
        /// The part's name.
        part: &'static str,
        /// The deadline.
        after: Duration,
    },
}

impl<A: Actor> Peer<A> {
    /// A peer at an address.
    pub fn new(name: &'static str, address: Addr<A>, health: watch::Receiver<Health>) -> Self {
        Self { name, address, health }
    }

    /// The part's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Its health as it changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Sends a request and waits for the answer, from any executor. A part that is down for longer
    /// than a restart answers at once with an error instead of keeping the caller.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, PartError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let mut health = self.health.clone();
        let down = std::pin::pin!(health.wait_for(is_down));
        let answer = std::pin::pin!(self.address.send(message));
        match select(answer, down).await {
            Either::Left((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(MailboxError::Closed | MailboxError::Timeout), _)) => {
                Err(self.refusal().unwrap_or(PartError::Restarting { part: self.name }))
            }
            Either::Right(_) => Err(self.refusal().unwrap_or_else(|| self.gone())),
        }
    }

    /// As `ask`, with a deadline; only on the runtime's own threads.
    pub async fn ask_soon<M>(&self, message: M) -> Result<M::Result, PartError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let late = PartError::Late { part: self.name, after: ASK_DEADLINE };
        tokio::time::timeout(ASK_DEADLINE, self.ask(message)).await.unwrap_or(Err(late))
    }

    /// Leaves a hint; one that finds the mailbox full is dropped, because hints carry no data.
    pub fn hint<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if self.address.try_send(message).is_err() {
            tracing::debug!(part = self.name, "a hint found the mailbox full or closed");
        }
    }

    /// Asks the part to finish and waits until it has, at the most for `within`.
    pub async fn stop(&self, within: Duration)
    where
        A: Handler<Stop>,
        A::Context: ToEnvelope<A, Stop>,
    {
        let mut health = self.health.clone();
        let stopped = async {
            if self.ask(Stop).await.is_ok() {
                let _ = health.wait_for(is_down).await;
            }
        };
        if tokio::time::timeout(within, stopped).await.is_err() {
            tracing::warn!(part = self.name, "did not stop within {} s", within.as_secs());
        }
    }

    fn refusal(&self) -> Option<PartError> {
        match &*self.health.borrow() {
            Health::Running { .. } | Health::Restarting { .. } => None,
            Health::Degraded { cause, .. } => Some(PartError::Degraded { part: self.name, cause: cause.clone() }),
            Health::Failed { cause } => {
                Some(PartError::Stopped { cause: format!("the {} part failed: {cause}", self.name) })
            }
            Health::Stopped => Some(self.gone()),
        }
    }

    fn gone(&self) -> PartError {
        PartError::Stopped { cause: "shut down".to_owned() }
    }
}

fn is_down(health: &Health) -> bool {
    match health {
        Health::Running { .. } | Health::Restarting { .. } => false,
        Health::Degraded { .. } | Health::Failed { .. } | Health::Stopped => true,
    }
}
