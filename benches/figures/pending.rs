//! What one operation costs to send, with few and with very many waiting.

use tidelock_testbed::ProjectOptions;

use crate::figure::{Figure, Options, median};
use crate::network::pushed;

pub async fn figures(options: &Options) -> Vec<Figure> {
    let many = if options.quick { 100_000 } else { 1_000_000 };
    let kit = ProjectOptions { kit: vec![("bench", None)], ..ProjectOptions::default() };
    let project = tidelock_testbed::project_with(kit).await.unwrap();
    let mut rates = Vec::new();
    for _ in 0..options.rounds() {
        rates.push(emptied_and_pushed(&project, 1_000).await);
    }
    let few = median(rates);
    let some = emptied_and_pushed(&project, 20_000).await;
    let many = emptied_and_pushed(&project, many).await;
    vec![
        Figure::against_floor("kit_push_20000_pending_against_1000", "rows/s", 0.9, &[(some, few)]),
        Figure::against_floor("kit_push_1000000_pending_against_20000", "rows/s", 0.9, &[(many, some)]),
    ]
}

async fn emptied_and_pushed(project: &tidelock_testbed::Project, rows: usize) -> f64 {
    project.sql("truncate public.bench").await.unwrap();
    pushed(project, &project.url, rows).await
}
