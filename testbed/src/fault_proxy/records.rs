//! What has passed through the proxy.

use super::plan::Fault;

/// How many requests came and what they met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All requests, also those that met a fault.
    pub requests: u64,
    /// Requests answered with 503.
    pub unavailable: u64,
    /// Requests answered with 429.
    pub too_many_requests: u64,
    /// Requests that got no answer.
    pub hung: u64,
    /// Connections closed before the server saw the request.
    pub cut_before: u64,
    /// Connections closed after the server had answered.
    pub lost_responses: u64,
    /// Connections closed in the middle of the answer.
    pub cut_bodies: u64,
    /// Requests that were delayed.
    pub delayed: u64,
    /// Requests that reached the server twice.
    pub doubled: u64,
    /// Requests cut because the proxy was offline.
    pub offline: u64,
    /// The longest request line (method, path with query, version), in bytes.
    pub longest_request_line_bytes: usize,
}

impl Counts {
    /// All faults together.
    pub fn faults(&self) -> u64 {
        self.unavailable
            + self.too_many_requests
            + self.hung
            + self.cut_before
            + self.lost_responses
            + self.cut_bodies
            + self.delayed
            + self.doubled
            + self.offline
    }
}

#[derive(Default)]
pub(super) struct Records {
    pub(super) counts: Counts,
    pub(super) requests: Vec<(String, String)>,
}

impl Records {
    pub(super) fn arrived(&mut self, method: &str, path: &str, path_and_query: &str) {
        let line_bytes = format!("{method} {path_and_query} HTTP/1.1").len();
        self.counts.requests += 1;
        self.counts.longest_request_line_bytes = self.counts.longest_request_line_bytes.max(line_bytes);
        self.requests.push((method.to_owned(), path.to_owned()));
    }

    pub(super) fn met(&mut self, fault: Fault) {
        let counts = &mut self.counts;
        let count = match fault {
            Fault::Unavailable { .. } => &mut counts.unavailable,
            Fault::TooManyRequests { .. } => &mut counts.too_many_requests,
            Fault::Hang => &mut counts.hung,
            Fault::CutBefore => &mut counts.cut_before,
            Fault::LoseResponse => &mut counts.lost_responses,
            Fault::CutBody => &mut counts.cut_bodies,
            Fault::Delay(_) => &mut counts.delayed,
            Fault::Twice(_) => &mut counts.doubled,
        };
        *count += 1;
    }
}
