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

impl Step {
    /// A path that ends with `*` stands for all that begin so.
    fn is_for(&self, path: &str) -> bool {
        match self.path.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == self.path,
        }
    }
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
        let at = self.steps.iter().position(|step| step.method == method && step.is_for(path))?;
        Some(self.steps.remove(at).action)
    }

    fn add(&mut self, method: &str, path: &str, action: Action) {
        self.steps.push(Step { method: method.to_owned(), path: path.to_owned(), action });
    }
}
