//! What a test has decided for coming requests.

use super::gate::{Barrier, Gate, HoldAt, gate};
use super::plan::Fault;

#[derive(Default)]
pub(super) struct Script {
    steps: Vec<Step>,
}

struct Step {
    method: String,
    path: String,
    action: Action,
}

/// What is to happen to one request.
pub(super) enum Action {
    Meet(Fault),
    Hold(Barrier),
}

impl Script {
    pub(super) fn add_fault(&mut self, method: &str, path: &str, fault: Fault) {
        self.add(method, path, Action::Meet(fault));
    }

    pub(super) fn add_gate(&mut self, method: &str, path: &str, at: HoldAt) -> Gate {
        let (gate, barrier) = gate(at);
        self.add(method, path, Action::Hold(barrier));
        gate
    }

    /// The first step for this method and path, which is used up by it.
    pub(super) fn take(&mut self, method: &str, path: &str) -> Option<Action> {
        let at = self.steps.iter().position(|step| step.method == method && step.path == path)?;
        Some(self.steps.remove(at).action)
    }

    fn add(&mut self, method: &str, path: &str, action: Action) {
        self.steps.push(Step { method: method.to_owned(), path: path.to_owned(), action });
    }
}
