//! An answer that an actor gives later: the handler keeps one end, actix puts the asker into the other.

use std::cell::RefCell;
use std::rc::Rc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};

/// A promised answer. Dropped without one, the asker learns that the part failed.
pub struct Deferred<T: 'static>(Rc<RefCell<Option<OneshotSender<T>>>>);

impl<T> Clone for Deferred<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Deferred<T> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(None)))
    }
}

impl<T> Deferred<T> {
    /// Gives the answer; an asker that has gone away does not mind.
    pub fn give(&self, answer: T) {
        if let Some(asker) = self.0.borrow_mut().take() {
            let _ = asker.send(answer);
        }
    }
}

impl<A: Actor, M: Message<Result = T>, T: 'static> MessageResponse<A, M> for Deferred<T> {
    fn handle(self, _: &mut A::Context, asker: Option<OneshotSender<T>>) {
        *self.0.borrow_mut() = asker;
    }
}
