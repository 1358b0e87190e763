//! The words of `stats` and `compact`.

use clap::Args;

/// `stats`
#[derive(Debug, Args)]
pub struct Stats {
    /// Read everything for exact sizes; else those of more than 128 rows are estimates
    #[arg(long)]
    pub exact: bool,
}

/// `compact`
#[derive(Debug, Args)]
pub struct Compact {
    /// Also forget all earlier versions and decided conflicts: what was deleted is gone, nothing can be rolled back
    #[arg(long)]
    pub forget_history: bool,
}
