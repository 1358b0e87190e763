//! A network that goes wrong on purpose: an HTTP/1.1 proxy in front of a project's server.
//!
//! Faults are drawn from a seed (see [`FaultPlan`]), or scripted for the next request to a path
//! ([`FaultProxy::next_for`]), or a request is held until the test lets it go ([`FaultProxy::pause_next`]).

mod gate;
mod plan;
mod records;
mod script;
mod serve;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::error::{Context, Result};
pub use gate::{Gate, HoldAt};
use plan::{Dice, Plan};
pub use plan::{Fault, FaultPlan};
pub use records::Counts;
use records::Records;
use script::Script;

/// The proxy; give [`FaultProxy::url`] to the code under test. It ends when dropped.
pub struct FaultProxy {
    /// The address to use instead of the project's.
    pub url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the proxy's connections have in common.
struct Shared {
    target: String,
    client: reqwest::Client,
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    dice: Dice,
    script: Script,
    records: Records,
    is_offline: bool,
    /// What every request gets in place of the server's answer: status and body.
    instead: Option<(u16, String)>,
    /// The time that answers tell in place of the server's.
    date: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultProxy {
    /// Starts a proxy in front of `target_url` on a free loopback port, and prints the plan's seed.
    pub async fn start(target_url: &str, plan: FaultPlan) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for the fault proxy")?;
        let address = listener.local_addr().context("listen for the fault proxy")?;
        eprintln!("fault proxy: seed {}", plan.seed);
        let state = State {
            dice: Dice::new(plan.seed),
            plan,
            script: Script::default(),
            records: Records::default(),
            is_offline: false,
            instead: None,
            date: None,
        };
        let shared = Arc::new(Shared {
            target: target_url.trim_end_matches('/').to_owned(),
            // The answers must pass as they are, and a slow one is the client's to give up on.
            client: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?,
            state: Mutex::new(state),
        });
        let accepting = tokio::spawn(serve::accept(listener, shared.clone()));
        Ok(Self { url: format!("http://{address}"), shared, accepting })
    }

    /// Changes the probabilities. The sequence of draws goes on, unless the seed is another one.
    pub fn set_plan(&self, plan: FaultPlan) {
        let mut state = self.shared.lock();
        if plan.seed != state.plan.seed {
            eprintln!("fault proxy: seed {}", plan.seed);
            state.dice = Dice::new(plan.seed);
        }
        state.plan = plan;
    }

    /// Closes every connection at once, or goes on as planned.
    pub fn set_offline(&self, is_offline: bool) {
        self.shared.lock().is_offline = is_offline;
    }

    /// Every request gets this status and this body without reaching the server, as from a gateway in front of it.
    pub fn set_instead(&self, instead: Option<(u16, &str)>) {
        self.shared.lock().instead = instead.map(|(status, body)| (status, body.to_owned()));
    }

    /// Answers tell this time (an HTTP date) in place of the server's, so that whoever asks seems to have a wrong clock.
    pub fn set_date(&self, date: Option<&str>) {
        self.shared.lock().date = date.map(str::to_owned);
    }

    /// The next request with this method and path (without its query; `*` at its end stands for anything) meets this fault,
    /// whatever the plan says.
    pub fn next_for(&self, method: &str, path: &str, fault: Fault) {
        self.shared.lock().script.add_fault(method, path, fault);
    }

    /// Holds the next request with this method and path (as of `next_for`) until the gate is released or dropped.
    pub fn pause_next(&self, method: &str, path: &str, at: HoldAt) -> Gate {
        self.shared.lock().script.add_gate(method, path, at)
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().records.counts.clone()
    }

    /// Method and path (without its query) of every request so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.shared.lock().records.requests.clone()
    }

    /// Forgets what has passed so far.
    pub fn reset_counts(&self) {
        self.shared.lock().records = Records::default();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
